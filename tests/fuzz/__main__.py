"""`make fuzz N=20000 SEED=1`: so many generated calls of all rpcs over a whole system of its own."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from stack.running import running_stack
from tests.fuzz.calls import run
from tests.fuzz.world import VARIABLES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=20_000, help="how many calls")
    parser.add_argument("--seed", type=int, default=None, help="default: from the clock")
    options = parser.parse_args()
    seed = int(time.time()) if options.seed is None else options.seed
    print(f"{options.n} calls from seed {seed}", flush=True)
    with running_stack(variables=VARIABLES) as stack:
        report = asyncio.run(run(stack, calls=options.n, seed=seed))
    for fault in report.faults:
        print(f"\n== {fault}")
    print(f"{report}\n   again: make fuzz N={options.n} SEED={seed}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
