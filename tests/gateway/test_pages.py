"""Pages of listings are asked for only as far as there is memory for what becomes of them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from gateway.api.paging import ITEM_BYTES
from runtime.pool import NETWORK_FACTOR
from syncline.metadata.v1 import metadata_pb2
from tests.gateway.fakes import SPACE, TOKEN, FakeMetadata, World, gateway, settings

_ASKED: Final = 40
_SECONDS: Final = 60.0


class Slow(FakeMetadata):
    """Answers long pages when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.under_way = self.most = 0

    async def ListNodes(self, request: Any, _context: Any) -> metadata_pb2.ListNodesResponse:  # noqa: N802 # as in gRPC
        if request.page_size == 1000:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await self.open.wait()
            self.under_way -= 1
        return metadata_pb2.ListNodesResponse()


async def test_many_pages_at_once_are_made_some_at_a_time() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_ASKED + 1))  # in which requests are sent
    slow_type: type[Any] = Slow  # for mypy it is abstract, since it has only the methods that are called
    slow, pages = slow_type(), settings().answer_memory_bytes // (1000 * ITEM_BYTES)
    path, headers = f"/v1/spaces/{SPACE}/nodes/root/children", {"authorization": f"Bearer {TOKEN}"}
    async with gateway(World(metadata=slow)) as world, asyncio.timeout(_SECONDS):
        asking = [asyncio.create_task(world.ask(path, **headers)) for _ in range(_ASKED)]
        while slow.under_way < pages // 2:
            await asyncio.sleep(0.01)
        assert (await world.ask(f"{path}?page_size=1", **headers)).status == 200
        slow.open.set()
        assert {answer.status for answer in await asyncio.gather(*asking)} == {200}
        # Requests that came after the small page have an account of their own, besides that of the network.
        assert pages // 2 <= slow.most <= pages * NETWORK_FACTOR // (NETWORK_FACTOR + 1)
