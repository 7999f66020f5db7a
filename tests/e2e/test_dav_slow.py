"""Somebody gives and takes slowly by WebDAV, and somebody else works beside."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from syncline.model.blocks import MIB
from tests.clients.transfer.fakes import noise
from tests.e2e.dav import Person, Slowly, address

ENTRIES = 6000
"""The number of entries that make a listing longer than the sockets of a connection hold."""


@pytest.fixture(scope="module")
def ann(stack) -> Person:
    return Person(stack.endpoint)


@pytest.fixture(scope="module")
def mallory(stack) -> Person:
    return Person(stack.endpoint)


@pytest.fixture(scope="module")
def many(mallory: Person) -> str:
    """A directory with many others in it."""
    (space,) = mallory.call("GET", "/v1/spaces", token=mallory.token)["spaces"]
    assert mallory.dav("MKCOL", "personal/many").status == 201
    top = mallory.call("GET", f"/v1/spaces/{space['space_id']}/nodes?path=many", token=mallory.token)
    for at in range(0, ENTRIES, 1000):
        changes = [
            {"create": {"parent": top["id"], "name": f"{number:05}", "kind": "directory"}}
            for number in range(at, at + 1000)
        ]
        mallory.call("POST", f"/v1/spaces/{space['space_id']}/changes", {"changes": changes}, token=mallory.token)
    return "personal/many"


@contextlib.contextmanager
def listings(person: Person, path: str, count: int) -> Iterator[None]:
    """Listings that have begun, and of which nothing more is taken."""
    host, _, port = urlsplit(person.endpoint).netloc.partition(":")
    with contextlib.ExitStack() as opened:
        for _ in range(count):
            connection = opened.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(30)
            connection.connect((host, int(port)))
            head = f"PROPFIND {address(path)} HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: {person.basic}\r\n"
            connection.sendall(f"{head}depth: 1\r\n\r\n".encode())
            opened.callback(connection.close)
            connection.recv(1)
        yield


@contextlib.contextmanager
def uploads(person: Person, framing: str, count: int) -> Iterator[list[Slowly]]:
    """Uploads of which nothing has come yet."""
    with contextlib.ExitStack() as opened:
        slow = []
        for number in range(count):
            slow.append(Slowly(person, f"personal/slow {number}", framing))
            opened.callback(slow[-1].socket.close)
        yield slow


def work(person: Person) -> float:
    """Some of what a mounted folder does; how long the slowest of it took, in seconds."""
    took = []
    for number in range(5):
        began = time.monotonic()
        assert person.put(f"personal/file {number}", b"fourteen bytes").status in {201, 204}
        assert person.dav("PROPFIND", "personal", depth="1").status == 207
        assert person.dav("GET", f"personal/file {number}").body == b"fourteen bytes"
        took.append(time.monotonic() - began)
    return max(took)


def test_listings_that_nobody_takes_hold_no_workers(ann: Person, mallory: Person, many: str) -> None:
    quiet = work(ann)
    with listings(mallory, many, 24):
        beside = work(ann)
        assert len(mallory.listing(many)) == ENTRIES  # nor are the others of the same person kept waiting
    assert beside < max(10 * quiet, 5)


@pytest.mark.parametrize("framing", ["content-length: 50000000", "transfer-encoding: chunked"])
def test_uploads_that_hardly_move_hold_no_workers_and_little_memory(ann: Person, mallory: Person, framing: str) -> None:
    quiet = work(ann)
    with uploads(mallory, framing, 30) as slow:
        for one in slow:
            one.socket.sendall(b"1\r\nx\r\n")
        beside = work(ann)
        large = noise(9 * MIB, 1)
        assert ann.put("personal/large", large).status in {201, 204}
        assert ann.dav("GET", "personal/large").body == large
    assert beside < max(10 * quiet, 5)


def test_uploads_that_stop_half_way_leave_memory_for_others(ann: Person, mallory: Person) -> None:
    with uploads(mallory, "content-length: 50000000", 10) as slow:
        for one in slow:
            one.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.socket.sendall(noise(2 * MIB, 2))
        large = noise(9 * MIB, 1)
        assert ann.put("personal/large", large).status in {201, 204}
