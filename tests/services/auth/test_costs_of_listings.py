"""A listing costs its caller as much as is read for it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from services.auth.paging import ITEMS_PER_CALL
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import new_request_id
from tests.services.auth.support import serving

BURST = 20
SPACES = 4 * ITEMS_PER_CALL


@pytest.mark.parametrize(("spaces", "least", "most"), [(2, BURST, BURST), (SPACES, 2, BURST // 4)])
async def test_pages_of_one_cost_as_much_as_the_whole_list(tmp_path, spaces, least, most):
    """All spaces of a person, members and links of a space are read for each page, whatever it returns of them."""
    settings = {"rate_lists": 0.001, "rate_burst_seconds": BURST * 1000, "rate_makes": 1000, "spaces_per_person": 1000}
    async with serving(tmp_path, **settings) as auth:
        ann = await auth.sign_up("ann@example.com")
        made = (
            auth.stub.CreateSpace(
                auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name=f"s{n}"), metadata=ann.credentials
            )
            for n in range(spaces)
        )
        await asyncio.gather(*made)
        answered, codes = 0, set()
        for _ in range(BURST + 1):
            try:
                page = await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(page_size=1), metadata=ann.credentials)
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
            else:
                assert len(page.spaces) == 1
                answered += 1
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert least <= answered <= most


async def test_deleted_spaces_that_are_read_cost_as_much_as_others(tmp_path):
    settings = {"rate_lists": 0.001, "rate_burst_seconds": BURST * 1000, "rate_makes": 1000, "spaces_per_person": 1000}
    async with serving(tmp_path, rate_shares=1000, **settings) as auth:
        ann = await auth.sign_up("ann@example.com")
        for number in range(SPACES):
            space = await auth.create_space(ann, f"s{number}")
            request = auth_pb2.DeleteSpaceRequest(request_id=new_request_id(), space_id=space)
            await auth.stub.DeleteSpace(request, metadata=ann.credentials)
        calls = (
            lambda: auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(page_size=1), metadata=ann.credentials),
            lambda: auth.stub.ListDeletedSpaces(
                auth_pb2.ListDeletedSpacesRequest(page_size=1), metadata=ann.credentials
            ),
        )
        answered, codes = 0, set()
        for number in range(BURST):
            try:
                page: Any = await calls[number % 2]()
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
            else:
                assert len(page.spaces) == 1
                answered += 1
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert 2 <= answered <= BURST // 4
