"""Connections of the gateway: their network, the order in which requests start, and refusals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from cachetools import LRUCache
from starlette.requests import Request
from starlette.types import Scope
from typing_extensions import override

from gateway import metrics
from gateway.http.problems import MEDIA_TYPE
from gateway.http.protection import ALWAYS
from gateway.identity.address import OwnAddress
from runtime.connection_pool import ConnectionPool
from runtime.http.connection import Reception
from runtime.pool import TooMuchAtOnce

UNREAD_MEMORY_BYTES: Final = 32 * 1024 * 1024
"""Memory in bytes for unconsumed input of all connections."""
_MAX_REMEMBERED_CREDENTIALS: Final = 10_000
"""Maximum number of remembered credentials that were accepted."""

ACCEPTED: Final = "syncline.accepted"
"""Key in the ASGI scope of a request. The value is a function to be called with the scope once a service has accepted
the sender of the request.
"""

SENDER: Final = "syncline.sender"
"""Key in the ASGI scope of a request. The value is a function that takes the scope, and returns a name for the sender
if a service has accepted the sender's credentials before, and otherwise an empty text.
"""


class GatewayReception(Reception):
    """The limits that the gateway's connections share, the order in which their requests start, and the texts of
    refusals.
    """

    def __init__(self, total: int, own: OwnAddress, *, header_section_seconds: float) -> None:
        """`total` is the maximum number of connections, and `own` determines the network of a request. The header
        section of a request has to arrive within `header_section_seconds`.
        """
        pool = ConnectionPool(total, own.proxies)
        super().__init__(pool, unread_bytes=UNREAD_MEMORY_BYTES, header_section_seconds=header_section_seconds)
        metrics.CONNECTIONS.set_function(pool.taken)
        self._own = own
        self._accepted: LRUCache[bytes, None] = LRUCache(_MAX_REMEMBERED_CREDENTIALS)
        """The digests of the credentials that a service has accepted; the values have no meaning."""

    @override
    def network(self, scope: Scope) -> str:
        return self._own.network(Request(scope))

    @override
    def person(self, scope: Scope) -> str:
        """Return a name for the sender of the request with this ASGI scope, if its credentials were accepted before.
        All other senders of a network count as one.
        """
        credentials = _credentials(scope)
        return credentials.hex() if credentials in self._accepted else ""

    @override
    def refusal(self, status: HTTPStatus, detail: str, error: TooMuchAtOnce | None) -> tuple[Mapping[str, str], bytes]:
        reason = error.reason if error is not None else "INVALID_REQUEST"
        fields = {"title": status.phrase, "status": status, "detail": detail, "reason": reason, "request_id": ""}
        headers = {"content-type": MEDIA_TYPE, **ALWAYS}
        if error is not None:
            headers["retry-after"] = f"{error.pause_seconds:.0f}"
        return headers, json.dumps(fields).encode()

    @override
    def prepare(self, scope: Scope) -> None:
        scope[ACCEPTED] = self.accept
        scope[SENDER] = self.person

    def accept(self, scope: Scope) -> None:
        """Record that a service has accepted the credentials of the request with this ASGI scope."""
        self._accepted[_credentials(scope)] = None


def _credentials(scope: Scope) -> bytes:
    """Return the digest of all credentials in a request."""
    told = [value for name, value in scope["headers"] if name in {b"authorization", b"cookie"}]
    return hashlib.sha256(b"\0".join(told)).digest() if told else b""
