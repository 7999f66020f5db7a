"""`--verify`: a file with other bytes is found, however much it looks like what it was."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

import pytest

from syncline.model.errors import Unavailable
from syncline.sync.check import CheckResult, check
from syncline.sync.folder.files import Files
from syncline.sync.ports import Wanted
from syncline.sync.state.database import State
from syncline.transfer.jobs import Signature
from tests.clients.sync.fakes import Device, FakeSpace, MemorySpace, NeverCrash, PretendedMounts
from tests.clients.sync.test_scenarios import NFC, NFD, agreed, settled

VERIFY = Wanted(verify=True)


@pytest.fixture(autouse=True)
def folders(one: Device, two: Device) -> None:
    for device in (one, two):
        assert device.folder


def corrupt(device: Device, path: str, data: bytes) -> None:
    """Change a file's bytes as a failing disk does: with the signature that was agreed on."""
    file = device.root / path
    before = file.stat()
    assert len(data) == before.st_size
    with file.open("r+b") as opened:
        opened.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with State.open(device.folder.database) as state:
        (known,) = (node for node in state.load_base().values() if node.name == file.name)
        state.put_base(dataclasses.replace(known, signature=Signature.of(file.stat()), trusted=True))
        state.commit()


def test_other_bytes_of_the_same_look_are_synced_as_an_edit(one: Device, two: Device) -> None:
    agreed({"a": b"first", "b": b"other"}, one, two)
    corrupt(one, "a", b"FIRST")
    assert one.sync().uploaded == 0, "nothing but its bytes tells"
    report = one.sync(wanted=VERIFY)
    assert (report.uploaded, report.problems) == (1, [])
    node = one.space.live()["a"]
    assert node.version == 2, "the old bytes are in the history"
    assert settled(one, two) == {"a": b"FIRST", "b": b"other"}


def test_verify_of_what_is_sound_changes_nothing(one: Device, two: Device) -> None:
    agreed({"a": b"a", "d/b": b"b", "e": b""}, one, two)
    (one.root / "link").symlink_to("a")
    settled(one, two)
    head = len(one.space.journal)
    one.sync(wanted=VERIFY)
    assert one.calls == ["changes"]
    assert len(one.space.journal) == head


def test_other_bytes_here_and_an_edit_there_are_both_kept(one: Device, two: Device) -> None:
    agreed({"a": b"first"}, one, two)
    corrupt(one, "a", b"FIRST")
    two.write("a", b"edited")
    two.sync()
    one.sync(wanted=VERIFY)
    assert set(settled(one, two).values()) == {b"FIRST", b"edited"}


def test_other_bytes_here_and_a_deletion_there(one: Device, two: Device) -> None:
    agreed({"a": b"first"}, one, two)
    corrupt(one, "a", b"FIRST")
    (two.root / "a").unlink()
    two.sync()
    one.sync(wanted=VERIFY)
    assert settled(one, two) == {"a": b"FIRST"}


class Refusing(FakeSpace):
    """A connection that breaks at the first commit."""

    def commit(self, mutations, request_id, *, right):
        raise Unavailable


def test_what_was_found_is_remembered_when_the_sync_fails(one: Device, two: Device) -> None:
    agreed({"a": b"first"}, one, two)
    corrupt(one, "a", b"FIRST")
    with pytest.raises(Unavailable):
        one.engine(space=Refusing(one.space, NeverCrash(), [])).sync(wanted=VERIFY)
    assert settled(one, two) == {"a": b"FIRST"}, "without reading all files again"


def test_a_dry_run_with_verify_says_it_and_changes_nothing(one: Device) -> None:
    agreed({"a": b"first"}, one)
    corrupt(one, "a", b"FIRST")
    assert one.engine().dry_run(wanted=VERIFY).planned == [("upload", "a")]
    assert one.engine().dry_run().planned == []


class Table:
    """A space's checksums, as a check asks for them."""

    def __init__(self, space: MemorySpace) -> None:
        self._space = space

    def check_versions(self, files) -> Iterator[object]:
        asked = list(files)
        differing = []
        for key, digest in asked:
            node = self._space.nodes.get(key)
            if node is None or node.content is None or node.content.digest != digest:
                differing.append(Difference(key))
        yield Answer(len(asked), differing)


@dataclasses.dataclass
class Difference:
    asked: object
    difference: object = "CONTENT"


@dataclasses.dataclass
class Answer:
    count: int
    differing: list[Difference]


def checked(device: Device, *, verify: bool = False) -> CheckResult:
    with Files(device.root, device.mounts) as files, State.in_memory(device.folder.database) as state:
        return check(device.folder, files, state.load_base(), Table(device.space), verify=verify)  # type: ignore[arg-type]


def test_a_check_with_verify_reads_every_file(one: Device) -> None:
    agreed({"a": b"first", "b": b"other"}, one)
    corrupt(one, "a", b"FIRST")
    assert checked(one, verify=False).current == 2
    result = checked(one, verify=True)
    assert (result.current, result.modified) == (1, ["a"])


def test_a_check_passes_over_what_is_mounted_over_the_folder(one: Device) -> None:
    mounts = one.mounts = PretendedMounts(one.root)
    agreed({"a": b"a", "data/b": b"b"}, one)
    mounts.mount("disk", "data")
    one.write("data/b", b"of another disk")
    result = checked(one, verify=True)
    assert (result.current, result.modified, result.unknown) == (1, [], [])
    assert [problem.path for problem in result.problems] == ["data"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_check_says_which_names_are_one_for_the_space(one: Device, two: Device, kind: str) -> None:
    """The check uses the sync's words: otherwise both names would be compared with the same file."""
    suffix = "" if kind == "file" else "/inside"
    agreed({f"{NFC}{suffix}": b"agreed", "a": b"a"}, one, two)
    one.write(f"{NFD}{suffix}", b"agreed")
    result = checked(one)
    assert (result.current, result.modified, result.unknown) == (2, [], [])
    assert [problem.path for problem in result.problems] == [NFD]
    assert result.problems == one.sync().problems
    # The agreed base decides, not the spelling.
    two.write("b/c", b"c")
    two.sync()
    (two.root / f"{NFC}{suffix}").rename(two.root / "aside")
    two.write(f"{NFD}{suffix}", b"agreed")
    two.sync()
    (two.root / "aside").rename(two.root / f"{NFC}{'' if kind == 'file' else '/other'}")
    assert checked(two).problems == two.sync().problems
