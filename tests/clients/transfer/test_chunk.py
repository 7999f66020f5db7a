"""Where content is cut is part of the format: a cut that moves makes every block of every file new."""

from __future__ import annotations

import os
import tempfile

import pyfastcdc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.transfer.chunk import Block, Chunker
from core.blocks import AVG_BLOCK, KIB, MAX_BLOCK, MIB, MIN_BLOCK, NORMALIZATION, Digest
from tests.clients.transfer.fakes import noise, sha256

GOLDEN = {
    # size, seed: lengths of the blocks, SHA-256 of the whole
    (1, 1): ([1], None),
}


def cut(data: bytes) -> tuple[list[Block], Digest, int]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        whole = Chunker().cut(file.fileno())
        return list(whole), whole.digest, whole.size


def test_the_fast_implementation_is_installed() -> None:
    assert pyfastcdc.FastCDC.__module__ == "pyfastcdc.cy.fastcdc"
