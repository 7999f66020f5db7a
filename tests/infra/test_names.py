"""A public name stands for one thing, and what checks that sees where it does not."""

from __future__ import annotations

from pathlib import Path

from infra.names import MODELS, problems


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_each_name_of_the_code_stands_for_one_thing() -> None:
    assert problems() == []


def test_a_class_that_stands_in_two_files_is_told(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "lib/syncline/model/a.py": "class Space: ...",
            "stack/b.py": "class Space: ...\nclass _Own: ...",
            "lib/syncline/wire/c.py": "class _Own: ...",
        },
    )
    assert problems(tmp_path, {}) == [
        "Space stands for several things, in lib/syncline/model/a.py, stack/b.py: say what differs"
    ]
    assert problems(tmp_path, {"Space": "they are the same"}) == []


def test_a_type_that_is_assigned_is_told_as_a_class_is(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "lib/syncline/model/a.py": 'State = Enum("State", "OPEN SHUT")\nClock: TypeAlias = Callable[[], int]',
            "stack/b.py": 'State = Enum("State", "GOOD BAD")\nClock: TypeAlias = Callable[[], int]',
            "aws/b.py": "App: TypeAlias = int",
            "runtime/c.py": "class App: ...",
        },
    )
    assert problems(tmp_path, {}) == [
        "App stands for several things, in aws/b.py, runtime/c.py: say what differs",
        "State stands for several things, in lib/syncline/model/a.py, stack/b.py: say what differs",
    ]


def test_functions_are_told_apart_by_their_shape(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "lib/syncline/model/a.py": "def same(x: int) -> int: ...\ndef other(x: int) -> int: ...",
            "stack/b.py": "def same(x: int) -> int: ...\n@contextmanager\ndef other() -> Iterator[None]: ...",
            "clients/c.py": "@click.command()\ndef other(x: str) -> None: ...",
        },
    )
    assert problems(tmp_path, {}) == [
        "other stands for several things, in lib/syncline/model/a.py, stack/b.py: say what differs"
    ]


def test_models_of_the_api_are_written_with_their_module(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "lib/syncline/model/a.py": "class Node: ...",
            MODELS: "class Node: ...",
            "gateway/b.py": "from gateway.api import models",
        },
    )
    assert problems(tmp_path, {}) == []
    write(tmp_path, {"gateway/b.py": "from gateway.api.models import Node"})
    assert problems(tmp_path, {}) == ["gateway/b.py imports Node by itself: write `models.Node`"]


def test_a_number_is_named_for_its_unit_and_its_bound(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "stack/a.py": "\n".join(
                [
                    "MAX_PAGE = 1_000",
                    "_MAX_WAITING: Final = 8 * KIB",
                    "_LONGEST_PAUSE_SECONDS = 1.5",
                    "CONNECT_TIMEOUT = 3",
                    "MAX_NODES = 10",
                    "_MAX_STREAMS_PER_CONNECTION: Final = 256",
                    "MIN_FREE_BYTES = 1 << 20",
                    "_MAX_DEPTH = 64",
                    "SILENCE_TIMEOUT = timedelta(seconds=30)",
                    "PAUSE_SECONDS = -1.0",
                    "IS_FULL_SIZE = True",
                ]
            )
        },
    )
    assert problems(tmp_path, {}) == [
        "stack/a.py: MAX_PAGE has no unit in its name: say what is counted",
        "stack/a.py: _MAX_WAITING has no unit in its name: say what is counted",
        "stack/a.py: _LONGEST_PAUSE_SECONDS is a bound: begin its name with MAX or MIN",
        "stack/a.py: CONNECT_TIMEOUT has no unit in its name: say what is counted",
    ]


def test_a_reason_that_is_needed_no_more_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"lib/syncline/model/a.py": "def main() -> None: ..."})
    assert problems(tmp_path, {"main": "an entry point"}) == ["main stands once: take it out of REASONS"]
