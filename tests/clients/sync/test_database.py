"""The state database: old formats are brought to the newest, newer ones are left alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from syncline.model.blocks import Digest
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.tree import NodeKind
from syncline.sync.errors import StateUnusable
from syncline.sync.state.database import State, migrations
from syncline.sync.trees import BaseNode, Exclusion
from syncline.transfer.jobs import Signature
from tests.clients.sync.fakes import Device

NODE = NodeId(b"n" * 16)


def first_format(path: Path) -> None:
    """A database as the first format had it, with one file in its base."""
    number, script = migrations()[0]
    assert number == 1
    db = sqlite3.connect(path)
    db.executescript(script)
    db.execute("INSERT INTO meta VALUES ('format', 1), ('cursor', x'0102')")
    row = (NODE, ROOT, "a.txt", NodeKind.FILE.value, 3, b"d" * 32, 0, 5, 1, 2, 4, None, 1, 0, None)
    db.execute(f"INSERT INTO base VALUES ({', '.join('?' * len(row))})", row)
    db.commit()
    db.close()


def tables(path: Path) -> set[str]:
    db = sqlite3.connect(path)
    found = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    db.close()
    return found


def test_formats_are_numbered_without_a_gap() -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))


@pytest.mark.parametrize("opened", [State.open, State.in_memory])
def test_a_database_of_the_first_format_is_migrated(tmp_path: Path, opened: Callable[[Path], State]) -> None:
    path = tmp_path / "state.db"
    first_format(path)
    with opened(path) as state:
        assert state.cursor == b"\1\2"
        assert state.load_base() == {
            NODE: BaseNode(
                NODE, ROOT, "a.txt", NodeKind.FILE, 3, Digest(b"d" * 32), False, Signature(5, 1, 2, 4), "a.txt"
            )
        }
        state.put_excluded(Exclusion("big"))
        assert state.excluded() == [Exclusion("big")]
    assert ("excluded" in tables(path)) is (opened == State.open), "a copy in memory leaves the original alone"


def test_a_failing_migration_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first_format(path)
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE excluded (something_else)")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(StateUnusable):
        State.open(path)
    db = sqlite3.connect(path)
    assert db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM base").fetchone() == (1,)
    db.close()
    assert len(path.read_bytes()) == len(before)


def test_a_database_of_a_newer_format_is_left_alone(one: Device) -> None:
    one.write("a", b"a")
    one.sync()
    database = one.folder.database
    db = sqlite3.connect(database)
    db.execute("UPDATE meta SET value = 99 WHERE key = 'format'")
    db.execute("CREATE TABLE from_the_future (x)")
    db.commit()
    dump = list(db.iterdump())
    db.close()
    one.write("b", b"b")
    with pytest.raises(StateUnusable, match=r"newer version of Syncline.*update this client"):
        one.sync()
    with pytest.raises(StateUnusable, match="newer"):
        one.engine().dry_run()
    db = sqlite3.connect(database)
    assert list(db.iterdump()) == dump
    db.close()
    assert one.space.tree() == {"a": b"a"}
    assert one.tree() == {"a": b"a", "b": b"b"}
    assert not list(database.parent.glob("*.damaged*"))


def test_a_state_can_be_closed_while_threads_still_ask_it(tmp_path: Path) -> None:
    """Ctrl-C waits for no thread. SQLite would crash the process if it were closed under a query."""
    digest = Digest(b"d" * 32)
    with ThreadPoolExecutor(4) as threads:
        for _ in range(50):
            state = State.open(tmp_path / "state.db")
            asking = [
                threads.submit(lambda known: [known(digest) for _ in range(50)], state.known_block) for _ in range(4)
            ]
            state.known_block(digest)
            state.close()
            assert {answer for asked in asking for answer in asked.result()} == {None}
            assert state.known_block(digest) is None
