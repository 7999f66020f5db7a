"""`make mutants`: the code is broken in known ways, one at a time, and its tests have to notice.

Each mutant is a textual patch of a copy of the tree. One that no test notices is a rule that nobody holds.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.mutants.defences import MUTANTS as DEFENCES
from tests.mutants.engine import MUTANTS as ENGINE
from tests.mutants.mutant import Mutant, breed

TESTS = "tests/clients/sync"
ROOTS = (".", "lib", "clients/python", "protos/gen")
"""Folders of the tree in which packages are found."""
SLOW_TO_TELL = "test_convergence.py"
TENTHS_NOTICED = 9
"""The tenths of the engine's mutants that are noticed; every other mutant, whose tests are named, has to be."""
SECONDS = 900
JOBS = 2
"""The default number of mutants whose tests run side by side; most of the time a test waits for a server."""
MEMORY_BYTES = 4 << 30

T = TypeVar("T")


def hunted(folder: Path) -> str | None:
    """The test of the engine that notices; None if none does."""
    files = sorted((folder / TESTS).glob("test_*.py"), key=lambda file: (file.name == SLOW_TO_TELL, file.name))
    done = _tested(folder, [*map(str, files), "-x"], limited=True)
    if done is None:
        return "none in particular: they do not end"
    if done.returncode == 0:
        return None
    noticed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return (
        noticed[1].removeprefix(f"{TESTS}/")
        if noticed
        else f"pytest ended with {done.returncode}: {done.stdout[-500:]}"
    )


def not_failed(folder: Path, tests: Collection[str]) -> set[str]:
    """Return those of these tests that do not fail. A test that cannot be run, or does not end, has noticed nothing."""
    done = _tested(folder, [*sorted(tests), "-vv"], limited=False)
    # Each failure is read as it ends: files that failed tests leave open may keep pytest from its summary.
    found = re.findall(r"^(\S+::\w+)(?:\[.*)? FAILED", done.stdout, re.MULTILINE) if done else []
    return set(tests).difference(found)


def unsound(tests: Collection[str], *, jobs: int) -> str:
    """Return the output of these tests, by so many workers, on the tree as it is; an empty text if they pass."""
    with tempfile.TemporaryDirectory() as temporary:
        breed(None, Path(temporary))
        done = _tested(Path(temporary), [*sorted(tests), "-n", str(jobs)], limited=False)
    return "" if done and done.returncode == 0 else done.stdout[-2000:] if done else "they do not end"


def _tested(folder: Path, asked: Sequence[str], *, limited: bool) -> subprocess.CompletedProcess[str] | None:
    """Pytest in a copy of the tree; None if it does not end."""
    paths = os.pathsep.join(str(folder / root) for root in ROOTS)
    try:
        return subprocess.run(
            [sys.executable, "-m", "pytest", *asked, "-q", "--tb=no", "-p", "no:cacheprovider"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            preexec_fn=_limit_memory if limited else None,
        )
    except subprocess.TimeoutExpired:
        return None


def _limit_memory() -> None:
    """A tree with a cycle in it has no end."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _each(
    chosen: Sequence[Mutant], ask: Callable[[Path, Mutant], T], *, jobs: int
) -> Iterator[tuple[Mutant, T, float]]:
    """Yield each mutant with what `ask` says of a copy of the tree that has it, and the seconds that this took."""

    def one(mutant: Mutant) -> tuple[Mutant, T, float]:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as temporary:
            breed(mutant, Path(temporary))
            return mutant, ask(Path(temporary), mutant), time.monotonic() - began

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(one, chosen)


def hunt_engine(chosen: Sequence[Mutant], *, jobs: int) -> bool:
    """Return True if enough mutants of the engine are noticed by its tests."""
    with tempfile.TemporaryDirectory() as temporary:
        breed(None, Path(temporary))
        if noticed := hunted(Path(temporary)):
            print(f"the engine itself does not pass its tests, so they say nothing about mutants: {noticed}")
            return False
    survivors = 0
    for mutant, noticed, seconds in _each(chosen, lambda folder, _: hunted(folder), jobs=jobs):
        survivors += noticed is None
        _say(mutant, f"noticed by {noticed}" if noticed else "NOT NOTICED", seconds)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants of the engine were noticed")
    return 10 * (len(chosen) - survivors) >= TENTHS_NOTICED * len(chosen)


def hunt_defences(chosen: Sequence[Mutant], *, jobs: int) -> bool:
    """Return True if each mutant makes all tests fail that are named with it."""
    if said := unsound({test for mutant in chosen for test in mutant.tests}, jobs=jobs):
        print(f"the tests do not pass without a mutant, so they say nothing: {said}")
        return False
    survivors = 0
    for mutant, passing, seconds in _each(chosen, lambda folder, one: not_failed(folder, one.tests), jobs=jobs):
        survivors += bool(passing)
        _say(mutant, f"NOT NOTICED by {', '.join(sorted(passing))}" if passing else "noticed", seconds)
    print(f"{len(chosen) - survivors} of {len(chosen)} other mutants were noticed")
    return not survivors


def _say(mutant: Mutant, verdict: str, seconds: float) -> None:
    print(f"{mutant.file:32} {mutant.name}: {verdict} ({seconds:.0f} s)", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutants with one of these words in their name or file")
    parser.add_argument("--breed", action="store_true", help="only see whether they can still be made of the code")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"mutants that are tested at once (default: {JOBS})")
    asked = parser.parse_args()
    if asked.jobs < 1:
        parser.error("--jobs is at least 1")
    engine, defences = (
        [
            mutant
            for mutant in mutants
            if not asked.words or any(word in f"{mutant.file} {mutant.name}" for word in asked.words)
        ]
        for mutants in (ENGINE, DEFENCES)
    )
    if asked.breed:
        for mutant in (*engine, *defences):
            mutant.text()
            mutant.check_tests()
        print(f"{len(engine) + len(defences)} mutants can be made")
        return 0
    verdicts = [
        hunt(chosen, jobs=asked.jobs) for hunt, chosen in ((hunt_defences, defences), (hunt_engine, engine)) if chosen
    ]
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
