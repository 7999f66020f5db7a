"""Errors as `application/problem+json` (RFC 9457).

| field | contents |
|---|---|
| `status`, `title` | the HTTP status and its name |
| `detail` | what happened and what to do, for people |
| `reason` | the stable name that programs branch on, the same as in gRPC |
| `request_id` | finds the request in the logs |
| `details` | short machine-readable strings, if the error has any |
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from syncline.model.errors import InvalidArgument, Kind, SynclineError
from syncline.rpc.errors import http_status
from syncline.rpc.request_ids import request_id

MEDIA_TYPE: Final = "application/problem+json"

_MAX_DETAILS: Final = 20
_MAX_TOLD_CHARACTERS: Final = 200
"""Maximum number of characters, both of the name of a wrong field and of the description of the fault, in an answer:
the client has chosen the name.
"""

_REASONS: Final = {
    HTTPStatus.BAD_REQUEST: InvalidArgument.reason,
    HTTPStatus.NOT_FOUND: "NO_SUCH_PAGE",
    HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED",
}
"""The reason of an error that the router raises, by its HTTP status. Errors of the domain have reasons of their own."""


def problem(
    *,
    status: int,
    reason: str,
    detail: str,
    details: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error response in the form `application/problem+json` (RFC 9457).

    - `reason` is the reason on which programs branch, and `detail` the text for people.
    - `details` are further facts about the error, which programs read.
    - `headers` are added to the headers of the response.
    """
    fields: dict[str, Any] = {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "reason": reason,
        "request_id": request_id() or "",
    }
    if details:
        fields["details"] = dict(details)
    fixed = {"cache-control": "no-store"}
    return Response(json.dumps(fields), status, headers=fixed | dict(headers or {}), media_type=MEDIA_TYPE)


def problem_response(error: SynclineError) -> Response:
    """Return an error of the gateway, or of a service, as a problem."""
    headers = {}
    if error.kind is Kind.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    if (seconds := error.retry_after_seconds) is not None:
        headers["retry-after"] = str(math.ceil(seconds))
    return problem(
        status=http_status(error), reason=error.reason, detail=str(error), details=error.details, headers=headers
    )


def internal() -> Response:
    """Return the answer to an unexpected error, whose details are only logged."""
    return problem(
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        reason=SynclineError.reason,
        detail=f"internal error; request id {request_id()}",
    )


def too_slow() -> Response:
    """Return the answer to a request whose body arrived below the minimum rate of transfer: the status 408 with the
    reason BODY_TOO_SLOW. A header of the answer closes the connection.
    """
    return problem(
        status=HTTPStatus.REQUEST_TIMEOUT,
        reason="BODY_TOO_SLOW",
        detail="the body of the request came too slowly; try again",
        headers={"connection": "close"},
    )


async def on_error(_request: Request, error: Exception) -> Response:
    """Return the problem for `error`, a SynclineError that an operation has raised."""
    assert isinstance(error, SynclineError)
    return problem_response(error)


async def on_invalid(_request: Request, error: Exception) -> Response:
    """Return the problem for a request that does not match the description of the API. The answer does not repeat the
    input, which may be secret.
    """
    assert isinstance(error, RequestValidationError)
    details = {
        ".".join(str(part) for part in one["loc"])[:_MAX_TOLD_CHARACTERS]: str(one["msg"])[:_MAX_TOLD_CHARACTERS]
        for one in error.errors()[:_MAX_DETAILS]
    }
    detail = "; ".join(f"{where}: {what}" for where, what in details.items())
    return problem(status=HTTPStatus.BAD_REQUEST, reason=InvalidArgument.reason, detail=detail, details=details)


async def on_http_exception(_request: Request, error: Exception) -> Response:
    """Return the problem for `error`, an HTTPException that the router has raised, such as 404 and 405."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = {
        HTTPStatus.NOT_FOUND: "there is nothing at this address",
        HTTPStatus.METHOD_NOT_ALLOWED: "this address does not know that method; the header `allow` names those it does",
    }.get(status, error.detail)
    return problem(status=status, reason=_REASONS.get(status, status.name), detail=detail, headers=error.headers)
