"""Connections to the embedded AWS that somebody holds, and says little on."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from http.client import HTTPConnection
from typing import Any, Final

import pytest

from stack.emulator.reception import MAX_CONNECTIONS, AwsReception
from stack.running import EmbeddedAws, embedded_aws
from tests.runtime.connections import SECONDS, connect, serving
from tests.stack.emulator.test_bodies import place

_MALLORY: Final = "127.0.0.2"


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedAws]:
    """An embedded AWS for nothing else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # this process holds the other ends
    with embedded_aws(data=tmp_path_factory.mktemp("aws")) as running:
        yield running
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def asked(aws: EmbeddedAws) -> int:
    host, port = place(aws)
    connection = HTTPConnection(host, port, timeout=SECONDS)
    try:
        connection.request("GET", "/_ministack/health", headers={"host": f"localhost:{port}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_connections_of_one_network_leave_some_to_others(aws: EmbeddedAws) -> None:
    with ExitStack() as held:
        answers = []
        for _ in range(MAX_CONNECTIONS // 2 + 100):
            one = held.enter_context(socket.create_connection(place(aws), source_address=(_MALLORY, 0)))
            one.sendall(b"GET /x HTTP/1.1\r\nhost:")
            answers.append(one)
        answers[-1].settimeout(SECONDS)
        refusal = answers[-1].recv(65536)
        assert refusal.startswith(b"HTTP/1.1 503")
        assert b"<Code>SlowDown</Code>" in refusal
        assert asked(aws) == 200


async def never(scope: Any, receive: Any, send: Any) -> None:
    """An application that is not asked."""
    raise AssertionError(scope)


async def test_a_head_that_never_ends_is_given_up() -> None:
    async with serving(never, AwsReception(100, header_section_seconds=0.3)) as port, AsyncExitStack() as opened:
        reader, writer = await connect(opened, port, _MALLORY)
        writer.write(b"PUT /bucket/x HTTP/1.1\r\nhost: x\r\n")
        async with asyncio.timeout(SECONDS):
            # A byte now and then does not extend the time. Bytes that the server has not read reset the connection.
            while not reader.at_eof() and reader.exception() is None:
                writer.write(b"x")
                await asyncio.sleep(0.02)


async def test_what_is_no_http_is_refused_as_s3_refuses() -> None:
    async with serving(never, AwsReception(100)) as port, AsyncExitStack() as opened:
        reader, writer = await connect(opened, port, _MALLORY)
        writer.write(b"nonsense\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"<Code>InvalidRequest</Code>" in answer
