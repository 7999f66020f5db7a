"""Detection that nothing has changed, without loading any tree: the folder has the same fingerprint as when everything
was agreed on, and the journal has no new entries.

The fingerprint reads as much of each file as a full scan does. It was recorded by a full scan that found nothing to do,
and is invalidated by any write to the state.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from syncline.model.errors import InvalidCursor
from syncline.sync.folder.files import Files
from syncline.sync.ports import SpacePort
from syncline.sync.scan.walk import fingerprint
from syncline.sync.state.database import Settled, State


def still_settled(files: Files, state: State, space: SpacePort) -> Settled | None:
    """Return the fingerprint and count that the last settled sync recorded if folder and space have not changed after
    that sync; otherwise None. Raise the errors of `space.changes`, except InvalidCursor.
    """
    settled = state.settled
    if settled is None:
        return None
    with ThreadPoolExecutor(1) as beside:  # the journal's answer takes half as long as the scan of the folder
        looking = beside.submit(fingerprint, files)
        if _has_news(state, space, settled):
            return None
    try:
        return settled if looking.result() == settled.fingerprint else None
    except OSError:
        return None


def _has_news(state: State, space: SpacePort, settled: Settled) -> bool:
    cursor, right = state.cursor, state.right
    try:
        for page in space.changes(cursor):
            if page.nodes or page.reset or page.right != right:
                return True
            if page.cursor and page.cursor != cursor:  # the new entries change no node
                cursor = state.cursor = page.cursor
                state.told_seq = page.seq
                state.settled = settled
    except InvalidCursor:
        return True
    state.commit()
    return False
