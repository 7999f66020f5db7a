"""Syncing compared with copying: the same files, the same emulator, the same run.

Syncline's figures are complete commands, with chunking, sealing, metadata commit and durable writes; s5cmd and rclone
copy the files to a bucket of their own and back.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import MIB, SMALL_FILES, BenchmarkDevice, Cost, large_file, run_command, small_files, tool
from benchmarks.report import ReportTable
from benchmarks.scale import sized
from stack.running import running_stack
from stack.up import Stack

BUCKET = "peers"
LARGE_BYTES = sized(512, short=8) * MIB
SETTLE_SECONDS = sized(3.0, short=0.0)


class Peers:
    """Runs s5cmd and rclone, with which Syncline is compared, with the emulator's root credentials and on a bucket
    without our policies.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._environment = stack.aws.environment()

    async def prepare(self) -> None:
        async with self._stack.aws.client("s3") as s3:
            await s3.create_bucket(Bucket=BUCKET)

    def s5cmd(self, source: str, target: str) -> Cost:
        return run_command(
            [tool("s5cmd"), "--endpoint-url", self._stack.aws.endpoint, "--log", "error", "cp", source, target],
            self._environment,
        )

    def rclone(self, source: str, target: str) -> Cost:
        remote = f":s3,provider=Other,env_auth=true,endpoint='{self._stack.aws.endpoint}':"
        source, target = (place.replace("s3://", remote) for place in (source, target))
        # rclone is fastest for small files with this many concurrent transfers; its defaults are slower.
        return run_command(
            [tool("rclone"), "copy", "--transfers", "32", "--checkers", "32", source, target], self._environment
        )


def measure(stack: Stack, scratch: Path, what: str, make: Callable[[Path], None], table: ReportTable) -> None:
    source = scratch / what
    make(source)
    ours = _sync(scratch, what, source)
    peers = Peers(stack)
    theirs = {}
    for name, copy in (("s5cmd", peers.s5cmd), ("rclone", peers.rclone)):
        time.sleep(SETTLE_SECONDS)
        remote, back = f"s3://{BUCKET}/{what}-{name}/", scratch / f"{what}-{name}"
        up = copy(f"{source}/", remote)
        down = copy(f"{remote}*" if name == "s5cmd" else remote, f"{back}/")
        theirs[name] = (up, down)
        shutil.rmtree(back)
    shutil.rmtree(source)
    both_ways = (
        ours[0].seconds + ours[1].seconds,
        {name: up.seconds + down.seconds for name, (up, down) in theirs.items()},
    )
    for direction, own, others in (
        ("up", ours[0].seconds, {name: up.seconds for name, (up, _) in theirs.items()}),
        ("down", ours[1].seconds, {name: down.seconds for name, (_, down) in theirs.items()}),
        ("both ways", *both_ways),
    ):
        cells = [cell for seconds in others.values() for cell in (f"{seconds:.2f}", f"{seconds / own:.1f}x")]
        table.row(f"{what}, {direction}", f"{own:.2f}", *cells)


def _sync(scratch: Path, what: str, source: Path) -> tuple[Cost, Cost]:
    one = BenchmarkDevice(scratch / "one", source)
    two = BenchmarkDevice(scratch / "two", scratch / f"{what} again")
    one.create_space(what)
    time.sleep(SETTLE_SECONDS)
    up = one.sync(what)
    time.sleep(SETTLE_SECONDS)
    down = two.sync(what)
    _same(source, two.folder)
    shutil.rmtree(two.folder)
    shutil.rmtree(source / ".syncline", ignore_errors=True)
    return up, down


def _same(one: Path, other: Path) -> None:
    for path in one.rglob("*"):
        relative = path.relative_to(one)
        if path.is_file() and relative.parts[0] != ".syncline":
            assert path.read_bytes() == (other / relative).read_bytes(), f"{relative} differs"


def main() -> None:
    table = ReportTable("syncline s", "s5cmd s", "ratio", "rclone s", "ratio")
    with tempfile.TemporaryDirectory() as temporary, running_stack() as stack:
        scratch = Path(temporary)
        asyncio.run(Peers(stack).prepare())
        BenchmarkDevice(scratch / "one", scratch).sign("signup", stack.endpoint, "bench@example.com")
        BenchmarkDevice(scratch / "two", scratch).sign("login", stack.endpoint, "bench@example.com")
        measure(stack, scratch, f"{SMALL_FILES:,} x 4 KiB", small_files, table)
        measure(stack, scratch, f"1 x {LARGE_BYTES // MIB} MiB", lambda folder: large_file(folder, LARGE_BYTES), table)
    table.print("Whole syncs against plain copies (ratio: how many times as long the peer takes)")


if __name__ == "__main__":
    main()
