"""The bytes of a browser's upload go straight to storage, as the objects that a device makes."""

from __future__ import annotations

import asyncio
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stack.demo import DemoDevice
from stack.up import Stack
from syncline.model.blocks import MIN_BLOCK_BYTES, key_prefix
from syncline.model.chunking import Chunker
from syncline.model.identifiers import SpaceId
from tests.e2e.proxy import Proxy
from tests.web.people import PASSWORD, Person

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MIB = 1 << 20


def test_bytes_go_straight_to_storage_as_a_device_stores_them(chromium: Browser, stack: Stack, tmp_path: Path):
    small, large = tmp_path / "Many", tmp_path / "large.bin"
    for i in range(300):
        path = small / f"{i // 50}" / f"{i:03}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(4096))
    # Otherwise the browser may put its last block into a pack with the small files, which a device has no reason to do.
    large.write_bytes(content_whose_last_block_is_not_packed(100 * MIB))
    uploaded = 300 * 4096 + large.stat().st_size

    proxy = Proxy(urlsplit(stack.endpoint).netloc)
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    try:
        ann = Person("ann", context, f"http://{proxy.address}")
        ann.sign_up()
        before = proxy.bytes
        ann.drop_from_outside([small, large], ann.page.get_by_role("main"))
        ann.see_uploaded(301, timeout=120_000)
        through_the_gateway = proxy.bytes - before
        personal = ann.space
        assert ann.troubles == []
    finally:
        context.close()
        proxy.close()
    print(f"{uploaded} bytes uploaded, {through_the_gateway} through the gateway: {through_the_gateway / uploaded:.2%}")
    assert through_the_gateway < 0.03 * uploaded

    # A device gets them, verified block by block and as a whole.
    laptop = DemoDevice(ann.email.partition("@")[0], "laptop", tmp_path / "laptop")
    laptop.run(
        *("login", "--endpoint", stack.endpoint, "--email", ann.email, "--password-stdin", "--device", "laptop"),
        stdin=f"{PASSWORD}\n",
    )
    laptop.folder.mkdir(parents=True)
    laptop.sync()
    for path in (large, *small.rglob("*.bin")):
        assert (laptop.folder / path.relative_to(tmp_path)).read_bytes() == path.read_bytes()

    # The device's own upload of the same file makes the very same objects.
    laptop.run("spaces", "create", "By hand")
    laptop.run("put", str(large), "By hand:large.bin")
    listed = json.loads(laptop.run("spaces", "list", "--json"))
    (by_hand,) = [space["space"] for space in listed["spaces"] if space["name"] == "By hand"]
    by_browser, by_device = (stored(stack, space) for space in (personal, by_hand))
    assert by_device <= by_browser
    assert len(by_browser - by_device) <= 2  # the packs of the small files


def content_whose_last_block_is_not_packed(size: int) -> bytes:
    while True:
        data = os.urandom(size)
        *_, last = Chunker().cut(io.BytesIO(data).readinto)
        if len(last.data) >= MIN_BLOCK_BYTES:
            return data


def stored(stack: Stack, space: str) -> set[str]:
    """The names of a space's objects in S3."""

    async def listed() -> set[str]:
        async with stack.aws.client("s3") as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(
                Bucket=stack.resources.bucket_name, Prefix=key_prefix(SpaceId(space))
            )
            return {found["Key"] async for page in pages for found in page.get("Contents", [])}

    # Playwright's own loop runs in this thread.
    with ThreadPoolExecutor(1) as thread:
        keys = thread.submit(lambda: asyncio.run(listed())).result()
    return {key.rpartition("/")[2] for key in keys}
