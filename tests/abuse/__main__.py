"""`make abuse`: all attacks, one after the other, on one system that is started for them; ARGS names some."""

from __future__ import annotations

import argparse
import sys

from stack.running import running_stack
from tests.abuse.attacks import ATTACKS
from tests.abuse.run import MOST_RATIO, VARIABLES, siege


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"of {', '.join(ATTACKS)}; default: all")
    parser.add_argument("--seconds", type=float, default=8.0, help="that each attack lasts (default: 8)")
    options = parser.parse_args()
    if unknown := set(options.attacks) - ATTACKS.keys():
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    names = options.attacks or list(ATTACKS)
    print(f"{len(names)} attacks; times are the innocent person's p99 to that without an attack", flush=True)
    with running_stack(variables=VARIABLES) as stack:
        results = siege(stack, names, seconds=options.seconds, say=lambda text: print(text, flush=True))
    failed = [result for result in results if result.faults]
    worst = max((ratio, result.name) for result in results for ratio in result.ratios.values())
    print(f"\n{len(results)} attacks, {len(failed)} with faults; at most {worst[0]:.1f}x ({worst[1]}) of {MOST_RATIO}x")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
