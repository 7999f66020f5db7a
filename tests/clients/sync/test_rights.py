"""A change that a device makes while it may not change the space is no wish for later."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

import pytest

from syncline.model.errors import NoSuchSpace, PermissionDenied
from syncline.model.identifiers import RequestId
from syncline.model.tree import Mutation
from syncline.sdk.right import Right
from tests.clients.sync.fakes import Answer, Crash, CrashAt, Device, FakeSpace, NeverCrash, Page
from tests.clients.sync.test_scenarios import Failing, agreed, contents, settled, sync

READS = Right(read_only=True)
FILES: dict[str, bytes | None] = {
    "deleted": b"deleted", "renamed": b"renamed", "edited": b"edited", "moved": b"moved", "both": b"both",
    "mode": b"mode", "replaced": b"replaced", "dir/a": b"a", "dir/b": b"b", "gone/c": b"c", "gone/d/e": b"e",
    "to": None,
}  # fmt: skip
TREE: dict[str, object] = {"dir": None, "gone": None, "gone/d": None, **FILES}


@pytest.fixture(autouse=True)
def folders(one: Device, two: Device) -> None:
    assert one.folder
    assert two.folder


def change_everything(device: Device) -> None:
    """One of each kind of change to what is synced."""
    root = device.root
    (root / "deleted").unlink()
    (root / "renamed").rename(root / "another name")
    device.write("edited", b"edited without the right")
    (root / "moved").rename(root / "to/moved")
    (root / "both").rename(root / "to/both")
    device.write("to/both", b"moved and edited without the right")
    (root / "mode").chmod(0o755)
    (root / "replaced").unlink()
    (root / "replaced").mkdir()
    device.write("replaced/inside", b"a directory in the place of a file")
    (root / "dir").rename(root / "dir renamed")
    (root / "dir renamed/a").rename(root / "dir renamed/a renamed")
    shutil.rmtree(root / "gone")


def test_a_viewer_changes_nothing_for_others_now_or_when_promoted(one: Device, two: Device) -> None:
    agreed(FILES, one, two)
    two.right = READS
    change_everything(two)
    two.write("new", b"new")
    report = two.sync()
    assert report.deleted_remote == report.uploaded == 0
    assert "commit" not in two.calls
    assert "put" not in two.calls
    assert {problem.path for problem in report.problems} >= {"new"}
    assert any("without the right" in notice for notice in report.notices)
    assert one.space.tree() == TREE
    # The tree of the space is here again, and nothing that was written here is lost.
    assert TREE.items() <= two.tree().items()
    kept = {b"new", b"edited without the right", b"moved and edited without the right"}
    kept.add(b"a directory in the place of a file")
    assert kept <= contents(two.tree())
    # The same happens each time.
    (two.root / "deleted").unlink()
    two.sync()
    assert two.tree()["deleted"] == b"deleted"
    two.right = Right(writes_since_ms=5)
    tree = settled(two, one)
    assert TREE.items() <= tree.items()
    assert contents(tree) == {*contents(TREE), *kept}
    # From now on it counts again.
    (two.root / "deleted").unlink()
    two.write("edited", b"with the right")
    tree = settled(two, one)
    assert "deleted" not in tree
    assert tree["edited"] == b"with the right"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(READS, Right(writes_since_ms=7), id="promoted between two syncs"),
        pytest.param(Right(writes_since_ms=3), Right(writes_since_ms=7), id="removed and invited again"),
        pytest.param(Right(), Right(writes_since_ms=7), id="demoted and promoted"),
    ],
)
def test_without_a_sync_in_between(one: Device, two: Device, before: Right, after: Right) -> None:
    agreed(FILES, one)
    two.right = before
    two.sync()
    two.sync()
    change_everything(two)
    two.right = after
    report = two.sync()
    assert report.deleted_remote == 0
    assert not report.problems
    assert TREE.items() <= settled(two, one).items()


def test_a_right_that_the_space_does_not_know_of_yet(one: Device, two: Device) -> None:
    """The space remembers a role for a while: a device that is about to change something has it ask."""
    two.right = Right(writes_since_ms=3)
    agreed(FILES, one, two)
    change_everything(two)
    two.right, two.remembered = Right(writes_since_ms=7), Right(writes_since_ms=3)
    report = two.sync()
    assert report.deleted_remote == 0
    assert not report.problems
    assert two.calls.count("commit") == 1, "which is of what is new"
    assert TREE.items() <= settled(two, one).items()


def test_a_right_that_the_space_knows_of_no_more(one: Device, two: Device) -> None:
    """Another process may remember an older right than the one that was told: what is done by the newer one is done."""
    agreed(FILES, one, two)
    two.right = Right(writes_since_ms=7)
    sync(two, two)
    (two.root / "deleted").unlink()
    two.remembered = Right(writes_since_ms=3)
    assert sync(two)[0].deleted_remote == 1


class Changing(FakeSpace):
    """A connection of a device that is given the right to write anew just before one of its calls.

    `had` is what the space had in it at that moment.
    """

    def __init__(self, device: Device, *, at: int) -> None:
        super().__init__(device.space, NeverCrash(), [])
        self.right = device.right
        self.had: dict[str, object] = {}
        self._left = at

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            self.had = self._space.tree()
            self.right = Right(writes_since_ms=self.right.writes_since_ms + 1)

    def changes(self, cursor: bytes, *, fresh_right: bool = False) -> Iterator[Page]:
        self._count()
        return super().changes(cursor, fresh_right=fresh_right)

    def commit(self, mutations: Sequence[Mutation], request_id: RequestId, *, right: Right | None) -> Answer:
        self._count()
        return super().commit(mutations, request_id, right=right)


@pytest.mark.parametrize("at", range(2, 5))
def test_a_right_that_changes_while_a_sync_is_under_way(one: Device, two: Device, at: int) -> None:
    """A plan is carried out by the right by which it was made, or made anew."""
    two.right = Right(writes_since_ms=3)
    agreed(FILES, one, two)
    sync(two, two)
    (two.root / "deleted").unlink()
    shutil.rmtree(two.root / "gone")
    two.write("edited", b"edited")
    port = Changing(two, at=at)
    report = two.engine(space=port).sync()
    assert not report.problems
    assert port.had["deleted"] == b"deleted"
    two.right = port.right
    tree = settled(two, one)
    assert port.had.items() <= tree.items(), "what was there is neither deleted nor replaced"
    assert b"edited" in contents(tree), "and nothing is lost"


@pytest.mark.parametrize(
    ("crashed_at", "left"),
    [("commit sent", {"a": b"a", "b": b"b"}), ("commit answered", {"b": b"b"})],
    ids=["not sent, and not sent later with another right", "not answered, but done"],
)
def test_a_commit_in_flight_when_the_right_changes(
    one: Device, two: Device, crashed_at: str, left: dict[str, object]
) -> None:
    two.right = Right(writes_since_ms=3)
    agreed({"a": b"a", "b": b"b"}, one, two)
    (two.root / "a").unlink()
    with pytest.raises(Crash):
        two.sync(CrashAt(1, crashed_at))
    two.right = Right(writes_since_ms=7)
    assert settled(two, one) == left


def test_what_is_pending_when_an_editor_becomes_a_viewer(one: Device, two: Device) -> None:
    two.right = Right(writes_since_ms=3)
    agreed(FILES, one, two)
    change_everything(two)
    two.right = READS
    two.sync()
    assert one.space.tree() == TREE
    one.write("edited", b"edited by one")
    (one.root / "dir").rename(one.root / "dir of one")
    sync(one)
    two.sync()
    assert two.tree()["edited"] == b"edited by one"
    assert two.tree()["dir of one/a"] == b"a"


def test_a_right_that_lasts_is_no_reason_to_take_anything_back(one: Device, two: Device) -> None:
    two.right = Right(writes_since_ms=3)
    agreed(FILES, one, two)
    change_everything(two)
    report = sync(two)[0]
    assert not report.notices
    assert "deleted" not in settled(two, one)


def test_a_promotion_that_a_glance_would_pass_over(one: Device, two: Device) -> None:
    two.right = READS
    agreed(FILES, one, two)
    sync(two, two)
    two.right = Right(writes_since_ms=5)
    sync(two)
    (two.root / "deleted").unlink()
    assert sync(two)[0].deleted_remote == 1


def test_a_device_that_was_never_told(one: Device, two: Device) -> None:
    """The first time that a right is told it is taken for the one that there was."""
    agreed({"a": b"a"}, one, two)
    two.right = Right()
    (two.root / "a").unlink()
    assert sync(two)[0].deleted_remote == 1


def test_a_commit_that_is_refused_is_not_made_later(one: Device, two: Device) -> None:
    """The right may end while a sync is under way: what it would have deleted and moved comes back."""
    agreed({"a": b"a", "b": b"b", "d/c": b"c"}, one, two)
    (two.root / "a").unlink()
    (two.root / "b").rename(two.root / "B")
    shutil.rmtree(two.root / "d")
    report = two.engine(space=Failing(two.space, PermissionDenied(), acted=False)).sync()
    assert {problem.path for problem in report.problems} == {"a", "B", "d"}
    assert settled(two, one) == {"a": b"a", "b": b"b", "d": None, "d/c": b"c"}


def test_credentials_that_are_refused_tell_it_as_well(one: Device, two: Device) -> None:
    """Auth knows of a lesser role at once, metadata some seconds later: then no commit is refused."""
    agreed({"a": b"a", "b": b"b", "d/c": b"c", "edited": b"before"}, one, two)
    (two.root / "a").unlink()
    (two.root / "b").rename(two.root / "B")
    shutil.rmtree(two.root / "d")
    two.write("edited", b"edited")

    def refused(effect: str) -> None:
        if effect == "upload":
            raise PermissionDenied

    with_right, two.faults = two.faults, refused
    report = two.sync()
    assert {problem.path for problem in report.problems} >= {"a", "d", "edited"}
    two.faults = with_right
    assert two.sync().deleted_remote == 0
    tree = settled(two, one)
    assert {"a": b"a", "b": b"b", "d": None, "d/c": b"c"}.items() <= tree.items()


def test_a_crash_while_it_is_taken_back(one: Device, two: Device) -> None:
    agreed(FILES, one, two)
    two.right = READS
    sync(two)
    change_everything(two)
    two.right = Right(writes_since_ms=5)
    for points in range(2, 60, 3):
        try:
            two.sync(CrashAt(points))
        except Crash:
            continue
    assert TREE.items() <= settled(two, one).items()


def test_a_member_who_was_removed(one: Device, two: Device) -> None:
    two.right = Right(writes_since_ms=3)
    agreed(FILES, one, two)
    change_everything(two)
    with pytest.raises(NoSuchSpace):
        two.engine(space=Failing(two.space, NoSuchSpace(), acted=False)).sync()
    two.right = Right(writes_since_ms=9)
    assert TREE.items() <= settled(two, one).items()
