"""Dates of HTTP: the year is what is written."""

from datetime import UTC, datetime

import pytest

from gateway.http.dates import seconds_of

NOW = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Sun, 06 Nov 1994 10:49:37 +0200", 784111777),
        ("06 Nov 1994 08:49:37 GMT", 784111777),
        ("Mon, 01 Jan 0001 00:00:00 GMT", -62135596800),
        ("Mon, 01 Jan 0001 00:00:00 +0100", -62135600400),
        ("Mon, 01 Jan 0026 00:00:00 GMT", -61346678400),
        ("Mon, 01 Jan 0099 00:00:00 GMT", -59042995200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799),
        ("Saturday, 01-Jan-0001 00:00:00 GMT", -62135596800),
        # A year of two digits is at most fifty years ahead.
        ("Wednesday, 01-Jan-76 00:00:00 GMT", 3345062400),
        ("Saturday, 01-Jan-77 00:00:00 GMT", 220924800),
    ],
)
def test_a_date_is_the_one_that_is_written(text: str, seconds: int) -> None:
    assert seconds_of(text, now=NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "Mon, 01 Jan 0000 00:00:00 GMT",
        "Mon, 01 Jan 1 00:00:00 GMT",
        "Mon, 01 Jan 99 00:00:00 GMT",
        "Mon, 01 Jan 10000 00:00:00 GMT",
        "Mon, 30 Feb 2001 00:00:00 GMT",
        "Mon, 01 Jan 2001 24:00:00 GMT",
        "Mon, 01 Jan 2001 00:00:99 GMT",
        "Mon, 01 Jan 2001 00:00:00",
        "Mon, 01 Jan 2001 00:00:00 +9999",
        "Mon, 01 Jan ２００１ 00:00:00 GMT",
        "9" * 50_000,
        "Mon, 01 Jan 2001 00:00:00 GMT" + " " * 50_000 + "x",
    ],
)
def test_what_is_no_date_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        seconds_of(text, now=NOW)
