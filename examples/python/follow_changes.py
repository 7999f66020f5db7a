"""Follow a space and react to each change of a file, from where the program was ended the last time.

    syncline login --endpoint https://files.example.com --email me@example.com     # once for each device
    python follow_changes.py personal cursor.bin

Replace `react` by what you want to happen: make a thumbnail, start a build, send a message.
"""

from __future__ import annotations

import sys
from pathlib import Path

from syncline.model.errors import NoSuchNode, SynclineError
from syncline.model.tree import Node, NodeKind
from syncline.sdk import Accounts, Session, Space, default_home


def react(space: Space, node: Node) -> None:
    """Print what became of a file. A change may be told twice after an interruption, so this must be safe to repeat."""
    if node.deleted_at_ms:
        print(f"{node.name} was deleted", flush=True)
        return
    try:
        path = space.get_node(node.id).path
    except NoSuchNode:
        return  # The file, or a directory above it, was deleted meanwhile: that is told next.
    print(f"{path} is at version {node.version}", flush=True)


def catch_up(space: Space, file: Path) -> None:
    """React to what has changed since the cursor in `file`, and keep the new cursor there."""
    cursor = file.read_bytes() if file.exists() else b""
    for page in space.changes(cursor):
        for node in page.nodes:
            if node.kind is NodeKind.FILE:
                react(space, node)
        if page.cursor:
            file.write_bytes(page.cursor)


def main() -> None:
    """Follow the space whose name is the first argument."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    _, name, file = sys.argv
    with Session.open(default_home()) as session:
        space = Space(session, Accounts(session).resolve(name))
        # A watch tells when it has begun to listen, and then each time that the space has changed.
        # It says only that something changed: what changed is asked for, and so nothing is missed.
        with space.watch() as watch:
            for _ in watch:
                catch_up(space, Path(file))


if __name__ == "__main__":
    try:
        main()
    except SynclineError as error:
        sys.exit(f"{error.reason}: {error}")
    except KeyboardInterrupt:
        pass
