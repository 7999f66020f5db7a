"""Sessions: a device signs in and exchanges its refresh token again and again; a copied token is detected.

A refresh token is `{device}.{family}{secret}`; the family is the same for all tokens of a device, and the secret is new
each time. Only digests are stored. Tokens of a device are judged as follows:

- One token is current.
- Its predecessor is accepted as well until the current token is used, because the answer with the current token may
  have been lost. A use of the predecessor replaces the current token, so that a thief who holds the current token is
  detected.
- Any other token of the family is a copy: the device is signed out, and the keys that were made from it are revoked. A
  copy that arrives after the device was signed out revokes the keys that are left.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field, replace
from enum import Enum

from runtime.logs import structlog
from services.auth import metrics
from services.auth.devices import check_active
from services.auth.endings import Endings
from services.auth.ports import ChainMoved, DeviceStore
from services.auth.records import DAY_MS, Chain, Clock, DeviceRecord
from services.auth.tokens import AccessToken, AccessTokens
from syncline.model.errors import (
    DeviceRevoked,
    RefreshTokenReused,
    TokenExpired,
    TokenInvalid,
    TokenMalformed,
    Unavailable,
)
from syncline.model.identifiers import DeviceId, UserId, new_text_id
from syncline.model.limits import REFRESH_TOKEN_IDLE_DAYS

log = structlog.get_logger()

_DEVICE_CHARACTERS = 26
_FAMILY_BYTES = 16
_SECRET_BYTES = 32
_MAX_TOKEN_CHARACTERS = 128
"""Maximum number of characters of a text that is parsed as a refresh token; a token has fewer."""

RefreshTokenState = Enum("RefreshTokenState", "CURRENT PREDECESSOR SPENT FORGED REVOKED EXPIRED")
"""The state of a presented refresh token with respect to the device that it names.

- CURRENT is the last token that the device got.
- PREDECESSOR is the token that was exchanged for it, which is still accepted.
- SPENT is any older token, and so a copy.
- FORGED is a token that the device never got.
- REVOKED and EXPIRED are tokens of a device that was revoked or has expired.
"""


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token, split into its parts."""

    device: DeviceId
    family: bytes = field(repr=False)
    secret: bytes = field(repr=False)

    @classmethod
    def first(cls, device: DeviceId) -> RefreshToken:
        """Return the first refresh token of a device, with a new random family and a new random secret."""
        return cls(device, secrets.token_bytes(_FAMILY_BYTES), secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> RefreshToken:
        """Return the parts of a presented token. Raise TokenMalformed if the text does not have the form of a refresh
        token.
        """
        device, _, opaque = text[: _MAX_TOKEN_CHARACTERS + 1].partition(".")
        try:
            raw = base64.b64decode(opaque, altchars=b"-_", validate=True)
        except ValueError:
            raw = b""
        if len(device) != _DEVICE_CHARACTERS or len(raw) != _FAMILY_BYTES + _SECRET_BYTES:
            raise TokenMalformed("the refresh token is malformed; sign in again")
        return cls(DeviceId(device), raw[:_FAMILY_BYTES], raw[_FAMILY_BYTES:])

    def __str__(self) -> str:
        return f"{self.device}.{base64.urlsafe_b64encode(self.family + self.secret).decode()}"

    def successor(self) -> RefreshToken:
        """Return a new refresh token of the same device and family, with a new random secret."""
        return replace(self, secret=secrets.token_bytes(_SECRET_BYTES))

    def family_digest(self) -> bytes:
        """Return the digest that is stored of the family: the SHA-256 of the part that all tokens of the device
        share.
        """
        return hashlib.sha256(self.device.encode() + self.family).digest()

    def digest(self) -> bytes:
        """Return the SHA-256 of the token, which is stored in place of the token."""
        return hashlib.sha256(self.device.encode() + self.family + self.secret).digest()


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a signed-in device. A device with a key gets no refresh token."""

    access: AccessToken
    refresh: str = field(default="", repr=False)


def judge_token(token: RefreshToken, device: DeviceRecord, *, now_ms: int) -> RefreshTokenState:
    """Return the state of `token` with respect to `device`, the device that it names, at `now_ms` in milliseconds since
    1970.
    """
    chain = device.chain
    if chain is None or not hmac.compare_digest(token.family_digest(), chain.family):
        return RefreshTokenState.FORGED
    is_revoked = device.revoked_at_ms is not None
    if not is_revoked and now_ms >= chain.expires_at_ms:
        return RefreshTokenState.EXPIRED
    digest = token.digest()
    is_current = hmac.compare_digest(digest, chain.current)
    if not is_current and (chain.previous is None or not hmac.compare_digest(digest, chain.previous)):
        return RefreshTokenState.SPENT  # also if the device is revoked: its keys may not have ended yet
    if is_revoked:
        return RefreshTokenState.REVOKED
    return RefreshTokenState.CURRENT if is_current else RefreshTokenState.PREDECESSOR


class Sessions:
    """Signs clients in with a first refresh token, and exchanges refresh tokens for new tokens."""

    def __init__(self, devices: DeviceStore, access_tokens: AccessTokens, *, endings: Endings, clock: Clock) -> None:
        self._devices = devices
        self._endings = endings
        self._access_tokens = access_tokens
        self._clock = clock

    def open(self, *, user: UserId, name: str, password_changes: int = 0) -> tuple[DeviceRecord, Tokens]:
        """Return a new device called `name`, of a user who has just been authenticated, and its tokens.
        `password_changes` is that of the login. Nothing is stored: the caller adds the device to the store.
        """
        now = self._clock()
        token = RefreshToken.first(DeviceId(new_text_id()))
        chain = Chain(token.family_digest(), token.digest(), None, now + REFRESH_TOKEN_IDLE_DAYS * DAY_MS)
        device = DeviceRecord(token.device, user, name, now, now, None, chain, password_changes=password_changes)
        return device, self._tokens(user, token)

    async def refresh(self, token: RefreshToken) -> Tokens:
        """Exchange a refresh token for a new access token and a new refresh token. The presented token is accepted
        again until the new refresh token is used.

        - Raise RefreshTokenReused for an older token, which shows that it was copied; the device is signed out then.
        - Raise DeviceRevoked if the device was revoked, and TokenExpired if it has expired.
        - Raise AccountSuspended if the account of the user is suspended; the presented token stays valid.
        - Raise TokenInvalid for a token that was never issued, or whose device was dropped long after its end.
        - Raise Unavailable if a concurrent refresh of the device succeeded, or if not all keys that were made from a
          device with a copied token could be revoked. The call may be repeated.
        """
        device = await self._devices.device(token.device)
        now = self._clock()
        match RefreshTokenState.FORGED if device is None else judge_token(token, device, now_ms=now):
            case RefreshTokenState.CURRENT | RefreshTokenState.PREDECESSOR:
                assert device is not None
                assert device.chain is not None
                account, _ = await self._devices.signed_in(device.user, device.device)
                check_active(account)
                return await self._advance(device, device.chain, token, now)
            case RefreshTokenState.SPENT:
                assert device is not None
                is_found_out = device.revoked_at_ms is not None
                if not is_found_out:
                    metrics.COPIES.inc()
                    log.warning("refresh reused", user=device.user, device=device.device)
                await self._endings.revoke_copied(device)
                raise DeviceRevoked if is_found_out else RefreshTokenReused
            case RefreshTokenState.REVOKED:
                raise DeviceRevoked
            case RefreshTokenState.EXPIRED:
                raise TokenExpired(f"this device was not used for {REFRESH_TOKEN_IDLE_DAYS} days; sign in again")
            case RefreshTokenState.FORGED:
                raise TokenInvalid("the refresh token is not known; sign in again")

    async def _advance(self, device: DeviceRecord, before: Chain, token: RefreshToken, now: int) -> Tokens:
        successor = token.successor()
        chain = Chain(before.family, successor.digest(), token.digest(), now + REFRESH_TOKEN_IDLE_DAYS * DAY_MS)
        try:
            await self._devices.advance_chain(device.device, expected=before, to=chain, seen_at_ms=now)
        except ChainMoved:
            # No retry here: if both calls of a device succeeded, the device might keep the answer that was replaced.
            raise Unavailable("another refresh of this device is in progress; try again") from None
        return self._tokens(device.user, successor)

    def _tokens(self, user: UserId, token: RefreshToken) -> Tokens:
        return Tokens(self._access_tokens.issue(user=user, device=token.device), str(token))
