"""HTTP dates (RFC 9110, section 5.6.7). A year of four digits is taken as it is written, and one of two digits as
`_FUTURE_YEARS` says.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

_MAX_DATE_CHARACTERS: Final = 64
_DAY: Final = "(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?"
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_ZONE: Final = "(?:GMT|UTC?|(?P<sign>[+-])(?P<off>[0-9]{4}))"
_FORMS: Final = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"(?:{_DAY}, ?)?(?P<day>[0-9]{{1,2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} {_ZONE}",
        rf"{_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}|[0-9]{{4}}) {_TIME} {_ZONE}",
        rf"{_DAY} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})",
    )
)
"""The forms of a date: IMF-fixdate, also with the time zones of e-mail, which some programs use; RFC 850; asctime."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CENTURY: Final = 100
_FUTURE_YEARS: Final = 50
"""Maximum number of years by which a date with a two-digit year may be in the future. A later date is taken as one in
the latest past year with these digits.
"""


def seconds_of(text: str, *, now: datetime | None = None) -> int:
    """Return an HTTP date in seconds since 1970, which is negative before 1970. `now` is the present time for dates
    with a two-digit year, by default that of the system. Raise ValueError if the text is no date.
    """
    text = text.strip()
    found = None
    if len(text) <= _MAX_DATE_CHARACTERS:
        found = next((match for form in _FORMS if (match := form.fullmatch(text)) is not None), None)
    if found is None:
        raise ValueError("that is no date")
    told = found.groupdict()
    year = int(told["year"])
    if len(told["year"]) < 4:
        this = (now or datetime.now(UTC)).year
        year += this - this % _CENTURY
        year -= _CENTURY * (year > this + _FUTURE_YEARS)
    zone = UTC
    if told.get("off"):
        offset = timedelta(hours=int(told["off"][:2]), minutes=int(told["off"][2:]))
        zone = timezone(-offset if told["sign"] == "-" else offset)
    month = _MONTHS.index(told["month"].lower()) + 1
    second = int(told["second"])
    date = datetime(year, month, int(told["day"]), int(told["hour"]), int(told["minute"]), min(second, 59), tzinfo=zone)
    if second > 60:
        raise ValueError("that is no time")
    # A difference instead of `timestamp`, which refuses the years 1 and 9999 in some zones.
    return (date - _EPOCH) // timedelta(seconds=1)
