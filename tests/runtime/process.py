"""A service process for tests: `python -m tests.runtime.process`. A slow unary method and an endless stream."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from runtime.server import App, Drain, serve
from runtime.settings import ServiceSettings, load
from tests.runtime import echo


@asynccontextmanager
async def bootstrap() -> AsyncIterator[App]:
    drain = Drain()

    async def slow(request: bytes, _context: Any) -> bytes:
        await asyncio.sleep(float(request))
        return b"done"

    async def ticks(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield b"tick"
        while not await drain.wait(60):
            yield b"tick"

    mount = echo.mount(Slow=echo.unary(slow), Ticks=echo.stream(ticks))
    yield App(name="test", mounts=[mount], drain=drain)


if __name__ == "__main__":
    serve(load(ServiceSettings), bootstrap, name="test")
