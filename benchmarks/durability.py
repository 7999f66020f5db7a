"""The cost of durability, and the time of unavailability after a power cut.

The same files are synced to two systems in the same run, one of which keeps everything but the bytes of objects in
memory. Then many files are synced to the durable one, all its processes are killed, and it is started again.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from benchmarks.machine import BenchmarkDevice, small_files
from benchmarks.report import ReportTable
from benchmarks.scale import sized
from stack.running import running_stack
from stack.up import Stack

FILES = sized(10_000, short=200)
MANY_FILES = sized(100_000, short=200)
MANY_BYTES = 64
ROUNDS = sized(3, short=1)
SETTLE_SECONDS = sized(3.0, short=0.0)
PROJECTED_SECONDS = 600.0
"""Maximum seconds until everything that was synced is in the system's tables."""
GONE_SECONDS = 30.0


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        compare(scratch, files=FILES, rounds=ROUNDS)
        after_a_kill(scratch, files=MANY_FILES)


def compare(scratch: Path, *, files: int, rounds: int) -> None:
    """Sync `files` small files to both systems alternately, `rounds` times each, and print the times and their ratio.
    The systems alternate so that other load on the machine affects both.
    """
    source = scratch / "source"
    small_files(source, files)
    with ExitStack() as opened:
        systems: dict[str, Stack] = {
            "in memory": opened.enter_context(running_stack(durable=False)),
            "durable": opened.enter_context(running_stack(data=scratch / "compared")),
        }
        seconds: dict[str, list[float]] = {name: [] for name in systems}
        emulator: dict[str, list[float]] = {name: [] for name in systems}
        for number in range(rounds):
            for name, stack in systems.items():
                device = BenchmarkDevice(scratch / f"home {name} {number}", source)
                device.sign("signup", stack.endpoint, f"bench-{number}@example.com")
                device.create_space("files")
                time.sleep(SETTLE_SECONDS)
                process = psutil.Process(stack.pids["aws"])
                items, before = asyncio.run(_items(stack)), sum(process.cpu_times()[:2])
                seconds[name].append(device.sync("files").seconds)
                deadline = time.monotonic() + PROJECTED_SECONDS
                while asyncio.run(_items(stack)) < items + files:  # the projection runs in the background
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{files:,} files were not projected within {PROJECTED_SECONDS:.0f} s")
                    time.sleep(1.0)
                emulator[name].append(sum(process.cpu_times()[:2]) - before)
                shutil.rmtree(source / ".syncline")
    table = ReportTable("median s", "best s", "CPU s of the embedded AWS")
    for name in systems:
        table.row(
            name,
            f"{statistics.median(seconds[name]):.2f}",
            f"{min(seconds[name]):.2f}",
            f"{statistics.median(emulator[name]):.2f}",
        )
    table.row(
        "ratio",
        f"{statistics.median(seconds['durable']) / statistics.median(seconds['in memory']):.2f}",
        f"{min(seconds['durable']) / min(seconds['in memory']):.2f}",
        f"{statistics.median(emulator['durable']) / statistics.median(emulator['in memory']):.2f}",
    )
    table.print(f"{files:,} x 4 KiB up, to a durable system and to one that is not")


def after_a_kill(scratch: Path, *, files: int) -> None:
    """Sync `files` small files to a durable system and kill all of its processes; then print the seconds from the next
    start until it serves.
    """
    source, data = scratch / "many", scratch / "killed"
    small_files(source, files, MANY_BYTES)
    with _up(data) as up:
        device = BenchmarkDevice(scratch / "home", source)
        device.sign("signup", _endpoint(up), "bench@example.com")
        device.create_space("files")
        device.sync("files")
        cut_power([psutil.Process(up.pid), *psutil.Process(up.pid).children(recursive=True)])
    began = time.monotonic()
    with _up(data) as up:
        _endpoint(up)
        seconds = time.monotonic() - began
        up.terminate()
    log = [json.loads(line)["event"] for line in (data / "logs" / "aws.log").read_text().splitlines()]
    (read_back,) = (event for event in log if event.startswith("read back"))
    table = ReportTable("s")
    table.row("from start to serving", f"{seconds:.1f}")
    table.print(f"After kill -9 of everything, with {files:,} files; the embedded AWS {read_back}")


def cut_power(processes: Sequence[psutil.Process]) -> None:
    """End processes as a power cut does: all are stopped at one moment, and none of them continues."""
    for deed in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(deed)
    psutil.wait_procs(processes, timeout=GONE_SECONDS)


async def _items(stack: Stack) -> int:
    async with stack.aws.client("dynamodb") as dynamodb:
        described = await dynamodb.describe_table(TableName=stack.resources.metadata_table_name)
    count: int = described["Table"]["ItemCount"]
    return count


def _up(data: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "stack", "--port", "0", "--data", str(data)]
    environment = {**os.environ, "SYNCLINE_LOG_FORMAT": "json"}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


def _endpoint(up: subprocess.Popen[str]) -> str:
    assert up.stdout is not None
    return up.stdout.readline().strip().removeprefix("syncline is up: ")


if __name__ == "__main__":
    main()
