"""The cost of a sync without changes: a sync of 100,000 files compared with a `find` over all of them.

The second figure is the cost, on the other device, of a renamed directory of 10,000 files, which is one rename.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import KIB, SMALL_FILES, BenchmarkDevice, run_command, small_files, tool
from benchmarks.report import ReportTable
from benchmarks.scale import sized
from stack.running import running_stack

FILES = sized(100_000, short=500)
SIZE_BYTES = 64
TIMES = sized(5, short=1)
MB = 1_000_000


def figures(device: BenchmarkDevice, *tracer: str) -> dict[str, Any]:
    """Sync the folder of `device`, by a command that is run under `tracer` if that is given, and return the report that
    the command prints with --json.
    """
    done = subprocess.run(
        [*tracer, tool("syncline"), "sync", str(device.folder), "--json"],
        env={**os.environ, "SYNCLINE_HOME": str(device.home)},
        stdout=subprocess.PIPE,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def idle(device: BenchmarkDevice) -> None:
    small_files(device.folder, FILES, SIZE_BYTES)
    device.sync("personal")
    device.sync("personal")  # files that were written a moment ago are read once more
    find = ["find", str(device.folder), "-printf", r"%s %T@ %C@ %i %p\n"]
    # Alternately, and the best of each: other load on the machine only adds time.
    found, synced = zip(*((run_command(find), device.sync("personal")) for _ in range(TIMES)), strict=True)
    finding, syncing = (min(cost.seconds for cost in costs) for costs in (found, synced))
    requests = figures(device)["requests"]
    table = ReportTable("seconds", "ratio", "peak MB", "S3 requests", "gRPC calls")
    table.row("find -printf", f"{finding:.2f}", "1.0", f"{min(cost.peak_bytes for cost in found) / MB:.0f}", "", "")
    table.row(
        "syncline sync",
        f"{syncing:.2f}",
        f"{syncing / finding:.1f}",
        f"{max(cost.peak_bytes for cost in synced) / MB:.0f}",
        str(requests["s3_put"] + requests["s3_get"]),
        str(requests["grpc"]),
    )
    table.print(f"A sync of {FILES:,} files of which none has changed (best of {TIMES})")


def renamed(one: BenchmarkDevice, two: BenchmarkDevice) -> None:
    small_files(one.folder / "before")
    one.sync("renamed")
    two.sync("renamed")
    (one.folder / "before").rename(one.folder / "after")
    figures(one)
    trace = two.home / "trace"
    tracer = ["strace", "-f", "-qq", "-e", "trace=/^(rename|link|unlink).*", "-o", str(trace)]
    traced = shutil.which("strace") is not None
    report = figures(two, *(tracer if traced else []))
    assert (two.folder / "after" / "000" / "00").stat().st_size == 4 * KIB
    table = ReportTable("moved", "downloaded", "S3 requests", "renames in the folder")
    counted = re.findall(r"rename\w*\(.*\"before\".*", trace.read_text()) if traced else []
    files = re.findall(r"rename\w*\(", trace.read_text()) if traced else []
    table.row(
        "the other device",
        str(report["moved"]),
        str(report["downloaded"]),
        str(report["requests"]["s3_get"] + report["requests"]["s3_put"]),
        f"{len(counted)} of {len(files)} in all" if traced else "not counted: strace is not installed",
    )
    table.print(f"A renamed directory of {SMALL_FILES:,} files")


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary, running_stack() as stack:
        scratch = Path(temporary)
        devices = [BenchmarkDevice(scratch / f"home-{name}", scratch / name) for name in ("one", "two", "many")]
        for device in devices:
            device.sign("signup" if device is devices[0] else "login", stack.endpoint, "bench@example.com")
        one, two, many = devices
        idle(many)
        one.create_space("renamed")
        renamed(one, two)


if __name__ == "__main__":
    main()
