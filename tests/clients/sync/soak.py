"""`make soak N=20000 SEED=1`: so many histories, one after another, each from the next seed."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

from tests.clients.sync.histories import History


def live(seed: int, directory: str) -> tuple[int, str, Counter[str]]:
    """Run one history; returns its seed, what is wrong (empty if nothing is), and where syncs have crashed."""
    with tempfile.TemporaryDirectory(dir=directory) as base:
        history = History(Path(base), seed)
        try:
            history.run()
        except AssertionError as error:
            return seed, str(error), history.crashed
        except Exception:
            return seed, traceback.format_exc() + "\n" + "\n".join(history.log), history.crashed
        return seed, "", history.crashed


def _live(job: tuple[int, str]) -> tuple[int, str, Counter[str]]:
    return live(*job)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="how many histories")
    parser.add_argument("--seed", type=int, default=None, help="of the first one; default: from the clock")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--directory", default="/dev/shm" if os.access("/dev/shm", os.W_OK) else None, help="where devices are made"
    )
    options = parser.parse_args()
    first = int(time.time()) if options.seed is None else options.seed
    began = time.monotonic()
    failed: list[int] = []
    crashed: Counter[str] = Counter()
    print(f"{options.n} histories from seed {first} in {options.directory or tempfile.gettempdir()}", flush=True)
    jobs = ((seed, options.directory) for seed in range(first, first + options.n))
    with get_context("forkserver").Pool(options.processes, maxtasksperchild=500) as pool:
        for done, (seed, wrong, points) in enumerate(pool.imap(_live, jobs), 1):
            crashed += points
            if wrong:
                failed.append(seed)
                print(f"\n== history {seed} failed\n{wrong}\n   replay it: make soak SEED={seed} N=1", flush=True)
            if not done % 1000:
                print(f"{done} histories, {len(failed)} failed, {time.monotonic() - began:.0f} s", flush=True)
    print(
        f"{options.n} histories, {sum(crashed.values())} crashes at {len(crashed)} named points, {len(failed)} failed"
        f"{f': {failed}' if failed else ''} ({time.monotonic() - began:.0f} s)"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
