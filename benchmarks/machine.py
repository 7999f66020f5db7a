"""Commands run as a person runs them, with their time and memory; and files to run them on."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale import sized
from tests.support.passwords import STRONG

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

_PEAK = Path(__file__).with_name("peak.py")


@dataclass(frozen=True, slots=True)
class Cost:
    """Wall-clock seconds from start to end, and the peak of resident memory, in bytes."""

    seconds: float
    peak_bytes: int


def run_command(command: Sequence[str], environment: Mapping[str, str] | None = None, *, stdin: str = "") -> Cost:
    """Run a command to its end, with `environment` in addition to the variables of this process, and with the input
    `stdin`. Return its time and memory. Raise RuntimeError, whose text has its error output, if the command fails.
    """
    reader, writer = os.pipe()
    began = time.perf_counter()
    with os.fdopen(reader) as peak:
        try:
            done = subprocess.run(
                [sys.executable, "-S", "-E", str(_PEAK), str(writer), *command],
                env={**os.environ, **(environment or {})},
                input=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(writer,),
                text=True,
                check=False,
            )
        finally:
            os.close(writer)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return Cost(seconds, int(peak.read()) * KIB)


def tool(name: str) -> str:
    """Return the path of the program `name` of this virtual environment."""
    return str(Path(sys.executable).with_name(name))


SMALL_FILES = sized(10_000, short=200)


def small_files(folder: Path, count: int = SMALL_FILES, size: int = 4 * KIB) -> None:
    """Create `count` files below `folder`, a hundred in each directory. Each has `size` random bytes, which are the
    same in each run.
    """
    source = random.Random(count)
    for at in range(count):
        path = folder / f"{at // 100:03}" / f"{at % 100:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(size))


def large_file(folder: Path, size: int) -> None:
    """Create one file of `size` random bytes in `folder`. The bytes are the same in each run."""
    folder.mkdir(parents=True, exist_ok=True)
    source = random.Random(size)
    with (folder / "large.bin").open("wb") as file:
        for _ in range(size // MIB):
            file.write(source.randbytes(MIB))


@dataclass(frozen=True, slots=True)
class BenchmarkDevice:
    """A device of one person, and its folder."""

    home: Path
    folder: Path

    def sync(self, space: str) -> Cost:
        """Sync the folder with a space, and return the time and memory of the command."""
        return self._run("sync", str(self.folder), "--space", space, "--json")

    def sign(self, verb: str, endpoint: str, email: str) -> None:
        """Run `verb`, which is `signup` or `login`, with a password that is the same for all devices."""
        self._run(verb, "--endpoint", endpoint, "--email", email, "--password-stdin", stdin=f"{STRONG}\n")

    def create_space(self, name: str) -> None:
        self._run("spaces", "create", name)

    def share(self, space: str, email: str) -> None:
        self._run("share", space, email, "--role", "editor")

    def _run(self, *arguments: str, stdin: str = "") -> Cost:
        return run_command([tool("syncline"), *arguments], {"SYNCLINE_HOME": str(self.home)}, stdin=stdin)
