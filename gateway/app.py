"""The ASGI application: its routes and its middleware."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway import api
from gateway.api.openapi import described_api
from gateway.content.allowance import Allowance
from gateway.content.archive import Archives
from gateway.content.assemble import Contents
from gateway.content.static import FixedAnswer
from gateway.dav import mount
from gateway.dav.parts import MOUNT, DavParts
from gateway.discovery import JWKS_SECONDS, Jwks
from gateway.http.bodies import Bodies
from gateway.http.headers import ReadHeaders
from gateway.http.pace import Paced
from gateway.http.parsing import ParsingTime
from gateway.http.problems import on_error, on_http_exception, on_invalid, problem
from gateway.http.protection import Protected
from gateway.http.refusals import RefusalMiddleware
from gateway.http.request_log import RequestMiddleware
from gateway.identity.address import OwnAddress
from gateway.identity.caller import KeyTokens
from gateway.ports import ObjectSink, UploadAddresses
from gateway.readiness import Readiness
from gateway.records.ports import Records
from gateway.services.calls import Services
from gateway.services.copies import Copies
from gateway.web_app import pages
from runtime.drain import Drain
from runtime.network_tokens import NetworkTokens
from runtime.pool import Pool
from runtime.refusals import DelayedRefusals, RefusalRate
from syncline.model.errors import SynclineError

API: Final = "/v1"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Parts:
    """The components and settings that the routes and the middleware use."""

    endpoints: dict[str, Any]
    """The contents of `/.well-known/syncline`."""
    own: OwnAddress
    network_tokens: NetworkTokens | None
    """Creates the tokens that prove to services that a call comes from the gateway, and for which network; None if the
    gateway has no secret.
    """
    hsts_seconds: int
    """Seconds for which browsers must connect with TLS only, after they have connected with TLS (HSTS)."""
    request_seconds: float
    """Seconds by which the transfer of a request body may lag behind `body_rate`, which is in bytes per second."""
    body_rate: int
    bodies: Pool
    """The pool of memory for request bodies."""
    answers: Pool
    """The pool of memory for large answers."""
    parsing: ParsingTime
    jwks: Jwks
    readiness: Readiness
    drain: Drain
    """Ends the streams of events when the process is about to stop."""
    services: Services
    contents: Contents
    archives: Archives
    copies: Copies
    addresses: UploadAddresses
    sink: ObjectSink
    records: Records
    allowance: Allowance
    upload_memory: int
    """Maximum number of bytes that all WebDAV uploads together may hold in memory."""


def application(parts: Parts) -> FastAPI:
    """Return the application, composed of its routes, its middleware, and the pages of the web app."""

    app = FastAPI(
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # `RequestMiddleware` does that instead
        docs_url=None,
        redoc_url=None,
        middleware=[
            Middleware(Protected, own=parts.own, hsts_seconds=parts.hsts_seconds),
            Middleware(RefusalMiddleware, own=parts.own, delayed=DelayedRefusals(RefusalRate())),
            Middleware(
                RequestMiddleware, readiness=parts.readiness, own=parts.own, network_tokens=parts.network_tokens
            ),
            Middleware(Paced, grace=parts.request_seconds, rate=parts.body_rate, answers=parts.answers, own=parts.own),
            Middleware(ReadHeaders, refusals={MOUNT: mount.mount_refusal}),
            Middleware(Bodies, prefix=f"{API}/", memory=parts.bodies, parsing=parts.parsing, own=parts.own),
        ],
        exception_handlers={
            SynclineError: on_error,
            HTTPException: on_http_exception,
            RequestValidationError: on_invalid,
        },
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = parts.services
    app.state.keys = KeyTokens(parts.services)
    app.state.contents = parts.contents
    app.state.archives = parts.archives
    app.state.copies = parts.copies
    app.state.addresses = parts.addresses
    app.state.allowance = parts.allowance
    app.state.drain = parts.drain
    app.state.own = parts.own
    app.include_router(api.router(), prefix=API)
    app.router.routes.extend(_system(parts, app))
    dav_parts = DavParts(
        parts.services,
        app.state.keys,
        parts.contents,
        parts.sink,
        parts.records,
        parts.own,
        parts.upload_memory,
        parts.bodies,
        parts.parsing,
        parts.copies,
    )
    app.router.routes.extend(mount.routes(dav_parts))
    app.router.routes.extend(pages(upload_origin=parts.addresses.origin, own=parts.own))
    return app


def _system(parts: Parts, app: FastAPI) -> list[Route]:
    endpoints = FixedAnswer.of(json.dumps(parts.endpoints).encode(), _JSON)
    described: FixedAnswer | None = None

    async def syncline(request: Request) -> Response:
        return endpoints.response(request, {"cache-control": "public, max-age=60"})

    async def keys(_request: Request) -> Response:
        return JSONResponse(await parts.jwks.current(), headers={"cache-control": f"public, max-age={JWKS_SECONDS}"})

    async def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"}, headers={"cache-control": "no-store"})

    async def readyz(_request: Request) -> Response:
        missing = await parts.readiness.missing()
        if missing:
            return problem(
                status=HTTPStatus.SERVICE_UNAVAILABLE,
                reason="NOT_READY",
                detail=f"not serving: {', '.join(missing)}",
            )
        return JSONResponse({"status": "ready"}, headers={"cache-control": "no-store"})

    async def openapi(request: Request) -> Response:
        nonlocal described
        if described is None:  # The description is slow to build, and many gateways never need it.
            described = FixedAnswer.of(json.dumps(described_api(app)).encode(), _JSON)
        return described.response(request, {"cache-control": "no-cache"})

    return [
        Route("/.well-known/syncline", syncline),
        Route("/.well-known/jwks.json", keys),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/openapi.json", openapi),
    ]
