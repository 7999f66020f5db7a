"""`make abuse`: all attacks, one after the other, on one system that is started for them; ARGS names some.

Exit codes: 0 if no attack harmed anybody, 1 if one did, 2 for an error of usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Final

from stack.running import running_stack
from tests.abuse.attacks import ATTACKS
from tests.abuse.run import MOST_GROWTH, MOST_RATIO, MOST_TOTAL_GROWTH, VARIABLES, Result, siege

OK: Final = 0
HARMED: Final = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the attacks that `arguments` (by default those of the command line) name. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help="one of those that --list prints; default: all")
    parser.add_argument("--seconds", type=float, default=8.0, help="that each attack lasts (default: 8)")
    parser.add_argument("--list", action="store_true", help="print the attacks, and make none")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, and the rest to stderr")
    options = parser.parse_args(arguments)
    if unknown := set(options.attacks) - ATTACKS.keys():
        parser.error(f"no such attack: {', '.join(sorted(unknown))}; see --list")
    if not options.seconds > 0:
        parser.error("an attack lasts longer than 0 s")
    names = list(dict.fromkeys(options.attacks)) or list(ATTACKS)
    if options.list:
        print(_listing(names, as_json=options.json))
        return OK
    out = sys.stderr if options.json else sys.stdout

    def say(text: str) -> None:
        print(text, file=out, flush=True)

    say(
        f"{len(names)} attacks. Times are the innocent person's p99 to that without an attack; MB are the growth "
        "of each process: at most, when it was over for a while, and since the first attack"
    )
    with running_stack(variables=VARIABLES) as stack:
        results = siege(stack, names, seconds=options.seconds, say=say)
    failed = [result for result in results if result.faults]
    worst, where = max(((ratio, one.name) for one in results for ratio in one.ratios.values()), default=(0.0, "none"))
    say(f"\n{len(results)} attacks, {len(failed)} with faults; at most {worst:.1f}x ({where}) of {MOST_RATIO}x")
    if options.json:
        print(json.dumps(_document(results)))
    return HARMED if failed else OK


def _listing(names: Sequence[str], *, as_json: bool) -> str:
    described = {name: " ".join((ATTACKS[name].__doc__ or "").split()) for name in names}
    if as_json:
        return json.dumps({"attacks": [{"name": name, "description": text} for name, text in described.items()]})
    width = max(map(len, described))
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in described.items())


def _document(results: Sequence[Result]) -> dict[str, object]:
    return {
        "most": {"ratio": MOST_RATIO, "growth_bytes": MOST_GROWTH, "total_growth_bytes": MOST_TOTAL_GROWTH},
        "attacks": [result.document() for result in results],
        "harmed": sum(bool(result.faults) for result in results),
    }


if __name__ == "__main__":
    sys.exit(main())
