"""ASGI answers that the emulator process sends itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

AsgiScope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[AsgiScope, Receive, Send], Awaitable[None]]


def request_header(scope: AsgiScope, name: bytes) -> bytes:
    """Return the first value of the header `name` of the request; empty if there is no such header. `name` must be in
    lower case.
    """
    value: bytes = next((value for key, value in scope["headers"] if key.lower() == name), b"")
    return value


def announced_bytes(scope: AsgiScope) -> int:
    """Return the size in bytes of the request's body, as its headers state it; 0 if they state none."""
    length = request_header(scope, b"content-length")
    return int(length) if length.isdigit() else 0


def operation(scope: AsgiScope) -> bytes:
    """Return the operation of AWS that a request names, such as `PutItem`, if its service has a JSON protocol;
    otherwise empty.
    """
    return request_header(scope, b"x-amz-target").rpartition(b".")[2]


async def refuse(scope: AsgiScope, send: Send, status: int, code: str, text: str) -> None:
    """Answer a request with an error: the HTTP status `status`, the error code `code` of AWS, and `text` for people.
    The body is JSON if the request has a JSON protocol, and XML otherwise.
    """
    if operation(scope):
        kind, body = b"application/x-amz-json-1.0", json.dumps({"__type": code, "message": text})
    else:
        kind, body = b"application/xml", f"<Error><Code>{code}</Code><Message>{text}</Message></Error>"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
