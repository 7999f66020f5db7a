"""The headers of a request say which part of a file it wants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.content.ranges import Part, RangeOutcome, wanted

ETAG = '"abc"'


def ask(size=100, method="GET", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return wanted(named, method=method, etag=ETAG, size=size)


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ("bytes=0-9", Part(0, 10)),
        ("bytes=0-0", Part(0, 1)),
        ("bytes=90-", Part(90, 100)),
        ("bytes=99-", Part(99, 100)),
        ("bytes=90-1000", Part(90, 100)),
        ("bytes=-10", Part(90, 100)),
        ("bytes=-1000", Part(0, 100)),
        ("Bytes= 0-9 ", Part(0, 10)),
        ("bytes=100-", RangeOutcome.UNSATISFIABLE),
        ("bytes=100-200", RangeOutcome.UNSATISFIABLE),
        ("bytes=-0", RangeOutcome.UNSATISFIABLE),
        (f"bytes={'9' * 50}-", RangeOutcome.UNSATISFIABLE),
        (f"bytes=0-{'9' * 50}", Part(0, 100)),
        ("bytes=9-0", RangeOutcome.WHOLE),
        ("bytes=0-9,20-29", RangeOutcome.WHOLE),
        ("bytes=-", RangeOutcome.WHOLE),
        ("bytes=", RangeOutcome.WHOLE),
        ("bytes=a-b", RangeOutcome.WHOLE),
        ("bytes=+1-2", RangeOutcome.WHOLE),
        ("bytes=²-", RangeOutcome.WHOLE),
        ("lines=0-9", RangeOutcome.WHOLE),
        (f"bytes={'9' * 5000}-", RangeOutcome.WHOLE),
        ("", RangeOutcome.WHOLE),
    ],
)
def test_single_ranges(requested, expected):
    assert ask(range=requested) == expected


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ("bytes=0-", RangeOutcome.UNSATISFIABLE),
        ("bytes=-0", RangeOutcome.UNSATISFIABLE),
        ("bytes=-5", RangeOutcome.WHOLE),
    ],
)
def test_ranges_of_an_empty_file(requested, expected):
    assert ask(size=0, range=requested) == expected


def test_a_range_means_nothing_to_head():
    assert ask(method="HEAD", range="bytes=0-9") == RangeOutcome.WHOLE


@pytest.mark.parametrize(
    ("validator", "expected"),
    [
        (ETAG, Part(0, 10)),
        ('"other"', RangeOutcome.WHOLE),
        ('W/"abc"', RangeOutcome.WHOLE),
        ("Mon, 24 Nov 2025 16:00:00 GMT", RangeOutcome.WHOLE),
    ],
)
def test_a_range_only_if_the_file_is_the_same(validator, expected):
    assert ask(range="bytes=0-9", if_range=validator) == expected


@pytest.mark.parametrize(
    ("none_match", "expected"),
    [
        (ETAG, RangeOutcome.NOT_MODIFIED),
        ("*", RangeOutcome.NOT_MODIFIED),
        ('"x", W/"abc"', RangeOutcome.NOT_MODIFIED),
        ('"x"', RangeOutcome.WHOLE),
        ("abc", RangeOutcome.WHOLE),
        ("", RangeOutcome.WHOLE),
    ],
)
def test_not_modified(none_match, expected):
    assert ask(if_none_match=none_match) == expected
    assert ask(if_none_match=none_match, method="HEAD") == expected


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (ETAG, Part(0, 10)),
        ("*", Part(0, 10)),
        (f'"x", {ETAG}', Part(0, 10)),
        (f"W/{ETAG}", RangeOutcome.CHANGED),
        ('"x"', RangeOutcome.CHANGED),
        ("abc", RangeOutcome.CHANGED),
        ("", RangeOutcome.CHANGED),
    ],
)
def test_a_file_that_must_be_the_one_that_the_client_means(match, expected):
    assert ask(if_match=match, range="bytes=0-9") == expected
    assert ask(if_match=match, if_none_match="*") == (
        RangeOutcome.CHANGED if expected is RangeOutcome.CHANGED else RangeOutcome.NOT_MODIFIED
    )


def test_what_the_client_has_counts_before_the_range():
    assert ask(if_none_match=ETAG, range="bytes=0-9") == RangeOutcome.NOT_MODIFIED


@given(size=st.integers(1, 50), first=st.none() | st.integers(0, 60), last=st.none() | st.integers(0, 60))
def test_a_part_is_what_a_slice_would_be(size, first, last):
    data = bytes(range(size))
    answer = ask(size=size, range=f"bytes={'' if first is None else first}-{'' if last is None else last}")
    if first is None:
        expected = data[-last:] if last else b""
    else:
        expected = data[first:] if last is None else data[first : last + 1]
    if isinstance(answer, Part):
        assert data[answer.start : answer.stop] == expected
        assert expected
    else:
        assert not expected


@given(st.text(max_size=30), st.integers(0, 10))
def test_whatever_a_range_says_a_part_lies_in_the_file(requested, size):
    answer = ask(size=size, range=f"bytes={requested}")
    if isinstance(answer, Part):
        assert 0 <= answer.start < answer.stop <= size
