"""Network tokens: with each call to a service, the gateway proves that it is the gateway, and states the network of the
client for which it calls.

A token consists of its expiry time in seconds since 1970, the network, and the HMAC-SHA256 of both under the secret
that the gateway shares with the services, separated by spaces. Nothing of a token is parsed before the HMAC is
verified.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Final

from cachetools import LRUCache

from runtime.logs import structlog
from syncline.model.errors import TokenExpired, TokenInvalid

NETWORK_KEY: Final = "x-syncline-network"
"""Metadata key of the network token, by which the gateway states the network of its client."""
NETWORK_TOKEN_SECONDS: Final = 300
_RENEW_SECONDS: Final = 60
_MAX_REMEMBERED_NETWORKS: Final = 10_000
_PURPOSE: Final = b"syncline network "

log = structlog.get_logger()


def warn_without_secret(secret: str) -> None:
    """Log a warning that states the consequence if `secret`, the secret of the gateway, is empty. Called at the start
    of the gateway, and of the service that undoes copies for it.
    """
    if not secret:
        log.warning(
            "no gateway secret",
            consequence="if the caller of a copy loses the right to write meanwhile, a partial copy stays, and what it "
            "replaced is in the trash",
        )


class NetworkTokens:
    """Creates the gateway's network tokens, which prove to services that a call comes from the gateway and for which
    network: one token per network, valid for some minutes.
    """

    def __init__(self, secret: str, *, now: Callable[[], float] = time.time) -> None:
        """`secret` is shared with all services, and `now` returns seconds since 1970."""
        self._secret = secret
        self._now = now
        self._minted: LRUCache[str, tuple[str, float]] = LRUCache(_MAX_REMEMBERED_NETWORKS)

    def mint(self, network: str) -> str:
        """Return a network token for a call on behalf of `network`, valid for at least a minute."""
        known = self._minted.get(network)
        if known is not None and known[1] > self._now():
            return known[0]
        expires_at = int(self._now()) + NETWORK_TOKEN_SECONDS
        told = f"{expires_at} {network}"
        token = f"{told} {_signature(self._secret, told)}"
        self._minted[network] = (token, expires_at - _RENEW_SECONDS)
        return token


class NetworkTokenVerifier:
    """Verifies, in a service, the network tokens by which the gateway proves that a call is its own and for which
    network it calls.
    """

    def __init__(self, secret: str, *, now: Callable[[], float] = time.time) -> None:
        """`secret` is shared with the gateway, and `now` returns seconds since 1970."""
        self._secret = secret
        self._now = now

    def network(self, token: str) -> str:
        """Return the network that `token` proves. Raise TokenInvalid if its HMAC is wrong, and TokenExpired after its
        expiry time.
        """
        told, _, signature = token.rpartition(" ")
        if not hmac.compare_digest(signature.encode(), _signature(self._secret, told).encode()):
            raise TokenInvalid("the token is not the gateway's")
        expires_at, _, network = told.partition(" ")
        if int(expires_at) <= self._now():
            raise TokenExpired("the token of the gateway has expired")
        return network


def _signature(secret: str, told: str) -> str:
    return hmac.new(secret.encode(), _PURPOSE + told.encode(), hashlib.sha256).hexdigest()
