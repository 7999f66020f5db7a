"""One test for each way in which a sync engine is known to lose files: real folders, the service's real core."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from syncline.model.blocks import MIB
from syncline.model.errors import NoSuchSpace, PermissionDenied, Unavailable
from syncline.model.identifiers import ROOT, NodeId, RequestId
from syncline.model.names import MAX_PATH_NAMES
from syncline.model.tree import Mutation, Node, NodeKind
from syncline.sdk import pages
from syncline.sdk.errors import ListingTooLarge
from syncline.sdk.right import Right
from syncline.sync.errors import FolderBusy, FolderMissing, LinkedElsewhere, TooManyDeletions
from syncline.sync.folder.files import Files
from syncline.sync.folder.link import link_folder
from syncline.sync.ports import SpacePort
from syncline.sync.report import Report
from syncline.sync.state.mirror import Mirror
from syncline.sync.trees import new_local_id, transit_name
from tests.clients.sync.fakes import (
    Answer,
    Crash,
    CrashAt,
    Device,
    FakeSpace,
    MemorySpace,
    NeverCrash,
    Page,
    PointedFiles,
)

NFC, NFD = unicodedata.normalize("NFC", "naïve"), unicodedata.normalize("NFD", "naïve")


def sync(*devices: Device) -> list[Report]:
    """Sync each once, in this order; nothing may be left over."""
    reports = [device.sync() for device in devices]
    assert not [report.problems for report in reports if report.problems]
    return reports


def settled(*devices: Device) -> dict[str, object]:
    """Sync in turn until nothing happens any more; then all are the same, and their tree."""
    for _ in range(6):
        head = len(devices[0].space.journal)
        reports = sync(*devices)
        if len(devices[0].space.journal) == head and not any(map(is_busy, reports)):
            break
    else:
        raise AssertionError("it does not settle")
    tree = devices[0].space.tree()
    for device in devices:
        composed = {unicodedata.normalize("NFC", path): what for path, what in device.tree().items()}
        assert composed == tree, device.name
        assert not list((device.root / ".syncline" / "tmp").iterdir())
    return tree


def is_busy(report: Report) -> bool:
    return any(
        (
            report.uploaded,
            report.downloaded,
            report.moved,
            report.conflicts,
            report.deleted_local,
            report.deleted_remote,
        )
    )


def agreed(files: dict[str, bytes | None], *devices: Device) -> None:
    """Begin with these files (None: a directory) on all devices."""
    for path, data in files.items():
        if data is None:
            (devices[0].root / path).mkdir(parents=True, exist_ok=True)
        else:
            devices[0].write(path, data)
    settled(*devices)


def contents(tree: dict[str, object]) -> set[object]:
    return {what for what in tree.values() if what is not None}


@pytest.fixture(autouse=True)
def folders(one: Device, two: Device, three: Device) -> None:
    for device in (one, two, three):
        assert device.folder


# ---- edits, creations, deletions ----


def test_edit_and_edit_with_different_bytes(one: Device, two: Device) -> None:
    agreed({"a.txt": b"first"}, one, two)
    one.write("a.txt", b"one's")
    two.write("a.txt", b"two's")
    tree = settled(one, two)
    assert tree["a.txt"] == b"one's"
    assert tree["a (conflict two 2026-11-03 142501).txt"] == b"two's"


def test_edit_and_edit_with_identical_bytes(one: Device, two: Device) -> None:
    agreed({"a.txt": b"first"}, one, two)
    one.write("a.txt", b"same")
    two.write("a.txt", b"same")
    assert settled(one, two) == {"a.txt": b"same"}


def test_create_and_create_with_different_bytes(one: Device, two: Device) -> None:
    one.write("a.txt", b"one's")
    two.write("a.txt", b"two's")
    assert contents(settled(one, two)) == {b"one's", b"two's"}


def test_create_and_create_with_identical_bytes_moves_no_data(one: Device, two: Device) -> None:
    one.write("d/a.txt", b"same")
    two.write("d/a.txt", b"same")
    sync(one)
    (report,) = sync(two)
    assert "put" not in two.calls
    assert "get" not in two.calls
    assert not report.conflicts
    assert settled(one, two) == {"d": None, "d/a.txt": b"same"}


@pytest.mark.parametrize("first", ["edit", "delete"])
def test_edit_and_delete_the_edit_holds(one: Device, two: Device, first: str) -> None:
    agreed({"a.txt": b"first"}, one, two)
    one.write("a.txt", b"edited")
    (two.root / "a.txt").unlink()
    sync(*((one, two) if first == "edit" else (two, one)))
    assert settled(one, two) == {"a.txt": b"edited"}


def test_delete_and_delete(one: Device, two: Device) -> None:
    agreed({"a.txt": b"first", "d/b.txt": b"b"}, one, two)
    for device in (one, two):
        (device.root / "a.txt").unlink()
    assert settled(one, two) == {"d": None, "d/b.txt": b"b"}


def test_delete_and_recreate_while_a_stale_peer_edits(one: Device, two: Device, three: Device) -> None:
    agreed({"a.txt": b"first"}, one, two, three)
    (one.root / "a.txt").unlink()
    sync(one)
    one.write("a.txt", b"made anew")
    sync(one)
    three.write("a.txt", b"stale edit")
    tree = settled(one, two, three)
    assert contents(tree) == {b"made anew", b"stale edit"}
    assert tree["a.txt"] == b"made anew"


def test_truncation_to_zero_is_an_edit_and_no_loss(one: Device, two: Device) -> None:
    agreed({"a.txt": b"content"}, one, two)
    one.write("a.txt", b"")
    assert settled(one, two) == {"a.txt": b""}
    node = one.space.live()["a.txt"]
    assert node.version == 2, "the content is in the history"


def test_truncation_to_zero_and_an_edit_are_both_kept(one: Device, two: Device) -> None:
    agreed({"a.txt": b"content"}, one, two)
    one.write("a.txt", b"")
    two.write("a.txt", b"edited")
    assert contents(settled(one, two)) == {b"", b"edited"}


def test_empty_directories_and_empty_files(one: Device, two: Device) -> None:
    agreed({"d/e/f": None, "g": b""}, one, two)
    (one.root / "d/e/f").rmdir()
    (one.root / "d/h").mkdir()
    assert settled(one, two) == {"d": None, "d/e": None, "d/h": None, "g": b""}


# ---- renames and moves ----


def test_rename_and_edit(one: Device, two: Device) -> None:
    agreed({"a.txt": b"first"}, one, two)
    (one.root / "a.txt").rename(one.root / "b.txt")
    two.write("a.txt", b"edited")
    assert settled(one, two) == {"b.txt": b"edited"}


def test_rename_and_rename_to_two_names(one: Device, two: Device) -> None:
    agreed({"a.txt": b"first"}, one, two)
    (one.root / "a.txt").rename(one.root / "b.txt")
    (two.root / "a.txt").rename(two.root / "c.txt")
    assert settled(one, two) == {"b.txt": b"first"}


def test_two_files_renamed_to_one_name(one: Device, two: Device) -> None:
    agreed({"a": b"1", "b": b"2"}, one, two)
    (one.root / "a").rename(one.root / "c")
    (two.root / "b").rename(two.root / "c")
    tree = settled(one, two)
    assert tree["c"] == b"1"
    assert contents(tree) == {b"1", b"2"}


def test_folder_moved_while_something_inside_is_edited_and_made(one: Device, two: Device) -> None:
    agreed({"d/a.txt": b"first", "e": None}, one, two)
    (one.root / "d").rename(one.root / "e" / "moved")
    two.write("d/a.txt", b"edited")
    two.write("d/new.txt", b"new")
    tree = settled(one, two)
    assert tree == {
        "e": None,
        "e/moved": None,
        "e/moved/a.txt": b"edited",
        "e/moved/new.txt": b"new",
    }


def test_move_into_a_folder_that_is_deleted(one: Device, two: Device) -> None:
    agreed({"d/old.txt": b"old", "a.txt": b"a"}, one, two)
    shutil.rmtree(one.root / "d")
    (two.root / "a.txt").rename(two.root / "d" / "a.txt")
    assert settled(one, two) == {"d": None, "d/a.txt": b"a"}


def test_edit_inside_a_folder_that_is_deleted(one: Device, two: Device) -> None:
    agreed({"d/e/a.txt": b"a", "d/e/b.txt": b"b"}, one, two)
    shutil.rmtree(one.root / "d")
    two.write("d/e/a.txt", b"edited")
    assert settled(one, two) == {"d": None, "d/e": None, "d/e/a.txt": b"edited"}


def test_two_moves_that_would_form_a_cycle(one: Device, two: Device) -> None:
    agreed({"a/1": b"1", "b/2": b"2"}, one, two)
    (one.root / "a").rename(one.root / "b" / "a")
    (two.root / "b").rename(two.root / "a" / "b")
    assert contents(settled(one, two)) == {b"1", b"2"}


def test_swap(one: Device, two: Device) -> None:
    agreed({"a": b"1", "b": b"2"}, one, two)
    (one.root / "a").rename(one.root / "x")
    (one.root / "b").rename(one.root / "a")
    (one.root / "x").rename(one.root / "b")
    _, report = sync(one, two)
    assert "put" not in one.calls
    assert "get" not in two.calls
    assert report.moved
    assert settled(one, two) == {"a": b"2", "b": b"1"}


def test_a_file_is_known_by_its_name_in_transit_when_a_killed_run_left_it_there_and_it_was_edited(
    one: Device, two: Device
) -> None:
    """An inode says which file it is only as long as nobody writes the file."""
    agreed({"a": b"1", "b": b"2"}, one, two)
    (one.root / "a").rename(one.root / "x")
    (one.root / "b").rename(one.root / "a")
    (one.root / "x").rename(one.root / "b")
    sync(one)
    with pytest.raises(Crash):
        two.sync(CrashAt(1, "moved"))
    (aside,) = (path for path in two.root.iterdir() if path.name not in {"a", "b", ".syncline"})
    before = aside.read_bytes()
    aside.write_bytes(before + b", edited")
    tree = settled(one, two)
    assert tree == {"a": b"2", "b": b"1"} | {("b" if before == b"1" else "a"): before + b", edited"}
    assert {"a", "b"} == {node.name for node in one.space.live().values()}


def test_a_new_directory_that_got_the_inode_of_a_deleted_one_is_another(one: Device, two: Device) -> None:
    """Filesystems use inodes again; here the test does so, since one in memory numbers on."""
    agreed({"d/x": b"x"}, one, two)
    before = one.space.live()["d"].id
    shutil.rmtree(one.root / "d")
    one.write("e/y", b"y")
    with closing(sqlite3.connect(one.folder.database)) as db:
        db.execute("UPDATE base SET inode = ? WHERE name = 'd'", ((one.root / "e").stat().st_ino,))
        db.commit()
    two.write("d/new", b"new")
    sync(one)
    assert one.space.live()["e"].id != before
    assert settled(one, two) == {"d": None, "d/new": b"new", "e": None, "e/y": b"y"}


@pytest.mark.parametrize("killed", [False, True])
def test_file_edited_in_the_moment_before_it_is_deleted(one: Device, two: Device, killed: bool) -> None:
    """The sync looks again where nobody else writes; if it is killed there, the next one gives the file back."""
    agreed({"a.txt": b"first", "b.txt": b"b"}, one, two)
    (one.root / "a.txt").unlink()
    sync(one)

    passed: list[str] = []

    def point(name: str) -> None:
        passed.append(name)
        if passed.count("move") == 1 and name == "move":
            (two.root / "a.txt").write_bytes(b"edited just now")
        if name == "moved" and killed:
            raise Crash(name)

    with pytest.raises(Crash) if killed else nullcontext():
        two.sync(point)
    assert "moved" in passed
    assert contents(settled(one, two)) == {b"edited just now", b"b"}


def test_a_space_whose_changes_take_too_much_memory_is_said_and_nothing_is_lost(
    one: Device, two: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one.root / "a").write_bytes(b"a")
    (one.root / "b").write_bytes(b"b")
    sync(one)
    with monkeypatch.context() as patched:
        patched.setattr(pages, "MAX_HELD_BYTES", 600)
        with pytest.raises(ListingTooLarge, match="to another space"):
            two.sync()
    assert settled(one, two) == {"a": b"a", "b": b"b"}


def sync_while(device: Device, change: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync in which somebody else changes the space just after it was looked at."""
    pull = Mirror.pull
    changed = False

    def pulled(mirror: Mirror, space: SpacePort) -> bool:
        nonlocal changed
        news = pull(mirror, space)
        if not changed:
            changed = True
            change()
        return news

    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "pull", pulled)
        device.sync(allow_mass_delete=True)
    assert changed


def test_something_new_in_the_space_below_a_directory_that_is_just_being_deleted(
    one: Device, two: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreed({"d/x": b"x", "a": b"a"}, one, two)
    shutil.rmtree(two.root / "d")
    sync_while(two, lambda: two.space.put("d/new", b"new"), monkeypatch)
    assert settled(one, two) == {"d": None, "d/new": b"new", "a": b"a"}


def test_rename_of_a_file_that_is_just_being_edited_in_the_space(
    one: Device, two: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the rename has the other's content, which is not here yet."""
    agreed({"a": b"1"}, one, two)
    (two.root / "a").rename(two.root / "b")
    sync_while(two, lambda: two.space.put("a", b"edited there"), monkeypatch)
    assert settled(one, two) == {"b": b"edited there"}


def test_three_way_rotation_of_directories(one: Device, two: Device) -> None:
    agreed({"a/1": b"1", "b/2": b"2", "c/3": b"3"}, one, two)
    for source, target in (("a", "x"), ("b", "a"), ("c", "b"), ("x", "c")):
        (one.root / source).rename(one.root / target)
    sync(one, two)
    assert "get" not in two.calls
    tree = settled(one, two)
    assert (tree["a/2"], tree["b/3"], tree["c/1"]) == (b"2", b"3", b"1")


def test_directory_turned_inside_out(one: Device, two: Device) -> None:
    agreed({"a/b/1": b"1"}, one, two)
    (one.root / "a/b").rename(one.root / "x")
    (one.root / "a").rename(one.root / "x/a")
    (one.root / "x").rename(one.root / "b")
    sync(one, two)
    assert "get" not in two.calls
    assert settled(one, two) == {"b": None, "b/1": b"1", "b/a": None}


def test_rename_then_move_before_the_first_sync_ends(one: Device, two: Device) -> None:
    one.write("d/a.txt", b"a")

    class Moving:
        """The user renames, then moves, while the sync is under way."""

        def __call__(self, name: str) -> None:
            if name == "upload" and (one.root / "d").exists():
                (one.root / "d").rename(one.root / "e")
            elif name == "commit sent" and (one.root / "e").exists():
                (one.root / "f").mkdir()
                (one.root / "e").rename(one.root / "f" / "g")

    one.sync(Moving())
    assert settled(one, two) == {"f": None, "f/g": None, "f/g/a.txt": b"a"}


def test_file_to_directory_and_back_while_the_peer_edits(one: Device, two: Device) -> None:
    agreed({"a": b"first"}, one, two)
    (one.root / "a").unlink()
    one.write("a/inner", b"inner")
    two.write("a", b"edited")
    tree = settled(one, two)
    assert contents(tree) == {b"inner", b"edited"}
    if tree["a"] is None:
        shutil.rmtree(one.root / "a")
        one.write("a", b"a file again")
        two.write("a/inner", b"inner edited")
        assert contents(settled(one, two)) >= {b"a file again", b"inner edited", b"edited"}


def test_case_only_rename(one: Device, two: Device) -> None:
    agreed({"readme.md": b"text", "Docs/a": b"a"}, one, two)
    (one.root / "readme.md").rename(one.root / "README.md")
    (one.root / "Docs").rename(one.root / "docs")
    sync(one, two)
    assert "get" not in two.calls
    assert settled(one, two) == {"README.md": b"text", "docs": None, "docs/a": b"a"}


# ---- names ----


def names(device: Device) -> set[str]:
    return {path.name for path in device.root.iterdir()}


def test_a_name_in_nfd_stays_as_it_is_spelled_and_deletes_nothing(one: Device, two: Device) -> None:
    one.write(NFD, b"text")
    settled(one, two)
    assert NFD in names(one)
    assert NFC in names(two)
    two.write(NFC, b"edited")
    assert settled(one, two) == {NFC: b"edited"}
    assert NFD in names(one)


def test_nfc_and_nfd_twins_are_both_kept(one: Device, two: Device) -> None:
    one.write(NFC, b"composed")
    one.write(NFD, b"decomposed")
    report = one.sync()
    assert next(problem.reason for problem in report.problems).startswith("its name differs from")
    assert {(one.root / NFC).read_bytes(), (one.root / NFD).read_bytes()} == {b"composed", b"decomposed"}
    (one.root / NFD).rename(one.root / "other name")
    assert contents(settled(one, two)) == {b"composed", b"decomposed"}


def test_a_name_in_nfd_makes_way_before_another_takes_it(one: Device, two: Device) -> None:
    """A crash between the two would leave twins, which only a person could tell apart."""
    one.write(NFD, b"decomposed")
    (two.root / NFC).mkdir()
    sync(two)
    with suppress(Crash):
        one.sync(CrashAt(1, "directory made"))
    tree = settled(one, two)
    assert (tree[NFC], contents(tree)) == (None, {b"decomposed"})


class Lying(FakeSpace):
    """A space that says what it likes."""

    def __init__(self, space: MemorySpace, *hostile: Node) -> None:
        super().__init__(space, NeverCrash(), [])
        self._hostile = hostile

    def changes(self, cursor: bytes, *, fresh_right: bool = False) -> Iterator[Page]:
        for page in super().changes(cursor, fresh_right=fresh_right):
            yield Page((*page.nodes, *self._hostile), page.cursor, page.reset, page.seq)


@pytest.mark.parametrize("name", ["..", "../escaped", "/etc/escaped", "a\0b", "", ".", ".syncline", "x" * 300])
def test_hostile_remote_names(one: Device, two: Device, base: Path, name: str) -> None:
    agreed({"a.txt": b"a"}, one)
    node = one.space.live()["a.txt"]
    hostile = Node(NodeId(b"h" * 16), ROOT, name, NodeKind.FILE, 1, node.content, seq=99)
    before = sorted(path.name for path in base.iterdir())
    report = two.engine(space=Lying(two.space, hostile)).sync()
    assert len(report.problems) == 1
    assert two.tree() == {"a.txt": b"a"}
    assert sorted(path.name for path in base.iterdir()) == before


def test_of_a_tree_of_depth_1000_what_has_a_path_is_synced_and_the_rest_is_said_once(one: Device, two: Device) -> None:
    deepest = "/".join(["d"] * MAX_PATH_NAMES)
    descriptor = os.open(one.root, os.O_RDONLY)
    for _ in range(1000):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    file = os.open("leaf", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=descriptor)
    os.write(file, b"leaf")
    os.close(file)
    os.close(descriptor)
    one.write("d/d/beside", b"beside")
    for _ in range(2):
        assert [problem.path for problem in one.sync().problems] == [f"{deepest}/d"]
        assert two.sync().problems == []
    assert set(one.space.tree()) == {deepest[: 2 * n - 1] for n in range(1, MAX_PATH_NAMES + 1)} | {"d/d/beside"}
    assert two.tree() == one.space.tree()
    assert (one.root / deepest / "d").is_dir(), "what is not synced stays as it is"
    # Until something is too deep no more.
    (one.root / deepest / "d").rename(one.root / "up")
    assert [problem.path for problem in one.sync().problems] == ["up/" + deepest]
    subprocess.run(["rm", "-rf", str(one.root), str(two.root)], check=True)


# ---- kinds, modes and times ----


def test_symlink_loops_and_links_out_of_the_root_are_links(one: Device, two: Device, base: Path) -> None:
    (base / "outside").mkdir()
    (base / "outside" / "secret").write_bytes(b"secret")
    (one.root / "loop").symlink_to("loop")
    (one.root / "up").symlink_to("..")
    (one.root / "out").symlink_to(base / "outside")
    tree = settled(one, two)
    assert tree == {"loop": ("link", "loop"), "up": ("link", ".."), "out": ("link", str(base / "outside"))}
    assert (base / "outside" / "secret").read_bytes() == b"secret"


def test_nothing_is_written_through_a_link_that_replaced_a_directory(one: Device, two: Device, base: Path) -> None:
    agreed({"d/a": b"a"}, one, two)
    (base / "outside").mkdir()
    shutil.rmtree(two.root / "d")
    (two.root / "d").symlink_to(base / "outside")
    one.write("d/b", b"b")
    settled(one, two)
    assert list((base / "outside").iterdir()) == []


def test_executable_bit_moves_no_data(one: Device, two: Device) -> None:
    agreed({"run.sh": b"#!/bin/sh"}, one, two)
    (one.root / "run.sh").chmod(0o755)
    sync(one, two)
    assert "put" not in one.calls
    assert "get" not in two.calls
    assert settled(one, two) == {"run.sh": ("exec", b"#!/bin/sh")}


def test_a_touched_file_moves_no_data_and_makes_no_version(one: Device, two: Device) -> None:
    agreed({"a": b"a"}, one, two)
    os.utime(one.root / "a", ns=(10**18, 10**18))
    head = len(one.space.journal)
    sync(one, two)
    assert len(one.space.journal) == head
    assert "get" not in two.calls


def test_an_edit_that_keeps_size_and_time_is_seen_after_a_move_too(one: Device, two: Device) -> None:
    one.write("a.txt", b"first")
    os.utime(one.root / "a.txt", ns=(10**18, 10**18))
    agreed({}, one, two)
    one.write("a.txt", b"other")
    os.utime(one.root / "a.txt", ns=(10**18, 10**18))
    (one.root / "a.txt").rename(one.root / "b.txt")
    assert settled(one, two) == {"b.txt": b"other"}


@pytest.mark.parametrize("when", [0, 1, 3_360_000_000, -86_400])
def test_clocks_off_and_times_of_another_century(one: Device, two: Device, when: int) -> None:
    one.write("a", b"first")
    os.utime(one.root / "a", (when, when))
    settled(one, two)
    assert int((two.root / "a").stat().st_mtime) == when
    two.write("a", b"second")
    os.utime(two.root / "a", (when - 86_400, when - 86_400))
    assert settled(one, two) == {"a": b"second"}


# ---- programs that save in their own way ----


def save_by_rename(folder: Path, name: str, data: bytes) -> None:
    (folder / f".{name}.tmp").write_bytes(data)
    (folder / f".{name}.tmp").rename(folder / name)


def save_by_backup(folder: Path, name: str, data: bytes) -> None:
    (folder / name).rename(folder / f"{name}~")
    (folder / name).write_bytes(data)
    (folder / f"{name}~").unlink()


def save_by_delete_and_create(folder: Path, name: str, data: bytes) -> None:
    (folder / name).unlink()
    (folder / name).write_bytes(data)


def save_by_exchange_of_names(folder: Path, name: str, data: bytes) -> None:
    (folder / "new").write_bytes(data)
    (folder / name).rename(folder / "old")
    (folder / "new").rename(folder / name)
    (folder / "old").unlink()


@pytest.mark.parametrize("save", [save_by_rename, save_by_backup, save_by_delete_and_create, save_by_exchange_of_names])
def test_save_patterns_of_editors_are_one_version_of_one_node(one: Device, two: Device, save: Any) -> None:
    agreed({"a.txt": b"first"}, one, two)
    before = one.space.live()["a.txt"]
    save(one.root, "a.txt", b"second")
    assert settled(one, two) == {"a.txt": b"second"}
    after = one.space.live()["a.txt"]
    assert (after.id, after.version) == (before.id, before.version + 1)


# ---- faults ----


class Failing(FakeSpace):
    """A connection whose n-th commit fails, before or after the space has acted."""

    def __init__(self, space: MemorySpace, error: Exception, *, at: int = 1, acted: bool) -> None:
        super().__init__(space, NeverCrash(), [])
        self._error = error
        self._at = at
        self._acted = acted

    def commit(self, mutations: Sequence[Mutation], request_id: RequestId, *, right: Right | None) -> Answer:
        self._at -= 1
        if self._at:
            return super().commit(mutations, request_id, right=right)
        if self._acted:
            super().commit(mutations, request_id, right=right)
        raise self._error


def test_put_done_and_the_answer_to_the_commit_lost(one: Device, two: Device) -> None:
    one.write("a.txt", b"a")
    with pytest.raises(Unavailable):
        one.engine(space=Failing(one.space, Unavailable(), acted=True)).sync()
    assert settled(one, two) == {"a.txt": b"a"}
    assert one.space.live()["a.txt"].version == 1
    assert len(one.space.journal) == 1


def test_put_done_and_the_commit_lost(one: Device, two: Device) -> None:
    one.write("a.txt", b"a")
    with pytest.raises(Unavailable):
        one.engine(space=Failing(one.space, Unavailable(), acted=False)).sync()
    assert settled(one, two) == {"a.txt": b"a"}
    assert len(one.space.journal) == 1


def test_commit_lost_and_the_file_edited_before_it_is_repeated(one: Device, two: Device) -> None:
    one.write("a.txt", b"first")
    with pytest.raises(Unavailable):
        one.engine(space=Failing(one.space, Unavailable(), acted=True)).sync()
    one.write("a.txt", b"second")
    assert settled(one, two) == {"a.txt": b"second"}


def test_share_revoked_in_the_middle(one: Device, two: Device) -> None:
    agreed({"a.txt": b"a"}, one, two)
    two.write("a.txt", b"edited")
    two.write("b.txt", b"new")
    report = two.engine(space=Failing(two.space, PermissionDenied(), acted=False)).sync()
    assert {problem.path for problem in report.problems} == {"a.txt", "b.txt"}
    assert two.tree() == {"a.txt": b"edited", "b.txt": b"new"}
    two.write("c.txt", b"more")
    with pytest.raises(NoSuchSpace):
        two.engine(space=Failing(two.space, NoSuchSpace(), acted=False)).sync()
    assert contents(settled(one, two)) == {b"edited", b"new", b"more"}


def test_disk_full(one: Device, two: Device) -> None:
    agreed({"a.txt": b"first"}, one, two)
    one.write("a.txt", b"second")
    one.write("b.txt", b"b")
    sync(one)
    two.full = True
    report = two.sync()
    assert {problem.path for problem in report.problems} == {"a.txt", "b.txt"}
    assert two.tree() == {"a.txt": b"first"}
    two.full = False
    assert settled(one, two) == {"a.txt": b"second", "b.txt": b"b"}


def test_disk_that_says_it_is_full_when_it_is_flushed(
    one: Device, two: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that a filesystem took are not on it yet, and nothing gets a name before they are."""
    agreed({"a.txt": b"first"}, one, two)
    one.write("a.txt", b"second")
    one.write("b.txt", b"b")
    sync(one)

    def full(files: Files, paths: Iterable[str], directories: Iterable[str]) -> None:
        del files, directories
        if [*paths]:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patched:
        patched.setattr(PointedFiles, "flush", full)
        report = two.sync()
    assert {problem.path for problem in report.problems} == {"a.txt", "b.txt"}
    assert {problem.reason for problem in report.problems} == {
        "does not fit on the disk; free some space and sync again"
    }
    assert two.tree() == {"a.txt": b"first"}
    assert settled(one, two) == {"a.txt": b"second", "b.txt": b"b"}


def test_network_loss(one: Device, two: Device) -> None:
    agreed({"a.txt": b"first"}, one, two)
    one.write("a.txt", b"second")
    one.online = False
    with pytest.raises(Unavailable):
        one.sync()
    assert one.tree() == {"a.txt": b"second"}
    one.online = True
    assert settled(one, two) == {"a.txt": b"second"}


def test_kill_at_each_step(base: Path) -> None:
    """A sync with steps of every kind is killed at each point in turn; each time the next one finishes the work."""
    killed = 0
    for points in range(1, 200):
        space = MemorySpace()
        one, two = Device(base / f"{points}", "one", space), Device(base / f"{points}", "two", space)
        (base / f"{points}").mkdir()
        for device in (one, two):
            assert device.folder
        agreed(
            {"edit": b"1", "gone": b"2", "move": b"3", "d/in": b"4", "swap1": b"5", "swap2": b"6", "x": b"7"}, one, two
        )
        one.write("edit", b"edited there")
        (one.root / "gone").unlink()
        (one.root / "d").rename(one.root / "e")
        (one.root / "swap1").rename(one.root / "t")
        (one.root / "swap2").rename(one.root / "swap1")
        (one.root / "t").rename(one.root / "swap2")
        one.write("new there", b"new there")
        (one.root / "x").unlink()
        (one.root / "x").symlink_to("edit")
        sync(one)
        two.write("new here", b"new here")
        (two.root / "move").rename(two.root / "moved")
        two.write("edit", b"edited here")
        try:
            two.sync(CrashAt(points), allow_mass_delete=True)
        except Crash:
            killed += 1
        tree = settled(one, two)
        assert contents(tree) == {
            b"edited there", b"edited here", b"3", b"4", b"5", b"6", b"new there", b"new here", ("link", "edit"),
        }  # fmt: skip
        assert (tree["swap1"], tree["swap2"], tree["e/in"], tree["moved"]) == (b"6", b"5", b"4", b"3")
        space.close()
        shutil.rmtree(base / f"{points}")
        if killed < points:
            break
    assert killed > 30


def test_the_disk_comes_before_the_name_and_before_the_state(one: Device, two: Device) -> None:
    """A power cut finds neither a name without its content nor a state that says what is not on the disk."""
    agreed({"edit": b"1", "gone": b"2", "move": b"3", "d/in": b"4"}, one, two)
    one.write("edit", b"edited")
    one.write("new/file", b"new")
    (one.root / "gone").unlink()
    (one.root / "move").rename(one.root / "moved")
    shutil.rmtree(one.root / "d")
    sync(one)
    passed: list[str] = []
    two.sync(passed.append)
    unflushed = unsaid = False
    for name in passed:
        match name:
            case "downloaded":
                unflushed = True
            case "moved" | "exchanged" | "directory made" | "directory removed" | "unlinked":
                assert not unflushed, passed
                unsaid = True
            case "flushed":
                unflushed = unsaid = False
            case "state commit":
                assert not unsaid, passed
    assert {"downloaded", "moved", "exchanged", "directory made", "directory removed", "unlinked"} <= {*passed}


def test_something_new_that_was_aside_when_the_run_was_killed_gets_a_name(one: Device, two: Device) -> None:
    """Nobody knows any more what it was called; but its name in transit must not get into the space."""
    agreed({"d": None}, one, two)
    one.write(f"d/{transit_name(new_local_id(1))}/a.txt", b"a")
    assert settled(one, two) == {"d": None, "d/recovered item": None, "d/recovered item/a.txt": b"a"}


# ---- roots, state, and a space that went back ----


def test_root_unmounted(one: Device, two: Device) -> None:
    agreed({f"{n}": b"%d" % n for n in range(30)}, one, two)
    away = two.root.with_name("away")
    two.root.rename(away)
    with pytest.raises(FolderMissing):
        two.engine().sync()
    two.root.mkdir()
    with pytest.raises(FolderMissing):
        two.sync()
    assert len(one.space.tree()) == 30
    two.root.rmdir()
    away.rename(two.root)
    assert len(settled(one, two)) == 30


def test_most_files_gone_stops_before_anything_is_deleted(one: Device, two: Device) -> None:
    agreed({f"{n}": b"%d" % n for n in range(30)}, one, two)
    for n in range(20):
        (two.root / f"{n}").unlink()
    with pytest.raises(TooManyDeletions, match="--allow-mass-delete"):
        two.sync()
    assert len(one.space.tree()) == 30
    two.sync(allow_mass_delete=True)
    with pytest.raises(TooManyDeletions, match="here"):
        one.sync()
    assert len(one.tree()) == 30
    one.sync(allow_mass_delete=True)
    assert len(settled(one, two)) == 10


def test_a_mass_deletion_here_waits_and_the_rest_goes_on(one: Device, two: Device) -> None:
    agreed({"keep/a": b"a", **{f"modules/{n % 3}/{n}": b"%d" % n for n in range(30)}}, one, two)
    shutil.rmtree(two.root / "modules")
    two.write("keep/a", b"edited")
    two.write("new", b"new")
    one.write("from one", b"one")
    one.sync()
    report = two.sync(hold_mass_delete=True)
    assert "30 of 31 files would be deleted in the space" in report.waiting
    assert f"syncline sync --allow-mass-delete {two.root}" in report.waiting
    assert not report.problems
    assert (report.uploaded, report.downloaded, report.deleted_remote) == (2, 1, 0)
    there = one.space.tree()
    assert (there["keep/a"], there["new"], there["modules/1/1"]) == (b"edited", b"new", b"1")
    assert not (two.root / "modules").exists()
    # The held deletion is told for as long as it waits, and nothing is done a second time.
    again = two.sync(hold_mass_delete=True)
    assert again.waiting == report.waiting.replace("of 31", "of 33")
    assert not is_busy(again)
    two.sync(allow_mass_delete=True)
    assert not two.sync(hold_mass_delete=True).waiting
    with pytest.raises(TooManyDeletions):
        one.sync()
    report = one.sync(hold_mass_delete=True)
    assert "30 of 32 files would be deleted here" in report.waiting
    assert (one.root / "modules/1/1").read_bytes() == b"1"
    assert (one.root / "keep/a").read_bytes() == b"edited"
    one.sync(allow_mass_delete=True)
    assert settled(one, two) == {"keep": None, "keep/a": b"edited", "new": b"new", "from one": b"one"}


def test_a_mass_deletion_that_is_undone_while_it_waits_leaves_no_trace(one: Device, two: Device) -> None:
    agreed({"a": b"a", **{f"d/{n}": b"%d" % n for n in range(30)}}, one, two)
    before = one.space.tree()
    (two.root / "d").rename(two.root.parent / "aside")
    assert two.sync(hold_mass_delete=True).waiting
    one.write("d/new", b"into a directory that is held")
    one.sync()
    assert two.sync(hold_mass_delete=True).waiting
    assert (two.root / "d/new").read_bytes() == b"into a directory that is held"
    shutil.copytree(two.root.parent / "aside", two.root / "d", dirs_exist_ok=True)
    assert not two.sync(hold_mass_delete=True).waiting
    assert settled(one, two) == before | {"d/new": b"into a directory that is held"}


def test_what_needs_the_place_of_a_held_deletion_waits_too(one: Device, two: Device) -> None:
    agreed({"a": b"a", **{f"d/{n}": b"%d" % n for n in range(30)}}, one, two)
    shutil.rmtree(two.root / "d")
    (two.root / "d").symlink_to("elsewhere")
    two.write("new", b"new")
    report = two.sync(hold_mass_delete=True)
    assert report.waiting
    assert [problem.path for problem in report.problems] == ["d"]
    assert one.space.tree()["d/1"] == b"1"
    assert one.space.tree()["new"] == b"new"
    two.sync(allow_mass_delete=True)
    assert one.space.tree() == {"a": b"a", "d": ("link", "elsewhere"), "new": b"new"}


def state_of(device: Device) -> Path:
    return device.folder.state


def test_state_lost(one: Device, two: Device) -> None:
    agreed({"a": b"a", "d/b": b"b", "e": b""}, one, two)
    for path in state_of(two).glob("state.db*"):
        path.unlink()
    report = two.sync()
    assert "put" not in two.calls
    assert "get" not in two.calls
    assert not report.conflicts
    assert settled(one, two) == {"a": b"a", "d": None, "d/b": b"b", "e": b""}


def test_state_restored_from_an_old_copy(one: Device, two: Device, base: Path) -> None:
    agreed({"a": b"1", "b": b"1", "gone": b"1", "d/in": b"1"}, one, two)
    shutil.copytree(two.home, base / "backup")
    one.write("a", b"2")
    two.write("b", b"2")
    (one.root / "gone").unlink()
    (two.root / "d").rename(two.root / "e")
    two.write("later", b"later")
    settled(one, two)
    two.write("b", b"3")
    shutil.rmtree(two.home)
    shutil.copytree(base / "backup", two.home)
    tree = settled(one, two)
    assert contents(tree) == {b"1", b"2", b"3", b"later"}
    assert (tree["a"], tree["b"], tree["e/in"]) == (b"2", b"2", b"1")
    assert len([path for path in tree if "conflict" in path]) == 1, "only what was edited and not synced"


def test_server_restored_to_an_older_head(one: Device, two: Device) -> None:
    agreed({"a": b"1", "b": b"1"}, one, two)
    head = len(one.space.journal)
    one.write("a", b"2")
    one.write("c", b"c")
    settled(one, two)
    one.space.go_back_to(head)
    tree = settled(one, two)
    assert {b"2", b"c"} <= contents(tree), "what devices have comes back"


def test_server_restored_to_an_older_head_and_used_before_a_device_returns(
    one: Device, two: Device, three: Device
) -> None:
    agreed({"a": b"1", "b": b"1"}, one, two, three)
    head = len(one.space.journal)
    one.write("a", b"2")
    one.write("c", b"c")
    settled(one, two)
    one.space.go_back_to(head)
    for n in range(5):
        three.write(f"n{n}", b"%d" % n)
        sync(three)
    tree = settled(one, two, three)
    assert {b"2", b"c"} | {b"%d" % n for n in range(5)} <= contents(tree)


@pytest.mark.parametrize("others", [False, True], ids=["unused", "used"])
def test_server_restored_to_just_before_the_last_commit_of_a_device(
    one: Device, two: Device, space: MemorySpace, others: bool
) -> None:
    """The device's cursor is from before its own commit, and so the space knows it still."""
    agreed({"a.txt": b"a"}, one, two)
    one.write("b.txt", b"b")
    one.sync()
    space.go_back_to(len(space.journal) - 1)
    if others:
        two.write("c.txt", b"c")
        two.sync()
    (one.root / "b.txt").rename(one.root / "d.txt")
    assert settled(one, two) == {"a.txt": b"a", "d.txt": b"b"} | ({"c.txt": b"c"} if others else {})


def test_server_restored_to_just_before_a_deletion_brings_the_file_back(
    one: Device, two: Device, space: MemorySpace
) -> None:
    agreed({"a.txt": b"a", "b.txt": b"b"}, one, two)
    (one.root / "a.txt").unlink()
    one.sync()
    space.go_back_to(len(space.journal) - 1)
    assert settled(one, two) == {"a.txt": b"a", "b.txt": b"b"}


def test_what_a_killed_run_left_aside_is_kept_if_the_space_has_lost_it_meanwhile(one: Device, two: Device) -> None:
    """The space had it, and so it was going to be discarded; but then the space was restored to before it."""
    agreed({"a": b"first"}, one, two)
    one.write("a", b"second")
    sync(one)
    with pytest.raises(Crash):
        two.sync(CrashAt(1, "exchanged"))
    one.space.go_back_to(0)
    two.sync()
    assert {b"first", b"second"} <= contents(settled(one, two))


def test_a_cursor_from_the_future(one: Device, two: Device) -> None:
    agreed({"a": b"1"}, one, two)
    one.space.go_back_to(0)
    assert settled(one, two) == {"a": b"1"}


# ---- others at the same time ----


def test_file_appearing_between_plan_and_apply(one: Device, two: Device) -> None:
    one.write("d/a.txt", b"one's")
    sync(one)

    class Appearing:
        def __init__(self) -> None:
            self.done = False

        def __call__(self, name: str) -> None:
            if not self.done and (two.root / "d").is_dir() and not (two.root / "d/a.txt").exists():
                self.done = True
                two.write("d/a.txt", b"two's")

    appearing = Appearing()
    two.sync(appearing)
    assert appearing.done
    assert contents(settled(one, two)) == {b"one's", b"two's"}


def test_file_changed_between_plan_and_its_replacement(one: Device, two: Device) -> None:
    agreed({"a.txt": b"first"}, one, two)
    one.write("a.txt", b"one's")
    sync(one)

    class Changing:
        done = False

        def __call__(self, name: str) -> None:
            if name == "flush" and not self.done:
                self.done = True
                two.write("a.txt", b"two's")

    two.sync(Changing())
    assert contents(settled(one, two)) == {b"one's", b"two's"}


def test_nobody_else_of_the_machine_can_hold_the_lock_of_a_folder(one: Device) -> None:
    """The folder may be readable for others; whoever opens a file can take its lock, and nothing would be synced."""
    lock = one.root / ".syncline" / "lock"
    lock.touch(mode=0o644)
    one.sync()
    assert lock.stat().st_mode & 0o077 == 0


def test_what_comes_in_is_on_its_way_where_nobody_else_may_enter(one: Device, two: Device) -> None:
    """A file may belong into a directory of its owner alone, and has its permissions before it is there."""
    agreed({"private": None}, one, two)
    (two.root / "private").chmod(0o700)
    one.write("private/file", b"x")
    sync(one)
    (two.root / ".syncline").chmod(0o777)  # Older versions made them so for some umasks.
    (two.root / ".syncline" / "tmp").chmod(0o777)
    modes: list[int] = []

    def look(name: str) -> None:
        if name == "flush":
            modes.extend((two.root / path).stat().st_mode & 0o777 for path in (".syncline", ".syncline/tmp"))

    two.sync(look)
    assert (two.root / "private/file").read_bytes() == b"x"
    assert modes[:2] == [0o755, 0o700]


def test_two_processes_on_a_root(one: Device) -> None:
    one.write("a", b"a")
    with one.folder.locked(), pytest.raises(FolderBusy):
        one.sync()
    sync(one)


def test_a_space_linked_at_two_paths(one: Device, base: Path) -> None:
    agreed({"a": b"a"}, one)
    (base / "again").mkdir()
    again = Device(base, "again", one.space)
    again.home = one.home
    again.root = base / "again"
    assert link_folder(one.home, again.root, one.space.id, "personal")
    again.write("b", b"b")
    assert settled(one, again) == {"a": b"a", "b": b"b"}
    with pytest.raises(LinkedElsewhere):
        link_folder(one.home, again.root / "inner", one.space.id, "personal")


def test_large_files_and_many_small_ones(one: Device, two: Device) -> None:
    agreed({"big": os.urandom(3 * MIB), **{f"d{n % 7}/{n}": b"%d" % n for n in range(300)}}, one, two)
    assert len(one.space.tree()) == 308


def test_a_dry_run_tells_the_steps_in_the_order_in_which_they_are_done(one: Device, two: Device) -> None:
    """Deletions in the space come last of all, when everything else is safe."""
    agreed({"gone there": b"1", "gone here": b"2", "mode": b"3", "old name": b"4"}, one, two)
    (one.root / "gone there").unlink()
    (one.root / "mode").chmod(0o755)
    one.write("from there", b"5")
    sync(one)
    (two.root / "gone here").unlink()
    (two.root / "old name").rename(two.root / "new name")
    two.write("from here", b"6")
    assert two.engine().dry_run().planned == [
        ("move there", "old name -> new name"),
        ("upload", "from here"),
        ("download", "from there"),
        ("set mode", "mode"),
        ("delete here", "gone there"),
        ("delete there", "gone here"),
    ]
