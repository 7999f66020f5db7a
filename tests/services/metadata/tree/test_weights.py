"""The memory of a process is bounded in bytes: a large node or name counts for several."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Sequence

from services.metadata.journal.commit import Request
from services.metadata.ports import Sealed
from services.metadata.tree.search import NAME_BYTES, NameIndex
from services.metadata.tree.view import WEIGHED_BYTES
from syncline.model.blocks import MIN_MEAN_BLOCK_BYTES, BlockRef, Digest, Manifest
from syncline.model.identifiers import ROOT, NodeId, new_request_id
from syncline.model.tree import Content, CreateNode, MoveNode, Node, NodeKind
from tests.services.metadata.simulation import SPACE, Process, World, run_virtually
from tests.support.metadata import still_allowed

BLOCKS = 1_000
COUNT = 60
CAPACITY = 1_000


async def stored_content(rng: random.Random, world: World) -> Content:
    """A content of many blocks in one pack, which nobody reads."""
    pack, length = Digest(rng.randbytes(32)), MIN_MEAN_BLOCK_BYTES
    offsets = tuple(range(0, BLOCKS * length, length))
    refs = [BlockRef(Digest(hashlib.sha256(b"%d" % at).digest()), length, pack, at) for at in offsets]
    sealed = Sealed(BLOCKS * length, offsets, (length,) * BLOCKS, b"".join(ref.digest for ref in refs))
    await world.objects.seal(SPACE, {pack: sealed})
    return Content(pack, BLOCKS * length, manifest=Manifest.of(refs))


def memory_of(contents: Sequence[Content]) -> int:
    """The memory of manifests, in bytes, without what they may share."""
    return sum(
        sys.getsizeof(one.manifest.blocks) + sum(map(sys.getsizeof, (one.manifest.lengths, one.manifest.offsets)))
        for one in contents
    )


def test_nodes_with_long_manifests_take_the_place_of_many() -> None:
    async def main() -> None:
        rng = random.Random(1)
        world = World(rng)
        process = Process(world, capacity=CAPACITY)
        contents = [await stored_content(rng, world) for _ in range(COUNT)]
        assert memory_of(contents) > 2 * CAPACITY * WEIGHED_BYTES
        async with process.spaces.use(SPACE) as live:
            most = 0
            for number, one in enumerate(contents):
                create = CreateNode(ROOT, f"{number}", NodeKind.FILE, one)
                outcome = await live.committer.commit(
                    Request(new_request_id(), b"", "ann", "laptop", (create,), 100), ask=still_allowed
                )
                node = outcome.results[0].node
                assert node is not None, outcome
                move = MoveNode(node.id, ROOT, f"{number}", ROOT, f"{number} moved")
                await live.committer.commit(
                    Request(new_request_id(), b"", "ann", "laptop", (move,), 100), ask=still_allowed
                )
                await live.projector.drain()
                await live.view.validate()
                most = max(most, live.view.size)
                held = [node.content for node in live.view.known_nodes.values() if node is not None and node.content]
                assert memory_of(held) <= CAPACITY * WEIGHED_BYTES
            assert most > CAPACITY / 2, "it was full"

    run_virtually(main())


def node(number: int, name: str) -> Node:
    return Node(NodeId(number.to_bytes(16, "big")), ROOT, name, NodeKind.DIRECTORY)


def test_long_names_take_the_place_of_many_in_an_index() -> None:
    """A name of 255 bytes may take a kilobyte, and as much again where it is folded, and as that of a directory."""
    long, short = NameIndex(), NameIndex()
    short.apply(node(number, f"{number:020}") for number in range(1, 101))
    assert short.size == 100 + NameIndex().size
    names = [f"{number:05}{'A' * 245}\N{GRINNING FACE}" for number in range(1, 101)]
    nodes = [node(number, name) for number, name in enumerate(names, 1)]
    long.apply(nodes)
    assert long.size * NAME_BYTES > 2 * sum(map(sys.getsizeof, names))
    long.apply(node(number, f"{number}") for number in range(1, 101))
    assert long.size == short.size, "a name that is gone counts no more"
