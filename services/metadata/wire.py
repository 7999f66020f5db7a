"""Conversion of journal entries, cursors and page tokens to bytes and back; `syncline.wire.tree` has the other
conversions.
"""

from __future__ import annotations

import binascii
import dataclasses
import hashlib
import struct
from typing import Any, Final

from runtime.turns import SLICE_ITEMS, slices, turn
from services.metadata.entry import (
    BEGINNING,
    Activity,
    ChangePlace,
    Commit,
    JournalEntry,
    Position,
    position_after,
)
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.errors import InvalidCursor, InvalidPageToken
from syncline.model.identifiers import RequestId, SpaceId
from syncline.model.tree import Result
from syncline.model.verdicts import Verdict
from syncline.wire.pages import page_token_from_wire, page_token_to_wire
from syncline.wire.tree import result_from_wire, result_to_wire

_BULK_BYTES: Final = 20_000
"""Minimum size in bytes of an entry that waits for a turn on the event loop before it is parsed."""


def _without_results(commit: Commit) -> journal_pb2.Commit:
    return journal_pb2.Commit(
        request_id=commit.request,
        fingerprint=commit.fingerprint,
        user_id=commit.user,
        device_id=commit.device,
        committed_at_ms=commit.at_ms,
    )


def _stored_result(result: Result, commit: Commit, seq: int) -> journal_pb2.MutationResult:
    """Return the stored form of a result. Accepted nodes leave out the values that are stored in the entry or the
    commit: the seq, the time, the user and the device.
    """
    pb = result_to_wire(result)
    node = result.node
    if result.verdict is Verdict.ACCEPTED and node is not None:
        stored = pb.node
        if node.seq == seq:
            stored.ClearField("seq")
        if (node.user, node.device, node.committed_at_ms) == (commit.user, commit.device, commit.at_ms):
            stored.ClearField("user_id")
            stored.ClearField("device_id")
            stored.ClearField("committed_at_ms")
    return pb


async def entry_to_bytes(entry: JournalEntry) -> bytes:
    """Return the stored form of an entry. The event loop serves others between slices of the work, and each slice
    counts as work for the author of its commit.
    """
    pb = journal_pb2.Entry(
        seq=entry.seq,
        append_id=entry.append_id,
        used_bytes=entry.used_bytes,
        nodes=entry.nodes,
        journal_bytes=entry.journal_bytes,
    )
    for commit in entry.commits:
        stored = pb.commits.add()
        stored.CopyFrom(_without_results(commit))
        async for some in slices(commit.results, commit.user):
            stored.results.extend(_stored_result(result, commit, entry.seq) for result in some)
    return pb.SerializeToString()


async def entry_from_bytes(seq: int, blob: bytes, *, account: str) -> JournalEntry:
    """Parse entry `seq` from its stored form. A large entry is parsed in turns that are charged to `account`: a person,
    or a space.
    """
    pb = await _parsed(blob, account)
    commits, parsed = [], 0
    for commit in pb.commits:
        results = []
        for stored in commit.results:
            parsed += 1
            if not parsed % SLICE_ITEMS:
                await turn(account)
            results.append(_result_from_wire(stored, commit, seq))
        commits.append(_commit_from_wire(commit, results))
    nodes = pb.nodes if pb.HasField("nodes") else None
    journal_bytes = pb.journal_bytes if pb.HasField("journal_bytes") else None
    return JournalEntry(seq, pb.append_id, tuple(commits), pb.used_bytes, nodes, journal_bytes)


def with_journal_bytes(blob: bytes, journal_bytes: int) -> bytes:
    """Return the stored form of an entry with the field `journal_bytes`; `blob` is the stored form without this
    field.
    """
    # The serialised forms of two messages, one after the other, are that of both merged.
    return blob + journal_pb2.Entry(journal_bytes=journal_bytes).SerializeToString()


def journal_bytes_of_entry(blob: bytes) -> int:
    """Return the total size in bytes of the entries of a journal up to one entry, which is recorded in the stored form
    `blob` of this entry; 0 if the size is not recorded there.
    """
    return journal_pb2.Entry.FromString(blob).journal_bytes


async def position_of_entry(seq: int, blob: bytes, *, account: str) -> Position:
    """Return the position after entry `seq`. The result is the same as `entry_from_bytes(seq, blob).position`, at less
    cost.
    """
    return position_after(seq, (await _parsed(blob, account)).append_id)


async def nodes_of_entry(blob: bytes, *, account: str) -> tuple[int, int | None]:
    """Return the number of nodes that an entry creates, and the number of nodes in the space after it (None if the
    entry does not hold it).
    """
    pb = await _parsed(blob, account)
    made = sum(result.change == journal_pb2.CHANGE_CREATED for commit in pb.commits for result in commit.results)
    return made, pb.nodes if pb.HasField("nodes") else None


async def _parsed(blob: bytes, account: str) -> journal_pb2.Entry:
    if len(blob) > _BULK_BYTES:
        await turn(account)
    return journal_pb2.Entry.FromString(blob)


def _result_from_wire(stored: journal_pb2.MutationResult, commit: journal_pb2.Commit, seq: int) -> Result:
    """Return a result, with the values from entry and commit that `_stored_result` leaves out of accepted nodes."""
    result = result_from_wire(stored)
    if result.verdict is not Verdict.ACCEPTED or result.node is None:
        return result
    said_by_commit: dict[str, Any] = (
        {}
        if result.node.committed_at_ms
        else {"user": commit.user_id, "device": commit.device_id, "committed_at_ms": commit.committed_at_ms}
    )
    node = dataclasses.replace(result.node, seq=seq, **said_by_commit)
    return Result(result.verdict, node, result.change, result.moved_from)


def _commit_from_wire(pb: journal_pb2.Commit, results: list[Result]) -> Commit:
    return Commit(
        RequestId(pb.request_id), pb.fingerprint, pb.user_id, pb.device_id, pb.committed_at_ms, tuple(results)
    )


_CURSOR = struct.Struct(">B4sQ8s")
_CURSOR_FORM = 2


def cursor_to_wire(space: SpaceId, after: Position) -> bytes:
    """Return an opaque cursor, which is bound to its space and carries a checksum, so that a wrong one is detected."""
    binding = hashlib.sha256(space.encode()).digest()[:4]
    body = _CURSOR.pack(_CURSOR_FORM, binding, after.seq, after.mark)
    return body + struct.pack(">I", binascii.crc32(body))


def cursor_from_wire(space: SpaceId, raw: bytes) -> Position:
    """Return the position of a cursor; the beginning for an empty cursor. Raise InvalidCursor if `raw` is no cursor of
    this space.
    """
    if not raw:
        return BEGINNING
    if len(raw) != _CURSOR.size + 4:
        raise InvalidCursor
    form, _, seq, mark = _CURSOR.unpack(raw[:-4])
    if form != _CURSOR_FORM or cursor_to_wire(space, Position(seq, mark)) != raw:
        raise InvalidCursor
    return Position(seq, mark)


def activity_to_wire(activity: Activity) -> metadata_pb2.Activity:
    result = result_to_wire(activity.result)
    return metadata_pb2.Activity(
        seq=activity.place.seq,
        change=result.change,
        node=result.node,
        from_name=result.from_name,
        from_parent=result.from_parent,
        user_id=activity.user,
        device_id=activity.device,
        committed_at_ms=activity.at_ms,
    )


_PLACE = struct.Struct(">QI")


def place_to_wire(place: ChangePlace, *, listing: str) -> str:
    """Return the page token that continues after a change."""
    return page_token_to_wire(_PLACE.pack(place.seq, place.index), listing=listing)


def place_from_wire(token: str, *, listing: str) -> ChangePlace | None:
    """Return the change after which to continue; None for an empty token. Raise InvalidPageToken if the token is not
    one of `listing`.
    """
    if not token:
        return None
    raw = page_token_from_wire(token, listing=listing)
    if len(raw) != _PLACE.size:
        raise InvalidPageToken
    place = ChangePlace(*_PLACE.unpack(raw))
    if not 0 < place.seq < 1 << 63:
        raise InvalidPageToken
    return place
