"""Where content is cut is part of the format: a cut that moves makes every block of every file new."""

from __future__ import annotations

import hashlib
import os
import tempfile
from typing import IO

import pyfastcdc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.blocks import AVG_BLOCK, KIB, MAX_BLOCK, MIB, MIN_BLOCK, NORMALIZATION, Digest
from core.chunk import Block, Chunker, ReadInto
from tests.clients.transfer.fakes import noise, sha256


def counted(size: int, seed: bytes) -> bytes:
    """SHA-256 in counter mode: bytes that no library can change."""
    blocks = (hashlib.sha256(seed + i.to_bytes(8, "big")).digest() for i in range(size // 32))
    return b"".join(blocks)


GOLDEN = {
    "random": (
        counted(12 * MIB, b"a"),
        [2824046, 2208736, 3048289, 2204819, 2297022],
        ["dd9f802bb500895c", "cae2e3d95c92108d", "b82fbd43111d3ae2", "cfbdf19dd4ce71b9", "88f95aef1424c709"],
        "f0f797f7c10bc28bcf472f8fdfd3986658284f4b9fd87eebf00784f5ae5b78fa",
    ),
    "zeros": (
        bytes(20 * MIB),
        [8388608, 8388608, 4194304],
        ["2daeb1f36095b44b", "2daeb1f36095b44b", "bb9f8df61474d25e"],
        "cd52d81e25f372e6fa4db2c0dfceb59862c1969cab17096da352b34950c973cc",
    ),
    "zeros between": (
        counted(3 * MIB, b"h") + bytes(9 * MIB) + counted(3 * MIB, b"h"),
        [8388608, 4572477, 2767555],
        ["d97cc097cd9c649d", "3e3b44e5bccd12ad", "e6a3b19435b25087"],
        "2f31e35cf5f30334672cb1237700a55cb4a01bdc4501d9a8be9e65c2fc3eb299",
    ),
}
"""Content, the lengths and the first half of the digests of its blocks, its own digest."""


def reading(file: IO[bytes]) -> ReadInto:
    return lambda buffer: os.readv(file.fileno(), [buffer])


def cut(data: bytes) -> tuple[list[Block], Digest, int]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        whole = Chunker().cut(reading(file))
        return list(whole), whole.digest, whole.size


def test_the_fast_implementation_is_installed() -> None:
    assert pyfastcdc.FastCDC.__module__ == "pyfastcdc.cy.fastcdc"


@pytest.mark.parametrize("name", GOLDEN)
def test_cuts_lie_where_they_always_lay(name: str) -> None:
    data, lengths, digests, whole = GOLDEN[name]
    blocks, digest, size = cut(data)
    assert [len(block.data) for block in blocks] == lengths
    assert [block.digest.hex()[:16] for block in blocks] == digests
    assert digest.hex() == whole
    assert size == len(data)


@pytest.mark.parametrize(
    "size",
    [0, 1, MIN_BLOCK - 1, MIN_BLOCK, MIN_BLOCK + 1, AVG_BLOCK, MAX_BLOCK - 1, MAX_BLOCK, MAX_BLOCK + 1, 20 * MIB],
)
@pytest.mark.parametrize("data", [noise(20 * MIB), bytes(20 * MIB)], ids=["noise", "zeros"])
def test_cutting_by_parts_is_cutting_the_whole(data: bytes, size: int) -> None:
    data = data[:size]
    assert NORMALIZATION == 2
    at_once = pyfastcdc.FastCDC(AVG_BLOCK, min_size=MIN_BLOCK, max_size=MAX_BLOCK, normalized_chunking=2).cut_buf(data)
    blocks, digest, total = cut(data)
    assert [block.data for block in blocks] == [bytes(chunk.data) for chunk in at_once]
    assert all(type(block.data) is bytes and block.digest == sha256(block.data) for block in blocks)
    assert (digest, total) == (sha256(data), size)


contents = st.lists(
    st.tuples(st.sampled_from([1, KIB, 300 * KIB, 2 * MIB, 5 * MIB]), st.booleans(), st.integers(0, 5)),
    min_size=1,
    max_size=5,
).map(lambda parts: b"".join(noise(size, seed) if random else bytes(size) for size, random, seed in parts))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(contents)
def test_blocks_one_after_the_other_are_the_content(data: bytes) -> None:
    blocks, digest, _ = cut(data)
    assert b"".join(block.data for block in blocks) == data
    assert digest == sha256(data)
    assert all(MIN_BLOCK <= len(block.data) <= MAX_BLOCK for block in blocks[:-1])


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 24 * MIB), st.integers(0, 255))
def test_an_inserted_byte_changes_at_most_three_blocks(at: int, byte: int) -> None:
    data = noise(24 * MIB)
    before = {block.digest for block in cut(data)[0]}
    after = [block.digest for block in cut(data[:at] + bytes([byte]) + data[at:])[0]]
    assert sum(digest not in before for digest in after) <= 3


def test_a_chunker_is_good_for_one_file_after_the_other() -> None:
    chunker = Chunker()
    for size in (9 * MIB, 0, 3 * MIB):
        with tempfile.TemporaryFile() as file:
            file.write(noise(size, size))
            file.flush()
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            assert b"".join(block.data for block in chunker.cut(reading(file))) == noise(size, size)
