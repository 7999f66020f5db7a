"""A file that a sync brings never gets beside a name that differs from its own in Unicode spelling only.

To a space both are the same name, so that a person had to rename one of two things of which the sync made the second.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from syncline.model.names import normalize
from syncline.sync.folder.files import Files
from syncline.sync.folder.spelling import has_one_spelling
from tests.clients.sync.fakes import Device, Fault, Faults, NeverCrash, PointedFiles
from tests.clients.sync.test_scenarios import NFC, NFD, agreed, contents, settled, sync

SPELLINGS = [
    (NFC, NFD),
    ("Å", "\N{ANGSTROM SIGN}"),  # neither is the other in NFD
    ("K", "\N{KELVIN SIGN}"),  # one is ASCII
    ("éé", "e\N{COMBINING ACUTE ACCENT}é"),  # half of each
]


@pytest.fixture(autouse=True)
def folders(one: Device, two: Device) -> None:
    for device in (one, two):
        assert device.folder


def twins(device: Device) -> list[str]:
    """The paths that another one in the folder differs from in spelling only."""
    spelled: dict[str, list[str]] = {}
    for path in device.tree():
        spelled.setdefault(normalize(path), []).append(path)
    return [path for paths in spelled.values() if len(paths) > 1 for path in paths]


def full_once(point: str) -> Faults:
    """The disk has no room the first time that this is done."""
    left = [Fault.FULL]
    return lambda name: left.pop() if left and name == point else None


def at(point: str, act: Callable[[], object]) -> Callable[[str], None]:
    """Somebody does this when this point is passed for the first time."""
    left = [act]

    def passed(name: str) -> None:
        if left and name == point:
            left.pop()()

    return passed


def make_directory(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_bytes(b"mine")


MAKE: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_bytes(b"mine"),
    "link": lambda path: path.symlink_to("mine"),
    "directory": make_directory,
}


@pytest.mark.parametrize("came", [b"theirs", ("link", "theirs")])
@pytest.mark.parametrize("here", MAKE)
def test_what_could_not_make_way_is_not_joined(one: Device, two: Device, came: object, here: str) -> None:
    """A disk that was full for a moment left both spellings side by side."""
    if came == b"theirs":
        one.write(NFC, b"theirs")
    else:
        (one.root / NFC).symlink_to("theirs")
    sync(one)
    MAKE[here](two.root / NFD)
    two.faults = full_once("move")
    two.sync()
    assert not twins(two)
    tree = settled(two, one)
    assert tree[NFC] == came
    assert contents(tree) == {came, ("link", "mine") if here == "link" else b"mine"}


def test_a_directory_is_not_made_beside_what_waits_for_its_ignore_file(one: Device, two: Device) -> None:
    """Ignore files come before anything is uploaded, and with them the directories that they are in, and no more."""
    one.write(f"{NFC}/.synclineignore", b"*.log\n")
    one.write(f"{NFC}/inside", b"theirs")
    sync(one)
    two.write(NFD, b"mine")
    sync(two)
    assert not twins(two)
    tree = settled(two, one)
    assert (tree[NFC], tree[f"{NFC}/inside"]) == (None, b"theirs")
    assert b"mine" in contents(tree)


def test_a_file_does_not_come_beside_what_waits_to_be_deleted(one: Device, two: Device) -> None:
    numbers = [f"{number:02}" for number in range(30)]
    agreed({f"{NFD}/{number}": number.encode() for number in numbers}, two, one)
    shutil.rmtree(one.root / NFC)
    one.write(NFC, b"theirs")
    one.sync(allow_mass_delete=True)
    report = two.sync(hold_mass_delete=True)
    assert report.waiting
    assert not twins(two)
    two.sync(allow_mass_delete=True)
    assert settled(one, two) == {NFC: b"theirs"}


def test_a_file_does_not_come_beside_one_that_is_edited_while_it_is_deleted(one: Device, two: Device) -> None:
    agreed({NFD: b"first"}, two, one)
    (one.root / NFC).unlink()
    sync(one)
    one.write(NFC, b"theirs")
    sync(one)
    two.sync(at("move", lambda: two.write(NFD, b"edited")))
    assert not twins(two)
    tree = settled(two, one)
    assert tree[NFC] == b"theirs"
    assert contents(tree) == {b"theirs", b"edited"}


@pytest.mark.parametrize("came", MAKE)
@pytest.mark.parametrize("here", MAKE)
def test_what_somebody_makes_meanwhile_is_not_joined(one: Device, two: Device, came: str, here: str) -> None:
    MAKE[came](one.root / NFC)
    sync(one)
    point = {"file": "downloaded", "link": "make link", "directory": "make directory"}[came]
    two.sync(at(point, lambda: MAKE[here](two.root / NFD)))
    assert not twins(two)
    assert NFC in settled(one, two)


def test_what_is_renamed_in_the_space_is_not_joined(one: Device, two: Device) -> None:
    agreed({"file": b"file", "dir/inside": b"inside"}, one, two)
    (one.root / "file").rename(one.root / NFC)
    (one.root / "dir").rename(one.root / "é")
    sync(one)

    def meanwhile() -> None:
        two.write(NFD, b"mine")
        two.write(unicodedata.normalize("NFD", "é"), b"mine, too")

    two.sync(at("move", meanwhile))
    assert not twins(two)
    tree = settled(one, two)
    assert (tree[NFC], tree["é"], tree["é/inside"]) == (b"file", None, b"inside")
    assert contents(tree) >= {b"mine", b"mine, too"}


def test_a_pipe_is_not_joined(one: Device, two: Device) -> None:
    one.write(NFC, b"theirs")
    one.write("d/inside", b"inside")
    sync(one)
    os.mkfifo(two.root / NFD)
    report = two.sync()
    assert [problem.path for problem in report.problems] == [NFC]
    assert [path.name for path in two.root.iterdir() if normalize(path.name) == NFC] == [NFD]
    (two.root / NFD).unlink()
    assert settled(two, one) == two.tree()


def test_what_is_given_back_after_a_crash_gets_a_name_of_its_own(one: Device, two: Device) -> None:
    agreed({NFC: b"first"}, one, two)
    node = next(iter(one.space.live().values())).id
    (two.root / ".syncline" / "tmp" / f"old-{node.hex()}").write_bytes(b"edited")
    mark = " (conflict two 2026-11-03 142501)"
    two.write(NFD + mark, b"mine")
    (report,) = sync(two)
    assert report.notices
    assert not twins(two)
    assert settled(two, one) == {NFC: b"first", f"{NFC}{mark}": b"mine", f"{NFC}{mark[:-1]} 2)": b"edited"}


class FilesWithoutExchange(PointedFiles):
    """Files of a system that cannot exchange two of them: one goes aside before the other gets its name."""

    def _exchange(self, path: str, other: str) -> bool:
        return False


def test_twins_that_a_person_made_do_not_keep_an_update_away(one: Device, two: Device) -> None:
    agreed({NFC: b"first"}, one, two)
    two.write(NFD, b"a twin")
    one.write(NFC, b"second")
    sync(one)
    (problem,) = two.sync(files=lambda folder: FilesWithoutExchange(folder.root, NeverCrash())).problems
    assert problem.path == NFD
    assert two.tree() == {NFC: b"second", NFD: b"a twin"}
    (one.root / NFC).unlink()
    sync(one)
    (two.root / NFD).rename(two.root / "other name")
    assert settled(two, one) == {"other name": b"a twin"}


def test_a_twin_that_a_person_made_keeps_nothing_aside(one: Device, two: Device) -> None:
    agreed({NFC: b"first"}, one, two)
    two.write(NFD, b"a twin")
    (one.root / NFC).unlink()
    sync(one)
    two.sync(at("move", lambda: two.write(NFC, b"edited")))
    assert two.tree() == {NFC: b"edited", NFD: b"a twin"}


def test_the_names_of_a_directory_are_read_once_for_all_that_comes(one: Device, two: Device) -> None:
    for number in range(100):
        one.write(f"d/é{number:03}", b"%d" % number)
    sync(one)
    listed = 0

    def count(_: FrameType, event: str, function: object) -> None:
        nonlocal listed
        listed += event == "c_call" and function is os.listdir

    sys.setprofile(count)
    try:
        sync(two)
    finally:
        sys.setprofile(None)
    assert len(two.tree()) == 101
    assert listed < 10


# ---- one by one ----


@pytest.mark.parametrize(("name", "other"), [*SPELLINGS, *((other, name) for name, other in SPELLINGS)])
def test_nothing_is_made_or_moved_beside_another_spelling(tmp_path: Path, name: str, other: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / name).write_bytes(b"first")
    (tmp_path / "new").write_bytes(b"new")
    with Files(tmp_path) as files:
        assert files.is_taken(f"d/{other}")
        assert not files.is_taken(f"d/{other}x")
        with pytest.raises(FileExistsError):
            files.make_directory(f"d/{other}")
        with pytest.raises(FileExistsError):
            files.make_symlink(f"d/{other}", "a")
        with pytest.raises(FileExistsError):
            files.move("new", f"d/{other}")
        files.move(f"d/{name}", f"d/{other}")
        files.move("new", f"d/{other}x")
        files.move(f"d/{other}", "aside")
        files.move("aside", f"d/{name}")
        with pytest.raises(FileExistsError):
            files.make_directory(f"d/{other}")
        (tmp_path / "d" / name).unlink()
        files.make_directory(f"d/{other}")
    assert {path.name for path in (tmp_path / "d").iterdir()} == {other, f"{other}x"}


def test_what_was_just_done_counts_within_a_tick_of_the_clock(tmp_path: Path) -> None:
    """Before Linux 6.13, a directory gets the same time for all its changes within 4 ms."""
    with Files(tmp_path) as files:
        files.make_directory("d")
        for _ in range(100):
            files.make_symlink(f"d/{NFC}", "a")
            files.discard(f"d/{NFC}")
            files.make_symlink(f"d/{NFD}", "a")
            files.move(f"d/{NFD}", "aside")
            files.make_symlink(f"d/{NFC}", "a")
            files.move(f"d/{NFC}", f"d/{NFC}x")
            files.move("aside", f"d/{NFD}", back=True)
            with pytest.raises(FileExistsError):
                files.make_symlink(f"d/{NFC}", "a")
            files.discard(f"d/{NFD}")
            files.discard(f"d/{NFC}x")


def test_which_names_can_be_spelled_in_one_way_only() -> None:
    several = {normalize(chr(number)) for number in range(128, sys.maxunicode + 1)}
    for number in range(128):
        assert has_one_spelling(f"a{chr(number)}") == (chr(number) not in several), chr(number)
    assert not has_one_spelling("é")
