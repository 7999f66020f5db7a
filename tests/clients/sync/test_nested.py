"""Synced folders within synced folders, however they came there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncline.model.identifiers import SpaceId
from syncline.sync.errors import FolderNotLinked, LinkedElsewhere
from syncline.sync.folder.link import find_folder, link_folder
from syncline.sync.ports import Wanted
from syncline.sync.trees import new_local_id, transit_name
from tests.clients.sync.fakes import Device, MemorySpace
from tests.clients.sync.test_scenarios import is_busy, settled, sync
from tests.clients.sync.test_verify import checked


@pytest.fixture
def other() -> Iterator[MemorySpace]:
    """The memory of another space."""
    space = MemorySpace()
    space.id = SpaceId("b" * 26)
    yield space
    space.close()


def within(device: Device, path: str, space: MemorySpace) -> Device:
    """Another device, which has a directory of the first one's folder as its own."""
    inner = Device(device.home.parent, "inner", space)
    inner.root = device.root / path
    inner.root.mkdir(parents=True, exist_ok=True)
    assert inner.folder
    return inner


def test_what_another_client_keeps_in_its_folder_never_goes_up(one: Device, two: Device, other: MemorySpace) -> None:
    inner = within(one, "dir/child", other)
    inner.write("a", b"a")
    sync(inner)
    one.write("b", b"b")
    tree = settled(one, two)
    assert tree == {"b": b"b", "dir": None, "dir/child": None, "dir/child/a": b"a"}
    # Both go on, and neither is disturbed by what the other one does.
    two.write("dir/child/c", b"c")
    settled(two, one)
    sync(inner)
    assert other.tree() == {"a": b"a", "c": b"c"}
    sync(one)
    assert not is_busy(sync(one)[0])
    inner.write(f"{transit_name(new_local_id(3))}/x", b"half of a move of the inner client")
    assert not is_busy(sync(one)[0])
    shutil.rmtree(inner.root / transit_name(new_local_id(3)))
    # A file that was deleted elsewhere goes here, too, unless it belongs to the inner client.
    shutil.rmtree(two.root / "dir")
    sync(two, one, one, two)
    assert two.tree() == one.space.tree() == {"b": b"b"}
    assert (inner.root / ".syncline/folder").exists()


def test_a_folder_within_of_the_same_space_is_left_alone(one: Device, two: Device) -> None:
    """Otherwise either client would bring the files of the other one, one directory deeper each time."""
    one.write("dir/a", b"a")
    one.root.mkdir(exist_ok=True)
    inner = within(one, "child", one.space)
    inner.write("mine", b"mine")
    for _ in range(4):
        report = one.sync()
        assert [problem.path for problem in report.problems] == ["child"]
        sync(inner)
    assert one.space.tree() == {"dir": None, "dir/a": b"a", "mine": b"mine"}
    assert two.folder
    sync(two)
    # Once it is no synced folder any more, it is a directory like any other.
    shutil.rmtree(inner.root / ".syncline")
    sync(one)
    assert one.space.tree()["child/mine"] == b"mine"


def test_a_folder_that_was_synced_before_it_was_linked_to_the_same_space(one: Device, two: Device) -> None:
    one.write("child/a", b"a")
    tree = settled(one, two)
    for path in one.root.glob(".syncline/folder"):
        path.unlink()  # the other home may link it now
    inner = Device(one.home.parent, "inner", one.space)
    inner.root = one.root / "child"
    assert inner.folder
    (one.root / ".syncline/folder").write_text(f'{{"folder": "{one_id(one)}"}}')
    report = one.sync()
    assert report.deleted_remote == 0
    assert [problem.path for problem in report.problems] == ["child"]
    assert one.space.tree() == tree


def one_id(device: Device) -> str:
    (state,) = (device.home / "folders").iterdir()
    return state.name


def copied(device: Device, path: str, copy: Callable[[str, str], object] = shutil.copy2) -> None:
    """A copy of the whole folder within it."""
    aside = device.root.parent / "copy"
    shutil.copytree(device.root, aside, copy_function=copy, symlinks=True)
    aside.rename(device.root / path)


def left_alone(device: Device) -> dict[str, str]:
    """A sync that does nothing: what it says, by path."""
    report = device.sync()
    assert not is_busy(report), report
    return {problem.path: problem.reason for problem in report.problems}


@pytest.mark.parametrize("copy", [shutil.copy2, os.link])
def test_a_copy_of_the_folder_within_it_is_left_alone(
    one: Device, two: Device, copy: Callable[[str, str], object]
) -> None:
    """Otherwise each new file of the folder would be synced once more, one directory deeper."""
    one.write("a", b"a")
    one.write("dir/b", b"b")
    tree = settled(one, two)
    copied(one, "dir/copy", copy)
    for _ in range(3):
        assert [path for path, why in left_alone(one).items() if "is a copy of this" in why] == ["dir/copy"]
    assert checked(one).problems == one.sync().problems
    assert checked(one).unknown == []
    two.write("dir/copy of two", b"c")
    sync(two)
    one.sync()
    assert one.space.tree() == {**tree, "dir/copy of two": b"c"}
    # A person who wants the link in the space makes a directory of it; one who does not excludes it.
    excluding = one.engine().sync(wanted=Wanted(exclude=("dir/copy",)))
    assert excluding.problems == []
    one.engine().sync(wanted=Wanted(include=("dir/copy",)))
    shutil.rmtree(one.root / "dir/copy/.syncline")
    sync(one)
    assert one.space.tree()["dir/copy/dir/b"] == b"b"


def test_a_copy_that_was_synced_before_stays_as_it_is_on_both_sides(one: Device, two: Device) -> None:
    for path, data in (("a", b"a"), ("copy/a", b"a")):
        one.write(path, data)
    tree = settled(one, two)
    shutil.copytree(one.root / ".syncline", one.root / "copy/.syncline")
    (one.root / "copy/a").unlink()
    assert list(left_alone(one)) == ["copy"]
    assert one.space.tree() == tree


def test_of_a_copy_that_is_ignored_nothing_is_said(one: Device) -> None:
    one.write(".synclineignore", b"backups/\n")
    one.write("a", b"a")
    sync(one)
    (one.root / "backups").mkdir()
    copied(one, "backups/today")
    assert left_alone(one) == {}
    assert checked(one).problems == []


def test_a_folder_that_was_moved_into_another_one_goes_on(one: Device, two: Device, other: MemorySpace) -> None:
    inner = Device(one.home.parent, "inner", other)
    inner.home = one.home
    inner.write("a", b"a")
    sync(inner)
    one.write("b", b"b")
    sync(one)
    (one.root / "deep").mkdir()
    inner.root = inner.root.rename(one.root / "deep/inner")
    assert find_folder(one.home, inner.root / "a").root == inner.root, "before it was synced there"
    inner.write("c", b"c")
    sync(inner)
    assert other.tree() == {"a": b"a", "c": b"c"}
    assert find_folder(one.home, inner.root / "a").space == other.id
    assert find_folder(one.home, one.root / "b").space == one.space.id
    assert settled(one, two)["deep/inner/c"] == b"c"
    two.write("deep/inner/d", b"d")
    settled(two, one)
    sync(inner)
    assert other.tree()["d"] == b"d"


def test_a_folder_that_is_moved_around_another_one_goes_on(one: Device, other: MemorySpace) -> None:
    outer = Device(one.home.parent, "outer", other)
    outer.home = one.home
    outer.write("a", b"a")
    sync(outer)
    one.write("b", b"b")
    sync(one)
    around = one.root.parent / "around"
    around.mkdir()
    one.root = one.root.rename(around / "one")
    for path in outer.root.iterdir():
        path.rename(around / path.name)
    outer.root = around
    sync(outer, one)
    assert other.tree() == {"a": b"a", "one": None, "one/b": b"b"}


def test_a_folder_that_is_gone_is_in_nobody_s_way(one: Device, other: MemorySpace) -> None:
    parent = one.home.parent / "parent"
    inner = Device(one.home.parent, "inner", other)
    inner.home = one.home
    inner.root = parent / "inner"
    inner.root.mkdir(parents=True)
    inner.write("a", b"a")
    sync(inner)
    with pytest.raises(LinkedElsewhere, match=r"contains .*/inner, which is synced already; .* remove .*/inner/.sync"):
        link_folder(one.home, parent, one.space.id, "personal")
    (inner.root / ".syncline").rename(one.home.parent / "aside")
    shutil.rmtree(inner.root)
    assert link_folder(one.home, parent, one.space.id, "personal").root == parent
    # The folder comes back, as a disk does: both are synced.
    one.root = parent
    inner.root.mkdir()
    (one.home.parent / "aside").rename(inner.root / ".syncline")
    inner.write("a", b"a")
    sync(inner, one)
    assert one.space.tree() == {"inner": None, "inner/a": b"a"}
    assert other.tree() == {"a": b"a"}


def test_what_is_no_synced_folder_any_more_does_not_keep_its_directories(one: Device) -> None:
    one.write("child/a", b"a")
    sync(one)
    with pytest.raises(LinkedElsewhere, match=r"remove .* first"):
        link_folder(one.home, one.root / "child", one.space.id, "personal")
    shutil.rmtree(one.root / ".syncline")
    assert link_folder(one.home, one.root / "child", one.space.id, "personal").root == one.root / "child"


def test_what_was_spread_before_stays_in_the_space_only(one: Device, two: Device) -> None:
    for path in ("d", "d/.syncline", "d/.syncline/tmp"):
        one.space.put(path, None)
    one.space.put("d/.syncline/folder", b"of somebody")
    one.space.put("d/a", b"a")
    head = len(one.space.journal)
    assert one.folder
    sync(one, one)
    assert one.tree() == {"d": None, "d/a": b"a"}
    one.write("d/.syncline/lock", b"of another client")
    sync(one, one)
    assert len(one.space.journal) == head
    shutil.rmtree(one.root / "d/.syncline")
    sync(one, one)
    assert len(one.space.journal) == head


@pytest.mark.parametrize("through", ["child", "link"])
def test_a_directory_of_a_synced_folder_cannot_be_linked(one: Device, base: Path, through: str) -> None:
    one.write("child/a", b"a")
    assert one.folder
    sync(one)
    (base / "link").symlink_to(one.root / "child")
    directory = one.root / "child" if through == "child" else base / "link"
    for home in (one.home, base / "another home"):
        with pytest.raises(LinkedElsewhere):
            link_folder(home, directory, one.space.id, "personal")
    with pytest.raises(LinkedElsewhere, match="another SYNCLINE_HOME or device"):
        within(one, ".", one.space)


@pytest.mark.parametrize("kind", ["pipe", "link to a device", "link to a marker", "directory", "endless"])
def test_what_others_put_into_the_place_of_a_marker_is_not_waited_for(one: Device, base: Path, kind: str) -> None:
    """Other users can do so in a directory above the folder to which everybody may write."""
    assert one.folder
    marker = base / ".syncline" / "folder"
    marker.parent.mkdir()
    match kind:
        case "pipe":
            os.mkfifo(marker)
        case "link to a device":
            marker.symlink_to("/dev/zero")
        case "link to a marker":
            marker.symlink_to(one.root / ".syncline" / "folder")
        case "directory":
            marker.mkdir()
        case "endless":
            marker.touch()
            os.truncate(marker, 1 << 40)
    assert find_folder(one.home, one.root / "a").root == one.root
    (base / "elsewhere").mkdir()
    with pytest.raises(FolderNotLinked):
        find_folder(one.home, base / "elsewhere")


def test_a_marker_is_written_through_no_link(one: Device, base: Path) -> None:
    victim = base / "victim"
    victim.write_text("as it was")
    (one.root / ".syncline").mkdir(parents=True)
    (one.root / ".syncline" / "folder.new").symlink_to(victim)
    assert one.folder
    assert victim.read_text() == "as it was"
    assert (one.root / ".syncline" / "folder").stat().st_size
