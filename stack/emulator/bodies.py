"""Bounds for request bodies of the embedded AWS, because the emulator buffers each body before it authenticates the
sender.

Each body is charged to a pool before it is read, to the account of the key that signs the request's headers. If the
headers contain the digest of the body, or leave the body unsigned (as all PUTs of objects do), the signature is checked
at once. Other requests (of DynamoDB, for example) sign the body itself: these are charged to an account of unverified
users of the key, so that nobody can exhaust a service's share by knowing the id of its key.
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
from stack.emulator.asgi import AsgiApp, AsgiScope, Receive, Send, announced_bytes, refuse, request_header

MAX_BODY_BYTES: Final = 256 * 1024 * 1024
"""Memory in bytes for the bodies of all requests in progress; the requests of one access key may have half of it if no
other key has requests.
"""
MAX_UNSIGNED_BYTES: Final = 64 * 1024
"""Maximum size in bytes of the body of a request that no known key signs, or whose signature is wrong."""
GRACE_SECONDS: Final = 30.0
"""Seconds by which the arrival of a body may be later than MIN_BYTES_PER_SECOND requires."""
MIN_BYTES_PER_SECOND: Final = 16 * 1024
"""Minimum speed at which a body arrives, in bytes per second."""

_BAD_REQUEST, _FORBIDDEN, _LENGTH_REQUIRED, _TOO_LARGE, _SLOW_DOWN = 400, 403, 411, 413, 503
_NOBODY: Final = "nobody"


def bounded(app: AsgiApp) -> AsgiApp:
    """Return an ASGI application that takes memory for the body of a request from the pool, and then calls `app`."""
    pool = Pool("aws_bodies", MAX_BODY_BYTES)

    async def with_room(scope: AsgiScope, receive: Receive, send: Send) -> None:
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
        if caller == _NOBODY and size > MAX_UNSIGNED_BYTES:
            text = f"a body of more than {MAX_UNSIGNED_BYTES} bytes is signed by a key of this place"
            await refuse(scope, send, _FORBIDDEN, "AccessDenied", text)
        elif size > MAX_BODY_BYTES:
            await refuse(scope, send, _TOO_LARGE, "EntityTooLarge", f"a body has at most {MAX_BODY_BYTES} bytes")
        else:
            try:
                async with pool.lent(size, Share.alone(caller)):
                    await _in_time(app, scope, receive, send, GRACE_SECONDS + size / MIN_BYTES_PER_SECOND)
            except TooMuchAtOnce:
                await refuse(scope, send, _SLOW_DOWN, "SlowDown", "Please reduce your request rate.")

    return with_room


async def _in_time(app: AsgiApp, scope: AsgiScope, receive: Receive, send: Send, seconds: float) -> None:
    """Call `app` with a request. If the body of the request has not arrived within `seconds`, answer with an error."""
    deadline = time.monotonic() + seconds
    complete = late = False

    async def arriving() -> Any:
        nonlocal complete, late
        if complete:  # the request is complete, so only a disconnect can follow
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

    try:
        await app(scope, arriving, answering)
    except RecursionError:  # JSON is parsed before anything else is known of its sender
        await refuse(scope, send, _BAD_REQUEST, "SerializationException", "The body is nested too deeply.")
        return
    if late:
        await refuse(scope, send, _BAD_REQUEST, "RequestTimeout", "The body did not arrive within the timeout period.")


def _caller(scope: AsgiScope) -> str:
    """Return the name of the account to which the body of a request is charged.

    - If the signature of the headers is right, the account is the id of the key that signs them.
    - If the signature also covers the body, it cannot be checked yet. The account is then one for all those who claim
      that key.
    - In all other cases, the account is the anonymous one.
    """
    evaluator: Any = importlib.import_module("ministack.core.iam_evaluator")
    sigv4: Any = importlib.import_module("ministack.core.sigv4")
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), sigv4.decode_header_value(value)
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    query = parse_qs(scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True)
    presigned = "authorization" not in headers
    signature = sigv4.parse_query_signature(query) if presigned else sigv4.parse_header_signature(headers)
    if isinstance(signature, tuple):  # the error that it has no signature
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
