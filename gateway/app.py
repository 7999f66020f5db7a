"""The routes: parse, call, format, return."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send

from core.errors import InvalidArgument, Kind, SynclineError, Unauthenticated
from core.identifiers import SpaceId, parse_text_id
from core.names import normalize, split_path
from core.tree import Content, NodeKind
from gateway.content import Contents
from gateway.files import description, etag_of
from gateway.ports import Nodes
from gateway.problems import on_error, on_http_exception, problem
from gateway.ranges import Answer, Part, wanted
from gateway.readiness import Readiness
from gateway.requests import Requests
from gateway.wellknown import JWKS_SECONDS, Jwks

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_SEND_SECONDS: Final = 30.0
"""A client that does not take a slice of content within this time holds up the memory that others wait for."""


class _AnyPath(PathConvertor):
    """A path of which any character can be part, a line break too."""

    regex = "(?s:.*)"


register_url_convertor("any_path", _AnyPath())


class NotAFile(SynclineError):
    """There is no content at this path: it is a directory or a symbolic link."""

    reason = "NOT_A_FILE"
    kind = Kind.CONFLICT


def routes(
    *, endpoints: dict[str, Any], jwks: Jwks, readiness: Readiness, nodes: Nodes, contents: Contents
) -> Starlette:
    """The application."""

    async def syncline(_request: Request) -> Response:
        return JSONResponse(endpoints, headers={"cache-control": "public, max-age=60"})

    async def keys(_request: Request) -> Response:
        return JSONResponse(await jwks.current(), headers={"cache-control": f"public, max-age={JWKS_SECONDS}"})

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"}, headers={"cache-control": "no-store"})

    async def readyz(_request: Request) -> Response:
        missing = await readiness.missing()
        if missing:
            return problem(
                status=HTTPStatus.SERVICE_UNAVAILABLE,
                reason="NOT_READY",
                detail=f"not serving: {', '.join(missing)}",
            )
        return JSONResponse({"status": "ready"}, headers={"cache-control": "no-store"})

    async def content(request: Request) -> Response:
        token = _bearer(request)
        space = SpaceId(parse_text_id(request.path_params["space"], what="the space"))
        node = await nodes.find(space, _path(request), token=token)
        if node.kind is not NodeKind.FILE or node.content is None:
            raise NotAFile
        return await _download(request, space, node.name, node.content, contents)

    app = Starlette(
        routes=[
            Route("/.well-known/syncline", syncline),
            Route("/.well-known/jwks.json", keys),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/v1/spaces/{space}/content/{path:any_path}", content),
        ],
        middleware=[Middleware(Requests, readiness=readiness)],
        exception_handlers={SynclineError: on_error, HTTPException: on_http_exception},
    )
    app.router.redirect_slashes = False
    return app


async def _download(request: Request, space: SpaceId, name: str, content: Content, contents: Contents) -> Response:
    headers = description(name, content)
    match wanted(request.headers, method=request.method, etag=etag_of(content), size=content.size):
        case Answer.NOT_MODIFIED:
            kept = ("cache-control", "etag", "last-modified", "vary")
            return Response(
                status_code=HTTPStatus.NOT_MODIFIED, headers={key: headers[key] for key in kept if key in headers}
            )
        case Answer.UNSATISFIABLE:
            return problem(
                status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                reason="RANGE_NOT_SATISFIABLE",
                detail=f"the file has {content.size} bytes",
                headers={"content-range": f"bytes */{content.size}"},
            )
        case Part(start, stop):
            status = HTTPStatus.PARTIAL_CONTENT
            headers["content-range"] = f"bytes {start}-{stop - 1}/{content.size}"
        case Answer.WHOLE:
            status, start, stop = HTTPStatus.OK, 0, content.size
    headers["content-length"] = str(stop - start)
    if request.method == "HEAD" or start == stop:
        return Response(status_code=status, headers=headers)
    manifest = await contents.manifest(space, content)
    slices = contents.stream(space, manifest, start, stop)
    first = await anext(slices)  # what fails at once still has a status to say so
    return _Download(first, slices, status_code=status, headers=headers)


class _Download(StreamingResponse):
    """Content on its way. Whatever goes wrong now can only be told by breaking the connection off."""

    def __init__(
        self, first: memoryview, rest: AsyncGenerator[memoryview, None], *, status_code: int, headers: dict[str, str]
    ) -> None:
        super().__init__(rest, status_code, headers)
        self._first = first
        self._rest = rest

    async def stream_response(self, send: Send) -> None:
        """See StreamingResponse."""
        async with aclosing(self._rest):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await self._send(send, self._first)
            async for part in self._rest:
                await self._send(send, part)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, part: memoryview) -> None:
        async with asyncio.timeout(_SEND_SECONDS):
            await send({"type": "http.response.body", "body": part, "more_body": True})


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not _TOKEN.fullmatch(token.strip()):
        raise Unauthenticated("an access token is needed: `Authorization: Bearer <access token>`")
    return token.strip()


def _path(request: Request) -> str:
    """The path as it travels; InvalidArgument if it breaks a rule. Names from some systems come decomposed."""
    try:  # the server replaces bytes that are no UTF-8, which would name another file
        unquote(request.scope["raw_path"].decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        raise InvalidArgument("the path is not valid UTF-8") from None
    return "/".join(split_path(normalize(request.path_params["path"])))
