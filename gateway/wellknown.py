"""Where everything is, and the keys that verify access tokens."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any, Final

from core.errors import Unavailable
from gateway.ports import Keys
from gateway.settings import Settings

JWKS_SECONDS: Final = 300
"""For how long keys may be kept, here and by whoever asks; auth signs with a new key no sooner after publishing it."""
_RETRY_SECONDS: Final = 5.0


def endpoints(settings: Settings, *, region: str) -> dict[str, Any]:
    """The contents of `/.well-known/syncline`: all that a client must know beforehand."""

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
    }


class Jwks:
    """The key set as RFC 7517 and 8037 have it, fetched now and then; an old one is better than none."""

    def __init__(self, keys: Keys, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._monotonic = monotonic
        self._known: dict[str, Any] | None = None
        self._fetch_at = 0.0
        self._fetching = asyncio.Lock()

    async def current(self) -> dict[str, Any]:
        """The contents of `/.well-known/jwks.json`; Unavailable if auth has never answered."""
        async with self._fetching:  # whoever waited here finds the answer of the one before
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
