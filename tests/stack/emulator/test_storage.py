"""The storage of the embedded AWS: what was durable comes back, what was torn is cut, what is damaged is said."""

import asyncio
import resource
import shutil
import sqlite3
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from stack.emulator.storage import DATABASE, FORMAT, OBJECTS, Storage, StorageDamaged, StorageFailed

PAGE = 8192
FRAME = 24 + PAGE
HEADER = 32


def content(directory: Path) -> dict[tuple[str, str], bytes]:
    storage = Storage(directory)
    try:
        return {(store, key): value for store, key, value in storage.rows()}
    finally:
        storage.close()


def killed(storage: Storage, to: Path) -> Path:
    """Return a copy of the disk, as a process that is killed leaves it."""
    return shutil.copytree(storage.directory, to, ignore=shutil.ignore_patterns("*-shm"))


async def transactions(storage: Storage, count: int) -> None:
    for number in range(count):
        storage.put("numbers", str(number), b"%d" % number * 3000)
        await storage.durable()


async def test_what_is_durable_comes_back_and_what_is_not_does_not(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "one")
    storage.put("a", "1", b"one")
    storage.put("a", "2", b"two")
    storage.put("b", "1", b"kept")
    await storage.durable()
    storage.put("a", "1", b"changed")
    storage.delete("a", "2")
    storage.clear("b")
    storage.put("c", "3", b"three")
    await storage.durable()
    storage.put("a", "1", b"nobody was told")
    left = killed(storage, tmp_path / "two")
    storage.close()
    assert content(left) == {("a", "1"): b"changed", ("c", "3"): b"three"}
    assert content(tmp_path / "one") == {("a", "1"): b"nobody was told", ("c", "3"): b"three"}


async def test_changes_of_many_are_durable_in_few_transactions(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    before = (tmp_path / f"{DATABASE}-wal").stat().st_size

    async def change(number: int) -> None:
        storage.put("numbers", str(number), b"x")
        await storage.durable()

    await asyncio.gather(*(change(number) for number in range(200)))
    # Each transaction of its own would write a frame at least.
    assert (tmp_path / f"{DATABASE}-wal").stat().st_size - before < 20 * FRAME
    storage.close()
    assert len(content(tmp_path)) == 200


async def test_the_log_is_bounded_while_it_is_written_to(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    longest = 0
    for number in range(800):
        storage.put("numbers", str(number % 7), bytes(100_000))
        await storage.durable()
        longest = max(longest, (tmp_path / f"{DATABASE}-wal").stat().st_size)
    storage.close()
    assert longest < 20 * 1024 * 1024, "of the 80 MB that were written"
    assert not (tmp_path / f"{DATABASE}-wal").exists()


async def test_a_torn_tail_is_cut_wherever_it_is_torn(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "whole")
    await transactions(storage, 6)
    whole = killed(storage, tmp_path / "killed")
    storage.close()
    log = whole / f"{DATABASE}-wal"
    size = log.stat().st_size
    known = -1
    for at in sorted({*range(HEADER, size, 4001), *range(size - 3 * FRAME, size, 1499), size}):
        torn = shutil.copytree(whole, tmp_path / f"torn-{at}")
        with (torn / f"{DATABASE}-wal").open("r+b") as file:
            file.truncate(at)
        numbers = [int(key) for store, key in content(torn) if store == "numbers"]
        assert sorted(numbers) == list(range(len(numbers))), "of transactions that follow each other none is left out"
        assert len(numbers) >= known
        known = len(numbers)
        assert content(torn).keys() == {("numbers", str(number)) for number in numbers}
    assert known == 6


async def test_a_torn_transaction_is_written_over_and_never_taken_for_damage(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "one")
    await transactions(storage, 3)
    left = killed(storage, tmp_path / "two")
    storage.close()
    with (left / f"{DATABASE}-wal").open("r+b") as file:  # the end reached the disk, the middle did not
        file.seek(-2 * FRAME, 2)
        file.write(bytes(100))
    again = Storage(left)
    await transactions(again, 1)
    once_more = killed(again, tmp_path / "three")
    again.close()
    assert ("numbers", "0") in content(once_more)


async def test_a_log_that_is_damaged_in_the_middle_is_said_and_not_cut(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "one")
    await transactions(storage, 6)
    left = killed(storage, tmp_path / "two")
    storage.close()
    log = left / f"{DATABASE}-wal"
    healthy = log.read_bytes()
    for place in (HEADER + 100, HEADER + FRAME + 24 + 10, HEADER + 2 * FRAME + 3, 4):
        log.write_bytes(healthy)
        with log.open("r+b") as file:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(struct.pack("B", byte ^ 0x40))
        with pytest.raises(StorageDamaged, match=r"damaged.*restore a backup"):
            Storage(left)
        assert log.stat().st_size == len(healthy)
    log.write_bytes(healthy)
    assert len(content(left)) == 6


async def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    await transactions(storage, 2)
    storage.close()
    with sqlite3.connect(tmp_path / DATABASE) as database:
        database.execute("UPDATE rows SET value = '7' WHERE key = '1'")
    database.close()
    with pytest.raises(StorageDamaged, match="the row 1 of numbers is damaged; restore a backup"):
        content(tmp_path)


@pytest.mark.parametrize("text", ["no database at all" * 1000, "short"])
def test_a_damaged_database_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / DATABASE).write_text(text)
    with pytest.raises(StorageDamaged, match=r"state.db is damaged .*; restore a backup"):
        content(tmp_path)


def test_what_a_newer_version_wrote_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as database:
        database.execute(f"PRAGMA user_version = {FORMAT + 1}")
    database.close()
    with pytest.raises(StorageDamaged, match="newer Syncline"):
        Storage(tmp_path)


async def test_bytes_are_there_before_a_row_names_them_and_until_none_does(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    first = storage.write_body(b"first")
    assert storage.read_body(first) == b"first"
    storage.put("objects", "key", first.encode())
    await storage.durable()
    second = storage.write_body(b"second")
    storage.put("objects", "key", second.encode())
    storage.discard_body(first)
    assert storage.read_body(first) == b"first"
    await storage.durable()
    assert not (tmp_path / first).exists()
    assert storage.read_body(second) == b"second"
    unnamed = storage.write_body(b"its request was never acknowledged")
    assert storage.read_body(unnamed)
    assert storage.remove_unnamed({second}) == 1
    assert [file.name for file in (tmp_path / OBJECTS).glob("*/*")] == [Path(second).name]
    storage.close()


def test_a_stray_file_among_the_bytes_is_left_alone(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    named, unnamed = storage.write_body(b"named"), storage.write_body(b"left by a kill")
    storage.commit()
    stray = tmp_path / OBJECTS / ".DS_Store"
    stray.write_bytes(b"of a file manager")
    assert storage.remove_unnamed({named}) == 1
    storage.close()
    assert stray.exists()
    assert (tmp_path / named).exists()
    assert not (tmp_path / unnamed).exists()


def test_a_disk_that_takes_no_more_is_no_acknowledgement(tmp_path: Path) -> None:
    """In a process that may write files of 1 MiB only, which looks to it like a full disk."""
    program = """
        import asyncio, pathlib, resource, sys
        from stack.emulator.storage import Storage, StorageFailed

        async def main():
            storage = Storage(pathlib.Path(sys.argv[1]))
            failures = []
            storage.on_failure = lambda: failures.append(1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
            acknowledged = 0
            try:
                while True:
                    storage.put("numbers", str(acknowledged), bytes(50_000))
                    await storage.durable()
                    acknowledged += 1
            except StorageFailed as error:
                print(error)
            storage.put("numbers", "later", b"")
            for again in range(2):
                try:
                    await storage.durable()
                    print("acknowledged after a failure")
                except StorageFailed:
                    pass
            print(acknowledged, len(failures))

        asyncio.run(main())
    """
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    argv = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    said, last = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert "could not be written" in said
    acknowledged, failures = map(int, last.split())
    assert failures == 1
    assert acknowledged > 5
    assert len(content(tmp_path)) == acknowledged


async def test_a_body_that_cannot_be_written_is_no_acknowledgement(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    shutil.rmtree(tmp_path / OBJECTS)
    name = storage.write_body(b"bytes")
    storage.put("objects", "key", name.encode())
    with pytest.raises(StorageFailed, match="could not be written"):
        await storage.durable()
    with pytest.raises(StorageFailed):
        storage.close()
    assert content(tmp_path) == {}
