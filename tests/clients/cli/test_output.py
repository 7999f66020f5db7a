"""Figures as the command line shows them."""

from __future__ import annotations

import click
import pytest

from syncline.cli.main import cli
from syncline.cli.output import moment
from syncline.cli.terminal import show


@pytest.mark.parametrize("milliseconds", [1 << 62, -(1 << 62), 253_402_300_800_000])
def test_a_time_that_no_calendar_has_ends_no_command(milliseconds: int) -> None:
    assert moment(milliseconds) == "at no known time"


def test_a_time_is_one_of_this_device() -> None:
    assert moment(1_700_000_000_000).startswith("2023-11-1")


def test_a_name_like_an_option_can_be_stated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.UsageError) as raised:
        cli.main(["rm", "-notes.txt"], standalone_mode=False)
    show(raised.value)
    assert "write '--' before it" in capsys.readouterr().err
