"""A sync that has nothing to do sees that at a look, and nothing that was touched is ever overlooked for that."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syncline.model.errors import Unavailable
from syncline.sync.ports import Wanted
from syncline.sync.report import Report
from syncline.sync.scan.identify import FINE_GRAIN_NS
from syncline.sync.state.database import Settled, State
from tests.clients.sync.fakes import Device, Page

FILES = {
    "a.txt": b"a",
    "b.txt": b"b",
    "d/inner.txt": b"inner",
    "d/e/deep.txt": b"deep",
    "run": b"#!/bin/sh",
}


class LoadedTrees(Exception):
    """The sync did what a glance was to save."""


@pytest.fixture
def agreed(one: Device, two: Device) -> Device:
    """The first of two devices that have the same, and have seen that there is nothing to do."""
    for path, data in FILES.items():
        one.write(path, data)
    (one.root / "run").chmod(0o755)
    (one.root / "empty").mkdir()
    (one.root / "link").symlink_to("a.txt")
    one.sync()
    two.sync()
    time.sleep(FINE_GRAIN_NS * 2 / 1e9)  # until a change would be seen for sure
    for device in (one, two):
        device.sync()
        device.sync()
        assert mark(device) is not None
    return one


def mark(device: Device) -> Settled | None:
    with State.open(device.folder.database) as state:
        return state.settled


def glance(device: Device, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> Report:
    """A sync that must not look further than that. Raise LoadedTrees."""

    def loaded(state: State) -> None:
        raise LoadedTrees

    with monkeypatch.context() as patched:
        patched.setattr(State, "load_base", loaded)
        return device.sync(**arguments)


def test_nothing_is_loaded_asked_or_written_when_nothing_has_changed(
    agreed: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = agreed.folder.database.read_bytes()
    report = glance(agreed, monkeypatch)
    assert agreed.calls == ["changes"]
    assert report.summary().startswith("up to date")
    assert agreed.folder.database.read_bytes() == before
    assert not agreed.folder.database.with_name(agreed.folder.database.name + "-wal").exists()


def edited(root: Path) -> None:
    (root / "a.txt").write_bytes(b"A")


def edited_with_its_old_time(root: Path) -> None:
    found = (root / "a.txt").stat()
    (root / "a.txt").write_bytes(b"A")
    os.utime(root / "a.txt", ns=(found.st_atime_ns, found.st_mtime_ns))


def exchanged(root: Path) -> None:
    (root / "a.txt").rename(root / "x")
    (root / "b.txt").rename(root / "a.txt")
    (root / "x").rename(root / "b.txt")


def retargeted(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("b.txt")


CHANGES: dict[str, tuple[Callable[[Path], object], dict[str, object]]] = {
    "an edit": (edited, {"a.txt": b"A"}),
    "an edit that keeps size and time": (edited_with_its_old_time, {"a.txt": b"A"}),
    "a new file": (lambda root: (root / "d/e/new").write_bytes(b"new"), {"d/e/new": b"new"}),
    "an empty file": (lambda root: (root / "empty/file").touch(), {"empty/file": b""}),
    "an empty directory": (lambda root: (root / "d/e/f").mkdir(), {"d/e/f": None}),
    "a deleted file": (lambda root: (root / "d/inner.txt").unlink(), {"d/inner.txt": ...}),
    "a deleted directory": (lambda root: (root / "empty").rmdir(), {"empty": ...}),
    "a rename": (lambda root: (root / "d").rename(root / "D"), {
        "d": ..., "d/inner.txt": ..., "d/e": ..., "d/e/deep.txt": ...,
        "D": None, "D/inner.txt": b"inner", "D/e": None, "D/e/deep.txt": b"deep",
    }),
    "a swap": (exchanged, {"a.txt": b"b", "b.txt": b"a"}),
    "a mode": (lambda root: (root / "run").chmod(0o644), {"run": b"#!/bin/sh"}),
    "another target": (retargeted, {"link": ("link", "b.txt")}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("here", [True, False], ids=["here", "there"])
def test_a_change_is_seen_on_either_side(agreed: Device, two: Device, change: str, here: bool) -> None:
    changed, expected = CHANGES[change]
    tree = agreed.tree()
    tree = {path: what for path, what in {**tree, **expected}.items() if what is not ...}
    first, second = (agreed, two) if here else (two, agreed)
    changed(first.root)
    first.sync()
    second.sync()
    assert agreed.tree() == two.tree() == agreed.space.tree() == tree


def test_a_sync_with_a_wish_looks_at_everything(agreed: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in (Wanted(verify=True), Wanted(exclude=("d",))):
        with pytest.raises(LoadedTrees):
            glance(agreed, monkeypatch, wanted=wanted)


def test_a_problem_is_told_every_time(agreed: Device) -> None:
    """A file that is not synced is not agreed on."""
    (agreed.root / os.fsdecode(b"bad\xff")).write_bytes(b"name")
    for _ in range(3):
        assert [problem.path for problem in agreed.sync().problems] == ["bad\\xff"]


def test_what_was_written_a_moment_ago_is_not_settled(one: Device) -> None:
    """The signature could be that of bytes that are written in the next moment, too."""
    one.sync()
    one.write("a.txt", b"a")
    for _ in range(2):
        one.sync()
        now = time.time_ns()
        found = (one.root / "a.txt").stat()
        if now - found.st_ctime_ns < FINE_GRAIN_NS:
            assert mark(one) is None


def test_what_is_skipped_is_counted_without_a_scan(agreed: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(agreed.root / "pipe")
    agreed.sync()
    assert glance(agreed, monkeypatch).skipped == 1


def test_a_service_that_is_down_is_an_error_as_ever(agreed: Device) -> None:
    agreed.online = False
    with pytest.raises(Unavailable):
        agreed.sync()
    assert mark(agreed) is not None


def test_an_older_head_is_noticed(agreed: Device) -> None:
    """The space restored from a backup: the cursor is of a history that is no more."""
    agreed.write("later.txt", b"later")
    agreed.sync()
    time.sleep(FINE_GRAIN_NS * 2 / 1e9)
    agreed.sync()
    agreed.sync()
    assert mark(agreed) is not None
    agreed.space.go_back_to(len(agreed.space.journal) - 1)
    assert agreed.sync().notices
    assert agreed.tree() == agreed.space.tree()


def test_the_note_is_void_with_the_first_write_after_it(agreed: Device) -> None:
    def wrote(write: Callable[[State], object]) -> Settled | None:
        with State.open(agreed.folder.database) as state:
            state.settled = Settled(b"f", 0)
            state.commit()
            assert state.settled is not None
            write(state)
            state.commit()
            return state.settled

    with State.open(agreed.folder.database) as state:
        base = next(iter(state.load_base().values()))
    assert wrote(lambda state: None) == Settled(b"f", 0)
    assert wrote(lambda state: state.put_base(base)) is None
    assert wrote(lambda state: state.remove_base(base.id)) is None
    assert wrote(lambda state: state.clear_remote()) is None
    assert wrote(lambda state: setattr(state, "cursor", b"c")) is None
    assert wrote(lambda state: state.forget_blocks()) is None


def test_news_that_change_no_node_move_the_cursor_only(agreed: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead:
        def changes(self, cursor: bytes) -> list[Page]:
            del cursor
            return [Page((), b"further", reset=False, seq=99)]

    glance(agreed, monkeypatch, space=Ahead())
    with closing(sqlite3.connect(agreed.folder.database)) as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'cursor'").fetchone() == (b"further",)
    assert mark(agreed) is not None


def test_an_unreadable_folder_is_looked_at_by_the_scan(agreed: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scan says what is wrong with the folder."""
    shutil.rmtree(agreed.root / "d" / "e")
    (agreed.root / "d" / "e").write_bytes(b"a file now")
    with pytest.raises(LoadedTrees):
        glance(agreed, monkeypatch)
    agreed.sync()
    assert agreed.space.tree()["d/e"] == b"a file now"
