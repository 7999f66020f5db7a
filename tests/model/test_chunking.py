"""The places of cuts are part of the format: a cut that moves makes every block of every file new."""

from __future__ import annotations

import hashlib
import os
import tempfile
from typing import IO, Any

import psutil
import pyfastcdc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyfastcdc.py.constants import GEAR

from syncline.model.blocks import AVG_BLOCK_BYTES, KIB, MAX_BLOCK_BYTES, MIB, MIN_BLOCK_BYTES, NORMALIZATION, Digest
from syncline.model.chunking import Block, Chunker, ReadInto
from tests import vectors
from tests.clients.transfer.fakes import noise, sha256

FASTCDC = vectors.load("fastcdc")


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


@pytest.mark.parametrize("case", FASTCDC["cases"], ids=lambda case: case["name"])
def test_cuts_lie_where_they_always_lay(case: dict[str, Any]) -> None:
    data = vectors.content(case["content"])
    blocks, digest, size = cut(data)
    assert [[block.digest.hex(), len(block.data)] for block in blocks] == case["blocks"]
    assert digest.hex() == case["sha256"]
    assert size == len(data)


def test_the_numbers_are_those_of_the_vectors() -> None:
    told = (FASTCDC["min_size"], FASTCDC["avg_size"], FASTCDC["max_size"], FASTCDC["normalization"])
    assert told == (MIN_BLOCK_BYTES, AVG_BLOCK_BYTES, MAX_BLOCK_BYTES, NORMALIZATION)
    assert [int(number, 16) for number in FASTCDC["gear"]] == list(GEAR)
    # The common table: what a client may compute instead of copying it.
    assert FASTCDC["gear"] == [hashlib.md5(bytes([byte]) * 64).digest()[:8].hex() for byte in range(256)]
    masks = (int(FASTCDC["mask_strict"], 16), int(FASTCDC["mask_loose"], 16))
    assert [mask.bit_count() for mask in masks] == [21 + NORMALIZATION, 21 - NORMALIZATION]


def test_the_vectors_meet_the_edges() -> None:
    """First cuts come before the hash has forgotten how it began, and contents end around cuts of both kinds."""
    early = {blocks[0][1] - MIN_BLOCK_BYTES for case in FASTCDC["cases"] if len(blocks := case["blocks"]) > 1}
    assert {8, 16, 21, 32} <= early
    names = " ".join(case["name"] for case in FASTCDC["cases"])
    assert "at an odd place" in names
    assert "at an even place" in names


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        MIN_BLOCK_BYTES - 1,
        MIN_BLOCK_BYTES,
        MIN_BLOCK_BYTES + 1,
        AVG_BLOCK_BYTES,
        MAX_BLOCK_BYTES - 1,
        MAX_BLOCK_BYTES,
        MAX_BLOCK_BYTES + 1,
        20 * MIB,
    ],
)
@pytest.mark.parametrize("data", [noise(20 * MIB), bytes(20 * MIB)], ids=["noise", "zeros"])
def test_cutting_by_parts_is_cutting_the_whole(data: bytes, size: int) -> None:
    data = data[:size]
    assert NORMALIZATION == 2
    at_once = pyfastcdc.FastCDC(
        AVG_BLOCK_BYTES, min_size=MIN_BLOCK_BYTES, max_size=MAX_BLOCK_BYTES, normalized_chunking=2
    ).cut_buf(data)
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
    assert all(MIN_BLOCK_BYTES <= len(block.data) <= MAX_BLOCK_BYTES for block in blocks[:-1])


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


def test_a_content_that_has_hardly_begun_takes_hardly_any_memory():
    process = psutil.Process()
    before = process.memory_info().rss
    begun = [Chunker().begin() for _ in range(40)]
    for cut in begun:
        cut.room[:1] = b"x"
        cut.fill(1)
    assert process.memory_info().rss - before < 4 * MAX_BLOCK_BYTES
    assert all(bytes(cut.held) == b"x" for cut in begun)
