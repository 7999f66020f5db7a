"""Query parameters of paginated listings."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

PageSize = Annotated[int, Query(ge=1, le=1000, description="Maximum number of items on the page.")]
PageToken = Annotated[str, Query(max_length=8192, description="`next_page_token` of the preceding page.")]
"""Page token. It may contain a path of 4,096 bytes, in base64."""
