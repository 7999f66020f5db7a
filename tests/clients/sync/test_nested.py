"""Synced folders within synced folders, however they came there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.sync.errors import LinkedElsewhere
from clients.sync.folder import link
from clients.sync.trees import new_local_id, transit_name
from core.identifiers import SpaceId
from tests.clients.sync.fakes import Device, MemorySpace
from tests.clients.sync.test_scenarios import is_busy, settled, sync


@pytest.fixture
def other() -> Iterator[MemorySpace]:
    """Another space."""
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
    # What is deleted elsewhere goes here, too, but for what is the inner client's.
    shutil.rmtree(two.root / "dir")
    sync(two, one, one, two)
    assert two.tree() == one.space.tree() == {"b": b"b"}
    assert (inner.root / ".syncline/folder").exists()


def test_a_folder_within_of_the_same_space_is_left_alone(one: Device, two: Device) -> None:
    """Else either would bring the files of the other one, one directory deeper each time."""
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
        path.unlink()  # so that the other home may link it
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


def test_a_copy_of_the_folder_within_it_is_no_synced_folder(one: Device, two: Device) -> None:
    one.write("a", b"a")
    settled(one, two)
    shutil.copytree(one.root, one.root.parent / "copy")
    (one.root.parent / "copy").rename(one.root / "copy")
    assert settled(one, two) == {"a": b"a", "copy": None, "copy/a": b"a"}


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
            link(home, directory, one.space.id, "personal")
    with pytest.raises(LinkedElsewhere, match="another SYNCLINE_HOME or device"):
        within(one, ".", one.space)
