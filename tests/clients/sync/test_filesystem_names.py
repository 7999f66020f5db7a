"""Filesystems that take two names for one, or refuse a name: no node is lost, and somebody is told what to do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from syncline.sync.filesystem_names import Naming
from syncline.sync.folder.files import Files
from syncline.sync.report import Report
from tests.clients.sync.fakes import Crash, CrashAt, Device, NeverCrash, Point, PointedFiles
from tests.clients.sync.test_scenarios import agreed, contents, is_busy, sync


class FoldingFiles(PointedFiles):
    """A folder on a filesystem that keeps the case of names but does not tell them apart by it."""

    def _at(self, path: str) -> tuple[int, str]:
        names = path.split("/")
        found: list[str] = []
        for name in names[:-1]:
            found.append(self._spelled("/".join(found), name))
        directory = "/".join(found)
        return self._walk(directory), self._spelled(directory, names[-1])

    def _spelled(self, directory: str, name: str) -> str:
        there = os.listdir(self._walk(directory))  # noqa: PTH208 - by descriptor
        return next((one for one in there if one.casefold() == name.casefold()), name)


class PickyFiles(PointedFiles):
    """A folder on a filesystem with Windows' rules: bad characters are refused, dots at the end passed over."""

    def _at(self, path: str) -> tuple[int, str]:
        descriptor, name = super()._at(path)
        if Naming(like_windows=True).problem(name) and name[-1] not in ". ":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
        return descriptor, name.rstrip(". ") or name


class TightLippedFiles(PickyFiles):
    """A filesystem that does not let itself be known for what it is."""

    naming = Naming()


class Odd(Device):
    """A device whose folder is on such a filesystem."""

    kind: type[PointedFiles] = FoldingFiles

    def sync(self, point: Point | None = None, **options) -> Report:
        point = point or NeverCrash()
        return super().sync(point, files=lambda folder: self.kind(folder.root, point), **options)


@pytest.fixture
def two(base: Path, space) -> Odd:
    return Odd(base, "two", space)


@pytest.fixture(autouse=True)
def folders(one: Device, two: Odd) -> None:
    for device in (one, two):
        assert device.folder


def at_rest(*devices: Device) -> list[dict[str, str]]:
    """Sync in turn until nothing happens any more; the problems that each has then."""
    for _ in range(6):
        head = len(devices[0].space.journal)
        reports = [device.sync() for device in devices]
        if len(devices[0].space.journal) == head and not any(map(is_busy, reports)):
            return [{problem.path: problem.reason for problem in report.problems} for report in reports]
    raise AssertionError("it does not come to rest")


def test_a_filesystem_is_known_for_what_it_is(two: Odd) -> None:
    two.sync()
    with Files(two.root) as files:
        assert files.naming == Naming()
    with FoldingFiles(two.root, NeverCrash()) as files:
        assert files.naming == Naming(folds_case=True)
    with PickyFiles(two.root, NeverCrash()) as files:
        assert files.naming == Naming(like_windows=True)


# ---- names that differ in case only ----


def test_two_nodes_that_differ_in_case_only(one: Device, two: Odd) -> None:
    one.write("Readme", b"upper")
    one.write("readme", b"lower")
    one.write("d/Inner/a", b"1")
    one.write("d/inner/b", b"2")
    before = at_rest(one, two)
    assert before[0] == {}
    assert set(before[1]) == {"readme", "d/inner"}
    assert "rename one of them" in before[1]["readme"]
    assert two.tree() == {"Readme": b"upper", "d": None, "d/Inner": None, "d/Inner/a": b"1"}
    assert len(one.space.tree()) == 7
    (one.root / "readme").rename(one.root / "readme.txt")
    (one.root / "d/inner").rename(one.root / "d/other")
    assert at_rest(one, two) == [{}, {}]
    assert two.tree() == one.tree() == one.space.tree()


def test_the_one_that_is_here_stays_when_its_double_comes(one: Device, two: Odd) -> None:
    agreed({"readme": b"first"}, one)
    sync(one, two)
    one.write("README", b"double")
    assert set(at_rest(one, two)[1]) == {"README"}
    assert two.tree() == {"readme": b"first"}
    two.write("readme", b"edited")
    at_rest(two, one)
    assert one.tree() == {"readme": b"edited", "README": b"double"}


def test_a_new_file_here_and_its_double_there(one: Device, two: Odd) -> None:
    one.write("README", b"one's")
    sync(one)
    two.write("readme", b"two's")
    at_rest(one, two)
    assert contents(one.space.tree()) == {b"one's", b"two's"}
    assert two.tree() == {"readme": b"two's"}


def test_a_case_only_rename_in_the_space(one: Device, two: Odd) -> None:
    agreed({"readme": b"text", "Docs/a": b"a", "Docs/b": b"b"}, one)
    sync(one, two)
    (one.root / "readme").rename(one.root / "README")
    (one.root / "Docs").rename(one.root / "docs")
    sync(one)
    (report,) = sync(two)
    assert (report.moved, report.downloaded, report.deleted_local) == (2, 0, 0)
    assert two.tree() == {"README": b"text", "docs": None, "docs/a": b"a", "docs/b": b"b"}
    assert at_rest(one, two) == [{}, {}]


def test_a_case_only_rename_here(one: Device, two: Odd) -> None:
    agreed({"readme": b"text", "Docs/a": b"a"}, one)
    sync(one, two)
    (two.root / "readme").rename(two.root / "README")
    (two.root / "Docs").rename(two.root / "DOCS")
    (report,) = sync(two)
    assert (report.moved, report.uploaded, report.deleted_remote) == (2, 0, 0)
    assert at_rest(two, one) == [{}, {}]
    assert one.tree() == {"README": b"text", "DOCS": None, "DOCS/a": b"a"}


def test_a_case_only_rename_is_interrupted_anywhere(base: Path, space) -> None:
    crashed = 0
    for points in range(1, 30):
        (base / f"{points}").mkdir()
        one, two = Device(base / f"{points}", "one", space), Odd(base / f"{points}", "two", space)
        assert one.folder
        assert two.folder
        one.write("d/readme", b"%d" % points)
        sync(one, two)
        (one.root / "d" / "readme").rename(one.root / "d" / "README")
        (one.root / "d").rename(one.root / "D")
        sync(one)
        try:
            two.sync(CrashAt(points))
        except Crash:
            crashed += 1
        assert at_rest(two, one) == [{}, {}]
        assert two.tree() == {"D": None, "D/README": b"%d" % points}
        assert one.tree() == two.tree()
        shutil.rmtree(one.root / "D")
        sync(one)
        if crashed < points:
            break
    assert crashed > 3


def test_a_rename_in_the_space_onto_what_is_a_double_here(one: Device, two: Odd) -> None:
    agreed({"a": b"a", "b": b"b"}, one)
    sync(one, two)
    (one.root / "b").rename(one.root / "A")
    sync(one)
    (problem,) = two.sync().problems
    assert problem.path == "A"
    assert two.tree() == {"a": b"a", "b": b"b"}, "nothing is deleted for a name"
    one.write("A", b"b edited")
    at_rest(one, two)
    assert two.tree() == {"a": b"a", "b": b"b edited"}, "it goes on being synced under its old name"
    (two.root / "b").rename(two.root / "c")
    assert at_rest(two, one) == [{}, {}]
    assert one.tree() == {"a": b"a", "c": b"b edited"}


def test_a_directory_with_a_double_that_stayed_in_the_space_is_deleted_here(one: Device, two: Odd) -> None:
    agreed({"d/a": b"a", "d/A": b"A", "e": b"e"}, one)
    two.sync()
    shutil.rmtree(two.root / "d")
    two.sync()
    assert b"a" in one.space.tree().values(), "what nobody could see here was not deleted"
    at_rest(one, two)
    assert b"a" in contents(two.tree())


# ---- names that are refused ----

REFUSED = ["aux", "Con.txt", "lpt1", "a.", "a ", "a:b", "what?", "a\\b", "a\nb", "nul.tar.gz"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((PickyFiles, name) for name in REFUSED),
        *((TightLippedFiles, name) for name in REFUSED if name[-1] not in ". "),  # dots at the end would tell
    ],
)
def test_a_refused_name_is_a_problem_and_stays_in_the_space(
    one: Device, two: Odd, kind: type[PointedFiles], name: str
) -> None:
    two.kind = kind
    one.write(name, b"content")
    one.write(f"d/{name}/in", b"inner")
    one.write("fine", b"fine")
    sync(one)
    problems = {problem.path: problem.reason for problem in two.sync().problems}
    assert set(problems) >= {name, f"d/{name}"}
    assert "rename it" in problems[name]
    assert "rename it" in problems[f"d/{name}"]
    assert two.tree() == {"d": None, "fine": b"fine"}
    at_rest(one, two)
    assert one.tree() == one.space.tree()
    assert contents(one.space.tree()) == {b"content", b"inner", b"fine"}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_gets_a_refused_name_in_the_space_stays_here_under_its_old_one(
    one: Device, two: Odd, name: str
) -> None:
    two.kind = PickyFiles
    agreed({"a.txt": b"first", "d/x": b"x"}, one)
    sync(one, two)
    (one.root / "a.txt").rename(one.root / name)
    (one.root / "d").rename(one.root / f"d{name}:")
    sync(one)
    assert {problem.path for problem in two.sync().problems} == {name, f"d{name}:"}
    assert two.tree() == {"a.txt": b"first", "d": None, "d/x": b"x"}
    one.write(name, b"second")
    two.write("d/y", b"y")
    at_rest(one, two)
    assert two.tree() == {"a.txt": b"second", "d": None, "d/x": b"x", "d/y": b"y"}
    (one.root / name).rename(one.root / "b.txt")
    (one.root / f"d{name}:").rename(one.root / "e")
    assert at_rest(one, two) == [{}, {}]
    assert two.tree() == one.tree() == {"b.txt": b"second", "e": None, "e/x": b"x", "e/y": b"y"}


@pytest.mark.parametrize("name", ["auxiliary", "com", "com10", "a.b", ".a", "a b", "nulls.txt", "COMMA", "lpt"])
def test_what_merely_looks_like_a_refused_name_is_none(name: str) -> None:
    assert Naming(like_windows=True).problem(name) is None


def test_everything_is_allowed_elsewhere() -> None:
    assert not [name for name in REFUSED if Naming().problem(name)]
