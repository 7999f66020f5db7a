"""The emulator's own HTTP interface, of which only the read requests remain, for programs and not for pages in a
browser.
"""

from __future__ import annotations

import base64
import hmac
from typing import Final

from stack.emulator.asgi import AsgiApp, AsgiScope, Receive, Send

_OWN_PATHS: Final = ("/_ministack/", "/_localstack/", "/health")
_READABLE: Final = frozenset({"/_ministack/health"})
_READABLE_BY_ROOT: Final = frozenset({"/_ministack/ses/messages", "/_ministack/sqs/messages"})
"""Addresses that only the root credentials may read: mails to people, and messages between the services."""


def guard_interface(app: AsgiApp, access_key_id: str, secret_access_key: str) -> AsgiApp:
    """Return an ASGI application that refuses most requests to the emulator's own interface, and passes all other
    requests to `app`. `access_key_id` and `secret_access_key` are the credentials of root.
    """
    root = b"Basic " + base64.b64encode(f"{access_key_id}:{secret_access_key}".encode())

    async def answer(scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_OWN_PATHS) or _may_read(scope, root):
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return answer


def _may_read(scope: AsgiScope, root: bytes) -> bool:
    headers = {name.lower(): value for name, value in scope["headers"]}
    host = headers.get(b"host", b"").rpartition(b":")[0]
    from_page = b"origin" in headers or b"sec-fetch-site" in headers or host not in {b"127.0.0.1", b"localhost"}
    if scope["method"] not in {"GET", "HEAD"} or from_page:
        return False
    by_root = scope["path"] in _READABLE_BY_ROOT and hmac.compare_digest(headers.get(b"authorization", b""), root)
    return by_root or scope["path"] in _READABLE
