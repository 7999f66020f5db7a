"""The plan says which parts of objects are fetched for a part of a file."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from gateway.content import fetch_plan as module
from gateway.content.fetch_plan import ObjectRange, Piece, plan_reads
from syncline.model.blocks import BlockRef, Digest, Manifest


def digest(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).digest())


def lying(objects: dict[Digest, bytes], *places: tuple[bytes, int, int]) -> Manifest:
    """A manifest of blocks at (object, offset, length)."""
    refs = []
    for data, offset, length in places:
        objects[digest(data)] = data
        refs.append(BlockRef(digest(data[offset : offset + length]), length, digest(data), offset))
    return Manifest.of(refs)


def carried_out(fetches: list[ObjectRange], objects: dict[Digest, bytes]) -> bytes:
    return b"".join(objects[fetch.object][fetch.offset : fetch.offset + fetch.length] for fetch in fetches)


def test_neighbours_in_a_pack_are_fetched_together():
    objects: dict[Digest, bytes] = {}
    pack = bytes(range(100))
    manifest = lying(objects, (pack, 10, 5), (pack, 15, 5), (pack, 20, 5), (pack, 40, 5))
    assert [(fetch.offset, fetch.length) for fetch in plan_reads(manifest, 0, 20)] == [(10, 15), (40, 5)]


def test_blocks_that_are_objects_are_fetched_one_by_one():
    objects: dict[Digest, bytes] = {}
    manifest = lying(objects, (b"aaa", 0, 3), (b"bb", 0, 2))
    assert list(plan_reads(manifest, 0, 5)) == [
        ObjectRange(digest(b"aaa"), 0, 3, (Piece(0, 3, digest(b"aaa")),)),
        ObjectRange(digest(b"bb"), 0, 2, (Piece(0, 2, digest(b"bb")),)),
    ]


def test_the_same_block_twice_is_fetched_twice():
    objects: dict[Digest, bytes] = {}
    manifest = lying(objects, (b"aaa", 0, 3), (b"aaa", 0, 3))
    assert [fetch.length for fetch in plan_reads(manifest, 0, 6)] == [3, 3]


def test_only_whole_blocks_can_be_verified():
    objects: dict[Digest, bytes] = {}
    pack = bytes(range(100))
    manifest = lying(objects, (pack, 0, 10), (pack, 10, 10), (pack, 20, 10))
    (fetch,) = plan_reads(manifest, 5, 25)
    assert (fetch.offset, fetch.length) == (5, 20)
    assert fetch.pieces == (Piece(0, 5, None), Piece(5, 10, digest(pack[10:20])), Piece(15, 5, None))


def test_what_is_fetched_together_is_bounded():
    small = 100_000
    pack = bytes(module.MAX_FETCH_BYTES + 3 * small)
    objects: dict[Digest, bytes] = {}
    count = len(pack) // small
    manifest = lying(objects, *((pack, index * small, small) for index in range(count)))
    lengths = [fetch.length for fetch in plan_reads(manifest, 0, count * small)]
    assert len(lengths) == 2
    assert max(lengths) <= module.MAX_FETCH_BYTES
    assert sum(lengths) == count * small


@st.composite
def manifests(draw):
    """A manifest, its objects, and its content."""
    packs = draw(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4))
    places: list[tuple[bytes, int, int]] = []
    for _ in range(draw(st.integers(1, 12))):
        pack = draw(st.sampled_from(packs))
        offset = draw(st.integers(0, len(pack) - 1))
        # Often right after the block before, as it is in real packs.
        if places and draw(st.booleans()):
            last, at, length = places[-1]
            pack, offset = (last, at + length) if at + length < len(last) else (pack, offset)
        places.append((pack, offset, draw(st.integers(1, len(pack) - offset))))
    objects: dict[Digest, bytes] = {}
    manifest = lying(objects, *places)
    return manifest, objects, b"".join(pack[at : at + length] for pack, at, length in places)


@given(manifests(), st.data())
def test_a_plan_makes_up_the_part(made, data):
    manifest, objects, content = made
    start = data.draw(st.integers(0, len(content)))
    stop = data.draw(st.integers(start, len(content)))
    fetches = list(plan_reads(manifest, start, stop))
    assert carried_out(fetches, objects) == content[start:stop]
    for fetch in fetches:
        assert fetch.length > 0
        at = 0
        for piece in fetch.pieces:
            assert piece.at == at
            at += piece.length
            fetched = objects[fetch.object][fetch.offset + piece.at : fetch.offset + piece.at + piece.length]
            assert piece.digest is None or piece.digest == digest(fetched)
        assert at == fetch.length
    if (start, stop) == (0, len(content)):
        assert all(piece.digest is not None for fetch in fetches for piece in fetch.pieces)
