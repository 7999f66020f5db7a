"""Follow a space and react to each change of a file, from where the program was ended the last time.

    syncline login --endpoint https://files.example.com --email me@example.com     # once for each device
    python follow_changes.py personal cursor.bin

Replace `react` by what you want to happen: make a thumbnail, start a build, send a message.
"""

from __future__ import annotations

import sys
from pathlib import Path

from syncline.model.errors import NoSuchNode, SynclineError
from syncline.model.printable import harmless
from syncline.model.tree import Node, NodeKind
from syncline.sdk import Accounts, Session, Space, default_home


def react(space: Space, node: Node) -> None:
    """Print what happened to a file. A change may be reported twice after an interruption, so this must be
    idempotent.

    Names come from others: `harmless` shows what would steer a terminal.
    """
    if node.deleted_at_ms:
        print(harmless(f"{node.name} was deleted"), flush=True)
        return
    try:
        path = space.get_node(node.id).path
    except NoSuchNode:
        return  # the file, or a directory above it, was deleted in the meantime, which the next page reports
    print(harmless(f"{path} is at version {node.version}"), flush=True)


def catch_up(space: Space, file: Path) -> None:
    """React to the changes since the cursor in `file`, and store the new cursor there."""
    cursor = file.read_bytes() if file.exists() else b""
    for page in space.changes(cursor):
        for node in page.nodes:
            if node.kind is NodeKind.FILE:
                react(space, node)
        if page.cursor:
            # Renamed when it is whole, so that an interruption leaves the cursor before or this one.
            stored = file.with_name(f"{file.name}.new")
            stored.write_bytes(page.cursor)
            stored.replace(file)


def main() -> None:
    """Follow the space whose name is the first argument."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    _, name, file = sys.argv
    with Session.open(default_home()) as session:
        space = Space(session, Accounts(session).resolve(name))
        # A watch reports that it has started, and then each change of the space. It says only that something changed:
        # the changes themselves are pulled, so none is missed.
        with space.watch() as watch:
            for _ in watch:
                catch_up(space, Path(file))


if __name__ == "__main__":
    try:
        main()
    except SynclineError as error:
        sys.exit(harmless(f"{error.reason}: {error}"))
    except KeyboardInterrupt:
        pass
