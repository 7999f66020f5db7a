"""The gateway reaches each service at its peers."""

import asyncio

import pytest

from gateway.bootstrap import bootstrap
from tests.gateway.fakes import World, adapters, settings

TLS_HANDSHAKE = 0x16
HTTP2 = ord("P")  # the first byte of the preface, PRI * HTTP/2.0


@pytest.mark.parametrize(("tls", "first"), [(True, TLS_HANDSHAKE), (False, HTTP2)])
async def test_the_other_services_are_reached_by_tls_if_so_configured(tls: bool, first: int) -> None:
    said: set[int] = set()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said.update(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        target = "{}:{}".format(*server.sockets[0].getsockname())
        used = settings(auth_target=target, metadata_target=target, peer_tls=tls)
        async with bootstrap(used, adapters(World().objects)) as gateway:
            assert await gateway.readiness.missing() == ["auth", "metadata"]
    assert said == {first}
