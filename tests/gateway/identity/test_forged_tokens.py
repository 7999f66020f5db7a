"""A credential of whatever form is answered by 401 or 403 wherever it is read, and never by a failure of ours."""

import base64
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.fakes import SPACE, World, gateway
from tests.support.tokens import segment, unproven_token

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINK = "l" * 26
SURROGATE = "\ud800"  # JSON can write it, and no text on a wire can hold it
SIGNATURE = segment(b"signature")
HEADER = segment({"alg": "EdDSA", "kid": "k1"})
TOKENS = {
    "a list as sub": unproven_token(sub=["u" * 26]),
    "a surrogate as sub": unproven_token(sub=SURROGATE),
    "a surrogate as dev": unproven_token(dev=SURROGATE),
    "a link in a surrogate": unproven_token(sub=LINK, dev=None, spc=SURROGATE, nod="0" * 32),
    "a link in a list": unproven_token(sub=LINK, dev=None, spc=[SPACE], nod="0" * 32),
    "a huge exp": unproven_token(exp=10**400),
    "an infinite exp": unproven_token(exp=float("inf")),
    "exp of no number": unproven_token(exp=float("nan")),
    "an unknown kind": unproven_token(knd="god"),
    "a list as kind": unproven_token(knd=["program"]),
    "an object as aud": unproven_token(aud={"syncline": True}),
    "nothing claimed": f"{HEADER}.{segment({})}.{SIGNATURE}",
    "a list of claims": f"{HEADER}.{segment([1])}.{SIGNATURE}",
    "deep": f"{HEADER}.{segment(b'[' * 2900)}.{SIGNATURE}",
    "no base64": f"{HEADER}.A.{SIGNATURE}",
    "another encoding": f"{HEADER}.{segment('{}'.encode('utf-16'))}.{SIGNATURE}",
    "too long": "a" * 5000,
    "a key of nobody": f"syk_{'a' * 26}{'A' * 43}",
    "a key that is none": "syk_..",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    async with gateway() as world:
        yield world


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
async def test_a_token_of_whatever_claims_is_unauthenticated_everywhere(world: World, token: str) -> None:
    bearer = {"authorization": f"Bearer {token}"}
    answers = [
        await world.ask(path, method=method, **(bearer | headers))
        for method, path, headers in (
            ("GET", f"/v1/spaces/{SPACE}/content/f", {}),
            ("GET", "/v1/devices", {}),
            ("GET", "/v1/events", {}),
            ("DELETE", f"/v1/spaces/{SPACE}/nodes/{'0' * 32}", {"idempotency-key": "k", "if-match": "*"}),
            ("GET", f"/v1/links/{LINK}/nodes/root", {}),
            ("PROPFIND", "/dav/", {"depth": "0"}),
            ("GET", f"/dav/{SPACE}/f", {}),
        )
    ]
    answers.append(await world.ask(f"/v1/links/{LINK}/nodes/root", cookie=f"__Host-link-{LINK}={token}"))
    answers.append(await world.ask("/v1/devices", cookie=f"__Host-syncline={token}"))
    pair = base64.b64encode(f"ann@example.com:{token}".encode()).decode()
    answers.append(await world.ask("/dav/", method="PROPFIND", depth="0", authorization=f"Basic {pair}"))
    assert {answer.status for answer in answers} <= {401, 403}


@pytest.mark.parametrize(
    "authorization",
    ["Basic \xe9", "Basic", "Basic ===", "Basic /////w==", "Basic OnN5a18=", "Bearer \xe9", "Bearer", "Bearer a b", ""],
)
async def test_a_header_that_holds_no_credential_is_unauthenticated(world: World, authorization: str) -> None:
    for method, path in (("PROPFIND", "/dav/"), ("GET", "/v1/devices"), ("GET", f"/v1/links/{LINK}/nodes/root")):
        answer = await world.ask(path, method=method, depth="0", authorization=authorization)
        assert answer.status == 401


@pytest.mark.parametrize("signature", ["\xe9", "a b", "a;b"])
async def test_a_cookie_that_no_call_can_carry_is_unauthenticated(world: World, signature: str) -> None:
    token = unproven_token(sub=LINK, dev=None, spc=SPACE, nod="0" * 32).rpartition(".")[0]
    answer = await world.ask(f"/v1/links/{LINK}/nodes/root", cookie=f"__Host-link-{LINK}={token}.{signature}")
    assert answer.status == 401
