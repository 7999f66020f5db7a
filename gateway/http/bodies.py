"""Limits of request bodies of the API: their size, their media type, and the callers that may send a large one.

A body is read completely before the application sees the request. All bodies share a pool of memory, in which each is
charged until the request is answered. The sender of a large body is authenticated before the body is read.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.parsing import ParsingTime
from gateway.http.problems import problem, problem_response
from gateway.identity.address import OwnAddress
from gateway.identity.caller import identified
from gateway.identity.shares import share_of
from runtime.pool import Pool, Share
from syncline.model.blocks import KIB
from syncline.model.errors import InvalidArgument, SynclineError

MAX_BODY_BYTES: Final = 4 * 1024 * KIB
"""Maximum size of a body in bytes, which suffices for the largest commit, or the packs of a large upload, as JSON."""
MAX_ANONYMOUS_BYTES: Final = 64 * KIB
"""Maximum size in bytes of an unauthenticated body; more than signing in, signing up or opening a link needs."""
MAX_OBJECTS_AND_LISTS: Final = 25_000
"""Maximum number of objects and lists in a body, more than the largest valid commit has. Each takes 20 times its size
when parsed.
"""
MAX_SEPARATORS: Final = 250_000
"""Maximum number of commas in a body, which bounds the elements of lists and the fields of objects."""
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_JSON: Final = "application/json"


class _TooLarge(Exception):
    """The body exceeds its maximum size."""


class Bodies:
    """ASGI middleware that checks the limits of bodies before they are parsed."""

    def __init__(self, app: ASGIApp, *, prefix: str, memory: Pool, parsing: ParsingTime, own: OwnAddress) -> None:
        """- `prefix` is the beginning of the paths to which the limits apply.
        - `memory` is the pool of memory for bodies, and `parsing` shares the time for parsing them.
        - `own` names the network of a request.
        """
        self._app = app
        self._prefix = prefix
        self._memory = memory
        self._parsing = parsing
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request. Raise TooSlow if its body arrives too slowly, and TooMuchAtOnce if the pool has no memory
        for it.
        """
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
        async with AsyncExitStack() as taken:
            try:
                body, share = await self._read(Request(scope), receive, None if chunked else int(length), taken)
            except _TooLarge:
                answer = problem(
                    status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    reason="BODY_TOO_LARGE",
                    detail=f"a body of a request has at most {MAX_BODY_BYTES} bytes; content goes to S3 (`uploads`)",
                    headers={"connection": "close"},
                )
            except SynclineError as error:
                answer = problem_response(error)
                answer.headers["connection"] = "close"
            else:
                if body is not None:
                    containers, separators = body.count(b"{") + body.count(b"["), body.count(b",")
                    await self._parsing.take(share, size=len(body), parts=containers + separators)
                    # A body that takes much time and memory to parse contains many of these characters. Those in
                    # strings count as well.
                    dense = containers > MAX_OBJECTS_AND_LISTS or separators > MAX_SEPARATORS
                    await (_too_dense if dense else self._app)(scope, _replaying(body, receive), send)
                return
            await answer(scope, receive, send)  # the connection discards the rest of the input for a while

    async def _read(
        self, request: Request, receive: Receive, length: int | None, taken: AsyncExitStack
    ) -> tuple[bytes | None, Share]:
        """Return the whole body of a request, and the share to which its memory is charged; the memory is released when
        `taken` is closed. The body is None if the client has disconnected. The share is that of the network until the
        sender is authenticated.

        `length` is the Content-Length in bytes, None if there is none. Raise _TooLarge if the body exceeds
        MAX_BODY_BYTES, and the errors of `identified` for a large body without an authenticated sender.
        """
        if length is not None and length > MAX_BODY_BYTES:
            raise _TooLarge
        limit = MAX_BODY_BYTES if length is None else length
        parts, size = [], 0
        # without a length, the sender is authenticated before a large body is read
        if length is None:
            reserved = MAX_ANONYMOUS_BYTES
        elif length <= MAX_ANONYMOUS_BYTES:
            reserved = length
        else:
            reserved = 0
        share = Share.alone(self._own.network(request))
        if reserved:
            await taken.enter_async_context(self._memory.lent(reserved, share))
        ended = False
        while not ended:
            if reserved:
                message = await receive()
                if message["type"] != "http.request":
                    return None, share
                ended = not message.get("more_body", False)
                size += len(message.get("body", b""))
                parts.append(message.get("body", b""))
            if size > limit:
                raise _TooLarge
            if size > reserved or not reserved:
                share = share_of(request, await identified(request))
                await taken.enter_async_context(self._memory.lent(limit - reserved, share))
                reserved = limit
        return b"".join(parts), share


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


async def _too_dense(scope: Scope, receive: Receive, send: Send) -> None:
    answer = problem(
        status=HTTPStatus.BAD_REQUEST,
        reason=InvalidArgument.reason,
        detail=f"a body has at most {MAX_OBJECTS_AND_LISTS} objects and lists and {MAX_SEPARATORS} commas; split it",
    )
    await answer(scope, receive, send)


async def _wrong_type(scope: Scope, receive: Receive, send: Send) -> None:
    answer = problem(
        status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        reason="WRONG_MEDIA_TYPE",
        detail=f"the body must be {_JSON}, and `content-type` must say so",
    )
    await answer(scope, receive, send)
