"""Figures as the command line shows them."""

from __future__ import annotations

import pytest

from syncline.cli.output import moment


@pytest.mark.parametrize("milliseconds", [1 << 62, -(1 << 62), 253_402_300_800_000])
def test_a_time_that_no_calendar_has_ends_no_command(milliseconds: int) -> None:
    assert moment(milliseconds) == "at no known time"


def test_a_time_is_one_of_this_device() -> None:
    assert moment(1_700_000_000_000).startswith("2023-11-1")
