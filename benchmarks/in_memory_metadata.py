"""The metadata service with journal, table, index and topic in this process's memory, and real S3 and auth.

`python -m benchmarks.in_memory_metadata` shows the capacity of the service's own code, whatever its backends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from runtime.process import serve
from runtime.rpc.server import run
from services.metadata.bootstrap import MetadataAdapters, bootstrap, on_aws
from services.metadata.settings import MetadataSettings
from tests.support.metadata import MemoryJournal, MemoryObjects, MemoryTable, MemoryTopic


@asynccontextmanager
async def in_memory(settings: MetadataSettings) -> AsyncIterator[MetadataAdapters]:
    """Context manager that yields the production adapters, except that the journal, the table, the index of objects and
    the topic are in the memory of this process.
    """
    async with on_aws(settings) as adapters:
        yield replace(
            adapters, journal=MemoryJournal(), table=MemoryTable(), index=MemoryObjects(), topic=MemoryTopic()
        )


def main() -> None:
    """Read the settings and serve."""
    serve(MetadataSettings, in_memory, bootstrap, run, name="metadata")


if __name__ == "__main__":
    main()
