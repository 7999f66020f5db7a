"""An ignored or excluded file stays where it is: no change of a filter deletes or loses anything, on either side."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typing_extensions import override

from syncline.model.blocks import MIB
from syncline.model.errors import InvalidArgument, Unavailable
from syncline.model.identifiers import NodeId
from syncline.sync.check import check
from syncline.sync.errors import NotExcluded
from syncline.sync.folder.files import Files
from syncline.sync.ports import Wanted
from syncline.sync.report import Report
from syncline.sync.scan.filters import BUILT_IN, IGNORE_FILE, MAX_ALL_BYTES, MAX_PATTERNS, Filters
from syncline.sync.scan.walk import scan
from syncline.sync.state.database import State
from syncline.sync.trees import Exclusion
from tests.clients.sync.fakes import Crash, CrashAt, Device, MemorySpace
from tests.clients.sync.test_scenarios import Failing, agreed, is_busy, sync
from tests.clients.sync.users import User


@pytest.fixture(autouse=True)
def folders(one: Device, two: Device) -> None:
    for device in (one, two):
        assert device.folder


def at_rest(*devices: Device) -> dict[str, object]:
    """Sync in turn until nothing happens any more; what the space has then."""
    space = devices[0].space
    for _ in range(6):
        head = len(space.journal)
        reports = sync(*devices)
        if len(space.journal) == head and not any(map(is_busy, reports)):
            for device in devices:
                assert not list((device.root / ".syncline" / "tmp").iterdir())
            return space.tree()
    raise AssertionError("it does not come to rest")


def exclude(device: Device, *paths: str) -> Report:
    return device.sync(wanted=Wanted(exclude=paths))


def include(device: Device, *paths: str) -> Report:
    return device.sync(wanted=Wanted(include=paths))


# ---- ignore rules ----


def ignored(device: Device) -> set[str]:
    """The paths of a folder that rules name."""
    with Files(device.root) as files:
        found = scan(files)
        filters = Filters(found, files)
        return {found.path(n) for n in range(len(found.entries)) if filters.is_ignored(n)}


def test_patterns_are_those_of_git(one: Device) -> None:
    for path in (
        "a.log", "keep.log", "build/x/y", "src/build/z", "src/a.log", "src/keep/a.log", "only/here/b", "b", "top",
        "src/top",
    ):  # fmt: skip
        one.write(path, b"x")
    one.write(IGNORE_FILE, b"# a comment\n*.log\n!keep.log\nbuild/\n/top\nonly/here/b\n")
    one.write(f"src/{IGNORE_FILE}", b"!/build/\n!*.log\n")
    one.write(f"src/keep/{IGNORE_FILE}", b"*\n")
    assert ignored(one) == {
        "a.log", "build", "build/x", "build/x/y", "top", "only/here/b", "src/keep/a.log", f"src/keep/{IGNORE_FILE}",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        ("*\n!*/\n!a", {"b", "d/b", "d/e/b"}),
        ("d/**\n!d/a", {"d/b", "d/e", "d/e/a", "d/e/b"}),
        ("/d/*\n!/d/e/", {"d/a", "d/b"}),
        ("a\n!d/", {"a", "d/a", "d/e/a"}),
        ("**/e", {"d/e", "d/e/a", "d/e/b"}),
        ("d/**/b", {"d/b", "d/e/b"}),
        ("[ab]\n!a", {"b", "d/b", "d/e/b"}),
        ("\\#\nb ", {"b", "d/b", "d/e/b"}),
    ],
)
def test_patterns_that_take_something_back(one: Device, rules: str, names: set[str]) -> None:
    for path in ("a", "b", "d/a", "d/b", "d/e/a", "d/e/b"):
        one.write(path, b"x")
    one.write(IGNORE_FILE, rules.encode())
    assert ignored(one) - {IGNORE_FILE} == names
    if shutil.which("git") is None:
        return
    subprocess.run(["git", "init", "-q", one.root], check=True)
    (one.root / ".gitignore").write_text(rules)
    paths = [path.relative_to(one.root).as_posix() for path in one.root.rglob("[abde]")]
    asked = subprocess.run(
        ["git", "-C", one.root, "check-ignore", *(path for path in paths if not path.startswith(".git"))],
        check=False, capture_output=True, text=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull},
    )  # fmt: skip
    assert set(asked.stdout.split()) == names, "as git has it"


def test_a_pattern_of_somebody_else_hangs_nobody(one: Device, two: Device) -> None:
    one.write(IGNORE_FILE, b"*a" * 60 + b"b\n")
    at_rest(one, two)
    two.write("a" * 200, b"two's")
    assert at_rest(one, two).keys() == {IGNORE_FILE, "a" * 200}


@pytest.mark.parametrize("beginning", [b"", b"#", b"x" * 5000])
def test_no_line_takes_the_square_of_its_length(tmp_path: Path, beginning: bytes) -> None:
    """Normalisation would sort half a million combining marks by exchanging neighbours, which takes many minutes."""
    marks = "\u0301\u0316".encode()
    (tmp_path / IGNORE_FILE).write_bytes(beginning + marks * ((MIB - len(beginning)) // len(marks)))
    program = f"""
from pathlib import Path
from syncline.sync.folder.files import Files
from syncline.sync.scan.filters import Filters
from syncline.sync.scan.walk import scan
files = Files(Path({str(tmp_path)!r}))
scanned = scan(files)
filters = Filters(scanned, files)
assert not filters.is_ignored(0)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_line_of_a_pattern_is_compared_in_normal_form(one: Device) -> None:
    one.write(IGNORE_FILE, "*e\u0301\n".encode())
    one.write("caf\u00e9", b"")
    assert one.sync().problems == []
    assert one.space.tree().keys() == {IGNORE_FILE}


def test_ignore_files_are_read_up_to_a_size_in_all(one: Device) -> None:
    """One block can be thousands of ignore files, which would be read at each sync."""
    number = MAX_ALL_BYTES // MIB
    for n in range(number + 2):
        one.write(f"{n:02}/{IGNORE_FILE}", b"#" * (MIB - 1) + b"\n")
        one.write(f"{n:02}/new", b"new")
    problems = one.sync().problems
    assert [problem.path for problem in problems] == [f"{n:02}/{IGNORE_FILE}" for n in (number, number + 1)]
    assert f"{number - 1:02}/new" in one.space.tree()
    assert f"{number:02}/new" not in one.space.tree()


@pytest.mark.parametrize("content", [b"#" * (MIB + 1), b"\xff" * MIB])
def test_ignore_files_that_are_refused_count_as_read(one: Device, content: bytes) -> None:
    """A thousand files of a byte too many would else all be read at each sync."""
    number = MAX_ALL_BYTES // MIB + 3
    for n in range(number):
        one.write(f"{n:02}/{IGNORE_FILE}", content)
    reading = CountedReads(one.root)
    filters = Filters(scan(reading), reading)
    filters.is_ignored(0)
    assert len(filters.problems) == number
    assert MAX_ALL_BYTES <= reading.bytes_read() <= MAX_ALL_BYTES + io.DEFAULT_BUFFER_SIZE


class CountedReads(Files):
    """Files of a folder of which is counted how much was read of each that was opened."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: list[int] = []

    @override
    def open_file(self, path: str) -> int:
        descriptor = super().open_file(path)
        self.opened.append(os.dup(descriptor))  # The copy shares the position of the original.
        return descriptor

    def bytes_read(self) -> int:
        """Return the bytes that were read of all files, and close the descriptors by which this is known."""
        total = 0
        for descriptor in self.opened:
            total += os.lseek(descriptor, 0, os.SEEK_CUR)
            os.close(descriptor)
        return total


def test_patterns_are_compiled_once_for_all_scans(one: Device) -> None:
    one.write(IGNORE_FILE, b"*.only-here\n")
    made: set[int] = set()
    for n in range(3):
        one.write(f"{n}", b"new")
        files = Files(one.root)
        filters = Filters(scan(files), files)
        filters.is_ignored(0)
        made.update(map(id, filters._rules.values()))
    assert len(made) == 1


def test_characters_of_lines_count_and_not_those_of_their_expressions(one: Device) -> None:
    """2,000 such lines are 10 KiB, and nearly 90 KiB of expressions."""
    one.write(IGNORE_FILE, b"*.log\n" * MAX_PATTERNS)
    one.write("a.log", b"")
    one.write("new", b"")
    assert one.sync().problems == []
    assert one.space.tree().keys() == {IGNORE_FILE, "new"}


def test_a_line_that_is_no_pattern_is_told(one: Device) -> None:
    one.write(IGNORE_FILE, b"#\n//\n" + b"x" * 1025 + b"\na\\\n")
    assert [problem.reason for problem in one.sync().problems] == [
        "line 2 is no pattern, and was passed over",
        "line 3 has more than 1024 characters, and was passed over",
        "line 4 ends with a backslash that escapes nothing, and was passed over",
    ]


@pytest.mark.parametrize(
    ("files", "refused"),
    [
        ({"": b"x[1]\n" * (MAX_PATTERNS + 1)}, ""),
        ({"": b"x\n" * MAX_PATTERNS, "d/e/": b"y\n"}, "d/e/"),
        ({"": b"x" * 1000 + b"\n", "d/": (b"y" * 1000 + b"\n") * 65}, "d/"),
        ({f"{name}/": b"x\n" * MAX_PATTERNS for name in "0123456789z"}, "z/"),
    ],
)
def test_more_patterns_than_can_be_compared_are_refused_and_said(
    one: Device, files: dict[str, bytes], refused: str
) -> None:
    """Nothing new goes up from where they speak, since it is not known whether it may."""
    for directory, rules in files.items():
        one.write(f"{directory}{IGNORE_FILE}", rules)
    one.write(f"{refused}new", b"x")
    one.write("d2/new", b"x")
    report = one.sync()
    assert [problem.path for problem in report.problems] == [f"{refused}{IGNORE_FILE}"]
    assert "more than" in report.problems[0].reason
    assert f"{refused}new" not in one.space.tree()
    assert ("d2/new" in one.space.tree()) == bool(refused)


def test_a_line_that_no_pattern_can_be_is_told_and_few_of_many(one: Device) -> None:
    one.write(IGNORE_FILE, b"a\\\n" * 1000 + b"[z-a]\n*.log\n")
    one.write("a.log", b"x")
    one.write("b", b"x")
    report = one.sync()
    assert len(report.problems) == 5
    assert "b" in one.space.tree()
    assert "a.log" not in one.space.tree()


def test_a_deeper_rule_cannot_bring_back_what_is_in_an_ignored_directory(one: Device) -> None:
    one.write("build/keep", b"x")
    one.write(f"build/{IGNORE_FILE}", b"!keep\n")
    one.write(IGNORE_FILE, b"build/\n!build/keep\n")
    assert ignored(one) == {"build", "build/keep", f"build/{IGNORE_FILE}"}


def test_ignored_files_are_not_uploaded_and_the_rules_travel(one: Device, two: Device) -> None:
    one.write(IGNORE_FILE, b"*.log\n/build/\n")
    one.write("a.log", b"log")
    one.write("build/deep/out", b"out")
    one.write("src/a.txt", b"a")
    two.write("src/b.log", b"two's log")
    assert at_rest(one, two) == {IGNORE_FILE: b"*.log\n/build/\n", "src": None, "src/a.txt": b"a"}
    assert one.tree()["build/deep/out"] == b"out"
    assert two.tree()["src/b.log"] == b"two's log"


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store", "Thumbs.db", "desktop.ini", "~$report.docx", ".~lock.report.odt#", ".notes.txt.swp", "#notes#",
        ".goutputstream-ABC123", "~WRL0001.tmp", ".nfs000000000123",
    ],
)  # fmt: skip
def test_droppings_are_ignored_until_somebody_takes_one_back(one: Device, two: Device, name: str) -> None:
    one.write(f"d/{name}", b"dropping")
    one.write("d/a", b"a")
    assert at_rest(one, two) == {"d": None, "d/a": b"a"}
    one.write(IGNORE_FILE, f"!{name.replace('#', chr(92) + '#')}\n".encode())
    tree = at_rest(one, two)
    assert tree[f"d/{name}"] == b"dropping"
    assert two.tree()[f"d/{name}"] == b"dropping"


@pytest.mark.parametrize("name", ["a.tmp", "a~", "a.bak", "a.swp", "._a", "4913", ".gitignore", "tmp", "~a", "#a"])
def test_what_may_be_somebodys_file_is_not_ignored(one: Device, name: str) -> None:
    one.write(name, b"x")
    assert at_rest(one) == {name: b"x"}


def test_every_built_in_rule_is_a_pattern() -> None:
    assert len(set(BUILT_IN)) == len(BUILT_IN)


def test_a_rule_added_for_what_is_in_the_space_deletes_nothing_and_it_goes_on_being_synced(
    one: Device, two: Device
) -> None:
    agreed({"a.log": b"1", "logs/b.log": b"1"}, one, two)
    one.write(IGNORE_FILE, b"*.log\nlogs/\n")
    one.write("c.log", b"new")
    one.write("logs/d", b"new")
    tree = at_rest(one, two)
    assert (tree["a.log"], tree["logs/b.log"]) == (b"1", b"1")
    assert "c.log" not in tree
    assert "logs/d" not in tree
    two.write("a.log", b"2")
    one.write("logs/b.log", b"2")
    at_rest(one, two)
    assert (one.tree()["a.log"], two.tree()["logs/b.log"]) == (b"2", b"2")
    (one.root / "a.log").unlink()
    assert "a.log" not in at_rest(one, two), "what its user deletes is deleted"


def test_a_rule_removed_uploads_what_it_kept_back(one: Device, two: Device) -> None:
    one.write(IGNORE_FILE, b"*.log\n")
    one.write("d/a.log", b"log")
    at_rest(one, two)
    (one.root / IGNORE_FILE).unlink()
    assert at_rest(one, two) == {"d": None, "d/a.log": b"log"}
    assert two.tree()["d/a.log"] == b"log"


def test_a_rule_removed_on_both_sides_keeps_both_contents(one: Device, two: Device) -> None:
    one.write(IGNORE_FILE, b"*.log\n")
    at_rest(one, two)
    one.write("a.log", b"one's")
    two.write("a.log", b"two's")
    at_rest(one, two)
    (one.root / IGNORE_FILE).unlink()
    assert set(at_rest(one, two).values()) == {b"one's", b"two's"}


def test_a_rule_in_a_directory_holds_there_only(one: Device, two: Device) -> None:
    one.write(f"d/{IGNORE_FILE}", b"*.log\n!keep.log\n")
    for path in ("a.log", "d/a.log", "d/keep.log", "d/e/a.log"):
        one.write(path, b"x")
    assert set(at_rest(one, two)) == {"a.log", "d", f"d/{IGNORE_FILE}", "d/keep.log"}


def test_rules_that_come_from_a_peer_are_asked_before_anything_is_uploaded(one: Device, two: Device) -> None:
    one.write(IGNORE_FILE, b"secret\n")
    one.write(f"d/{IGNORE_FILE}", b"*.key\n")
    at_rest(one)
    two.write("secret", b"secret")
    two.write("d/a.key", b"key")
    two.write("d/new", b"new")
    two.write("other", b"other")
    assert set(at_rest(two, one)) == {IGNORE_FILE, "d", f"d/{IGNORE_FILE}", "d/new", "other"}
    assert not {b"secret", b"key"} & {*one.space.objects.values()}, "nor did its bytes travel"


def test_rules_that_come_later_stop_later_uploads_only(one: Device, two: Device) -> None:
    agreed({"a": b"a"}, one, two)
    two.write("x.log", b"1")
    sync(two)
    one.write(IGNORE_FILE, b"*.log\n")
    sync(one)
    two.write("y.log", b"2")
    tree = at_rest(two, one)
    assert tree["x.log"] == b"1"
    assert "y.log" not in tree


def test_an_ignored_file_in_the_place_of_one_that_comes_from_the_space_is_kept(one: Device, two: Device) -> None:
    two.write("a.log", b"from two")
    at_rest(two)
    one.write(IGNORE_FILE, b"*.log\n")
    one.write("a.log", b"one's own")
    tree = at_rest(one, two)
    assert tree["a.log"] == b"from two"
    assert {b"from two", b"one's own"} <= set(one.tree().values())


@pytest.mark.parametrize("rules", [b"*.log\nbuild/\n", b"*\n!*/\n!a\n!.synclineignore\nbuild/\n"])
def test_ignored_files_in_a_directory_that_is_deleted_elsewhere_stay(one: Device, two: Device, rules: bytes) -> None:
    one.write(IGNORE_FILE, rules)
    agreed({"d/a": b"a", "d/e/a": b"a"}, one, two)
    two.write("d/x.log", b"log")
    two.write("d/e/build/out", b"out")
    at_rest(two)
    shutil.rmtree(one.root / "d")
    assert "d" not in at_rest(one, two)
    assert two.tree() == {
        IGNORE_FILE: rules, "d": None, "d/x.log": b"log", "d/e": None, "d/e/build": None, "d/e/build/out": b"out",
    }  # fmt: skip
    two.write("d/a", b"again")
    assert at_rest(two, one)["d/a"] == b"again"


def test_a_directory_that_becomes_a_file_elsewhere_and_holds_ignored_files(one: Device, two: Device) -> None:
    one.write(IGNORE_FILE, b"*.log\n")
    agreed({"d/a": b"a"}, one, two)
    two.write("d/x.log", b"log")
    shutil.rmtree(one.root / "d")
    one.write("d", b"a file now")
    tree = at_rest(one, two)
    assert tree["d"] == b"a file now"
    assert {b"a file now", b"log"} <= set(two.tree().values())


def test_a_directory_that_is_moved_takes_what_is_ignored_along(one: Device, two: Device) -> None:
    one.write(IGNORE_FILE, b"*.log\n")
    agreed({"d/a": b"a"}, one, two)
    two.write("d/x.log", b"log")
    (one.root / "d").rename(one.root / "e")
    assert at_rest(one, two) == {IGNORE_FILE: b"*.log\n", "e": None, "e/a": b"a"}
    assert two.tree()["e/x.log"] == b"log"


def test_a_file_moved_to_where_rules_ignore_it_is_moved(one: Device, two: Device) -> None:
    agreed({"a": b"a", "b": b"b"}, one, two)
    one.write(IGNORE_FILE, b"private/\n")
    one.write("private/own", b"own")
    (one.root / "a").rename(one.root / "private" / "a")
    assert at_rest(one, two) == {IGNORE_FILE: b"private/\n", "b": b"b", "private": None, "private/a": b"a"}


def test_an_ignored_copy_is_not_taken_for_a_deleted_file(one: Device, two: Device) -> None:
    one.write(IGNORE_FILE, b"*.bak\n")
    agreed({"a": b"content"}, one, two)
    one.write("a.bak", b"content")
    at_rest(one, two)
    (one.root / "a").unlink()
    assert at_rest(one, two) == {IGNORE_FILE: b"*.bak\n"}
    assert one.tree()["a.bak"] == b"content"


def test_a_bad_line_is_said_and_the_others_hold(one: Device) -> None:
    one.write(IGNORE_FILE, b"!\n*.log\n")
    one.write("a.log", b"x")
    (problem,) = one.sync().problems
    assert problem.path == IGNORE_FILE
    assert problem.reason.startswith("line 1")
    assert "a.log" not in one.space.tree()


def test_rules_that_cannot_be_read_let_nothing_new_out(one: Device, two: Device) -> None:
    agreed({"d/a": b"a"}, one, two)
    one.write(f"d/{IGNORE_FILE}", b"\xff\xfe\n")
    one.write("d/new", b"new")
    one.write("d/a", b"edited")
    one.write("e", b"e")
    (problem,) = one.sync().problems
    assert problem.path == f"d/{IGNORE_FILE}"
    assert one.space.tree() == {"d": None, "d/a": b"edited", "e": b"e"}


def test_an_ignore_file_that_is_too_large_is_refused_and_said(one: Device) -> None:
    """The part beyond the bound may hold the line that keeps a file back, so no file beside it goes up."""
    one.write(f"d/{IGNORE_FILE}", b"#" * (MIB - 1) + b"\n")
    one.write("d/new", b"new")
    assert one.sync().problems == []
    one.write(f"d/{IGNORE_FILE}", b"#" * MIB + b"\n")
    one.write("d/newer", b"newer")
    (problem,) = one.sync().problems
    assert problem.path == f"d/{IGNORE_FILE}"
    assert f"{MIB} bytes" in problem.reason
    assert "d/newer" not in one.space.tree()


def test_a_check_says_nothing_of_ignored_and_excluded_files(one: Device) -> None:
    one.write(IGNORE_FILE, b"*.log\n")
    for path in ("a.log", "big/a", "a", "b.log"):
        one.write(path, b"x")
    asked: list[object] = []

    class Everything:
        def check_versions(self, files):
            asked.extend(key for key, _ in files)
            return iter(())

    with Files(one.root) as files:
        check(one.folder, files, {}, Everything(), excluded=frozenset({"big"}))
    assert "big/a" not in asked
    assert {"a", IGNORE_FILE} <= set(asked)


# ---- exclusions ----


def test_what_is_excluded_is_left_alone_on_both_sides(one: Device, two: Device) -> None:
    agreed({"big/a": b"1", "big/b": b"1", "c": b"1"}, one, two)
    exclude(two, "big")
    one.write("big/a", b"one's")
    one.write("big/new", b"one's new")
    two.write("big/b", b"two's")
    two.write("big/own", b"two's own")
    (two.root / "big" / "a").unlink()
    two.write("c", b"2")
    tree = at_rest(one, two)
    assert tree == {
        "big": None, "big/a": b"one's", "big/b": b"1", "big/new": b"one's new", "c": b"2",
    }  # fmt: skip
    assert two.tree() == {"big": None, "big/b": b"two's", "big/own": b"two's own", "c": b"2"}
    assert one.tree()["c"] == b"2"


def test_excluded_before_it_ever_came_and_then_included(one: Device, two: Device) -> None:
    agreed({"d/big/a": b"a", "d/b": b"b"}, one)
    exclude(two, "d/big")
    at_rest(one, two)
    assert two.tree() == {"d": None, "d/b": b"b"}
    include(two, "d/big")
    assert two.tree()["d/big/a"] == b"a"
    at_rest(one, two)


def test_excluded_deleted_here_and_included_again(one: Device, two: Device) -> None:
    agreed({"big/a": b"1", "big/b": b"1", "c": b"1"}, one, two)
    exclude(two, "big")
    shutil.rmtree(two.root / "big")
    assert at_rest(one, two) == {"big": None, "big/a": b"1", "big/b": b"1", "c": b"1"}
    include(two, "big")
    assert two.tree() == one.tree()


def test_excluded_and_deleted_here_in_one_go(one: Device, two: Device) -> None:
    agreed({"big/a": b"1", "c": b"1"}, one, two)
    shutil.rmtree(two.root / "big")
    exclude(two, "big")
    assert at_rest(one, two)["big/a"] == b"1"


def test_changed_on_both_sides_while_excluded_then_included(one: Device, two: Device) -> None:
    agreed({"big/a": b"1", "big/same": b"1"}, one, two)
    exclude(two, "big")
    one.write("big/a", b"one's")
    two.write("big/a", b"two's")
    at_rest(one, two)
    include(two, "big")
    tree = at_rest(one, two)
    assert set(tree.values()) == {None, b"one's", b"two's", b"1"}
    assert tree == one.tree() == two.tree()


def test_a_file_is_excluded_like_a_directory(one: Device, two: Device) -> None:
    agreed({"a.iso": b"1", "c": b"1"}, one, two)
    exclude(two, "a.iso")
    one.write("a.iso", b"2")
    at_rest(one, two)
    assert two.tree()["a.iso"] == b"1"


def test_an_excluded_directory_that_is_renamed_in_the_space_stays_excluded(one: Device, two: Device) -> None:
    agreed({"d/big/a": b"1", "c": b"1"}, one, two)
    exclude(two, "d/big")
    (one.root / "d" / "big").rename(one.root / "large")
    one.write("large/new", b"new")
    tree = at_rest(one, two)
    assert tree == {"d": None, "large": None, "large/a": b"1", "large/new": b"new", "c": b"1"}
    assert two.tree() == {"d": None, "d/big": None, "d/big/a": b"1", "c": b"1"}
    include(two, "large")
    at_rest(one, two)
    assert two.tree()["large/new"] == b"new"


def test_an_excluded_directory_that_is_deleted_in_the_space_stays_here(one: Device, two: Device) -> None:
    agreed({"big/a": b"1", "c": b"1"}, one, two)
    exclude(two, "big")
    shutil.rmtree(one.root / "big")
    assert at_rest(one, two) == {"c": b"1"}
    assert two.tree()["big/a"] == b"1"


def test_a_directory_with_something_excluded_is_deleted_in_the_space(one: Device, two: Device) -> None:
    agreed({"d/big/a": b"1", "d/b": b"1", "c": b"1"}, one, two)
    exclude(two, "d/big")
    shutil.rmtree(one.root / "d")
    assert at_rest(one, two) == {"c": b"1"}
    assert two.tree() == {"c": b"1", "d": None, "d/big": None, "d/big/a": b"1"}


def test_a_directory_with_something_excluded_is_deleted_here(one: Device, two: Device) -> None:
    agreed({"d/big/a": b"1", "d/b": b"1", "c": b"1"}, one, two)
    exclude(two, "d/big")
    shutil.rmtree(two.root / "d")
    assert at_rest(one, two) == {"d": None, "d/big": None, "d/big/a": b"1", "c": b"1"}
    assert two.tree() == {"d": None, "c": b"1"}


def test_a_file_moved_into_an_excluded_directory_is_deleted_nowhere(one: Device, two: Device) -> None:
    agreed({"big/a": b"1", "c": b"2"}, one, two)
    (two.root / "c").rename(two.root / "big" / "c")
    exclude(two, "big")
    tree = at_rest(one, two)
    assert tree == {"big": None, "big/a": b"1", "c": b"2"}
    assert two.tree() == {"big": None, "big/a": b"1", "big/c": b"2", "c": b"2"}


def test_a_file_moved_out_of_what_is_then_excluded(one: Device, two: Device) -> None:
    agreed({"big/a": b"1", "c": b"2"}, one, two)
    (two.root / "big" / "a").rename(two.root / "a")
    exclude(two, "big")
    tree = at_rest(one, two)
    assert tree == {"big": None, "big/a": b"1", "a": b"1", "c": b"2"}


def test_the_space_moves_a_file_into_what_is_excluded_here(one: Device, two: Device) -> None:
    agreed({"big/a": b"1", "c": b"2", "d": b"3"}, one, two)
    exclude(two, "big")
    two.write("d", b"edited")
    for name in ("c", "d"):
        (one.root / name).rename(one.root / "big" / name)
    sync(one)
    tree = at_rest(two, one)
    assert (tree["big/c"], tree["big/d"], tree["d"]) == (b"2", b"3", b"edited")
    assert two.tree() == {"big": None, "big/a": b"1", "d": b"edited"}


def test_including_what_is_not_excluded_is_refused(one: Device) -> None:
    agreed({"a": b"a"}, one)
    with pytest.raises(InvalidArgument, match="is not excluded"):
        include(one, "a")


def test_a_dry_run_remembers_nothing_and_says_what_is_excluded(one: Device, two: Device) -> None:
    agreed({"big/a": b"1", "c": b"1"}, one)
    planned = two.engine().dry_run(wanted=Wanted(exclude=("big",)))
    assert planned.planned == [("download", "c")]
    assert planned.excluded == ["big"]
    assert two.engine().dry_run().excluded == []
    exclude(two, "big")
    assert two.engine().dry_run().excluded == ["big"]


def test_exclusions_are_remembered_with_their_node(tmp_path: Path) -> None:
    with State.open(tmp_path / "state.db") as state:
        state.put_excluded(Exclusion("b"))
        state.put_excluded(Exclusion("a", NodeId(b"n" * 16)))
        state.commit()
    with State.open(tmp_path / "state.db") as state:
        assert state.excluded() == [Exclusion("a", NodeId(b"n" * 16)), Exclusion("b")]
        state.remove_excluded("a")
        assert state.excluded() == [Exclusion("b")]


# ---- at random ----


@pytest.mark.parametrize("seed", range(40))
def test_filters_changed_at_random_delete_and_lose_nothing(base: Path, space: MemorySpace, seed: int) -> None:
    """Users, crashes and filters at random: no content gets lost, and changing a filter alone deletes nothing."""
    rng = random.Random(seed)
    devices = [Device(base, name, space) for name in "xy"]
    users = [User(device.root, rng, device.name) for device in devices if device.folder]
    excluded: list[set[str]] = [set(), set()]
    paths = ("a", "b", "c", "a/b", "b/a", "c/d.txt")

    def saved() -> set[bytes]:
        contents = {
            path.read_bytes()
            for device in devices
            for path in device.root.rglob("*")
            if path.is_file() and not path.is_symlink() and path.name != "lock"
        }
        return contents | {space.objects[digest] for digest in space.history if digest in space.objects}

    for _ in range(25):
        n = rng.randrange(2)
        if rng.random() < 0.6:
            users[n].act()
            continue
        wanted = Wanted()
        match rng.randrange(4):
            case 0 if excluded[n]:
                path = rng.choice(sorted(excluded[n]))
                excluded[n].discard(path)
                wanted = Wanted(include=(path,))
            case 1:
                path = rng.choice(paths)
                excluded[n].add(path)
                wanted = Wanted(exclude=(path,))
            case 2:
                rule = rng.choice((b"a\n", b"*.txt\n", b"/b/\n!c\n", b"*\n!.synclineignore\n", b""))
                rules = devices[n].root / IGNORE_FILE
                if not rules.is_dir() and not rules.is_symlink():
                    devices[n].write(IGNORE_FILE, rule)
        before = saved()
        try:
            devices[n].sync(CrashAt(rng.choice((2, 5, 9, 15))) if rng.random() < 0.2 else None,
                            allow_mass_delete=True, wanted=wanted)  # fmt: skip
        except Crash:
            excluded[n] = {one.path for one in stored(devices[n])}
        except InvalidArgument:
            pass
        assert before <= saved() | {b""}

    before = saved()
    for _ in range(6):
        for device in devices:
            device.sync(allow_mass_delete=True)
    assert not any(is_busy(device.sync()) for device in devices)
    nodes = {id_ for id_, node in space.nodes.items() if space.is_live(node)}
    for device in devices:
        for path in [one.path for one in stored(device)]:
            device.sync(wanted=Wanted(include=(path,)))
    for path in paths:
        devices[0].sync(wanted=Wanted(exclude=(path,)))
    assert nodes <= {id_ for id_, node in space.nodes.items() if space.is_live(node)}
    assert before <= saved() | {b""}


def stored(device: Device) -> list[Exclusion]:
    with State.in_memory(device.folder.database) as state:
        return state.excluded()


# ---- include, asked for again ----


def test_include_can_be_asked_for_again_after_a_sync_that_failed(one: Device, two: Device) -> None:
    agreed({"big/a": b"1", "c": b"1"}, one, two)
    exclude(two, "big")
    one.write("big/b", b"1")
    two.write("d", b"1")
    sync(one)
    wanted = Wanted(include=("big",))
    with pytest.raises(Unavailable):
        two.engine(space=Failing(one.space, Unavailable(), acted=False)).sync(wanted=wanted)
    two.sync(wanted=wanted)
    assert two.tree() == {"big": None, "big/a": b"1", "big/b": b"1", "c": b"1", "d": b"1"}
    assert not is_busy(two.sync(wanted=wanted))
    with pytest.raises(NotExcluded):
        include(two, "c")


def test_include_where_the_state_is_damaged(one: Device, two: Device) -> None:
    agreed({"big/a": b"1", "c": b"1"}, one, two)
    exclude(two, "big")
    database = two.folder.database
    database.with_name(f"{database.name}-wal").unlink(missing_ok=True)
    database.write_bytes(b"no database at all" * 1000)
    two.write("d", b"1")
    wanted = Wanted(include=("big",))
    with pytest.raises(Unavailable):
        two.engine(space=Failing(one.space, Unavailable(), acted=False)).sync(wanted=wanted)
    two.sync(wanted=wanted)
    assert at_rest(one, two) == {"big": None, "big/a": b"1", "c": b"1", "d": b"1"}
