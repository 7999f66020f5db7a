"""The process that emulates AWS: `python -m stack.embedded DESCRIPTOR`, serving on an inherited listening socket.

It is ministack, which enforces signatures, roles, session and resource policies, with three additions without
which our guarantees would not hold here as they do on AWS:

- S3 knows the condition keys by which the bucket's policy refuses to overwrite objects and to store what others could
  not read, and by which metadata's role removes nothing but the bytes that it names.
- Only the configured root credentials are root, and their signature is checked like any other. (Out of the box
  `test` and every number of twelve digits are root with any secret.)
- Of its own HTTP interface only what reads is left, and only for programs, not for pages in a browser: a page
  could otherwise reset everything by one request to this port.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import FrameType
from typing import Any, Final

import uvicorn

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OWN_PATHS: Final = ("/_ministack/", "/_localstack/", "/health")
_READABLE: Final = frozenset({"/_ministack/health", "/_ministack/ses/messages", "/_ministack/sqs/messages"})
_CONDITIONS: Final = {
    "s3:PutObject": ("if-none-match", "x-amz-server-side-encryption-customer-algorithm", "x-amz-storage-class"),
    "s3:DeleteObject": ("if-match",),
}
"""Headers of a request that are condition keys on AWS, and not in the emulator."""
_KEEP_ALIVE_SECONDS: Final = 75
_STOP_SECONDS: Final = 2


def main() -> None:
    """Serve until SIGTERM, then save the state."""
    # Not typed, and parts of it are replaced: modules as Any.
    emulator: Any = importlib.import_module("ministack.app")
    _know_s3_conditions()
    _know_one_root(os.environ["AWS_ACCESS_KEY_ID"])
    config = uvicorn.Config(
        _guarded(emulator.app),
        http="httptools",
        ws="none",
        lifespan="on",  # at its end the state is saved
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,  # a long poll in flight must not delay saving
    )
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when all is done
        signal.signal(number, _end)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _know_s3_conditions() -> None:
    actions: Any = importlib.import_module("ministack.core.iam_actions")
    known = actions.s3_service_context

    @functools.wraps(known)
    def s3_service_context(
        action: str, query: Any, path: str = "", headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        context: dict[str, Any] = known(action, query, path, headers)
        for name in _CONDITIONS.get(action, ()):
            if value := (headers or {}).get(name, "").strip():
                context[f"s3:{name}"] = value
        # S3 takes only `*` for a PUT; the emulator would take an ETag, which permits overwriting.
        if context.get("s3:if-none-match", "*") != "*":
            del context["s3:if-none-match"]
        return context

    actions.s3_service_context = s3_service_context


def _know_one_root(access_key_id: str) -> None:
    evaluator: Any = importlib.import_module("ministack.core.iam_evaluator")
    sts: Any = importlib.import_module("ministack.services.sts")

    def is_root_access_key(key: str) -> bool:
        return key == access_key_id

    def is_exempt_from_signature_checks(_key: str) -> bool:
        return False

    evaluator.is_root_access_key = sts.is_root_access_key = is_root_access_key
    evaluator._is_root_key = is_exempt_from_signature_checks


def _guarded(app: App) -> App:
    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_OWN_PATHS) or _may_read(scope):
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return guarded


def _may_read(scope: Scope) -> bool:
    headers = {name.lower(): value for name, value in scope["headers"]}
    host = headers.get(b"host", b"").rpartition(b":")[0]
    from_page = b"origin" in headers or b"sec-fetch-site" in headers or host not in {b"127.0.0.1", b"localhost"}
    return scope["method"] in {"GET", "HEAD"} and scope["path"] in _READABLE and not from_page


if __name__ == "__main__":
    main()
