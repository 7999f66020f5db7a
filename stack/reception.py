"""Connections to the embedded AWS: browsers and devices use the addresses that it signs, so strangers reach it too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar, Final

from typing_extensions import override

from runtime.connections import ConnectionPool
from runtime.http1 import Reception, Scope
from runtime.pool import TooMuchAtOnce
from runtime.turns import granted

CONNECTIONS: Final = 4096
"""Maximum number of connections, if the process may open twice as many files."""
UNREAD_BYTES: Final = 64 * 1024 * 1024
"""Memory for input that no request has taken yet, of all connections, in bytes."""
HEAD_SECONDS: Final = 30.0
"""Seconds from the first byte of a request's head to its last."""


class AwsReception(Reception):
    """The bounds that the connections of the embedded AWS share. No proxy stands before it."""

    too_many: ClassVar[HTTPStatus] = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, connections: int, *, head_seconds: float = HEAD_SECONDS) -> None:
        """`connections` is their maximum number. The head of a request may take `head_seconds` to arrive."""
        super().__init__(ConnectionPool(connections, ()), unread_bytes=UNREAD_BYTES, head_seconds=head_seconds)

    @override
    def turn(self, scope: Scope) -> asyncio.Future[None]:
        return granted((scope["client"] or ("",))[0])

    @override
    def member(self, scope: Scope) -> str:
        return ""

    @override
    def refusal(self, status: HTTPStatus, detail: str, error: TooMuchAtOnce | None) -> tuple[Mapping[str, str], bytes]:
        code = "InvalidRequest" if error is None else "SlowDown"
        body = f"<Error><Code>{code}</Code><Message>{detail}</Message></Error>"
        return {"content-type": "application/xml"}, body.encode()
