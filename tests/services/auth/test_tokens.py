"""Access tokens and the keys behind them."""

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from runtime.tokens import UserTokenVerifier
from services.auth.records import MINUTE_MS
from services.auth.tokens import AccessTokens, SigningKeys, UnusableKey, key_id
from syncline.model.errors import Unauthenticated
from syncline.model.identifiers import DeviceId, UserId, new_text_id
from tests.services.auth.support import Clock, write_key

USER, DEVICE = UserId(new_text_id()), DeviceId(new_text_id())


def public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_the_key_id_is_the_thumbprint_of_rfc_8037():
    # The key of RFC 8037, appendix A.2, and its thumbprint from A.3.
    raw = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert key_id(Ed25519PublicKey.from_public_bytes(raw)) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


async def test_a_token_says_who_for_15_minutes():
    clock, keys = Clock(), SigningKeys.of(Ed25519PrivateKey.generate())
    token = AccessTokens(keys, clock=clock).issue(user=USER, device=DEVICE)
    assert token.expires_at_ms == clock() + 15 * MINUTE_MS
    assert jwt.get_unverified_header(token.text) == {"alg": "EdDSA", "kid": keys.kid, "typ": "JWT"}
    verifier = UserTokenVerifier(keys.fetch, now=lambda: clock() / 1000)
    identity = await verifier.verify(token.text)
    assert (identity.user, identity.device) == (USER, DEVICE)
    clock.advance(15 * MINUTE_MS)
    with pytest.raises(Unauthenticated):
        await verifier.verify(token.text)


@pytest.mark.parametrize("published", ["private", "public"])
async def test_tokens_of_the_previous_key_are_still_good(tmp_path, published):
    clock, old = Clock(), Ed25519PrivateKey.generate()
    token = AccessTokens(SigningKeys.of(old), clock=clock).issue(user=USER, device=DEVICE)
    previous = write_key(tmp_path / "old.pem", old)
    if published == "public":
        previous.write_bytes(public_pem(old))
    keys = SigningKeys.from_files(write_key(tmp_path / "new.pem"), previous)
    assert len(keys.public) == 2
    assert keys.kid != key_id(old.public_key())
    verifier = UserTokenVerifier(keys.fetch, now=lambda: clock() / 1000)
    assert (await verifier.verify(token.text)).user == USER
    without = SigningKeys.from_files(tmp_path / "new.pem")
    with pytest.raises(Unauthenticated):
        await UserTokenVerifier(without.fetch, now=lambda: clock() / 1000).verify(token.text)


def test_keys_that_cannot_sign_are_refused(tmp_path):
    path = tmp_path / "key.pem"
    with pytest.raises(FileNotFoundError):
        SigningKeys.from_files(path)
    ec = generate_ec_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for content in (b"nonsense", b"-----BEGIN PRIVATE KEY-----", ec, public_pem(Ed25519PrivateKey.generate())):
        path.write_bytes(content)
        with pytest.raises(UnusableKey, match=r"key\.pem"):
            SigningKeys.from_files(path)


def test_no_key_shows_in_a_repr():
    keys = SigningKeys.of(Ed25519PrivateKey.generate())
    token = AccessTokens(keys, clock=Clock()).issue(user=USER, device=DEVICE)
    assert "PrivateKey" not in repr(keys)
    assert token.text not in repr(token)
