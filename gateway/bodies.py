"""Around every request of the API: how large its body may be, of which type, and how long it may take to arrive."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.problems import problem

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""As much as a commit of the most changes, or the packs of a large upload, need as JSON."""
_DISCARDED_BYTES: Final = 4 * MAX_BODY_BYTES
_DISCARDED_SECONDS: Final = 5.0
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_JSON: Final = "application/json"


class _TooLarge(Exception):
    """More bytes came than may."""


class Bodies:
    """ASGI middleware. A body is read whole before the application sees the request."""

    def __init__(self, app: ASGIApp, *, prefix: str, seconds: float) -> None:
        """Only what is below `prefix` is concerned; a body arrives within `seconds`."""
        self._app = app
        self._prefix = prefix
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length, chunked = headers.get(b"content-length", b"0"), b"transfer-encoding" in headers
        empty = not chunked and (not length.isdigit() or int(length) == 0)
        untyped = empty and b"content-type" not in headers
        if scope["method"] in _WITH_BODY and not untyped and not _is_json(headers):
            await _wrong_type(scope, receive, send)
            return
        if empty:
            await self._app(scope, receive, send)
            return
        try:
            if not chunked and int(length) > MAX_BODY_BYTES:
                await _discard(receive)
                raise _TooLarge
            async with asyncio.timeout(self._seconds):
                body = await _read(receive)
        except _TooLarge:
            detail = f"a body of a request has at most {MAX_BODY_BYTES} bytes; content goes to S3 (`uploads`)"
            refusal = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "BODY_TOO_LARGE", detail
        except TimeoutError:
            detail = f"the body of the request did not arrive within {self._seconds:.0f} s"
            refusal = HTTPStatus.REQUEST_TIMEOUT, "BODY_TOO_SLOW", detail
        else:
            if body is not None:  # else the client is gone
                await self._app(scope, _replaying(body, receive), send)
            return
        status, reason, detail = refusal
        answer = problem(status=status, reason=reason, detail=detail, headers={"connection": "close"})
        await answer(scope, receive, send)


async def _read(receive: Receive) -> bytes | None:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            if message.get("more_body", False):
                await _discard(receive)
            raise _TooLarge
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _discard(receive: Receive) -> None:
    """Take what still comes, for a while: who is cut off while sending does not read why."""
    left = _DISCARDED_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARDED_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


def _replaying(body: bytes, receive: Receive) -> Receive:
    first = True

    async def replay() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


def _is_json(headers: dict[bytes, bytes]) -> bool:
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == _JSON.encode()


async def _wrong_type(scope: Scope, receive: Receive, send: Send) -> None:
    answer = problem(
        status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        reason="WRONG_MEDIA_TYPE",
        detail=f"the body must be {_JSON}, and `content-type` must say so",
    )
    await answer(scope, receive, send)
