"""Headers that every answer has, whoever gave it: what is private is not stored, nothing is guessed, TLS stays TLS."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.identity.address import OwnAddress

ALWAYS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers for answers that do not set them. Pages and contents say no-cache, since clients revalidate them by ETag;
public keys and discovery may be cached for a while."""


class Protected:
    """ASGI middleware; outermost."""

    def __init__(self, app: ASGIApp, *, own: OwnAddress, hsts_seconds: int) -> None:
        """`hsts_seconds` of 0 leaves Strict-Transport-Security out. It is for TLS only, of ours or of a proxy's."""
        self._app = app
        self._own = own
        self._hsts_seconds = hsts_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message.get("headers", [])))
                for name, value in ALWAYS.items():
                    headers.setdefault(name, value)
                if self._hsts_seconds and (self._own.of(Request(scope)).shown or "").startswith("https:"):
                    headers.setdefault("strict-transport-security", f"max-age={self._hsts_seconds}")
                message["headers"] = headers.raw
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)
