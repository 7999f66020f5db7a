"""The items of a space in the metadata table."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from stack.deploy import Resources
from stack.embedded_aws import Aws
from stack.up import Stack

MEASURE: Final = "MEASURE"
"""The only item of a space that is written when nobody does anything: the metadata service measures uploads by itself,
each space at moments of its own. So the item belongs to no call, and a call never waits for it.
"""


async def scan(aws: Aws, resources: Resources, space: str) -> list[dict[str, Any]]:
    """Every item that calls have written for a space, directly or by what follows from them."""
    found: list[dict[str, Any]] = []
    async with aws.client("dynamodb") as dynamodb:
        pages = dynamodb.get_paginator("scan").paginate(TableName=resources.metadata_table_name, ConsistentRead=True)
        async for page in pages:
            found += [item for item in page["Items"] if item["pk"]["S"].startswith(f"S#{space}")]
    return [item for item in found if (item["pk"]["S"], item["sk"]["S"]) != (f"S#{space}", MEASURE)]


def journal_length(stack: Stack, space: str) -> int:
    items = asyncio.run(scan(stack.aws, stack.resources, space))
    return sum(item["pk"]["S"] == f"S#{space}#J" for item in items)


def items_of(stack: Stack, space: str) -> dict[str, dict[str, Any]]:
    """Return the items that `scan` finds, by key, once projection and announcement have caught up."""

    async def settled() -> list[dict[str, Any]]:
        async with asyncio.timeout(60):
            while True:
                items = await scan(stack.aws, stack.resources, space)
                if not any("dirty_pk" in item for item in items):
                    return items
                await asyncio.sleep(0.2)

    return {f"{item['pk']['S']} {item['sk']['S']}": item for item in asyncio.run(settled())}
