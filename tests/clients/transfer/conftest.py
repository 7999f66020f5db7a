from __future__ import annotations

import gc
import threading
import time
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
    gc.collect()  # garbage of earlier tests must not go away in the middle of this one
    threads, descriptors = set(threading.enumerate()), len(list(Path("/proc/self/fd").iterdir()))
    yield
    gc.collect()
    deadline = time.monotonic() + 60
    # Threads of this process, such as the supervisor of the embedded AWS, may just have a file open.
    while len(list(Path("/proc/self/fd").iterdir())) > descriptors:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not set(threading.enumerate()) - threads


@pytest.fixture
def bucket(aws: EmbeddedAws) -> Bucket:
    """A fresh space."""
    return Bucket(aws)


@pytest.fixture
def proxy(aws: EmbeddedAws) -> Iterator[Proxy]:
    proxy = Proxy(aws.endpoint)
    yield proxy
    proxy.close()
