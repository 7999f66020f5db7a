"""`python -m stack [--port PORT] [--data DIR]`: the same as `syncline up`."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.imports import uncollected

with uncollected():
    from stack.up import DEFAULT_PORT, main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stack", description="The whole system on one machine.")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="the first of five ports (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="where data is kept; without it, all is gone afterwards")
    arguments = parser.parse_args()
    raise SystemExit(main(port=arguments.port, data=arguments.data))
