"""Without an access token there is a rate too: for a network, and for a device, a key or a link."""

from __future__ import annotations

import base64

import grpc
import grpc.aio
import jwt
import pytest
from prometheus_client import REGISTRY

from services.auth.records import DAY_MS
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import new_request_id
from tests.services.auth.support import PASSWORD, Person, Service, refused, serving

PER_NETWORK, PER_SECRET = 20, 5
RATES = {
    "rate_burst_seconds": 10_000,
    "anonymous_calls_per_network": PER_NETWORK / 10_000,  # nothing of the burst comes back during a test
    "anonymous_calls_per_secret": PER_SECRET / 10_000,
    "trusted_proxies": 1,
}


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path, **RATES) as service:
        yield service


@pytest.fixture
async def ann(auth):
    return await auth.sign_up("ann@example.com")


def peer(number: int):
    return (("x-forwarded-for", f"192.0.2.{number}"),)


def unknown_token(device: str = "a" * 26) -> str:
    return f"{device}.{base64.urlsafe_b64encode(new_request_id() * 3).decode()}"


CALLS = {
    "RefreshToken": lambda: auth_pb2.RefreshTokenRequest(refresh_token=unknown_token()),
    "ExchangeKey": lambda: auth_pb2.ExchangeKeyRequest(key=f"syk_{'a' * 26}{new_request_id().hex()}{'x' * 11}"),
    "OpenLink": lambda: auth_pb2.OpenLinkRequest(token=new_request_id().hex()[:22]),
    "GetJwks": auth_pb2.GetJwksRequest,
    "SignIn": lambda: auth_pb2.SignInRequest(
        email=f"{new_request_id().hex()}@example.com", password="wrong " * 3, device_name="phone"
    ),
    "SignUp": lambda: auth_pb2.SignUpRequest(
        email=f"{new_request_id().hex()}@example.com", password=PASSWORD, device_name="phone"
    ),
}


CALLS |= {
    "RequestReset": lambda: auth_pb2.RequestResetRequest(email=f"{new_request_id().hex()}@example.com"),
    "ResetPassword": lambda: auth_pb2.ResetPasswordRequest(
        token=f"{new_request_id().hex()}{'x' * 11}", new_password=PASSWORD
    ),
}


def rate_exceeded():
    return refused("RESOURCE_EXHAUSTED", "RATE_EXCEEDED", work="anonymous")


MALFORMED = {
    "RefreshToken": lambda: auth_pb2.RefreshTokenRequest(refresh_token="malformed"),
    "ExchangeKey": lambda: auth_pb2.ExchangeKeyRequest(key="malformed"),
    "OpenLink": lambda: auth_pb2.OpenLinkRequest(token="x" * 60_000),
}


@pytest.mark.parametrize("method", MALFORMED)
async def test_what_is_malformed_counts_for_its_network(auth, method):
    codes = []
    for _ in range(PER_NETWORK + 3):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await getattr(auth.stub, method)(MALFORMED[method](), metadata=peer(1))
        codes.append(failed.value.code())
    assert [code is grpc.StatusCode.RESOURCE_EXHAUSTED for code in codes] == [False] * PER_NETWORK + [True] * 3


async def test_calls_that_a_secret_is_refused_take_nothing_from_its_network(auth, ann):
    key, other = await key_of(auth, ann), await key_of(auth, ann)
    for _ in range(PER_SECRET):
        await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=key), metadata=peer(1))
    for _ in range(PER_NETWORK):
        with rate_exceeded():
            await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=key), metadata=peer(1))
    await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=other), metadata=peer(1))


async def outcome(auth: Service, method: str, network: int) -> str:
    """The reason of an error, or OK."""
    try:
        await getattr(auth.stub, method)(CALLS[method](), metadata=peer(network))
    except Exception as error:
        return str(error)
    return "OK"


@pytest.mark.parametrize("method", CALLS)
async def test_a_network_has_a_rate_whatever_it_presents(auth, ann, method):
    before = REGISTRY.get_sample_value("syncline_rate_refused_total", {"work": "anonymous"}) or 0
    outcomes = [await outcome(auth, method, 1) for _ in range(PER_NETWORK + 3)]
    limited = ["RESOURCE_EXHAUSTED" in text for text in outcomes]
    assert limited == [False] * PER_NETWORK + [True] * 3
    assert REGISTRY.get_sample_value("syncline_rate_refused_total", {"work": "anonymous"}) == before + 3
    with rate_exceeded() as caught:
        await getattr(auth.stub, method)(CALLS[method](), metadata=peer(1))
    assert "google.rpc.RetryInfo" in str(caught.value.trailing_metadata())
    assert "RESOURCE_EXHAUSTED" not in await outcome(auth, method, 2)


async def refresh(auth: Service, token: str, network: int = 1) -> str:
    request = auth_pb2.RefreshTokenRequest(refresh_token=token)
    return (await auth.stub.RefreshToken(request, metadata=peer(network))).tokens.refresh_token


async def test_a_device_has_a_rate_wherever_it_is(auth, ann):
    token, other = ann.tokens.refresh_token, await auth.sign_in("ann@example.com", metadata=peer(9))
    for number in range(PER_SECRET):
        token = await refresh(auth, token, number)
    with rate_exceeded():
        await refresh(auth, token, 100)
    await refresh(auth, other.tokens.refresh_token, 100)


async def test_who_only_knows_the_name_of_a_device_takes_nothing_of_its_rate(auth, ann):
    device = ann.device.device_id
    for _ in range(3 * PER_SECRET):
        with refused("UNAUTHENTICATED", "TOKEN_INVALID"):
            await refresh(auth, unknown_token(device))
    await refresh(auth, ann.tokens.refresh_token)


async def key_of(auth: Service, one: Person) -> str:
    request = auth_pb2.CreateKeyRequest(request_id=new_request_id(), name="backup", expires_at_ms=auth.clock() + DAY_MS)
    return (await auth.stub.CreateKey(request, metadata=one.credentials)).key


async def test_a_key_has_a_rate_wherever_it_is(auth, ann):
    key, other = await key_of(auth, ann), await key_of(auth, ann)
    for number in range(PER_SECRET):
        await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=key), metadata=peer(number))
    with rate_exceeded():
        await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=key), metadata=peer(100))
    await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=other), metadata=peer(100))


async def test_visitors_of_a_link_take_nothing_of_those_in_other_networks(auth, ann):
    create = auth_pb2.CreateLinkRequest(
        request_id=new_request_id(), space_id=ann.account.personal_space_id, node=bytes(16)
    )
    made = await auth.stub.CreateLink(create, metadata=ann.credentials)
    request = auth_pb2.OpenLinkRequest(token=made.token)
    for network in (1, 2):
        for _ in range(PER_SECRET):
            await auth.stub.OpenLink(request, metadata=peer(network))
        with rate_exceeded():
            await auth.stub.OpenLink(request, metadata=peer(network))


async def test_visitors_are_told_apart_by_their_network_which_is_not_told(auth, ann):
    async def made() -> str:
        space = ann.account.personal_space_id
        create = auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=space, node=bytes(16))
        return str((await auth.stub.CreateLink(create, metadata=ann.credentials)).token)

    async def visitor(token: str, network: int) -> str:
        answer = await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=token), metadata=peer(network))
        claims: dict[str, str] = jwt.decode(answer.access_token, options={"verify_signature": False})
        return claims["vis"]

    links = [await made() for _ in range(2)]
    seen = [await visitor(token, network) for token in links for network in (1, 2)]
    assert len(set(seen)) == 4
    assert await visitor(links[0], 1) == seen[0]
    assert not [one for one in seen if "192" in one]
