"""A browser, and the page that it is to upload from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.web.upload.cloud import Cloud, serving
from tests.web.upload.panel import Panel

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    assert not cloud.refused


@pytest.fixture
def origin(cloud: Cloud) -> Iterator[str]:
    with serving(cloud) as origin:
        yield origin


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, origin: str) -> Iterator[Page]:
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(f"{error}\n{error.stack}"))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    page.goto(origin)
    yield page
    assert not errors


@pytest.fixture
def panel(page: Page) -> Panel:
    panel = Panel(page)
    panel.start()
    return panel
