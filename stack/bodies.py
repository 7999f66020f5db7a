"""Bodies of requests to the embedded AWS: the emulator holds each whole before it looks who sends it.

So each has its share of a pool before any of it is read, on the account of the key by which the head of the request is
signed. A head that carries the digest of the body, or none of it (as all do that put objects) tells whether the
signature is right. Others (of DynamoDB, for instance) sign the body itself: these count for who claims that key,
not for who has it, so that nobody takes from a service what it needs by knowing its key's name.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import importlib
import time
from typing import Any, Final
from urllib.parse import parse_qs, quote

from runtime.pool import Pool, Share, TooMuchAtOnce
from stack.asgi import App, Receive, Scope, Send, announced_bytes, refuse, request_header

BODY_BYTES: Final = 256 * 1024 * 1024
"""Maximum size of the bodies of all requests under way together, in bytes; one key alone has half."""
UNSIGNED_BYTES: Final = 64 * 1024
"""The largest body of a request that no key signs which exists here, or whose signature is wrong."""
GRACE_SECONDS: Final = 30.0
"""Seconds by which a body may come later than at BYTES_PER_SECOND."""
BYTES_PER_SECOND: Final = 16 * 1024
"""The least rate at which a body comes."""

_BAD_REQUEST, _FORBIDDEN, _LENGTH_REQUIRED, _TOO_LARGE, _SLOW_DOWN = 400, 403, 411, 413, 503
_NOBODY: Final = "nobody"


def bounded(app: App) -> App:
    """Let `app` read bodies only as far as there is room for them."""
    pool = Pool("aws_bodies", BODY_BYTES)

    async def with_room(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if request_header(scope, b"transfer-encoding"):
            text = "You must provide the Content-Length HTTP header."
            await refuse(scope, send, _LENGTH_REQUIRED, "MissingContentLength", text)
            return
        size = announced_bytes(scope)
        if not size:
            await app(scope, receive, send)
            return
        caller = _caller(scope)
        if caller == _NOBODY and size > UNSIGNED_BYTES:
            text = f"a body of more than {UNSIGNED_BYTES} bytes is signed by a key of this place"
            await refuse(scope, send, _FORBIDDEN, "AccessDenied", text)
        elif size > BODY_BYTES:
            await refuse(scope, send, _TOO_LARGE, "EntityTooLarge", f"a body has at most {BODY_BYTES} bytes")
        else:
            try:
                async with pool.lent(size, Share.alone(caller)):
                    await _in_time(app, scope, receive, send, GRACE_SECONDS + size / BYTES_PER_SECOND)
            except TooMuchAtOnce:
                await refuse(scope, send, _SLOW_DOWN, "SlowDown", "Please reduce your request rate.")

    return with_room


async def _in_time(app: App, scope: Scope, receive: Receive, send: Send, seconds: float) -> None:
    """Let `app` answer. If the body has not come within so many seconds, that is the answer."""
    deadline = time.monotonic() + seconds
    complete = late = False

    async def arriving() -> Any:
        nonlocal complete, late
        if complete:  # The request is complete, so only the news can come that the client goes.
            return await receive()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                message = await receive()
        except TimeoutError:
            late = True
            return {"type": "http.disconnect"}
        complete = not message.get("more_body", False)
        return message

    async def answering(message: Any) -> None:
        if not late:
            await send(message)

    await app(scope, arriving, answering)
    if late:
        await refuse(scope, send, _BAD_REQUEST, "RequestTimeout", "The body did not arrive within the timeout period.")


def _caller(scope: Scope) -> str:
    """On whose account a body is read: the key that signs it, or that is claimed to; nobody without one of here."""
    evaluator: Any = importlib.import_module("ministack.core.iam_evaluator")
    sigv4: Any = importlib.import_module("ministack.core.sigv4")
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), sigv4.decode_header_value(value)
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    query = parse_qs(scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True)
    presigned = "authorization" not in headers
    signature = sigv4.parse_query_signature(query) if presigned else sigv4.parse_header_signature(headers)
    if isinstance(signature, tuple):  # says what it lacks
        return _NOBODY
    credential = evaluator.resolve_credential(signature.access_key_id)
    if isinstance(credential, evaluator.CredentialResolutionError):
        return _NOBODY
    if not presigned and "x-amz-content-sha256" not in headers:
        return f"who claims {signature.access_key_id}"
    raw_path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    _, signed = sigv4.header_signing_documents(
        signature, scope["method"], raw_path, query, headers, b"", presigned=presigned
    )
    secret = credential.secret_access_key
    key = sigv4._cached_signing_key(secret, signature.date_stamp, signature.region, signature.service)
    right = hmac.new(key, signed.encode(), hashlib.sha256).hexdigest()
    right_one = hmac.compare_digest(right.encode(), signature.signature.encode())
    return str(signature.access_key_id) if right_one else _NOBODY
