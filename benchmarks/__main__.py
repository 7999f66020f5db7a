"""`make bench`: all benchmarks, or those that are named; see BENCHMARKS."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = ("check_versions", "transfer", "durability", "download", "memory", "watch", "idle", "trace", "load")


def main(names: list[str]) -> int:
    """Run the named benchmarks, all if none is named; 2 for an unknown name."""
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
