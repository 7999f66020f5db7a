from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.running import EmbeddedAws
from tests.clients.transfer.bucket import Bucket
from tests.clients.transfer.fakes import MemorySpace, MemoryStore
from tests.clients.transfer.proxy import Proxy


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def space(store: MemoryStore) -> MemorySpace:
    return MemorySpace(store)


@pytest.fixture
def nothing_left_behind() -> Iterator[None]:
    """Neither threads nor open files outlive a transfer."""
    gc.collect()  # what earlier tests left must not go away in the middle of this one
    threads, descriptors = set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))
    yield
    gc.collect()
    assert not set(threading.enumerate()) - threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors


@pytest.fixture
def bucket(aws: EmbeddedAws) -> Bucket:
    """A fresh space."""
    return Bucket(aws)


@pytest.fixture
def proxy(aws: EmbeddedAws) -> Iterator[Proxy]:
    proxy = Proxy(aws.endpoint)
    yield proxy
    proxy.close()
