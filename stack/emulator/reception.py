"""Connections to the embedded AWS, whose signed addresses browsers and devices use, so that untrusted clients reach it,
too.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar, Final

from typing_extensions import override

from runtime.connection_pool import ConnectionPool
from runtime.http.connection import Reception, RequestScope
from runtime.pool import TooMuchAtOnce

MAX_CONNECTIONS: Final = 4096
"""Maximum number of connections, if the open-file limit is at least twice as high."""
UNREAD_MEMORY_BYTES: Final = 64 * 1024 * 1024
"""Memory in bytes for unconsumed input of all connections."""
HEADER_SECTION_SECONDS: Final = 30.0
"""Maximum seconds for the header section of a request, from its first byte to its last."""


class AwsReception(Reception):
    """The limits that the connections of the embedded AWS share. No proxy is in front of it."""

    too_many: ClassVar[HTTPStatus] = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, connections: int, *, header_section_seconds: float = HEADER_SECTION_SECONDS) -> None:
        """`connections` is the maximum number of connections. The header section of a request has to arrive within
        `header_section_seconds`.
        """
        super().__init__(
            ConnectionPool(connections, ()),
            unread_bytes=UNREAD_MEMORY_BYTES,
            header_section_seconds=header_section_seconds,
        )

    @override
    def network(self, scope: RequestScope) -> str:
        return (scope["client"] or ("",))[0]

    @override
    def person(self, scope: RequestScope) -> str:
        return ""

    @override
    def refusal(self, status: HTTPStatus, detail: str, error: TooMuchAtOnce | None) -> tuple[Mapping[str, str], bytes]:
        code = "InvalidRequest" if error is None else "SlowDown"
        body = f"<Error><Code>{code}</Code><Message>{detail}</Message></Error>"
        return {"content-type": "application/xml"}, body.encode()
