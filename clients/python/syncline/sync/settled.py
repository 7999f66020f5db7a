"""Seeing that there is nothing to do without loading either tree: the folder looks as it did when all was agreed on,
and the journal has nothing new.

A look at every file is as far as a full scan goes, too. What the look is compared with was taken by a full scan that
had nothing to do after it, and is void once anything is written to the state.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from syncline.model.errors import InvalidCursor
from syncline.sync.folder.files import Files
from syncline.sync.ports import SpacePort
from syncline.sync.scan.walk import fingerprint
from syncline.sync.state.database import Settled, State


def still_settled(files: Files, state: State, space: SpacePort) -> Settled | None:
    """Return what was noted at the last sync, if folder and space are still like that. Raise the errors of
    `space.changes`, except InvalidCursor.
    """
    settled = state.settled
    if settled is None:
        return None
    with ThreadPoolExecutor(1) as beside:  # the journal's answer takes as long as half of the folder
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
            if page.cursor and page.cursor != cursor:  # entries that change no node
                cursor = state.cursor = page.cursor
                state.told_seq = page.seq
                state.settled = settled
    except InvalidCursor:
        return True
    state.commit()
    return False
