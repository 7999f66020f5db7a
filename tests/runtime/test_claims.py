"""No claim, of whatever type, gets past the one parser but as what it has to be, and nothing fails in another way."""

import json
import math
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.claims import MAX_EXPIRY_SECONDS, MAX_TOKEN_CHARACTERS, read_claims
from runtime.identity import Identity
from runtime.permissions import CallerKind
from runtime.tokens import AnyTokenVerifier, ServiceTokenVerifier, TokenVerifier, UserTokenVerifier
from syncline.model.errors import TokenMalformed, Unauthenticated
from syncline.model.identifiers import new_text_id
from tests.support.tokens import segment

SECRET = "s" * 32
KEY = Ed25519PrivateKey.generate()
GOOD = {"iss": "syncline", "aud": "syncline", "sub": new_text_id(), "dev": new_text_id(), "exp": int(time.time()) + 900}
LINK = {"dev": None, "spc": new_text_id(), "nod": "0" * 32, "vis": "0" * 16}
PROGRAM = {"knd": "program", "scp": "read write"}
SERVICE = {"aud": "syncline-internal", "sub": "service:metadata", "dev": None}


async def _keys():
    return {"k1": KEY.public_key()}


USERS, SERVICES = UserTokenVerifier(_keys), ServiceTokenVerifier(SECRET)
VERIFIERS: list[TokenVerifier] = [USERS, SERVICES, AnyTokenVerifier(users=USERS, services=SERVICES)]

texts = st.text(st.characters(exclude_categories=()), max_size=40)  # surrogates too: JSON can write them
absurd = st.one_of(
    st.sampled_from(
        [[], {}, True, False, "", 1.5, -1, 0, 1e400, -1e400, math.nan, 10**400, 1 << 63, "program", 10**18]
    ),
    st.recursive(
        texts | st.integers() | st.floats() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
        max_leaves=4,
    ),
)
names = st.sampled_from(["iss", "aud", "sub", "dev", "spc", "nod", "vis", "knd", "scp", "exp", "iat", "nbf", "jti"])
claims = st.builds(
    lambda usual, changes: {name: value for name, value in (GOOD | usual | changes).items() if value is not None},
    st.sampled_from([{}, LINK, SERVICE, PROGRAM]),
    st.dictionaries(names, absurd, max_size=3),
)
headers = st.builds(
    lambda changes: {"alg": "EdDSA", "kid": "k1"} | changes,
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk"]), absurd | st.just("HS256"), max_size=2
    ),
)


def signed(header, payload):
    """A token with these very parts, signed by the key that the verifier has for what the header says."""
    text = f"{segment(header)}.{segment(payload)}"
    if isinstance(header, dict) and header.get("alg") == "HS256":
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
            text.encode(), SECRET.encode()
        )
    else:
        signature = KEY.sign(text.encode())
    return f"{text}.{segment(signature)}"


async def judge(token):
    for verifier in VERIFIERS:
        try:
            identity = await verifier.verify(token)
        except Unauthenticated:
            continue
        assert isinstance(identity, Identity)
        told = (identity.user, identity.device, identity.visitor, identity.account, identity.service or "")
        assert all(isinstance(one, str) and one.isascii() for one in told)
        assert time.time() < identity.expires_at <= MAX_EXPIRY_SECONDS
        assert [bool(identity.user), identity.service is not None, identity.link is not None].count(True) == 1


@settings(max_examples=200, deadline=None)
@given(headers, claims)
async def test_whatever_is_signed_proves_a_caller_or_is_unauthenticated(header, payload):
    await judge(signed(header, payload))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80) | absurd, st.binary(max_size=80) | absurd)
async def test_whatever_the_parts_are_they_prove_a_caller_or_are_unauthenticated(header, payload):
    await judge(signed(header, payload))


@settings(max_examples=100, deadline=None)
@given(texts | st.from_regex(r"[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*", fullmatch=True))
async def test_whatever_text_is_no_token_is_malformed(text):
    with pytest.raises(Unauthenticated):
        read_claims(text)
    await judge(text)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 3000,
        b'{"sub":' * 400,
        json.dumps(GOOD | {"sub": [GOOD["sub"]]}).encode(),
        json.dumps(GOOD | {"dev": {"a": 1}}).encode(),
        json.dumps(GOOD).encode("utf-16"),
        b"\xff",
        b"null",
    ],
)
async def test_what_nests_or_is_no_json_is_malformed(payload):
    token = signed({"alg": "EdDSA", "kid": "k1"}, payload)
    for verifier in VERIFIERS:
        with pytest.raises(Unauthenticated):
            await verifier.verify(token)
    with pytest.raises(TokenMalformed):
        read_claims(token)


@pytest.mark.parametrize("exp", [1.5, True, "1", -1, 1e308, math.inf, math.nan, MAX_EXPIRY_SECONDS + 1, 10**400, None])
async def test_an_end_that_is_no_moment_is_refused(exp):
    for token in (
        signed({"alg": "EdDSA", "kid": "k1"}, GOOD | {"exp": exp}),
        signed({"alg": "HS256"}, GOOD | SERVICE | {"exp": exp}),
    ):
        for verifier in VERIFIERS:
            with pytest.raises(Unauthenticated):
                await verifier.verify(token)


def test_a_text_longer_than_any_token_is_refused_before_it_is_parsed():
    header, _, rest = signed({"alg": "EdDSA", "kid": "k1"}, GOOD).partition(".")
    assert read_claims(f"{header}.{rest}").kind is CallerKind.SESSION
    with pytest.raises(TokenMalformed):
        read_claims(f"{header}.{rest}".ljust(MAX_TOKEN_CHARACTERS + 1, "A"))
