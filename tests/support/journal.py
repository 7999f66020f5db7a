"""Entries of a journal, read without an event loop."""

from __future__ import annotations

from services.metadata.entry import JournalEntry
from services.metadata.wire import entry_from_bytes


def small_entry(seq: int, blob: bytes) -> JournalEntry:
    """Parse entry `seq` from its stored form, which is so small that the parser waits for no turn."""
    parsing = entry_from_bytes(seq, blob, account="")
    try:
        parsing.send(None)
    except StopIteration as done:
        entry: JournalEntry = done.value
        return entry
    parsing.close()
    raise AssertionError(f"entry {seq} is parsed in several turns: await `entry_from_bytes`")
