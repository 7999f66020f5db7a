"""WebDAV as an ASGI application: authentication, downloads on the event loop, and worker threads for everything else.

| request | is answered |
|---|---|
| GET, HEAD | as the API does, on the event loop |
| PUT | by workers, one for each received part of the body, if there is memory for it |
| all others | by workers, one for each part of the answer, after the body was received |

A slow client therefore never occupies a worker, and the worker threads are shared fairly among callers.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar

from anyio import CancelScope
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override
from wsgidav.dav_error import DAVError

from gateway.content.download import download
from gateway.dav import properties
from gateway.dav.bodies import Incoming
from gateway.dav.callers import Callers
from gateway.dav.checks import check_headers, check_xml, readable_if
from gateway.dav.parts import MOUNT, DavParts
from gateway.dav.protocol import Protocol, Upload, segments
from gateway.dav.provider import parts_of
from gateway.dav.refusals import DavRefused, error_page, refused_by
from gateway.dav.session import DavSession, Person
from gateway.dav.upload import FIRST_BYTES, FIRST_MEMORY_BYTES, SpaceStorage, UploadCredentials, memory_of
from gateway.http.dates import seconds_of
from gateway.http.pace import TooSlow
from gateway.identity.address import SeenAddress
from gateway.identity.rights import right_check
from gateway.services.calls import CallPatience, ask, known_node, set_patience
from runtime.interruption import ClientGone, asked_again
from runtime.permissions import Work
from runtime.pool import PATIENCE_SECONDS, Pool, Share
from runtime.rates import Rate, Rates
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import InvalidArgument, NoSuchNode, SynclineError
from syncline.model.identifiers import SpaceId
from syncline.model.tree import NodeKind, fitting_time_ns

T = TypeVar("T")

_MAX_WORKERS: Final = 8
"""Maximum number of worker threads that process a request at the same time."""
_MAX_PAUSED_WORKERS: Final = 32
"""Maximum number of additional worker threads that wait because their caller is rate-limited. A request whose worker
would have to wait beyond this number is refused and has to be repeated.
"""
_MAX_OWING_REQUESTS: Final = 16
"""Maximum number of requests of one person that may wait at the same time for the rate limit of bytes of stored
properties.
"""
_PAUSE_SECONDS: Final = 5.0
_MAX_XML_BYTES: Final = 256 * 1024
_NOT_PASSED: Final = frozenset({"authorization", "cookie", "content-length", "if-modified-since", "proxy"})
"""Headers that are not passed to WsgiDAV. If-Modified-Since has a meaning only for GET and HEAD, which WsgiDAV does not
handle here.
"""
_WITH_XML: Final = frozenset({"LOCK", "PROPFIND", "PROPPATCH"})
_READING: Final = frozenset({"GET", "HEAD"})
_CONFIG: Final[dict[str, Any]] = {"add_header_MS_Author_Via": True, "hotfixes": {}, "mutable_live_props": []}
_NANOSECONDS: Final = 1_000_000_000
_HINT: Final = (
    "This folder is for programs that mount it (WebDAV), with your e-mail address and a key as the password.\n"
)


class Dav:
    """The ASGI application of WebDAV. The application authenticates the sender of each request. The request is then
    answered on the event loop or by worker threads, as the module lists.
    """

    def __init__(self, parts: DavParts) -> None:
        self._parts = parts
        self._callers = Callers(parts.services, parts.keys)
        self._credentials = UploadCredentials(now_ms=lambda: int(time.time() * 1000))
        self._memory = Pool("uploads", parts.upload_memory - parts.upload_memory // 8)
        self._first_memory = Pool("small_uploads", parts.upload_memory // 8)
        self._turns = Pool("webdav", _MAX_WORKERS)
        self._paused = Pool("webdav_paused", _MAX_PAUSED_WORKERS)
        self._owing = Counter[str]()
        self._property_bytes = Rates({Work.READ: Rate(properties.READ_BYTES_PER_SECOND, properties.READ_BURST_BYTES)})
        self._workers = ThreadPoolExecutor(_MAX_WORKERS + _MAX_PAUSED_WORKERS, thread_name_prefix="dav")
        # WsgiDAV's log contains paths, which are private; failures are logged here and in `RequestMiddleware`.
        logging.getLogger("wsgidav").setLevel(logging.CRITICAL + 1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, answer = Request(scope, receive), _Answer(send)
        set_patience(CallPatience(begun=True))  # few programs that mount folders handle rate limits
        try:
            path = segments(scope["raw_path"].decode("ascii", errors="strict"))
            names = parts_of(path)
            person = await self._person(request, names)
            if scope["method"] in _READING:
                response = await self._read(request, person, names)
                answer.begun = True  # set by the response: a failure from here on closes the connection
                await response(scope, receive, send)
                return
            check_headers(request.headers)
            environ = _environ(request, person, path, self._parts.own.of(request))
            if scope["method"] == "PUT":
                await self._put(request, person, environ, answer)
                return
            share = self._share(request, person)
            length = _MAX_XML_BYTES if "transfer-encoding" in request.headers else _length(request) or 0
            async with self._parts.bodies.lent(min(length, _MAX_XML_BYTES), share):
                body = await _xml(request)
                person = await self._person(request, names)  # again: the body may have come slowly
                if body and scope["method"] in _WITH_XML:
                    parts = body.count(b"<") + body.count(b"=")
                    await self._parts.parsing.take(share, size=len(body), parts=parts)
                    check_xml(body)
                environ["CONTENT_LENGTH"] = str(len(body))
                environ["wsgi.input"] = io.BytesIO(body)
                if scope["method"] == "PROPFIND":
                    async with _left(request) as gone:
                        await self._work(share, person, environ, answer, gone=gone)
                elif scope["method"] == "COPY":
                    async with AsyncExitStack() as counted:
                        running = self._parts.copies.running(share, person.caller.fresh, request.receive)
                        environ["syncline.running_copy"] = partial(counted.enter_async_context, running)
                        await self._work(share, person, environ, answer)
                else:
                    await self._work(share, person, environ, answer)
        except UnicodeDecodeError:
            await _refuse(DavRefused(HTTPStatus.BAD_REQUEST, "the path is not encoded"), scope, receive, send)
        except ClientGone:
            return
        except (SynclineError, DAVError, TooSlow) as error:
            if answer.begun:
                raise
            await _refuse(_refusal(error), scope, receive, send)

    async def _person(self, request: Request, names: tuple[str, ...]) -> Person:
        """Return the sender of a request, of which `names` is the path below the mount point. The spaces of the sender
        come from an answer of auth within the last REMEMBERED_SECONDS. Raise DavRefused if the sender is not
        authenticated, or must not use the method.
        """
        authorization, space = request.headers.get("authorization"), names[0] if names else ""
        return await self._callers.person(authorization, method=request.method, space=space)

    async def _read(self, request: Request, person: Person, names: tuple[str, ...]) -> Response:
        """Return the answer to a GET or HEAD. Raise NoSuchNode if there is no such file or directory."""
        space = person.spaces.get(names[0]) if names else None
        if names and space is None:
            raise NoSuchNode
        if space is None or len(names) == 1:
            return PlainTextResponse(_HINT, headers={"cache-control": "no-store"})
        answer = await ask(
            self._parts.services.metadata.GetNode,
            metadata_pb2.GetNodeRequest(space_id=space.id, path="/".join(names[1:])),
            token=person.caller.token,
        )
        node = known_node(answer.node)
        if node.kind is NodeKind.DIRECTORY:
            return PlainTextResponse(_HINT, headers={"cache-control": "no-store"})
        if node.kind is not NodeKind.FILE or node.content is None:
            raise NoSuchNode
        share = self._share(request, person)
        reads = right_check(self._parts.services, person.caller.fresh, space.id)
        return await download(
            request, space.id, node.name, node.content, self._parts.contents, share=share, check_right=reads
        )

    async def _put(self, request: Request, person: Person, environ: dict[str, Any], answer: _Answer) -> None:
        length = _length(request)
        space = person.spaces.get(parts_of(environ["PATH_INFO"])[0]) if environ["PATH_INFO"].strip("/") else None
        if space is None:
            raise NoSuchNode
        loop, share = asyncio.get_running_loop(), self._share(request, person)
        size = memory_of(length)
        first = min(size, FIRST_MEMORY_BYTES)
        storage = SpaceStorage(
            self._parts.services,
            self._parts.sink,
            self._credentials,
            space=space.id,
            caller=person.caller,
            share=share,
        )
        writes = right_check(self._parts.services, person.caller.fresh, space.id, writes=True)
        async with AsyncExitStack() as taken, asked_again(writes) as ending:

            async def more() -> None:
                if size > first:
                    await taken.enter_async_context(self._memory.lent(size, share))

            await taken.enter_async_context(self._first_memory.lent(first, share))
            environ["CONTENT_LENGTH"] = str(length or 0)
            body = Incoming(request.receive, ending, first=FIRST_BYTES, more=more)
            environ["syncline.upload"] = Upload(body, request.headers, length, storage, loop)
            environ["syncline.now_ns"] = time.time_ns()
            await self._work(share, person, environ, answer)

    async def _work(
        self,
        share: Share,
        person: Person,
        environ: dict[str, Any],
        answer: _Answer,
        *,
        gone: Callable[[], bool] = lambda: False,
    ) -> None:
        """Handle the request in worker threads, and send the answer part by part by `answer`. Between two parts no
        worker is occupied, so that none waits for the client.

        - `share` is charged for memory and threads.
        - `person` is the sender of the request, and `environ` the request in the form of WSGI.
        - `gone` returns True if the client has disconnected. After the current part, ClientGone is then raised. A
          change that a worker has begun is completed all the same, except for the copy of a directory, which is undone.
        """
        mount = environ["syncline.here"].prefix + MOUNT
        session = DavSession(
            self._parts.services,
            self._parts.records,
            person,
            asyncio.get_running_loop(),
            ask_right=partial(self._ask_right, person),
            mount=mount,
            waiting=answer.waiting,
            pay=partial(self._pay, person.user),
        )
        parts = Protocol(session, environ)(environ, answer.told)
        context = contextvars.copy_context()
        try:
            while (part := await self._worked(share, context, partial(next, parts, None), answer)) is not None:
                if isinstance(part, bytes):
                    await answer.send(part)
                else:
                    await part()
                if gone():
                    raise ClientGone
            await answer.end()
        except BaseException:
            with CancelScope(shield=True):
                await self._worked(share, context, parts.close, answer)
            raise

    async def _ask_right(self, person: Person, space: SpaceId, *, writes: bool) -> None:
        """Ask auth if `person` may read in the space now, or, if `writes`, write in it. Raise the error of auth if the
        person may not.
        """
        await right_check(self._parts.services, person.caller.fresh, space, writes=writes)()

    async def _pay(self, user: str, size: int, *, refusable: bool) -> None:
        """Wait until the rate limit for bytes of stored properties admits `size` further bytes of the user. If
        _MAX_OWING_REQUESTS requests of the user wait already and `refusable` is True, raise RateExceeded at once, and
        count nothing.
        """
        if refusable and self._owing[user] >= _MAX_OWING_REQUESTS:
            text = "too many of your requests wait for the limit of properties; try again in a few seconds"
            raise self._property_bytes.refused(Work.READ, _PAUSE_SECONDS, text)
        self._owing[user] += 1
        try:
            await self._property_bytes.take(Work.READ, user, size)
        finally:
            self._owing[user] -= 1
            if not self._owing[user]:
                del self._owing[user]

    async def _worked(self, share: Share, context: contextvars.Context, work: Callable[[], T], answer: _Answer) -> T:
        slot = _WorkerSlot(self._turns, self._paused, share)
        await self._turns.take(1, share, patience=None if answer.under_way else PATIENCE_SECONDS)
        answer.under_way, answer.slot = True, slot
        working = asyncio.get_running_loop().run_in_executor(self._workers, context.run, work)
        working.add_done_callback(lambda _: slot.end())
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            with CancelScope(shield=True):
                await asyncio.wait([working])
            raise

    def _share(self, request: Request, person: Person) -> Share:
        return Share(person.user, self._parts.own.network(request))


class _WorkerSlot:
    """The right of one worker thread to run. The worker has one slot of the pool `turns`, which bounds how many
    workers run at the same time. While a rate limit makes the worker wait, it has one slot of the pool `paused`
    instead, so that another worker may run.
    """

    def __init__(self, turns: Pool, paused: Pool, share: Share) -> None:
        """`share` is charged in both pools. The caller must take a slot of `turns` before the worker starts."""
        self._turns = turns
        self._paused = paused
        self._share = share
        self._has: Pool | None = turns
        """The pool of which the worker has one slot now; None if it has none."""

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Context manager within which the worker waits for calls of services. If a rate limit makes a call wait,
        another worker may run meanwhile (`let_go`). At its end, the context manager waits until this worker may run
        again.
        """
        patience = _WithoutTurn(self)
        set_patience(patience)
        try:
            yield
        finally:
            patience.over = True
            if self._has is not self._turns:
                # a slot of `paused` stands for a thread, which is occupied until the worker resumes
                await self._turns.take(1, self._share, patience=None)
                self.end()
                self._has = self._turns

    def let_go(self) -> bool:
        """Let another worker run while this one waits for a rate limit, and return True: take a slot of the pool
        `paused`, and return the slot of `turns`. If the worker has a slot of `paused` already, only return True.
        Return False, and change nothing, if `paused` has no slot free for the share of this worker.
        """
        if self._has is not self._paused:
            if not self._paused.try_take(1, self._share):
                return False
            self.end()
            self._has = self._paused
        return True

    def end(self) -> None:
        """Return the worker's slot to its pool, because the worker is done or has to wait. Further calls have no
        effect.
        """
        if self._has is not None:
            self._has.give(1, self._share)
            self._has = None


class _WithoutTurn(CallPatience):
    """The waiting policy of the calls of services for which a worker thread waits: while a limit makes a call wait,
    another worker may run in place of this one.
    """

    def __init__(self, slot: _WorkerSlot) -> None:
        super().__init__(begun=True)
        self._slot = slot
        self.over = False
        """True once the worker no longer waits, even if some of its calls are still in progress: a call that a limit
        refuses then fails instead of waiting.
        """

    @override
    async def pause(self, seconds: float, error: SynclineError) -> None:
        if self.over or not self._slot.let_go():
            raise error
        await super().pause(seconds, error)


class _Answer:
    """The answer to a WebDAV request while it is sent. The first part of the body is held back until a second part
    follows or the body ends. A body of one part is then sent with its Content-Length.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status, self._headers = HTTPStatus.OK.value, list[tuple[str, str]]()
        self._held: bytes | None = None
        self.under_way = False
        """True once a worker has started: from then on the request waits for free workers without a limit."""
        self.begun = False
        """True once the status has been sent."""
        self.slot: _WorkerSlot
        """The slot of the worker that produces the present part of the answer."""

    def waiting(self) -> AbstractAsyncContextManager[None]:
        """Return the context manager within which the worker that produces the present part waits for calls of
        services (`_WorkerSlot.waiting`).
        """
        return self.slot.waiting()

    def told(self, line: str, headers: Iterable[tuple[str, str]], _: Any = None) -> None:
        """Record the status line and the headers of the answer, which are sent with the body. This is WSGI's
        `start_response`.
        """
        self._status, self._headers = int(line.partition(" ")[0]), list(headers)

    async def send(self, part: bytes) -> None:
        """Send the next part of the body. The first part is held back: it is sent before the second part, or by `end`
        with its Content-Length if it is the only part. The status and the headers are sent before the first part.
        """
        if not self.begun and self._held is None:
            self._held = part
            return
        await self._start()
        held, self._held = self._held, None
        if held is not None:
            await self._send({"type": "http.response.body", "body": held, "more_body": True})
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self) -> None:
        """End the body, after sending what was held back. An answer of which nothing was sent yet gets a
        Content-Length, unless it has one.
        """
        held = self._held or b""
        if not self.begun and all(name.lower() != "content-length" for name, _ in self._headers):
            self._headers.append(("Content-Length", str(len(held))))
        await self._start()
        await self._send({"type": "http.response.body", "body": held, "more_body": False})

    async def _start(self) -> None:
        if not self.begun:
            self.begun = True
            raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self._headers]
            await self._send({"type": "http.response.start", "status": self._status, "headers": raw})


def _environ(request: Request, person: Person, path: str, here: SeenAddress) -> dict[str, Any]:
    """Return the request of `person` as an environment of WSGI, with the additional keys that WsgiDAV and this package
    use. `path` is the path below the mount point, and `here` the gateway's address as the sender sees it.
    """
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": MOUNT,
        "PATH_INFO": path if path.startswith("/") else f"/{path}",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgidav.config": _CONFIG,
        "wsgidav.verbose": 0,
        "wsgidav.auth.user_name": person.user,
        "syncline.here": here,
    }
    for name, value in request.headers.items():
        if name in _NOT_PASSED or "_" in name:  # WSGI replaces - by _, so X_OC_Mtime would be taken for X-OC-Mtime
            continue
        told = _READ[name](value) if name in _READ else value
        if told is not None:
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = told
    return environ


def _unmodified_since(value: str) -> str | None:
    """Return the date in the form that WsgiDAV parses correctly, with a four-digit year; None for an invalid date."""
    try:
        return formatdate(fitting_time_ns(seconds_of(value) * _NANOSECONDS) // _NANOSECONDS, usegmt=True)
    except ValueError:
        return None


_READ: Final[dict[str, Callable[[str], str | None]]] = {"if": readable_if, "if-unmodified-since": _unmodified_since}
"""Functions by the name of a header. Each takes the value of the header, and returns it in the form that WsgiDAV parses
correctly. If it returns None, the header is left out.
"""


@asynccontextmanager
async def _left(request: Request) -> AsyncIterator[Callable[[], bool]]:
    """Context manager that yields a function which returns True if the client of the request has disconnected. The body
    of the request must have been read.
    """
    disconnect = asyncio.ensure_future(request.receive())
    try:
        yield disconnect.done
    finally:
        disconnect.cancel()
        await asyncio.gather(disconnect, return_exceptions=True)


def _length(request: Request) -> int | None:
    """Return the Content-Length of an upload in bytes; None if there is none."""
    raw = request.headers.get("content-length")
    return int(raw) if raw is not None and raw.isdecimal() else None


async def _xml(request: Request) -> bytes:
    """Return the body of a request other than PUT, which is small and XML. Raise DavRefused if the body exceeds
    _MAX_XML_BYTES, and ClientGone if the client disconnects.
    """
    parts, size = [], 0
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > _MAX_XML_BYTES:
            raise DavRefused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body of such a request has at most {_MAX_XML_BYTES} bytes"
            )
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _refusal(error: SynclineError | DAVError | TooSlow) -> DAVError:
    if isinstance(error, TooSlow):
        return DavRefused(
            HTTPStatus.REQUEST_TIMEOUT, "the body of the request came too slowly; try again", reason="BODY_TOO_SLOW"
        )
    if isinstance(error, InvalidArgument):
        return DavRefused(HTTPStatus.BAD_REQUEST, str(error), reason=error.reason)
    return refused_by(error) if isinstance(error, SynclineError) else error


async def _refuse(error: DAVError, scope: Scope, receive: Receive, send: Send) -> None:
    status, body, headers = error_page(error)
    await Response(body, status, headers=headers)(scope, receive, send)
