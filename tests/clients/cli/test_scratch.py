"""A scratch directory lives as long as its process, and no longer."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

from syncline.cli.scratch import scratch
from syncline.model.names import SCRATCH_PREFIX


def test_none_is_removed_while_it_is_in_use(tmp_path: Path) -> None:
    """Several commands begin in one place at once, and each looks for what was left."""
    lost: list[Path] = []
    begin = threading.Barrier(4)

    def work() -> None:
        begin.wait()
        for _ in range(100):
            with scratch(tmp_path) as directory:
                if not (directory / "lock").exists():
                    lost.append(directory)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost
    assert not list(tmp_path.iterdir())


def test_a_lock_has_its_name_only_once_it_is_locked(tmp_path: Path) -> None:
    """While one command begins, another may meet no lock yet, or a lock that is held."""
    beginning = tmp_path / f"{SCRATCH_PREFIX}beginning"
    beginning.mkdir()
    (beginning / "lock.new").touch()
    with scratch(tmp_path) as mine:
        assert beginning.exists()
        assert {path.name for path in mine.iterdir()} == {"lock"}
        other = os.open(mine / "lock", os.O_RDWR)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            raise AssertionError("it is not locked")
        finally:
            os.close(other)


def test_what_was_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f"{SCRATCH_PREFIX}left"
    left.mkdir()
    (left / "lock").touch()
    unborn = tmp_path / f"{SCRATCH_PREFIX}unborn"
    unborn.mkdir()
    (unborn / "lock.new").touch()
    long_ago = time.time() - 86400
    os.utime(unborn, (long_ago, long_ago))
    with scratch(tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]
