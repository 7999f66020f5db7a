"""One attack, in a process of its own with the lowest priority: an attacker's computer is elsewhere.

`python -m tests.abuse.attacker NAME SECONDS` reads the target from standard input, and prints how it was answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time

from tests.abuse.attacks import ATTACKS
from tests.abuse.target import Target


def main() -> None:
    name, seconds = sys.argv[1:]
    os.nice(19)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    target = Target.from_json(sys.stdin.read())
    answers = asyncio.run(ATTACKS[name](target, time.monotonic() + float(seconds)))
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
