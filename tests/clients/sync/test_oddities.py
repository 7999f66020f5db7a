"""No property of one file or name stops the others: the one is clamped, or said with its reason."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from syncline.model.tree import FIRST_TIME_NS, LAST_TIME_NS, Content
from syncline.sync.folder.files import Files
from syncline.sync.scan.walk import scan
from tests.clients.sync.fakes import Device, sha256
from tests.clients.sync.test_scenarios import agreed, is_busy, settled, sync

YEAR = 31_556_952
TIMES = {
    "1601": -369 * YEAR, "1901": -69 * YEAR, "before": -1, "zero": 0, "2038": 68 * YEAR, "2263": 293 * YEAR,
    "2300": 330 * YEAR, "2440": 470 * YEAR, "9999": 8030 * YEAR, "far": 2**40,
}  # fmt: skip


@pytest.fixture(autouse=True)
def folders(one: Device, two: Device) -> None:
    assert one.folder
    assert two.folder


def test_times_of_all_kinds(one: Device, two: Device) -> None:
    for name, seconds in TIMES.items():
        one.write(name, name.encode())
        try:
            os.utime(one.root / name, (seconds, seconds))
        except OverflowError:
            os.utime(one.root / name, (2**33, 2**33))
    (one.root / "link").symlink_to("1601")
    os.utime(one.root / "link", (330 * YEAR, 330 * YEAR), follow_symlinks=False)
    os.utime(one.root, (330 * YEAR, 330 * YEAR))
    tree = settled(one, two)
    assert tree == {"link": ("link", "1601"), **{name: name.encode() for name in TIMES}}
    for node in one.space.live().values():
        assert node.content is not None
        assert FIRST_TIME_NS <= node.content.mtime_ns <= LAST_TIME_NS
    for name in ("1901", "before", "zero", "2038"):
        assert (two.root / name).stat().st_mtime == TIMES[name]
    # A file with such a time is known again, and edited like any other.
    before = [one.sync() for _ in range(3)][-1]
    assert one.calls == ["changes"]
    assert not is_busy(before)
    one.write("2300", b"edited")
    os.utime(one.root / "2300", (331 * YEAR, 331 * YEAR))
    two.write("2440", b"edited, too")
    tree = settled(one, two)
    assert (tree["2300"], tree["2440"]) == (b"edited", b"edited, too")


def test_a_content_holds_no_time_that_cannot_be_stored() -> None:
    for time_ns, stored in ((1 << 70, LAST_TIME_NS), (-(1 << 70), FIRST_TIME_NS), (-5, -5)):
        assert Content(sha256(b""), 0, time_ns).mtime_ns == stored


def make_odd_things(root: Path) -> dict[str, str]:
    """Things that cannot be synced, and a word of the reason."""
    raw = os.fsencode(root)
    with open(raw + b"/not utf-8 \xff\xfe", "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(b"x")
    os.mkdir(raw + b"/directory \xe4")  # noqa: PTH102 - as above
    with open(raw + b"/directory \xe4/inside", "wb") as file:  # noqa: PTH123 - as above
        file.write(b"y")
    os.symlink(b"target \xff", raw + b"/link to bytes")  # noqa: PTH211 - as above
    os.symlink(b"x", raw + b"/link \xff")  # noqa: PTH211 - as above
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
    if os.geteuid() == 0:
        os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    return {
        r"not utf-8 \xff\xfe": "not valid Unicode",
        r"directory \xe4": "not valid Unicode",
        "link to bytes": "not valid UTF-8",
        r"link \xff": "not valid Unicode",
    }


GOOD = {
    "tab\there": b"1", "new\nline": b"2", "escape \x1b[31m": b"3", "back\\slash": b"4", "a" * 255: b"5",
    "é" * 127: b"6",
    " spaces ": b"7", "quote'\"": b"8", "-dash": b"9", "~": b"10", "\u202egnp.exe": b"11", "*?[x]": b"12",
    "con": b"13", "emoji \U0001f600": b"14", "\u0001": b"15",
}  # fmt: skip


def test_names_and_things_of_all_kinds(one: Device, two: Device) -> None:
    bad = make_odd_things(one.root)
    for name, data in GOOD.items():
        one.write(name, data)
    for mode in (0o000, 0o001, 0o444, 0o4755, 0o6711, 0o1777):
        one.write(f"mode {mode:o}", b"mode")
        (one.root / f"mode {mode:o}").chmod(mode)
    deep = "/".join(["d" * 200] * 25)
    one.write("deep", b"deep")
    descriptor = os.open(one.root, os.O_RDONLY)
    for name in deep.split("/"):  # longer than any path may be
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    report = one.sync()
    said = {problem.path: problem.reason for problem in report.problems}
    for path, word in bad.items():
        assert word in said[path]
    (too_long,) = said.keys() - bad.keys()
    assert "4096 bytes" in said[too_long]
    assert report.skipped >= 2
    for problem in report.problems:
        problem.path.encode()
    report = two.sync()
    assert not report.problems
    tree = two.tree()
    assert GOOD.items() <= tree.items()
    assert one.sync().uploaded == 0
    # Each sync goes on saying it, and anything else goes on.
    one.write("later", b"later")
    assert one.sync().uploaded == 1


def test_what_cannot_be_read_is_said_and_the_rest_goes_on(one: Device, two: Device) -> None:
    agreed({"closed/a": b"a", "b": b"b"}, one, two)

    class Unreadable(Files):
        """Root can read every file, so these files refuse."""

        def open_directory(self, path: str) -> int:
            if path == "closed":
                raise PermissionError(13, "Permission denied")
            return super().open_directory(path)

        def open_file(self, path: str) -> int:
            if path == "secret":
                raise PermissionError(13, "Permission denied")
            return super().open_file(path)

    one.write("c", b"c")
    report = one.engine(files=lambda folder: Unreadable(folder.root)).sync()
    assert [problem.path for problem in report.problems] == ["closed"]
    assert report.uploaded == 1
    assert report.deleted_remote == 0
    assert settled(one, two) == {"closed": None, "closed/a": b"a", "b": b"b", "c": b"c"}


def test_a_file_that_grows_all_the_time(one: Device, two: Device) -> None:
    agreed({"log": b"0"}, one, two)
    one.write("other", b"other")

    def grow(name: str) -> None:
        if name == "uploaded":
            with (one.root / "log").open("ab") as file:
                file.write(b"1")

    one.write("log", b"01")
    report = one.sync(grow)
    assert report.uploaded >= 2
    assert one.space.tree()["other"] == b"other"
    settled(one, two)


def test_names_that_the_space_has_and_a_folder_cannot(one: Device, two: Device) -> None:
    """The space may hold such names: each of these is left there."""
    for name in ("a\x7fb", "x" * 255, "\u0085", "con."):
        one.space.put(name, b"x")
    one.space.put("good", b"good")
    report = two.sync()
    assert two.tree()["good"] == b"good"
    assert not report.problems


def test_a_scan_survives_what_vanishes_under_it(one: Device) -> None:
    for number in range(50):
        one.write(f"d{number}/f", b"x")

    class Vanishing(Files):
        def open_directory(self, path: str) -> int:
            if path.startswith("d1"):
                raise FileNotFoundError(2, "gone")
            return super().open_directory(path)

    with Vanishing(one.root) as files:
        found = scan(files)
    assert found.unsettled
    assert not found.problems
    assert sum(entry.hidden for entry in found.entries) == 11
    sync(one)
