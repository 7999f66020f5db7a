"""`python -m tests.permissions`: print the tables of docs/permissions.md as a running system answers now."""

from __future__ import annotations

from typing import Final

from stack.running import running_stack
from tests.permissions import asking
from tests.permissions.document import table
from tests.permissions.scene import build

TABLES: Final = {
    "Calls over gRPC": asking.rpcs,
    "Operations over HTTP": asking.routes,
    "WebDAV": asking.dav,
}


if __name__ == "__main__":
    with running_stack() as stack:
        scene = build(stack)
        for heading, ask in TABLES.items():
            print(f"## {heading}\n\n{table(ask(scene))}\n", flush=True)
