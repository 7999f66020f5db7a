"""The metadata service with journal, table, index and topic in this process's memory; S3 and auth are as ever.

`python -m benchmarks.in_memory_metadata`: what the service's own code carries, whatever stands behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from runtime.server import App, serve
from runtime.settings import load
from services.metadata.bootstrap import bootstrap, on_aws
from services.metadata.settings import MetadataSettings
from tests.support.metadata import MemoryJournal, MemoryObjects, MemoryTable, MemoryTopic


def main() -> None:
    """Read the settings and serve."""
    settings = load(MetadataSettings)

    @asynccontextmanager
    async def live() -> AsyncIterator[App]:
        async with on_aws(settings) as adapters:
            in_memory = replace(
                adapters, journal=MemoryJournal(), table=MemoryTable(), index=MemoryObjects(), topic=MemoryTopic()
            )
            async with bootstrap(settings, in_memory) as app:
                yield app

    serve(settings, live, name="metadata")


if __name__ == "__main__":
    main()
