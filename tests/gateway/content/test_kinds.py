"""The gateway refuses kinds of callers by itself, before it asks a service, which would refuse them as well."""

import pytest

from tests.gateway.fakes import SPACE, gateway
from tests.support.tokens import unproven_token

LINK = "k" * 26


# No service would believe these: what the gateway refuses by its claims does not get there.
VISITOR = unproven_token(sub=LINK, dev=None, spc=SPACE, nod="0" * 32)
SESSION = unproven_token(sub=LINK, dev="d" * 26)
SERVICE = unproven_token(sub="service:metadata", dev=None, aud="syncline-internal")


@pytest.mark.parametrize("caller", [VISITOR, SERVICE])
@pytest.mark.parametrize("target", [f"/v1/spaces/{SPACE}/content/f", f"/v1/spaces/{SPACE}/members", "/dav/space/f"])
async def test_whoever_opened_a_link_and_services_get_nowhere_else(caller: str, target: str) -> None:
    async with gateway() as world:
        answer = await world.ask(target, authorization=f"Bearer {caller}")
        assert answer.status == 403
        assert world.metadata.paths == []


async def test_only_who_opened_a_link_reads_by_its_routes() -> None:
    async with gateway() as world:
        target = f"/v1/links/{LINK}/nodes/{'0' * 31}1"
        assert (await world.ask(target, authorization=f"Bearer {SESSION}")).status == 403
        assert (await world.ask(target, authorization=f"Bearer {VISITOR}")).status == 401, "which metadata says"
