"""Tokens prove who presents them, for as long as they are valid and no longer."""

import asyncio
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime.identity import LinkScope
from runtime.tokens import (
    AnyTokenVerifier,
    ServiceTokenVerifier,
    UserTokenVerifier,
    mint_service_token,
    service_authorization,
)
from syncline.model.errors import TokenExpired, TokenInvalid, TokenMalformed, Unauthenticated, Unavailable
from syncline.model.identifiers import LinkId, NodeId, SpaceId, new_text_id

SECRET = "s" * 32
KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()
USER, DEVICE = new_text_id(), new_text_id()
LINK, SPACE, NODE = LinkId(new_text_id()), SpaceId(new_text_id()), NodeId(bytes(range(16)))
NOW = int(time.time())


class Clock:
    def __init__(self) -> None:
        self.seconds = float(NOW)

    def __call__(self) -> float:
        return self.seconds


class KeySet:
    """The keys that auth publishes; counts how often they are asked for."""

    def __init__(self, **keys: Ed25519PrivateKey) -> None:
        self.keys = dict(keys)
        self.fetched = 0
        self.broken = False

    async def __call__(self):
        await asyncio.sleep(0)
        if self.broken:
            raise Unavailable
        self.fetched += 1
        return {kid: key.public_key() for kid, key in self.keys.items()}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys() -> KeySet:
    return KeySet(k1=KEY)


@pytest.fixture
def users(keys: KeySet, clock: Clock) -> UserTokenVerifier:
    return UserTokenVerifier(keys, now=clock, monotonic=clock)


def access_token(key=KEY, kid="k1", **changes) -> str:
    claims = {"iss": "syncline", "aud": "syncline", "sub": USER, "dev": DEVICE, "iat": NOW, "exp": NOW + 900}
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": kid} if kid else {})


async def test_an_access_token_proves_user_and_device(users):
    token = access_token()
    identity = await users.verify(token)
    assert (identity.user, identity.device, identity.service, identity.token) == (USER, DEVICE, None, token)


def link_token(**changes) -> str:
    return access_token(**({"sub": LINK, "dev": None, "spc": SPACE, "nod": NODE.hex()} | changes))


async def test_visitors_of_a_link_have_an_account_for_each_network_that_opened_it(users):
    identities = [await users.verify(link_token(**changes)) for changes in ({}, {"vis": "one"}, {"vis": "two"})]
    assert [identity.visitor for identity in identities] == ["", "one", "two"]
    assert len({identity.account for identity in identities}) == 3


async def test_the_token_of_a_link_proves_no_user(users):
    token = link_token()
    for _ in range(2):  # the second is answered from memory
        identity = await users.verify(token)
        assert (identity.user, identity.device, identity.service, identity.token) == ("", "", None, token)
        assert identity.link == LinkScope(LINK, SPACE, NODE)
    assert (await users.verify(access_token())).link is None


@pytest.mark.parametrize(
    "changes",
    [
        {"dev": DEVICE},
        {"spc": None},
        {"nod": None},
        {"sub": None},
        {"sub": "service:metadata"},
        {"spc": "x"},
        {"nod": "x"},
        {"nod": ""},
        {"nod": "00" * 15},
        {"nod": 7},
        {"nod": None, "dev": DEVICE},
        {"spc": None, "dev": DEVICE},
    ],
)
async def test_what_is_neither_a_device_nor_a_link_proves_nothing(users, changes):
    with pytest.raises(Unauthenticated):
        await users.verify(link_token(**changes))


async def test_the_token_of_a_link_expires(users, clock):
    token = link_token()
    await users.verify(token)
    clock.seconds += 900
    for _ in range(2):
        with pytest.raises(TokenExpired, match="has expired"):
            await users.verify(token)


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", access_token(kid=None)])
async def test_what_is_no_token_is_called_malformed(users, token):
    with pytest.raises(TokenMalformed):
        await users.verify(token)


@pytest.mark.parametrize(
    "token",
    [
        access_token(iss="somebody"),
        access_token(aud="syncline-internal"),
        access_token(sub=None),
        access_token(dev=None),
        access_token(exp=None),
        access_token(sub="service:metadata"),
        access_token(kid="k2"),
        access_token(OTHER_KEY),
        access_token(OTHER_KEY, exp=NOW - 900),  # an unproven token says nothing about expiry either
        access_token()[:-4] + "AAAA",
        jwt.encode({"sub": USER, "dev": DEVICE, "exp": NOW + 900}, key="", algorithm="none", headers={"kid": "k1"}),
    ],
)
async def test_anything_else_was_not_issued_here(users, token):
    with pytest.raises(TokenInvalid):
        await users.verify(token)


async def test_the_public_key_is_no_secret_to_sign_with(users, keys):
    # Algorithm confusion: an HS256 token signed with the bytes of the public key.
    public = KEY.public_key().public_bytes_raw()
    claims = {"iss": "syncline", "aud": "syncline", "sub": USER, "dev": DEVICE, "exp": NOW + 900}
    forged = jwt.encode(claims, public, algorithm="HS256", headers={"kid": "k1"})
    services = ServiceTokenVerifier(SECRET)
    for verifier in (users, services, AnyTokenVerifier(users=users, services=services)):
        with pytest.raises(Unauthenticated):
            await verifier.verify(forged)


async def test_expiry_ends_a_token_even_when_it_is_cached(users, clock):
    token = access_token()
    await users.verify(token)
    clock.seconds += 899
    await users.verify(token)
    clock.seconds += 1
    for _ in range(2):
        with pytest.raises(TokenExpired, match="the access token has expired; refresh it or sign in again"):
            await users.verify(token)


async def test_an_unknown_key_is_looked_up_at_most_every_ten_seconds(users, keys, clock):
    await users.verify(access_token())
    assert keys.fetched == 1
    keys.keys["k2"] = OTHER_KEY
    rotated = access_token(OTHER_KEY, "k2")
    with pytest.raises(TokenInvalid, match="unknown key"):
        await users.verify(rotated)
    assert keys.fetched == 1
    clock.seconds += 10
    results = await asyncio.gather(*(users.verify(rotated) for _ in range(5)))
    assert {identity.user for identity in results} == {USER}
    assert keys.fetched == 2


async def test_a_withdrawn_key_stops_counting_within_the_hour(users, keys, clock):
    token = access_token(exp=NOW + 10_000)
    await users.verify(token)
    del keys.keys["k1"]
    clock.seconds += 3599
    await users.verify(token)
    clock.seconds += 1
    with pytest.raises(Unauthenticated):
        await users.verify(token)


async def test_known_keys_do_while_new_ones_cannot_be_had(users, keys, clock):
    token = access_token(exp=NOW + 10_000)
    keys.broken = True
    with pytest.raises(Unavailable):
        await users.verify(token)
    keys.broken = False
    await users.verify(token)  # a failed fetch does not count
    keys.broken = True
    clock.seconds += 3600
    await users.verify(token)


async def test_a_service_token_proves_a_service():
    clock = Clock()
    verifier = ServiceTokenVerifier(SECRET, now=clock)
    token = mint_service_token("metadata", SECRET, now=clock())
    identity = await verifier.verify(token)
    assert (identity.service, identity.user, identity.device) == ("metadata", "", "")
    clock.seconds += 300
    with pytest.raises(TokenExpired, match="expired"):
        await verifier.verify(token)
    with pytest.raises(Unauthenticated):
        await verifier.verify(mint_service_token("metadata", "x" * 32))
    with pytest.raises(Unauthenticated):
        await verifier.verify(
            jwt.encode({"iss": "syncline", "aud": "syncline-internal", "sub": USER, "exp": NOW + 900}, SECRET)
        )


async def test_both_sorts_are_told_apart(users):
    verifier = AnyTokenVerifier(users=users, services=ServiceTokenVerifier(SECRET))
    assert (await verifier.verify(access_token())).user == USER
    assert (await verifier.verify(mint_service_token("notify", SECRET))).service == "notify"


def test_a_service_renews_its_token_in_time():
    clock = Clock()
    current = service_authorization("metadata", SECRET, now=clock)
    first = current()
    clock.seconds += 239
    assert current() == first
    clock.seconds += 1
    assert current() != first
