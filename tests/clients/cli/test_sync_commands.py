"""The command line of a sync: its options, and the refusals of what cannot be meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from syncline.cli.space_paths import split_place
from syncline.cli.sync_commands import MAX_SHOWN_PROBLEMS, RATE, _path_in, _print, _print_plan
from syncline.model.errors import InvalidArgument
from syncline.sync.report import Report
from syncline.sync.trees import Problem


@pytest.mark.parametrize(
    ("text", "rate"),
    [("500K", 500 << 10), ("2M", 2 << 20), ("1.5m", 3 << 19), ("1G", 1 << 30), ("4096", 4096), ("1K", 1024)],
)
def test_rates(text: str, rate: int) -> None:
    assert RATE.convert(text, None, None) == rate


@pytest.mark.parametrize("text", ["0", "-1", "fast", "2X", "1.5.5M", "100", "", "M", "1e6", "2 M", "9999999999G"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a rate"):
        RATE.convert(text, None, None)


@pytest.mark.parametrize("text", ["videos/raw", "videos/raw/", "./videos/raw", "/home/ann/files/videos/raw"])
def test_a_path_is_one_below_the_folder(text: str) -> None:
    assert _path_in(Path("/home/ann/files"), text) == "videos/raw"


@pytest.mark.parametrize("text", ["", "/", ".", "..", "../elsewhere", "a/../b", "/etc", ".syncline", ".syncline/tmp"])
def test_a_path_that_is_not(text: str) -> None:
    with pytest.raises(InvalidArgument):
        _path_in(Path("/home/ann/files"), text)


def test_an_empty_name_of_a_space_is_not_the_personal_one() -> None:
    """A shell makes an empty name of `$SPACE:file` when the variable is not set."""
    with pytest.raises(InvalidArgument, match="empty"):
        split_place(":file")
    assert split_place("a:file") == ("a", "file")


@pytest.mark.parametrize("show", [_print, _print_plan])
def test_thousands_of_problems_are_counted_and_not_printed(
    show: Callable[[Report, bool], None], capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(problems=[Problem(f"{n}", "it cannot be here") for n in range(50_000)])
    show(report, False)
    told = capsys.readouterr().err.splitlines()
    assert told[:-1] == [f"{n}: it cannot be here" for n in range(MAX_SHOWN_PROBLEMS)]
    assert told[-1] == f"syncline: {50_000 - MAX_SHOWN_PROBLEMS:,} more are not synced; --json lists all"
    show(report, True)
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 50_000
