"""WebDAV as an ASGI application: who asks, what goes out by itself, and the threads for everything else.

| request | is answered |
|---|---|
| GET, HEAD | as the API does, on the event loop |
| PUT | by a worker for as long as the body takes, if there is memory for it |
| all others | by a worker, when the body is there |
"""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send
from wsgidav.dav_error import DAVError

from core.errors import InvalidArgument, NoSuchNode, SynclineError
from core.tree import NodeKind, fitting_time_ns
from gateway.address import Here
from gateway.dates import seconds_of
from gateway.dav.bodies import SILENCE_SECONDS, ClientGone, Incoming, Outgoing
from gateway.dav.callers import Callers
from gateway.dav.checks import check_headers, check_xml, readable_if
from gateway.dav.mount import MOUNT, Behind
from gateway.dav.protocol import Protocol, Upload, segments
from gateway.dav.provider import parts_of
from gateway.dav.refusals import Refused, of_error, page
from gateway.dav.session import Person, Session
from gateway.dav.upload import Credentials, Storage, memory_of
from gateway.download import download
from gateway.services import ask, known_node
from gateway.standing import standing
from runtime.context import request_id
from runtime.interruption import asked_again
from runtime.logs import structlog
from runtime.pool import Pool, Share
from syncline.metadata.v1 import metadata_pb2

T = TypeVar("T")

_WORKERS: Final = 8
_UPLOADS: Final = 16
_MAX_XML_BYTES: Final = 256 * 1024
_NOT_PASSED: Final = frozenset({"authorization", "cookie", "content-length", "if-modified-since", "proxy"})
"""If-Modified-Since is for GET and HEAD, which do not come that way; with anything else it means nothing."""
_WITH_XML: Final = frozenset({"LOCK", "PROPFIND", "PROPPATCH"})
_READING: Final = frozenset({"GET", "HEAD"})
_CONFIG: Final[dict[str, Any]] = {"add_header_MS_Author_Via": True, "hotfixes": {}, "mutable_live_props": []}
_NANOSECONDS: Final = 1_000_000_000
_HINT: Final = (
    "This folder is for programs that mount it (WebDAV), with your e-mail address and a key as the password.\n"
)

log = structlog.get_logger()


class Dav:
    """The application."""

    def __init__(self, behind: Behind) -> None:
        self._behind = behind
        self._callers = Callers(behind.services, behind.keys)
        self._credentials = Credentials(now_ms=lambda: int(time.time() * 1000))
        self._memory = Pool("uploads", behind.upload_memory)
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="dav")
        self._uploaders = ThreadPoolExecutor(_UPLOADS, thread_name_prefix="dav-put")
        # What it logs tells paths, which are people's; what fails is logged here and in `Requests`.
        logging.getLogger("wsgidav").setLevel(logging.CRITICAL + 1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        request = Request(scope, receive)
        try:
            path = segments(scope["raw_path"].decode("ascii", errors="strict"))
            names = parts_of(path)
            person = await self._callers.person(
                request.headers.get("authorization"), method=scope["method"], space=names[0] if names else ""
            )
            if scope["method"] in _READING:
                await (await self._read(request, person, names))(scope, receive, send)
                return
            check_headers(request.headers)
            environ = _environ(request, person, path, self._behind.own.of(request))
            if scope["method"] == "PUT":
                await self._put(request, person, environ, receive, send)
                return
            body = await _xml(request)
            if body and scope["method"] in _WITH_XML:
                check_xml(body)
            environ["CONTENT_LENGTH"] = str(len(body))
            environ["wsgi.input"] = io.BytesIO(body)
            await self._work(self._workers, person, environ, send)
        except UnicodeDecodeError:
            await _refuse(Refused(HTTPStatus.BAD_REQUEST, "the path is not encoded"), scope, receive, send)
        except InvalidArgument as error:
            await _refuse(Refused(HTTPStatus.BAD_REQUEST, str(error), reason=error.reason), scope, receive, send)
        except SynclineError as error:
            await _refuse(of_error(error), scope, receive, send)
        except DAVError as error:
            await _refuse(error, scope, receive, send)
        except ClientGone:
            return

    async def _read(self, request: Request, person: Person, names: tuple[str, ...]) -> Response:
        """What a GET or HEAD is answered."""
        space = person.spaces.get(names[0]) if names else None
        if names and space is None:
            raise NoSuchNode
        if space is None or len(names) == 1:
            return PlainTextResponse(_HINT, headers={"cache-control": "no-store"})
        answer = await ask(
            self._behind.services.metadata.GetNode,
            metadata_pb2.GetNodeRequest(space_id=space.id, path="/".join(names[1:])),
            token=person.caller.token,
        )
        node = known_node(answer.node)
        if node.kind is NodeKind.DIRECTORY:
            return PlainTextResponse(_HINT, headers={"cache-control": "no-store"})
        if node.kind is not NodeKind.FILE or node.content is None:
            raise NoSuchNode
        share = Share(person.user, self._behind.own.network(request))
        reads = standing(self._behind.services, person.caller.fresh, space.id)
        return await download(
            request, space.id, node.name, node.content, self._behind.contents, share=share, standing=reads
        )

    async def _put(
        self, request: Request, person: Person, environ: dict[str, Any], receive: Receive, send: Send
    ) -> None:
        length = _length(request)
        space = person.spaces.get(parts_of(environ["PATH_INFO"])[0]) if environ["PATH_INFO"].strip("/") else None
        if space is None:
            raise NoSuchNode
        loop = asyncio.get_running_loop()
        size, share = memory_of(length), Share(person.user, self._behind.own.network(request))
        await self._memory.take(size, share)
        storage = Storage(
            self._behind.services, self._behind.sink, self._credentials, space=space.id, caller=person.caller
        )
        environ["CONTENT_LENGTH"] = str(length or 0)
        environ["syncline.now_ns"] = time.time_ns()
        async with asked_again(standing(self._behind.services, person.caller.fresh, space.id, writes=True)) as ending:
            incoming = Incoming(receive, loop, ending)
            environ["syncline.upload"] = Upload(incoming, request.headers, length, storage, loop)
            await self._work(self._uploaders, person, environ, send, afterwards=lambda: self._memory.give(size, share))

    async def _work(
        self,
        workers: ThreadPoolExecutor,
        person: Person,
        environ: dict[str, Any],
        send: Send,
        *,
        afterwards: Callable[[], None] | None = None,
    ) -> None:
        """Have a worker answer the request. It goes on to its end even if nobody waits for that."""
        loop = asyncio.get_running_loop()
        mount = environ["syncline.here"].prefix + MOUNT
        session = Session(self._behind.services, self._behind.records, person, loop, mount=mount)
        outgoing = Outgoing(send, loop)
        working = loop.run_in_executor(workers, _answer, session, environ, outgoing, request_id())
        if afterwards is not None:
            working.add_done_callback(lambda _: afterwards())
        await asyncio.shield(working)


def _answer(session: Session, environ: dict[str, Any], outgoing: Outgoing, ident: str | None) -> None:
    """One request, on a worker. What fails before the answer has begun is raised."""
    structlog.contextvars.bind_contextvars(request_id=ident)
    status, headers = HTTPStatus.OK.value, list[tuple[str, str]]()

    def start_response(line: str, told: Iterable[tuple[str, str]], _: Any = None) -> None:
        nonlocal status, headers
        status, headers = int(line.partition(" ")[0]), list(told)

    answer = Protocol(session, environ)(environ, start_response)
    # The last part is held back until it is known to be the last: then an answer of one part tells its length.
    held = next(answer, b"")
    for part in answer:
        if not outgoing.begun:
            outgoing.start(status, headers)
        outgoing.write(held, more=True)
        held = part
    if not outgoing.begun:
        if all(name.lower() != "content-length" for name, _ in headers):
            headers.append(("Content-Length", str(len(held))))
        outgoing.start(status, headers)
    outgoing.write(held, more=False)


def _environ(request: Request, person: Person, path: str, here: Here) -> dict[str, Any]:
    """The request as WSGI and WsgiDAV have it."""
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
        if name in _NOT_PASSED or "_" in name:  # X_OC_Mtime would be X-OC-Mtime
            continue
        told = _READ[name](value) if name in _READ else value
        if told is not None:
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = told
    return environ


def _unmodified_since(value: str) -> str | None:
    """The date in the one form whose year WsgiDAV takes as it is written; None for what is no date."""
    try:
        return formatdate(fitting_time_ns(seconds_of(value) * _NANOSECONDS) // _NANOSECONDS, usegmt=True)
    except ValueError:
        return None


_READ: Final[dict[str, Callable[[str], str | None]]] = {"if": readable_if, "if-unmodified-since": _unmodified_since}
"""Headers that WsgiDAV's parsers get only as we have read them."""


def _length(request: Request) -> int | None:
    """How long the body of an upload says it is."""
    raw = request.headers.get("content-length")
    return int(raw) if raw is not None and raw.isdecimal() else None


async def _xml(request: Request) -> bytes:
    """The body of anything but a PUT: XML, which is small."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(SILENCE_SECONDS):
            while True:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise ClientGone
                part = message.get("body", b"")
                size += len(part)
                if size > _MAX_XML_BYTES:
                    raise Refused(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        f"the body of such a request has at most {_MAX_XML_BYTES} bytes",
                    )
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, "the body of the request did not arrive") from None


async def _refuse(error: DAVError, scope: Scope, receive: Receive, send: Send) -> None:
    status, body, headers = page(error)
    await Response(body, status, headers=headers)(scope, receive, send)
