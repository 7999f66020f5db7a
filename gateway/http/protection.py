"""Security headers that every answer has: private answers are not cached, media types are not guessed, nothing in an
answer is executed or embedded by other sites, no referrer is sent, and TLS is enforced.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.identity.address import OwnAddress

ALWAYS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}
"""Default headers of answers. Pages and contents set no-cache instead, because clients revalidate them by ETag, and
have policies of their own; public keys and discovery may be cached for a while.
"""


class Protected:
    """ASGI middleware that adds security headers to every answer, and is therefore the outermost middleware."""

    def __init__(self, app: ASGIApp, *, own: OwnAddress, hsts_seconds: int) -> None:
        """`hsts_seconds` of 0 leaves Strict-Transport-Security out. The header is sent only over TLS, ours or a
        proxy's.
        """
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
