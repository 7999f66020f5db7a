"""A change anywhere in a folder rings, whichever way the folder is watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncline.sync import filesystem_events
from syncline.sync.filesystem_events import Lookout


class ByWatchfiles(Lookout):
    """A lookout for systems that have no inotify."""

    _look_by_inotify = Lookout._look_by_watchfiles


class Bell:
    def __init__(self) -> None:
        self.rung = threading.Event()
        self.said: list[str] = []

    def rings(self, after: Callable[[], object]) -> None:
        """Return True if the lookout rings after `after` was done."""
        self.quiet()
        after()
        assert self.rung.wait(60), "it did not ring"

    def quiet(self, seconds: float = 1.0) -> None:
        """Wait until it has not rung for so long."""
        for _ in range(20):
            self.rung.clear()
            if not self.rung.wait(seconds):
                return
        raise AssertionError("it rings without end")


@pytest.fixture(params=[Lookout, ByWatchfiles])
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Bell]]:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / ".syncline" / "tmp").mkdir(parents=True)
    bell = Bell()
    with request.param(root, ring=bell.rung.set, say=bell.said.append):
        assert bell.rung.wait(60), "it rings when it begins to look"
        yield root, bell
        assert not bell.said


def test_changes_ring_and_what_is_our_own_does_not(watched: tuple[Path, Bell]) -> None:
    root, bell = watched
    bell.rings(lambda: (root / "a" / "b" / "file").write_text("x"))
    bell.rings(lambda: (root / "a" / "b" / "file").chmod(0o755))
    bell.rings(lambda: (root / "new" / "below").mkdir(parents=True))
    bell.rings(lambda: (root / "new" / "below" / "file").write_text("x"))
    bell.rings(lambda: (root / "new").rename(root / "a" / "moved"))
    bell.rings(lambda: (root / "a" / "moved" / "below" / "file").write_text("y"))
    bell.rings((root / "a" / "moved" / "below" / "file").unlink)
    bell.quiet(5.0)  # a busy machine may tell late of what was done before
    (root / ".syncline" / "tmp" / "new-1").write_text("x")
    (root / ".syncline" / "lock").write_text("x")
    assert not bell.rung.wait(2.5)


def test_directories_that_move_in_are_watched(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside" / "deep").mkdir(parents=True)
    bell = Bell()
    with Lookout(tmp_path / "root", ring=bell.rung.set, say=bell.said.append):
        bell.rung.wait(60)
        bell.rings(lambda: (tmp_path / "outside").rename(tmp_path / "root" / "inside"))
        bell.rings(lambda: (tmp_path / "root" / "inside" / "deep" / "file").write_text("x"))


def test_a_root_that_is_replaced_is_watched_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "below").mkdir(parents=True)
    bell = Bell()
    with Lookout(root, ring=bell.rung.set, say=bell.said.append) as watching:
        bell.rung.wait(60)
        bell.rings(lambda: root.rename(tmp_path / "away"))
        bell.rings(lambda: (root / "below").mkdir(parents=True))
        bell.rings(watching.renew)
        bell.rings(lambda: (root / "below" / "file").write_text("x"))


def test_a_closed_lookout_ends_its_thread(tmp_path: Path) -> None:
    with Lookout(tmp_path, ring=lambda: None, say=lambda _: None):
        pass
    deadline = time.monotonic() + 60
    while any(thread.name == "lookout" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert filesystem_events.SETTLE_SECONDS < filesystem_events.MAX_SETTLE_SECONDS
