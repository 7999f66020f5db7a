"""Discovery: the addresses of services and storage, and the keys that verify access tokens."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any, Final

from gateway.ports import VerificationKeys
from gateway.settings import GatewaySettings
from syncline.model import limits
from syncline.model.accounts import SignUpPolicy
from syncline.model.blocks import (
    AVG_BLOCK_BYTES,
    MAX_BLOCK_BYTES,
    MAX_INLINE_BLOCKS,
    MAX_OBJECT_BYTES,
    MAX_PACK_ENTRIES,
    MIN_BLOCK_BYTES,
    NORMALIZATION,
    PACK_BYTES,
)
from syncline.model.errors import Unavailable
from syncline.model.names import MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_PATH_NAMES
from syncline.model.tree import MAX_CHECK_FILES, MAX_MUTATIONS, MAX_REQUEST_BYTES

JWKS_SECONDS: Final = 300
"""Seconds for which the public keys that verify access tokens may be cached, here and by clients. Auth signs with a new
key only after the key has been published for JWKS_SECONDS.
"""
_RETRY_SECONDS: Final = 5.0
_DAY_SECONDS: Final = 86_400


FEATURES: Final = (
    "activity",
    "administration",
    "complete_streams",
    "program_keys",
    "public_links",
    "reflection_v1",
    "relative_expiry",
    "request_answers",
    "rest_v1",
    "retry_info",
    "search",
    "sign_up_policy",
    "token_reasons",
    "webdav",
)
"""Features that clients can rely on. Each addition to version 1 gets a name, so that a client can detect it."""

FORMAT: Final[dict[str, Any]] = {
    "chunking": {
        "algorithm": "fastcdc-2020",
        "normalization": NORMALIZATION,
        "min_bytes": MIN_BLOCK_BYTES,
        "avg_bytes": AVG_BLOCK_BYTES,
        "max_bytes": MAX_BLOCK_BYTES,
    },
    "limits": {
        "message_bytes": limits.MAX_MESSAGE_BYTES,
        "page_items": limits.MAX_PAGE_ITEMS,
        "mutations": MAX_MUTATIONS,
        "mutations_bytes": MAX_REQUEST_BYTES,
        "check_batch": MAX_CHECK_FILES,
        "find_digests": limits.MAX_FIND_DIGESTS,
        "seal_objects": limits.MAX_SEAL_DECLARATIONS,
        "seal_read_bytes": limits.MAX_SEAL_READ_BYTES,
        "watched_spaces": limits.MAX_WATCHED_SPACES,
        "pack_bytes": PACK_BYTES,
        "pack_entries": MAX_PACK_ENTRIES,
        "object_bytes": MAX_OBJECT_BYTES,
        "inline_blocks": MAX_INLINE_BLOCKS,
        "name_bytes": MAX_NAME_BYTES,
        "path_bytes": MAX_PATH_BYTES,
        "path_names": MAX_PATH_NAMES,
        "query_characters": limits.MAX_QUERY_CHARACTERS,
        "label_characters": limits.MAX_LABEL_CHARACTERS,
        "password_characters": [limits.MIN_PASSWORD_CHARACTERS, limits.MAX_PASSWORD_CHARACTERS],
    },
    "lifetimes_seconds": {
        "access_token": limits.ACCESS_TOKEN_SECONDS,
        "link_token": limits.LINK_TOKEN_SECONDS,
        "refresh_token_idle": limits.REFRESH_TOKEN_IDLE_DAYS * _DAY_SECONDS,
        "browser_key_idle": limits.BROWSER_KEY_IDLE_DAYS * _DAY_SECONDS,
        "program_key": limits.PROGRAM_KEY_DAYS * _DAY_SECONDS,
        "credentials": [limits.MIN_CREDENTIALS_SECONDS, limits.MAX_CREDENTIALS_SECONDS],
        "answers": limits.ANSWER_DAYS * _DAY_SECONDS,
        "unary_deadline": limits.DEFAULT_DEADLINE_SECONDS,
    },
}
"""Constants that clients need: the parameters of chunking, the limits of the services, and lifetimes."""


def endpoints(settings: GatewaySettings, *, region: str) -> dict[str, Any]:
    """Return the contents of `/.well-known/syncline`: everything that a client must know in advance."""

    def service(target: str) -> dict[str, Any]:
        return {"target": target, "tls": settings.public_tls}

    return {
        "syncline": 1,
        "auth": service(settings.public_auth),
        "metadata": service(settings.public_metadata),
        "notify": service(settings.public_notify),
        "s3": {
            "endpoint": settings.public_s3_endpoint,
            "region": region,
            "bucket": settings.bucket,
            "path_style": settings.public_s3_endpoint is not None,
        },
        "sign_up": _sign_up(settings),
        "features": list(FEATURES),
        **FORMAT,
    }


def _sign_up(settings: GatewaySettings) -> dict[str, Any]:
    policy = settings.sign_up_policy
    domains = settings.sign_up_domains if policy is SignUpPolicy.DOMAINS else ()
    return {"policy": policy.value, "domains": list(domains)}


class Jwks:
    """Caches the set of public keys that verify access tokens, in the form of RFC 7517 and 8037, and fetches it from
    auth periodically. If a fetch fails, the old key set is used.
    """

    def __init__(self, keys: VerificationKeys, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._monotonic = monotonic
        self._known: dict[str, Any] | None = None
        self._fetch_at = 0.0
        self._fetching = asyncio.Lock()

    async def current(self) -> dict[str, Any]:
        """Return the contents of `/.well-known/jwks.json`. Raise Unavailable if auth has never answered."""
        async with self._fetching:  # the fetch that this caller waited for may have brought the answer
            if self._known is not None and self._monotonic() < self._fetch_at:
                return self._known
            try:
                keys = await self._keys.current()
            except Unavailable:
                if self._known is None:
                    raise
                self._fetch_at = self._monotonic() + _RETRY_SECONDS
            else:
                self._known = {"keys": [_jwk(kid, raw) for kid, raw in keys.items()]}
                self._fetch_at = self._monotonic() + JWKS_SECONDS
            return self._known


def _jwk(kid: str, raw: bytes) -> dict[str, str]:
    x = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x}
