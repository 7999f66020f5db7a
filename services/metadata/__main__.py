"""`python -m services.metadata`: serve until SIGTERM."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtime.server import App, serve
from runtime.settings import load
from services.metadata.bootstrap import bootstrap, on_aws
from services.metadata.settings import MetadataSettings


def main() -> None:
    """Read the settings and serve."""
    settings = load(MetadataSettings)

    @asynccontextmanager
    async def live() -> AsyncIterator[App]:
        async with on_aws(settings) as adapters, bootstrap(settings, adapters) as app:
            yield app

    serve(settings, live, name="metadata")


if __name__ == "__main__":
    main()
