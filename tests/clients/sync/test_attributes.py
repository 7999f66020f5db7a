"""Attributes of files outlive an update, and new files inherit those that their directory gives."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.sync.fakes import Device, MemorySpace
from tests.clients.sync.test_scenarios import agreed, settled

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
OTHER_USER, OTHER_GROUP = 12345, 23456


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """On the disk: it has all that a filesystem can have."""
    return tmp_path


@pytest.fixture(autouse=True)
def folders(one: Device, two: Device) -> Iterator[None]:
    """The folders are made under a umask that shows."""
    before = os.umask(0o027)
    assert one.folder
    assert two.folder
    yield
    os.umask(before)


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return the list as the kernel has it; each entry is (tag, permissions, id)."""
    nobody = 0xFFFFFFFF
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, allowed, who or nobody) for tag, allowed, who in entries
    )


FOR_A_FRIEND = acl((1, 6, 0), (2, 6, OTHER_USER), (4, 4, 0), (16, 6, 0), (32, 0, 0))
"""user::rw- user:12345:rw- group::r-- mask::rw- other::---"""


def need(path: Path, name: str, value: bytes) -> None:
    """Set an attribute, where the filesystem has such."""
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno not in {errno.ENOTSUP, errno.EPERM}:
            raise
        pytest.skip(f"this filesystem or user has no {name}")


def root_only() -> None:
    if os.geteuid():
        pytest.skip("only root can give files away")


def test_an_updated_file_keeps_what_it_had(one: Device, two: Device) -> None:
    root_only()
    agreed({"a.txt": b"first"}, one, two)
    path = two.root / "a.txt"
    os.chown(path, OTHER_USER, OTHER_GROUP)
    path.chmod(0o640)
    need(path, "user.xdg.tags", b"holiday")
    need(path, "trusted.mine", b"x")
    need(path, ACCESS, FOR_A_FRIEND)
    before = path.stat()
    one.write("a.txt", b"second")
    one.sync()
    report = two.sync()
    after = path.stat()
    assert path.read_bytes() == b"second"
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert os.getxattr(path, "user.xdg.tags") == b"holiday"
    assert os.getxattr(path, "trusted.mine") == b"x"
    assert os.getxattr(path, ACCESS) == FOR_A_FRIEND
    assert not report.notices
    # Nothing of this is a change of the file.
    settled(one, two)
    assert two.space.live()["a.txt"].version == 2


def test_the_executable_bit_follows_the_space_and_the_rest_stays(one: Device, two: Device) -> None:
    agreed({"a": b"first"}, one, two)
    (two.root / "a").chmod(0o604)
    one.write("a", b"second")
    (one.root / "a").chmod(0o755)
    settled(one, two)
    assert stat.S_IMODE((two.root / "a").stat().st_mode) == 0o705


def test_privileges_of_the_old_bytes_are_not_given_to_the_new(one: Device, two: Device) -> None:
    """A person who may change the space could else gain the rights of a setuid program."""
    root_only()
    one.write("program", b"#! first")
    (one.root / "program").chmod(0o755)
    settled(one, two)
    path = two.root / "program"
    path.chmod(0o7755)
    capability = struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0)
    need(path, "security.capability", capability)
    one.write("program", b"#! second")
    one.sync()
    report = two.sync()
    assert stat.S_IMODE(path.stat().st_mode) == 0o1755, "what gives nobody anything stays"
    assert "security.capability" not in os.listxattr(path)
    assert report.notices == [
        f"program: {what} could not be kept" for what in ("security.capability", "the setgid bit", "the setuid bit")
    ]


def test_what_cannot_be_kept_is_said_once_and_stops_nothing(
    one: Device, two: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    root_only()
    agreed({"a": b"a", "b": b"b", "c": b"c"}, one, two)
    for name in "abc":
        os.chown(two.root / name, OTHER_USER, OTHER_GROUP)
        (two.root / name).chmod(0o640)
        one.write(name, b"new " + name.encode())
    one.sync()

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    report = two.sync()
    assert not report.problems
    assert report.downloaded == 3
    assert report.notices == [
        "a and 2 others: the group could not be kept",
        "a and 2 others: the owner could not be kept",
    ]
    assert stat.S_IMODE((two.root / "a").stat().st_mode) == 0o600, "another group may not read it"


def test_a_broken_hard_link_is_said(one: Device, two: Device) -> None:
    agreed({"a": b"first"}, one, two)
    os.link(two.root / "a", two.root.parent / "outside")
    two.sync()
    one.write("a", b"second")
    one.sync()
    assert two.sync().notices == ["a: a hard link could not be kept"]
    assert (two.root.parent / "outside").read_bytes() == b"first"


def test_a_conflict_leaves_both_with_what_the_file_had(one: Device, two: Device) -> None:
    agreed({"a": b"first"}, one, two)
    need(two.root / "a", "user.mine", b"x")
    one.write("a", b"one's")
    two.write("a", b"two's")
    settled(one, two)
    copy = next(two.root.glob("a (conflict*"))
    assert (two.root / "a").read_bytes() == b"one's"
    assert os.getxattr(two.root / "a", "user.mine") == b"x"
    assert os.getxattr(copy, "user.mine") == b"x"


def test_an_older_version_that_is_restored_finds_it_too(one: Device, two: Device, space: MemorySpace) -> None:
    agreed({"a": b"first"}, one, two)
    one.write("a", b"second")
    settled(one, two)
    need(two.root / "a", "user.mine", b"x")
    space.put("a", b"first")
    settled(one, two)
    assert (two.root / "a").read_bytes() == b"first"
    assert os.getxattr(two.root / "a", "user.mine") == b"x"


def test_new_items_get_the_group_of_a_setgid_directory(one: Device, two: Device) -> None:
    root_only()
    agreed({"shared": None, "plain": None}, one, two)
    os.chown(two.root / "shared", -1, OTHER_GROUP)
    (two.root / "shared").chmod(0o2775)
    one.write("shared/file", b"x")
    one.write("shared/below/deep", b"y")
    one.write("plain/file", b"z")
    (one.root / "shared" / "link").symlink_to("file")
    settled(one, two)
    for path in ("shared/file", "shared/below", "shared/below/deep", "shared/link"):
        assert (two.root / path).lstat().st_gid == OTHER_GROUP, path
    assert (two.root / "shared/below").stat().st_mode & stat.S_ISGID
    assert (two.root / "plain/file").stat().st_gid == os.getegid()
    assert stat.S_IMODE((two.root / "shared/file").stat().st_mode) == 0o640


def test_where_any_directory_gives_its_group(one: Device, two: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS gives files the group of their directory without a setgid bit."""
    root_only()
    monkeypatch.setattr("syncline.transfer.attributes.GROUP_OF_DIRECTORY", True)
    agreed({"shared": None}, one, two)
    os.chown(two.root / "shared", -1, OTHER_GROUP)
    one.write("shared/file", b"x")
    one.write("file", b"x")
    (one.root / "shared" / "link").symlink_to("file")
    settled(one, two)
    for path in ("shared/file", "shared/link"):
        assert (two.root / path).lstat().st_gid == OTHER_GROUP, path
    assert (two.root / "file").stat().st_gid == two.root.stat().st_gid


def test_a_group_of_the_folder_itself_goes_no_further_than_it_does(one: Device, two: Device) -> None:
    """The client's own directory, in which files are written, inherits from the folder, but not for others."""
    root_only()
    os.chown(two.root, -1, OTHER_GROUP)
    two.root.chmod(0o2775)
    need(two.root, DEFAULT, FOR_A_FRIEND)
    agreed({"private": None}, one, two)
    os.chown(two.root / "private", -1, os.getegid())
    (two.root / "private").chmod(0o755)
    os.removexattr(two.root / "private", DEFAULT)
    one.write("private/file", b"x")
    one.write("file", b"y")
    settled(one, two)
    assert (two.root / "file").stat().st_gid == OTHER_GROUP
    assert os.getxattr(two.root / "file", ACCESS) == FOR_A_FRIEND
    assert (two.root / "private/file").stat().st_gid == os.getegid()
    assert ACCESS not in os.listxattr(two.root / "private/file")
    assert stat.S_IMODE((two.root / "private/file").stat().st_mode) == 0o640


@pytest.mark.parametrize("executable", [False, True])
def test_new_files_have_what_the_system_itself_would_give_them(one: Device, two: Device, executable: bool) -> None:
    agreed({"shared": None}, one, two)
    default = acl((1, 7, 0), (2, 7, OTHER_USER), (4, 5, 0), (16, 7, 0), (32, 4, 0))
    need(two.root / "shared", DEFAULT, default)
    one.write("shared/file", b"x")
    one.write("shared/below/deep", b"x")
    for path in ("shared/file", "shared/below/deep"):
        (one.root / path).chmod(0o755 if executable else 0o644)
    settled(one, two)
    for path in ("shared/file", "shared/below/deep"):
        made = two.root / f"{path} made here"
        os.close(os.open(made, os.O_CREAT | os.O_WRONLY, 0o777 if executable else 0o666))
        assert os.getxattr(two.root / path, ACCESS) == os.getxattr(made, ACCESS)
        assert (two.root / path).stat().st_mode == made.stat().st_mode
        made.unlink()


def test_a_filesystem_without_attributes_will_do(one: Device, two: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    agreed({"a": b"first"}, one, two)

    def unsupported(*_: object, **__: object) -> bytes:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    for call in ("getxattr", "listxattr", "setxattr", "removexattr"):
        monkeypatch.setattr(os, call, unsupported)
    one.write("a", b"second")
    one.write("new", b"new")
    settled(one, two)
