"""The memory of the idle services, and the peak memory of a client."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks.machine import GIB, MIB, SMALL_FILES, BenchmarkDevice, large_file, small_files
from benchmarks.report import ReportTable
from benchmarks.scale import sized
from stack.running import running_stack

REST_SECONDS = sized(3.0, short=0.0)
LARGE_BYTES = sized(2 * GIB, short=16 * MIB)
MB = 1_000_000
TREES: dict[str, Callable[[Path], None]] = {
    f"{SMALL_FILES:,} x 4 KiB": small_files,
    f"1 x {LARGE_BYTES // MIB:,} MiB": lambda folder: large_file(folder, LARGE_BYTES),
}


def main() -> None:
    rest = ReportTable("resident MB")
    peak = ReportTable("up, peak MB", "down, peak MB")
    with tempfile.TemporaryDirectory() as temporary, running_stack() as stack:
        scratch = Path(temporary)
        time.sleep(REST_SECONDS)
        for name in ("auth", "metadata", "notify", "gateway"):
            rest.row(name, f"{psutil.Process(stack.pids[name]).memory_info().rss / MB:.0f}")
        for n, (what, make) in enumerate(TREES.items()):
            source, copy = scratch / f"source-{n}", scratch / f"copy-{n}"
            make(source)
            one, two = BenchmarkDevice(scratch / "one", source), BenchmarkDevice(scratch / "two", copy)
            if n == 0:
                one.sign("signup", stack.endpoint, "bench@example.com")
                two.sign("login", stack.endpoint, "bench@example.com")
            one.create_space(what)
            up, down = one.sync(what), two.sync(what)
            peak.row(what, f"{up.peak_bytes / MB:.0f}", f"{down.peak_bytes / MB:.0f}")
            shutil.rmtree(source)
            shutil.rmtree(copy)
    rest.print("Services at rest")
    peak.print("The client's first sync")


if __name__ == "__main__":
    main()
