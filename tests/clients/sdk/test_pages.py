"""The memory of a listing is counted and bounded."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import repeat
from secrets import token_bytes
from typing import Any

import pytest

from syncline.metadata.v1 import journal_pb2
from syncline.sdk import pages
from syncline.sdk.errors import ListingTooLarge
from syncline.sdk.pages import gathered, memory_bytes
from syncline.sync.trees import RemoteNode
from syncline.wire.tree import node_from_wire

COUNT = 2_000


def message(number: int, *, blocks: int) -> bytes:
    """A file as a service tells of it."""
    manifest = journal_pb2.Manifest(
        blocks=bytes([number % 256]) * 32 * blocks,
        lengths=[5_000_000 + number] * blocks,
        objects=token_bytes(16) * 2 * blocks,
        object_index=range(blocks),
        offsets=[1_000 + number] * blocks,
    )
    return journal_pb2.Node(
        id=token_bytes(16),
        parent=token_bytes(16),
        name=f"a name of usual length {number:06}.txt",
        kind=journal_pb2.NODE_KIND_FILE,
        version=1,
        content=journal_pb2.Content(
            digest=token_bytes(16) * 2, size=4096 + number, mtime_ns=10**18 + number, manifest=manifest
        ),
        seq=1_000_000 + number,
        user_id="u" * 26,
        device_id="d" * 26,
        committed_at_ms=1_764_000_000_000 + number,
    ).SerializeToString()


@pytest.mark.parametrize("blocks", [0, 1, 40])
@pytest.mark.parametrize("kept", [lambda node: node, RemoteNode.of], ids=["listed", "pulled"])
def test_what_is_counted_is_what_is_taken(blocks: int, kept: Callable[[Any], Any]) -> None:
    messages = [message(number, blocks=blocks) for number in range(COUNT)]
    gc.collect()
    tracemalloc.start()
    try:
        items = [kept(node_from_wire(journal_pb2.Node.FromString(one))) for one in messages]
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] / COUNT
    finally:
        tracemalloc.stop()
    counted = sum(map(memory_bytes, items)) / COUNT
    assert 0.9 * taken <= counted <= 1.6 * taken + 400


def test_a_listing_that_takes_too_much_memory_is_given_up_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_HELD_BYTES", 1 << 20)
    asked = 0

    def endless() -> Iterator[str]:
        nonlocal asked
        for text in repeat("x" * 1_000):
            asked += 1
            yield text

    with pytest.raises(ListingTooLarge, match=r"the listing takes more than 1 MiB of memory; name a part"):
        gathered(endless(), "the listing", "name a part")
    assert asked <= 1_049
    assert gathered(["a", "b"], "the listing", "name a part") == ["a", "b"]
