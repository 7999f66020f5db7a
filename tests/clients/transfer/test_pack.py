from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncline.model.blocks import DIGEST_BYTES, KIB, MAX_OBJECT_BYTES, MAX_PACK_ENTRIES, MIN_BLOCK_BYTES, PACK_BYTES
from syncline.model.chunking import Block
from syncline.sdk.space import Form, PackEntries
from syncline.transfer.pack import PackBuilder
from tests import vectors
from tests.clients.transfer.fakes import noise, sha256


def block(data: bytes) -> Block:
    return Block(sha256(data), data)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=64), min_size=2, max_size=60))
def test_each_block_lies_where_the_pack_says(contents: list[bytes]) -> None:
    builder = PackBuilder()
    offsets = [builder.add(block(data)) for data in contents]
    assert len(builder) == len(set(contents))
    pack = builder.close()
    for data, offset in zip(contents, offsets, strict=True):
        assert pack.data[offset : offset + len(data)] == data
    assert (pack.digest, pack.declaration.size) == (sha256(pack.data), len(pack.data))
    if len(set(contents)) == 1:
        assert pack.declaration.form is Form.BLOCK
        return
    entries = pack.declaration.form
    assert isinstance(entries, PackEntries)
    digests = [entries.blocks[i : i + DIGEST_BYTES] for i in range(0, len(entries.blocks), DIGEST_BYTES)]
    assert len(set(digests)) == len(digests) == len(entries.offsets) == len(entries.lengths)
    at = 0
    for digest, offset, length in zip(digests, entries.offsets, entries.lengths, strict=True):
        assert offset == at, "entries are in order, without gaps"
        assert sha256(pack.data[offset : offset + length]) == digest
        at += length
    assert at == len(pack.data)


def test_a_pack_of_one_block_is_that_block() -> None:
    builder = PackBuilder()
    builder.add(block(b"alone"))
    pack = builder.close()
    assert pack.digest == sha256(b"alone")
    assert pack.declaration.form is Form.BLOCK


def test_a_pack_is_full_at_its_size_and_never_much_larger() -> None:
    builder = PackBuilder()
    seed = 0
    while not builder.full:
        builder.add(block(noise(MIN_BLOCK_BYTES - 1, seed)))
        seed += 1
    assert PACK_BYTES <= builder.size < PACK_BYTES + MIN_BLOCK_BYTES


def test_a_pack_is_full_of_entries() -> None:
    builder = PackBuilder()
    for i in range(MAX_PACK_ENTRIES):
        assert not builder.full
        builder.add(block(i.to_bytes(4, "big")))
    assert builder.full


@pytest.mark.parametrize("size", [1, 4 * KIB])
def test_the_same_block_again_takes_no_room(size: int) -> None:
    builder = PackBuilder()
    assert builder.add(block(noise(size))) == builder.add(block(noise(size))) == 0
    assert builder.size == size


PACKS = vectors.load("packs")


@pytest.mark.parametrize("case", PACKS["cases"], ids=lambda case: case["name"])
def test_packs_are_those_of_the_vectors(case: dict[str, Any]) -> None:
    builder = PackBuilder()
    offsets = []
    for offered in case["offered"]:
        assert not builder.full
        offsets.append(builder.add(block(vectors.content(offered))))
    assert builder.full == case["full"]
    pack = builder.close()
    assert offsets == case["offsets"]
    assert (pack.digest.hex(), len(pack.data)) == (case["sha256"], case["size"])
    assert vectors.entries_of(pack) == case["pack"]


def test_the_limits_are_those_of_the_vectors() -> None:
    told = (PACKS["pack_bytes"], PACKS["pack_entries"], PACKS["object_bytes"])
    assert told == (PACK_BYTES, MAX_PACK_ENTRIES, MAX_OBJECT_BYTES)
