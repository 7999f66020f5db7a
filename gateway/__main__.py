"""`python -m gateway`: serve until SIGTERM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.bootstrap import Gateway, bootstrap, on_aws
from gateway.serving import serve_gateway
from gateway.settings import GatewaySettings
from runtime.settings import load


def main() -> None:
    """Read the settings and serve."""
    settings = load(GatewaySettings)

    @asynccontextmanager
    async def live() -> AsyncIterator[Gateway]:
        async with on_aws(settings) as adapters, bootstrap(settings, adapters) as gateway:
            yield gateway

    serve_gateway(settings, live)


if __name__ == "__main__":
    main()
