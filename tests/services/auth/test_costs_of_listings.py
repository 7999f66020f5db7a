"""A listing costs its caller as much as is read for it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from services.auth.servicer import ITEMS_PER_CALL
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
