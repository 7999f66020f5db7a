"""The gateway refuses kinds of callers by itself, before it asks a service, which would refuse them as well."""

import base64
import json

import pytest

from tests.gateway.fakes import SPACE, gateway

LINK = "k" * 26


def token(**claims: str) -> str:
    """A token that no service would believe: what the gateway refuses by its claims does not get there."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.signature"


VISITOR = token(sub=LINK, spc=SPACE, nod="0" * 32)
SESSION = token(sub=LINK, dev="d" * 26)
SERVICE = token(sub="metadata", aud="syncline-internal")


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
