"""`make bench`: runs all benchmarks, or the named ones; see BENCHMARKS. `--short` only checks that they run."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.scale import SHORT_VARIABLE

BENCHMARKS = ("check_versions", "transfer", "durability", "download", "memory", "watch", "idle", "trace", "load")


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks that `arguments` name, or all if they name none; `--short` runs short forms. Return 1 if a
    benchmark failed, 2 for an unknown name, and otherwise 0.
    """
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure, and print the figures.")
    parser.add_argument("--short", action="store_true", help="with little of everything: whether the benchmark runs")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all if none is named")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.names if name not in BENCHMARKS]:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    environment = {**os.environ, **({SHORT_VARIABLE: "1"} if asked.short else {})}
    failed = []
    for name in asked.names or BENCHMARKS:
        # In a separate process, so that no benchmark is affected by an earlier one: cores, memory, variables.
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], env=environment, check=False)
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
