"""The fixtures that the tests of the engine share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.sync.fakes import Device, MemorySpace


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """A directory for devices, in memory where the system offers that: each commit of the state waits for the disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


@pytest.fixture
def space() -> Iterator[MemorySpace]:
    """A space that nobody has touched."""
    space = MemorySpace()
    yield space
    space.close()


@pytest.fixture
def one(base: Path, space: MemorySpace) -> Device:
    return Device(base, "one", space)


@pytest.fixture
def two(base: Path, space: MemorySpace) -> Device:
    return Device(base, "two", space)


@pytest.fixture
def three(base: Path, space: MemorySpace) -> Device:
    return Device(base, "three", space)
