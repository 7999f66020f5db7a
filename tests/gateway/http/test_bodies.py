"""A request's body may take little before its sender is known, and all together only so much."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from pydantic import ValidationError

from gateway.api import models
from gateway.http.bodies import MAX_ANONYMOUS_BYTES, MAX_BODY_BYTES, MAX_OBJECTS_AND_LISTS, MAX_SEPARATORS
from runtime.pool import Pool
from syncline.model.blocks import MIB
from tests.gateway.fakes import SPACE, TOKEN, World, gateway
from tests.gateway.http.test_connections import closed, connect, ended

LONG_SECONDS = 600.0
"""Seconds for which a gateway waits for a body: longer than a test, so that it gives up none of them."""


def head(path: str, length: int | None, *more: str) -> bytes:
    size = f"content-length: {length}" if length is not None else "transfer-encoding: chunked"
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", size, *more]
    return "\r\n".join([*lines, "\r\n"]).encode()


class Bodies(Pool):
    """Memory for bodies that knows the most that was taken of it at once."""

    def __init__(self, total=64 * MIB):
        super().__init__("bodies", total)
        self.most = 0

    @asynccontextmanager
    async def lent(self, size, share, **more):
        async with super().lent(size, share, **more):
            self.most = max(self.most, self.taken())
            yield


async def answered(world: World, *parts: bytes) -> bytes:
    reader, writer = await connect(world.address)
    for part in parts:
        writer.write(part)
    answer = await ended(reader) if b"connection: close" in parts[0] else await reader.read(4096)
    await closed(writer)
    return answer


@pytest.mark.parametrize(
    "credentials", [(), ("authorization: Bearer made.up-1",), ("cookie: __Host-syncline=made_up",)]
)
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_of_a_stranger_is_refused_before_it_is_read(credentials, chunked):
    bodies = Bodies()
    async with gateway(bodies=bodies) as world:
        body = b" " * (MAX_ANONYMOUS_BYTES + 1)
        sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
        begin = head("/v1/sessions", None if chunked else len(body), "connection: close", *credentials)
        answer = await answered(world, begin, sent)
        assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 403")), answer
        assert bodies.most <= MAX_ANONYMOUS_BYTES


async def test_whoever_is_known_may_send_a_large_body():
    bodies = Bodies()
    async with gateway(bodies=bodies) as world:
        body = json.dumps({"changes": []}).encode().ljust(MAX_BODY_BYTES)
        for length, sent in (
            (len(body), body),
            (None, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)),
        ):
            begin = head(f"/v1/spaces/{SPACE}/changes", length, "connection: close", f"authorization: Bearer {TOKEN}")
            answer = await answered(world, begin, sent)
            assert answer.startswith(b"HTTP/1.1 400"), answer  # no changes
            assert bodies.most == MAX_BODY_BYTES


async def test_a_body_of_unknown_length_is_refused_once_it_is_too_large():
    bodies = Bodies()
    async with gateway(bodies=bodies) as world:
        begin = head(f"/v1/spaces/{SPACE}/changes", None, "connection: close", f"authorization: Bearer {TOKEN}")
        part = b"%x\r\n%s\r\n" % (64 * 1024, b" " * 64 * 1024)
        answer = await answered(world, begin, *[part] * 65, b"0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 413"), answer
        assert b"BODY_TOO_LARGE" in answer
        assert bodies.most == MAX_BODY_BYTES


async def test_bodies_that_never_end_hold_no_more_than_the_pool_and_a_small_one_gets_through():
    bodies = Bodies(16 * MIB)
    async with gateway(bodies=bodies, request_seconds=LONG_SECONDS) as world:
        slow = []
        for _ in range(400):
            _, writer = await connect(world.address)
            writer.write(head("/v1/sessions", MAX_ANONYMOUS_BYTES) + b"{")
            slow.append(writer)
        async with asyncio.timeout(60):
            while bodies.taken() < 8 * MIB:  # one network has half
                await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            body = b'{"email": "ann@example.com", "password": 1}'
            answer = await answered(world, head("/v1/sessions", len(body), "connection: close"), body)
        assert answer.startswith(b"HTTP/1.1 400"), answer
        assert bodies.most <= 8 * MIB + len(body)
        for writer in slow:
            await closed(writer)


async def test_whoever_waits_with_a_body_that_is_refused_reads_why_at_once():
    async with gateway(request_seconds=LONG_SECONDS) as world:
        connections = [await connect(world.address) for _ in range(40)]
        for _, writer in connections:
            writer.write(head("/v1/sessions", MAX_BODY_BYTES) + b"{")
        async with asyncio.timeout(60):
            for reader, _ in connections:
                assert (await reader.read()).startswith(b"HTTP/1.1 401")
            for _, writer in connections:
                await closed(writer)


DENSE = {
    "objects": b'{"changes":[' + b'{"create":{}},' * 200_000 + b"{}]}",
    "lists": b'{"changes":[' + b"[]," * 1_300_000 + b"[]]}",
    "numbers": b'{"changes":[' + b"1," * 2_000_000 + b"1]}",
}


@pytest.mark.parametrize("body", DENSE.values(), ids=DENSE)
async def test_a_body_of_more_parts_than_any_request_has_is_not_parsed(body):
    async with gateway() as world:
        began = head(f"/v1/spaces/{SPACE}/changes", len(body), f"authorization: Bearer {TOKEN}", "connection: close")
        answer = await answered(world, began, body)
        assert answer.startswith(b"HTTP/1.1 400"), answer[:200]
        assert b"25000 objects and lists" in answer


@pytest.mark.parametrize(
    "given",
    [
        {"changes": [{"create": {}}] * 2_000},
        {"changes": [{f"x{n}": n for n in range(100)}] * 200},
        {"changes": [[]] * 20_000},
        {f"x{n}": n for n in range(100_000)},
        {"changes": [{"update": {"content": {"digest": "", "blocks": [[]] * 1_000}}}] * 20},
    ],
)
def test_of_many_faults_few_are_collected(given):
    with pytest.raises(ValidationError) as refused:
        models.Changes.model_validate(given)
    assert refused.value.error_count() <= 20


def test_the_largest_commit_that_services_take_is_not_too_dense():
    blocks = [["0" * 64, 1_000_000]] * 6_000
    changes = [
        {
            "create": {
                "parent": {"change": 0},
                "name": "n" * 30,
                "kind": "file",
                "content": {"digest": "0" * 64, "blocks": blocks[n::2000]},
            }
        }
        for n in range(2_000)
    ]
    body = json.dumps({"changes": changes}).encode()
    assert body.count(b"{") + body.count(b"[") < MAX_OBJECTS_AND_LISTS
    assert body.count(b",") < MAX_SEPARATORS
