"""A content as a response: conditions, ranges, headers, and the stream of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from http import HTTPStatus
from typing import Final, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.content.allowance import Download
from gateway.content.assemble import Contents
from gateway.content.file_headers import description, etag_of
from gateway.content.ranges import Part, RangeOutcome, wanted
from gateway.http.pace import ACCOUNTED
from gateway.http.problems import problem
from gateway.identity.rights import CheckRight
from runtime.http.connection import RESET
from runtime.interruption import asked_again
from runtime.pool import Share
from syncline.model.errors import Kind, SynclineError
from syncline.model.identifiers import SpaceId
from syncline.model.tree import Content, Node, NodeKind

T = TypeVar("T")

_WAITED_SECONDS: Final = 1.0
"""Seconds of waiting after which the caller's right is checked again before the first byte is sent."""


class Begin(Protocol):
    """Function that starts a download by a public link that limits downloads, and returns None if the download need not
    be counted. `part` is the length of the requested range in bytes, None for the whole content.
    """

    def __call__(self, *, part: int | None = None) -> Awaitable[Download | None]:
        """Start the download, and return it; None if the download need not be counted. Raise LinkExhausted if the link
        allows no more downloads.
        """


class NotAFile(SynclineError):
    """There is no content at this path, which is a directory or a symbolic link; name a file."""

    reason = "NOT_A_FILE"
    kind = Kind.CONFLICT


def content_of(node: Node) -> Content:
    """Return the content of a file. Raise NotAFile if the node is a directory or a symbolic link."""
    if node.kind is not NodeKind.FILE or node.content is None:
        raise NotAFile
    return node.content


async def download(
    request: Request,
    space: SpaceId,
    name: str,
    content: Content,
    contents: Contents,
    *,
    share: Share,
    check_right: CheckRight,
    inline: bool = False,
    begin: Begin | None = None,
) -> Response:
    """Return the answer to a GET or HEAD of a content.

    - `name` is the file name for the client. If `inline`, the content is displayed in the browser if that is safe.
    - `begin` counts a download by a public link; None counts nothing. `begin` is called only before bytes are sent. An
      error that it raises becomes the answer.
    - `share` is charged for the memory.
    - `check_right` checks the right of the caller. This function is called every few seconds, and its error ends the
      sending.
    """
    headers = description(name, content, inline=inline)
    answer = wanted(request.headers, method=request.method, etag=etag_of(content), size=content.size)
    counted = None
    if begin is not None and request.method == "GET" and content.size and _is_part_or_whole(answer):
        counted = await begin(part=answer.stop - answer.start if isinstance(answer, Part) else None)
    match answer:
        case RangeOutcome.NOT_MODIFIED:
            kept = ("cache-control", "etag", "last-modified", "vary")
            return Response(
                status_code=HTTPStatus.NOT_MODIFIED, headers={key: headers[key] for key in kept if key in headers}
            )
        case RangeOutcome.CHANGED:
            return problem(
                status=HTTPStatus.PRECONDITION_FAILED,
                reason="ETAG_MISMATCH",
                detail="the file has changed since the version in If-Match: read it again",
                headers={"etag": headers["etag"]},
            )
        case RangeOutcome.UNSATISFIABLE:
            return problem(
                status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                reason="RANGE_NOT_SATISFIABLE",
                detail=f"the range begins after the end of the file, which has {content.size} bytes",
                headers={"content-range": f"bytes */{content.size}"},
            )
        case Part(start, stop):
            status = HTTPStatus.PARTIAL_CONTENT
            headers["content-range"] = f"bytes {start}-{stop - 1}/{content.size}"
        case RangeOutcome.WHOLE:
            status, start, stop = HTTPStatus.OK, 0, content.size
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD" or start == stop:
        return Response(status_code=status, headers=headers)
    try:
        parts = contents.stream(space, content, start, stop, share=share)
        first = await first_of(parts, check_right)
    except BaseException:
        if counted is not None:
            counted.end(0, complete=False)
        raise
    return Streamed(first, parts, status_code=status, headers=headers, check_right=check_right, counted=counted)


async def first_of(parts: AsyncGenerator[T, None], check_right: CheckRight) -> T:
    """Return the first part that `parts` yields, and raise its error: a failure before the first part can still be
    answered with a status.

    If the first part took longer than _WAITED_SECONDS, because it waited for memory, an earlier check of the caller's
    right may be outdated, and `check_right` is called. If `check_right` raises an error, `parts` is closed and the
    error raised.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    first = await anext(parts)
    if clock() > began + _WAITED_SECONDS:
        try:
            await check_right()
        except BaseException:
            await parts.aclose()
            raise
    return first


def _is_part_or_whole(answer: Part | RangeOutcome) -> bool:
    return isinstance(answer, Part) or answer is RangeOutcome.WHOLE


class Streamed(StreamingResponse):
    """A response that streams bytes. An error after its start can be reported only by breaking the connection. When the
    right has ended, the connection is reset, because the kernel could otherwise hold megabytes for a slow reader, who
    would receive them long afterwards.
    """

    def __init__(
        self,
        first: memoryview | bytes,
        rest: AsyncGenerator[memoryview, None] | AsyncGenerator[bytes, None],
        *,
        status_code: int,
        headers: dict[str, str],
        check_right: CheckRight,
        counted: Download | None = None,
    ) -> None:
        """- `first` is the first part of the body, and `rest` yields the other parts.
        - `check_right` checks the right of the caller every few seconds; its error ends the response.
        - `counted` is the counted download of a public link, which the response ends; None if nothing is counted.
        """
        super().__init__(rest, status_code, headers)
        self._check_right = check_right
        self._counted = counted
        self._sent = 0
        self._complete = False
        self._first = first
        self._rest = rest
        self._has_ended = False
        """True if the right ended before everything was sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Not earlier: Starlette cancels the task of a client that has disconnected, and its error would be lost.
            if self._has_ended:
                scope.get(RESET, lambda: None)()

    async def stream_response(self, send: Send) -> None:
        try:
            await self._stream(send)
        finally:
            if self._counted is not None:
                self._counted.end(self._sent, complete=self._complete)

    async def _stream(self, send: Send) -> None:
        async with aclosing(self._rest), asked_again(self._check_right) as ending:
            try:
                with ending.interrupting():
                    await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                    await self._send(send, self._first)
                    async for part in self._rest:
                        await self._send(send, part)
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    # set here, because a client that has everything may disconnect before the next await
                    self._complete = True
            finally:
                self._has_ended = ending.error is not None and not self._complete

    async def _send(self, send: Send, part: memoryview | bytes) -> None:
        await send({"type": "http.response.body", "body": part, "more_body": True, ACCOUNTED: True})
        self._sent += len(part)
        if self._counted is not None:
            self._counted.spend(self._sent)
