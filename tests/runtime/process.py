"""A service process for tests: `python -m tests.runtime.process`. A slow unary method and two endless streams."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from runtime.process import serve
from runtime.rpc.server import App, run
from runtime.settings import ServiceSettings
from tests.runtime import echo


@asynccontextmanager
async def bootstrap(_settings: ServiceSettings, _adapters: None) -> AsyncIterator[App]:
    async def slow(request: bytes, _context: Any) -> bytes:
        await asyncio.sleep(float(request))
        return b"done"

    async def ticks(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"tick"
        await asyncio.Event().wait()

    async def same(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    mount = echo.mount(Slow=echo.unary(slow), Ticks=echo.stream(ticks), Chat=echo.chat(same))
    yield App(name="test", mounts=[mount])


if __name__ == "__main__":
    serve(ServiceSettings, lambda _settings: nullcontext(), bootstrap, run, name="test")
