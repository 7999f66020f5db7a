"""Query parameters of paginated listings."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, Query
from starlette.requests import Request

from gateway.http.pace import MEMORY, AnswerMemory

ITEM_BYTES: Final = 2048
"""Memory in bytes that is reserved for each item of a page before the page is asked for: an item as a service sends it,
as an object of the API, and as JSON.
"""

_Size = Annotated[int, Query(ge=1, le=1000, description="Maximum number of items on the page.")]
PageToken = Annotated[str, Query(max_length=8192, description="`next_page_token` of the preceding page.")]
"""Page token. It may contain a path of 4,096 bytes, in base64."""


async def _long_page(request: Request, page_size: _Size = 1000) -> int:
    return await _with_memory(request, page_size)


async def _short_page(request: Request, page_size: _Size = 100) -> int:
    return await _with_memory(request, page_size)


async def _with_memory(request: Request, page_size: int) -> int:
    memory: AnswerMemory = request.scope[MEMORY]
    await memory.reserve(page_size * ITEM_BYTES)
    return page_size


LongPage = Annotated[int, Depends(_long_page)]
"""Maximum number of items on a page, by default 1,000; memory is reserved for a page of that size."""
ShortPage = Annotated[int, Depends(_short_page)]
"""Maximum number of items on a page, by default 100; memory is reserved for a page of that size."""
