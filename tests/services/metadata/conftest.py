"""A served metadata service, and somebody who may write in a space of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.services.metadata.support import Caller, Service, service


@pytest.fixture
async def metadata() -> AsyncIterator[Service]:
    async with service() as running:
        yield running


@pytest.fixture
async def editor(metadata: Service) -> AsyncIterator[Caller]:
    async with metadata.caller() as caller:
        yield caller
