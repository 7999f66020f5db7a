"""Filesystems that come, go and change in a synced folder: what they cover is unseen, not deleted."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from syncline.model.errors import Kind
from syncline.sync.errors import FolderMissing, LinkedElsewhere, MountsChanging
from syncline.sync.folder.files import Files
from syncline.sync.folder.link import open_folder
from syncline.sync.folder.mounts import SystemMounts
from syncline.sync.ports import Wanted
from tests.clients.sync.fakes import Device, PretendedMounts
from tests.clients.sync.test_scenarios import agreed, is_busy, settled, sync
from tests.clients.sync.test_verify import checked

DATA: dict[str, bytes | None] = {f"data/f{n}": b"%d" % n for n in range(5)}
_CLONE_NEWNS = 0x20000


class Mounter(Protocol):
    """Mounts filesystems in the folder of one device. A name stands for the same filesystem each time."""

    def mount(self, name: str, path: str) -> None: ...
    def unmount(self, path: str) -> object: ...


class SystemMounter:
    """Really mounts. A filesystem is a directory of its own tmpfs, which is bound to where it is to be seen."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stores = root.with_name(f"{root.name}-filesystems")
        self._mounted: list[Path] = []

    def mount(self, name: str, path: str) -> None:
        store = self._stores / name
        if not store.exists():
            store.mkdir(parents=True)
            self._run("mount", "-t", "tmpfs", "none", str(store))
        self._run("mount", "--bind", str(store), str(self._root / path))

    def bind(self, source: Path, path: str) -> None:
        self._run("mount", "--bind", str(source), str(self._root / path))

    def unmount(self, path: str) -> None:
        self._run("umount", str(self._root / path))

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True)
        if command[0] == "mount":
            self._mounted.append(Path(command[-1]))

    def close(self) -> None:
        for path in reversed(self._mounted):
            subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)


@pytest.fixture(scope="session")
def may_mount() -> None:
    """From here on this process has mounts of its own, which nobody else sees and which go with it."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "unshare") or library.unshare(_CLONE_NEWNS) != 0:
        pytest.skip("mounting is not allowed here")
    private = subprocess.run(["mount", "--make-rprivate", "/"], check=False, capture_output=True)
    if private.returncode:
        pytest.skip(f"mounting is not allowed here: {private.stderr!r}")


@pytest.fixture
def really(may_mount: None, two: Device) -> Iterator[SystemMounter]:
    mounter = SystemMounter(two.root)
    yield mounter
    mounter.close()


@pytest.fixture(params=["pretended", "really"])
def mounter(request: pytest.FixtureRequest, two: Device) -> Mounter:
    """Mounts in the folder of device two."""
    if request.param == "really":
        real: SystemMounter = request.getfixturevalue("really")
        return real
    mounts = PretendedMounts(two.root)
    two.mounts = mounts
    return mounts


@pytest.fixture(autouse=True)
def folders(one: Device, two: Device) -> None:
    assert one.folder
    assert two.folder


def problems(device: Device) -> list[str]:
    """Sync; nothing may be done, here or there. The paths of what could not be synced."""
    report = device.sync()
    assert not is_busy(report), report
    return [problem.path for problem in report.problems]


def test_what_a_mount_covers_is_not_deleted(one: Device, two: Device, mounter: Mounter) -> None:
    agreed({**DATA, "a": b"a"}, one, two)
    mounter.mount("disk1", "data")
    report = two.sync()
    assert report.deleted_remote == 0
    assert [problem.path for problem in report.problems] == ["data"]
    assert "another filesystem is mounted here" in report.problems[0].reason
    two.write("data/on-disk1", b"of another folder")
    assert problems(two) == ["data"]
    assert one.space.tree() == {"data": None, **DATA, "a": b"a"}
    mounter.unmount("data")
    assert problems(two) == []
    assert settled(one, two) == {"data": None, **DATA, "a": b"a"}


def test_what_others_do_below_a_mount_waits_until_it_is_gone(one: Device, two: Device, mounter: Mounter) -> None:
    agreed({**DATA, "a": b"a", "b": b"b", "dir/in": b"in"}, one, two)
    mounter.mount("disk1", "data")
    one.write("data/f0", b"edited")
    one.write("data/new", b"new")
    (one.root / "data/f1").unlink()
    (one.root / "data/f2").rename(one.root / "f2")
    (one.root / "b").rename(one.root / "data/b")
    (one.root / "dir").rename(one.root / "data/dir")
    one.write("a", b"edited, too")
    sync(one)
    two.write("dir/mine", b"new here")
    report = two.sync()
    assert [problem.path for problem in report.problems] == ["data"]
    assert report.downloaded == 1
    assert report.deleted_local == report.uploaded == report.moved == 0
    assert not list((two.root / "data").iterdir())
    assert (two.root / "b").read_bytes() == b"b"
    assert problems(two) == ["data"]
    mounter.unmount("data")
    assert settled(one, two) == {
        "a": b"edited, too", "f2": b"2", "data": None, "data/b": b"b", "data/f0": b"edited", "data/f3": b"3",
        "data/f4": b"4", "data/new": b"new", "data/dir": None, "data/dir/in": b"in", "data/dir/mine": b"new here",
    }  # fmt: skip


def test_a_mount_that_is_absent_is_left_alone(one: Device, two: Device, mounter: Mounter) -> None:
    """Something that is mounted from the beginning is synced; without it nothing is deleted, nothing comes."""
    (two.root / "data").mkdir()
    mounter.mount("disk1", "data")
    for path, data in DATA.items():
        two.write(path, data or b"")
    tree = settled(two, one)
    assert tree == {"data": None, **DATA}
    two.write("data/f0", b"edited")
    assert settled(two, one)["data/f0"] == b"edited"
    mounter.unmount("data")
    one.write("data/new", b"new")
    one.write("other", b"other")
    sync(one)
    report = two.sync()
    assert [problem.path for problem in report.problems] == ["data"]
    assert "mount it, or" in report.problems[0].reason
    assert (report.deleted_remote, report.downloaded) == (0, 1)
    assert not list((two.root / "data").iterdir())
    two.write("data/here", b"in the empty place")
    assert problems(two) == ["data"]
    (two.root / "data/here").unlink()
    mounter.mount("disk1", "data")
    two.write("data/f1", b"edited, too")
    report = two.sync()
    assert report.uploaded == 1
    assert report.deleted_local == report.deleted_remote == report.conflicts == 0
    assert one.space.tree() == {
        "data": None, **DATA, "data/f0": b"edited", "data/f1": b"edited, too", "data/new": b"new", "other": b"other"
    }  # fmt: skip


def test_a_mount_point_that_went_with_its_mount_is_not_deleted(one: Device, two: Device, mounter: Mounter) -> None:
    """Systems remove the directories that they mount disks at; somebody may also delete what is around these."""
    (two.root / "media/disk").mkdir(parents=True)
    two.write("media/list", b"list")
    mounter.mount("disk1", "media/disk")
    two.write("media/disk/a", b"a")
    settled(two, one)
    mounter.unmount("media/disk")
    (two.root / "media/disk").rmdir()
    assert problems(two) == ["media/disk"]
    (two.root / "media/list").unlink()
    (two.root / "media").rmdir()
    two.sync()
    assert one.space.tree() == {"media": None, "media/disk": None, "media/disk/a": b"a"}
    (two.root / "media/disk").mkdir(parents=True)
    mounter.mount("disk1", "media/disk")
    assert settled(two, one) == {"media": None, "media/disk": None, "media/disk/a": b"a"}


def test_what_is_deleted_there_goes_when_the_mount_comes_back(one: Device, two: Device, mounter: Mounter) -> None:
    (two.root / "data").mkdir()
    mounter.mount("disk1", "data")
    two.write("data/a", b"a")
    two.write("data/b", b"b")
    settled(two, one)
    mounter.unmount("data")
    (one.root / "data/a").unlink()
    sync(one)
    assert problems(two) == ["data"]
    mounter.mount("disk1", "data")
    report = two.sync()
    assert report.deleted_local == 1
    assert settled(two, one) == {"data": None, "data/b": b"b"}


def test_a_place_that_the_space_has_given_up_is_free_again(one: Device, two: Device, mounter: Mounter) -> None:
    (two.root / "data").mkdir()
    mounter.mount("disk1", "data")
    two.write("data/a", b"a")
    settled(two, one)
    mounter.unmount("data")
    one.space.delete("data")
    assert problems(two) == []
    two.write("data/new", b"in the place of the mount")
    assert settled(two, one) == {"data": None, "data/new": b"in the place of the mount"}


def test_another_filesystem_at_the_same_place_is_another_folder(one: Device, two: Device, mounter: Mounter) -> None:
    (two.root / "data").mkdir()
    mounter.mount("disk1", "data")
    for path, data in DATA.items():
        two.write(path, data or b"")
    settled(two, one)
    mounter.unmount("data")
    mounter.mount("disk2", "data")
    two.write("data/f0", b"a file of another disk")
    two.write("data/theirs", b"theirs")
    assert problems(two) == ["data"]
    assert one.space.tree() == {"data": None, **DATA}
    # Until it is said that it is the folder from now on: what is in it is compared, and nothing is deleted.
    two.sync(wanted=Wanted(exclude=("data",)))
    assert problems(two) == []
    two.sync(wanted=Wanted(include=("data",)))
    two.sync()
    tree = one.space.tree()
    assert set(DATA) < set(tree)
    assert set(tree.values()) >= {*DATA.values(), b"a file of another disk", b"theirs"}


def test_an_empty_directory_is_the_place_of_a_mount_that_is_new(one: Device, two: Device, mounter: Mounter) -> None:
    agreed({"data": None}, one, two)
    mounter.mount("disk1", "data")
    two.write("data/a", b"a")
    assert settled(two, one) == {"data": None, "data/a": b"a"}


def test_a_filesystem_that_is_mounted_elsewhere_is_moved(one: Device, two: Device, mounter: Mounter) -> None:
    (two.root / "data").mkdir()
    (two.root / "later").mkdir()
    mounter.mount("disk1", "data")
    two.write("data/a", b"a")
    settled(two, one)
    mounter.unmount("data")
    (two.root / "data").rmdir()
    (two.root / "later").rmdir()
    (two.root / "later").mkdir()
    mounter.mount("disk1", "later")
    settled(two, one)
    assert "a" in {path.rpartition("/")[2] for path in one.space.tree()}
    assert (two.root / "later/a").read_bytes() == b"a"


def test_mounts_in_mounts(one: Device, two: Device, mounter: Mounter) -> None:
    (two.root / "outer").mkdir()
    mounter.mount("disk1", "outer")
    (two.root / "outer/inner").mkdir()
    two.write("outer/a", b"a")
    mounter.mount("disk2", "outer/inner")
    two.write("outer/inner/b", b"b")
    whole = settled(two, one)
    assert whole == {"outer": None, "outer/a": b"a", "outer/inner": None, "outer/inner/b": b"b"}
    mounter.unmount("outer/inner")
    assert problems(two) == ["outer/inner"]
    mounter.unmount("outer")
    assert problems(two) == ["outer"]
    mounter.mount("disk1", "outer")
    mounter.mount("disk2", "outer/inner")
    assert problems(two) == []
    assert one.space.tree() == whole


def test_a_filesystem_may_change_its_name(one: Device, two: Device) -> None:
    """XFS and FUSE give a device another number at boot; the files on it show that it is the same."""
    mounts = two.mounts = PretendedMounts(two.root)
    (two.root / "data").mkdir()
    mounts.mount("fsid=1", "data")
    two.write("data/a", b"a")
    settled(two, one)
    mounts.mounted["data"] = "fsid=2"
    assert problems(two) == []
    mounts.unmount("data")
    assert problems(two) == ["data"]
    mounts.mount("fsid=3", "data")
    two.write("data/b", b"of another one")
    assert problems(two) == ["data"]


def test_another_filesystem_at_the_place_of_the_folder(one: Device, two: Device) -> None:
    mounts = two.mounts = PretendedMounts(two.root)
    agreed(DATA, one, two)
    mounts.filesystem = "copied"
    (two.root / "data/f0").unlink()
    with pytest.raises(FolderMissing, match="another filesystem is mounted"):
        two.sync()
    with pytest.raises(FolderMissing, match="another filesystem is mounted"):
        two.engine().dry_run()
    assert one.space.tree() == {"data": None, **DATA}
    mounts.filesystem = "disk"
    two.write("data/f0", b"0")
    assert settled(one, two) == {"data": None, **DATA}


def test_a_folder_that_is_moved_to_another_filesystem_goes_on(one: Device, two: Device) -> None:
    mounts = two.mounts = PretendedMounts(two.root)
    agreed(DATA, one, two)
    moved = two.root.with_name("moved")
    two.root.rename(moved)
    two.root = mounts.root = moved
    mounts.filesystem = "larger"
    (moved / "data/f0").unlink()
    assert sync(two)[0].deleted_remote == 1


def test_the_folder_is_where_a_disk_is_mounted(one: Device, two: Device, really: SystemMounter) -> None:
    two.root.rename(two.root.with_name("was linked here"))
    two.root.mkdir()
    really.mount("disk1", ".")
    subprocess.run(["cp", "-a", f"{two.root.with_name('was linked here')}/.", str(two.root)], check=True)
    agreed(DATA, one, two)
    really.unmount(".")
    with pytest.raises(FolderMissing):
        two.engine()
    assert one.space.tree() == {"data": None, **DATA}
    really.mount("disk1", ".")
    assert problems(two) == []


def test_binding_a_directory_over_another_of_the_same_device(one: Device, two: Device, really: SystemMounter) -> None:
    agreed({**DATA, "other/f0": b"other"}, one, two)
    really.bind(two.root / "other", "data")
    assert (two.root / "data").stat().st_dev == two.root.stat().st_dev
    assert problems(two) == ["data"]
    really.unmount("data")
    assert problems(two) == []
    really.bind(two.root / "data", "data")  # shows what is there anyway
    assert problems(two) == []
    assert settled(one, two) == {"data": None, "other": None, **DATA, "other/f0": b"other"}


def test_a_file_over_a_file(one: Device, two: Device, really: SystemMounter, tmp_path: Path) -> None:
    """Containers mount settings and secrets over files: the file that is seen there is not the one that is synced."""
    agreed({"d/a": b"a", "b": b"b"}, one, two)
    other = tmp_path / "secret"
    other.write_bytes(b"secret")
    really.bind(other, "d/a")
    assert problems(two) == ["d/a"]
    (two.root / "new").touch()
    really.bind(other, "new")
    assert sorted(problems(two)) == ["d/a", "new"]
    assert one.space.tree() == {"d": None, "d/a": b"a", "b": b"b"}
    really.unmount("new")
    really.unmount("d/a")
    (two.root / "new").unlink()
    assert not is_busy(two.sync())
    assert settled(two, one) == {"d": None, "d/a": b"a", "b": b"b"}


def test_a_mount_during_the_scan(one: Device, two: Device, really: SystemMounter) -> None:
    agreed(DATA, one, two)
    two.write("a", b"a")  # the sync has something to do
    mounted: list[str] = []

    class Meddled(Files):
        def open_directory(self, path: str) -> int:
            if path == "data" and not mounted:
                mounted.append(path)
                (two.root.parent / "empty").mkdir()
                really.bind(two.root.parent / "empty", "data")
                self.forget_directories()
            return super().open_directory(path)

    report = two.engine(files=lambda folder: Meddled(folder.root)).sync()
    assert mounted
    assert report.deleted_remote == 0
    assert [problem.path for problem in report.problems] == ["data"]
    assert set(DATA) < set(one.space.tree())


def test_names_of_filesystems_tell_them_apart(two: Device, really: SystemMounter) -> None:
    names: dict[str, str] = {}

    def name(path: str) -> str:
        descriptor = os.open(two.root / path, os.O_RDONLY)
        try:
            mounts = SystemMounts(two.root)
            mounts.points()
            return mounts.look(path, descriptor).name
        finally:
            os.close(descriptor)

    for number in range(3):
        (two.root / f"with space {number}").mkdir()
        really.mount(f"disk{number}", f"with space {number}")
        names[name(f"with space {number}")] = "different"
    assert len(names) == 3
    assert SystemMounts(two.root).points() == {f"with space {number}" for number in range(3)}
    again = name("with space 0")
    really.unmount("with space 0")
    assert name("with space 0") != again
    really.mount("disk0", "with space 0")
    assert name("with space 0") == again


class RestlessMounts(PretendedMounts):
    """At each look something is mounted that was not there before, for as long as `restless`."""

    restless = False
    looks = 0

    def points(self) -> frozenset[str]:
        self.looks += self.restless
        return frozenset({*self.mounted, f"data/{self.looks}"})


def test_a_folder_whose_mounts_do_not_come_to_rest_is_tried_again_later(one: Device, two: Device) -> None:
    two.mounts = mounts = RestlessMounts(two.root)
    agreed({**DATA, "a": b"a"}, one, two)
    mounts.restless = True
    (two.root / "data/f0").unlink()
    two.write("b", b"b")
    with pytest.raises(MountsChanging) as raised:
        two.sync()
    assert raised.value.kind is Kind.UNAVAILABLE
    assert one.space.tree() == {"data": None, **DATA, "a": b"a"}
    mounts.restless = False
    rest: dict[str, object] = {"data": None, **DATA, "a": b"a", "b": b"b"}
    del rest["data/f0"]
    assert settled(two, one) == rest


def test_a_mount_of_the_folder_in_itself_is_left_alone(one: Device, two: Device, really: SystemMounter) -> None:
    """Otherwise each file would be synced once more, one directory deeper."""
    agreed({"a": b"a", "dir/b": b"b"}, one, two)
    tree = one.space.tree()
    (two.root / "dir/self").mkdir()
    really.bind(two.root, "dir/self")
    for _ in range(3):
        report = two.sync()
        assert not is_busy(report)
        (problem,) = report.problems
        assert problem.path == "dir/self"
        assert "this synced folder itself, mounted in it" in problem.reason
        assert checked(two).problems == [problem]
    two.write("new", b"new")
    two.sync()
    assert one.space.tree() == {**tree, "new": b"new"}
    with pytest.raises(LinkedElsewhere, match="mounted at another place"):
        open_folder(two.home, two.root / "dir/self")
    really.unmount("dir/self")
    assert settled(two, one) == {**tree, "dir/self": None, "new": b"new"}
