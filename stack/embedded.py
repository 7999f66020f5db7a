"""The process that emulates AWS: `python -m stack.embedded DESCRIPTOR`, serving on an inherited listening socket.

It is ministack, which enforces signatures, roles, session and resource policies, with six additions without
which our guarantees would not hold here as they do on AWS:

- What is acknowledged is on disk (`storage`, `writethrough`). A change for which there is no room is refused.
- S3 knows the condition keys by which the bucket's policy refuses to overwrite objects, to upload them in parts and to
  store what others could not read, and by which metadata's role removes nothing but the bytes that it names.
- S3 denies a missing object to who may not list the bucket, as devices and the gateway may not: whether there is one
  is none of their business.
- Bodies share a bound, and one that no valid signature covers is refused before it is read, unless it is small.
- Connections are counted, heads of requests have to arrive in time, and input takes turns, as at the gateway.
- Only the configured root credentials are root, and their signature is checked like any other. (Out of the box
  `test` and every number of twelve digits are root with any secret.)
- Of its own HTTP interface only what reads is left, and only for programs, not for pages in a browser: a page
  could otherwise reset everything by one request to this port. Mails and messages are read with the root credentials
  (basic authentication): other users of this machine reach the port too.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import gc
import hmac
import importlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

from runtime import logs, process
from runtime.logs import structlog
from stack.asgi import App, Receive, Scope, Send, announced_bytes, operation, refuse
from stack.bodies import bounded
from stack.reception import CONNECTIONS, AwsReception
from stack.storage import DAMAGED, STORAGE, Storage, StorageDamaged, StorageFailed
from stack.writethrough import TAKEN_OVER, WriteThrough

log = structlog.get_logger()

_OWN_PATHS: Final = ("/_ministack/", "/_localstack/", "/health")
_READABLE: Final = frozenset({"/_ministack/health"})
_READABLE_BY_ROOT: Final = frozenset({"/_ministack/ses/messages", "/_ministack/sqs/messages"})
"""Addresses that only the root credentials may read: mails to people, and messages between the services."""
_CONDITIONS: Final = {
    "s3:PutObject": ("if-none-match", "x-amz-server-side-encryption-customer-algorithm", "x-amz-storage-class"),
    "s3:DeleteObject": ("if-match",),
}
"""Request headers that are condition keys on AWS but not in the emulator."""
_KEEP_ALIVE_SECONDS: Final = 75
_STOP_SECONDS: Final = 2
_SAY_AGAIN_SECONDS: Final = 60.0
_COMPLETE: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE")
_INSUFFICIENT_STORAGE: Final = 507
_UNAVAILABLE: Final = 503
_NO_ROOM: Final = "the disk of the embedded AWS is full; make room there, then try again"
_STORING_OPERATIONS: Final = frozenset({b"PutItem", b"UpdateItem", b"BatchWriteItem", b"TransactWriteItems"})


def main() -> int:
    """Serve until SIGTERM; return the exit status, which is not 0 if the storage is damaged or failed."""
    directory = os.environ.get(STORAGE)
    os.umask(0o077)  # the emulator creates files and directories itself
    _configure_logs()
    try:
        storage = Storage(Path(directory)) if directory else None
        earlier = _earlier_state(storage) if storage else None
        # The emulator is untyped, and parts of it are replaced, so its modules are Any.
        emulator: Any = importlib.import_module("ministack.app")
        _configure_logs()  # again, because importing ministack replaces the configuration
        _know_s3_conditions()
        _hide_what_is_missing(emulator)
        _know_literals()
        _know_one_root(os.environ["AWS_ACCESS_KEY_ID"])
        app = _guarded(emulator.app, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        if storage is not None:
            _read_back(storage, emulator, earlier)
            app = _durable(app, storage)
        app = bounded(app)
    except (StorageDamaged, StorageFailed) as error:
        _complain(str(error))
        return DAMAGED if isinstance(error, StorageDamaged) else 1
    process.open_many()
    reception = AwsReception(process.most_connections(CONNECTIONS))
    config = uvicorn.Config(
        app,
        http=reception.protocol,  # type: ignore[arg-type]  # uvicorn calls it, whatever it is
        ws="none",
        lifespan="on",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,  # a pending long poll must not delay the shutdown
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signals again after its shutdown
        signal.signal(number, functools.partial(_end, storage))
    if storage is not None:
        storage.on_failure = functools.partial(setattr, server, "should_exit", True)
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
    return _closed(storage)


def _configure_logs() -> None:
    """Configure the logs of this process in the services' format."""
    logs.configure_logs(fmt=logs.configured_format(), service="aws")
    logs.take_uncaught()


def _say(text: str) -> None:
    """Log a complete sentence, since users of `syncline up` read it in the terminal."""
    log.info(text)


def _complain(text: str) -> None:
    """Log as an error a fault that prevents the process from storing anything, for readers who filter by level."""
    log.error(text)


def _closed(storage: Storage | None) -> int:
    try:
        if storage is not None:
            storage.close()
    except StorageFailed as error:
        _complain(f"{error}; nothing that was acknowledged is lost")
        return 1
    return 0


def _end(storage: Storage | None, _number: int, _frame: FrameType | None) -> None:
    sys.exit(_closed(storage))


def _earlier_state(storage: Storage) -> Path | None:
    """Return the directory in which an earlier version of Syncline saved the emulator's state, if it has not been taken
    over yet.

    The emulator itself reads it, when its modules are imported. That version saved only at a clean stop: if it was
    killed before the first stop, or while saving, it left parts that do not fit together. These are put aside.

    The storage records whether the state was taken over, completely or not at all: a process that dies between creating
    the storage and filling it leaves it empty. Raise StorageDamaged.
    """
    state, objects = storage.directory / "state", storage.directory / "s3"
    if storage.has_rows(TAKEN_OVER):
        if state.is_dir():
            shutil.rmtree(state)
        return None
    if storage.has_rows():
        if state.is_dir():  # `s3` stays: these rows may refer to bytes in it
            aside = _put_aside(storage.directory, state)
            _say(
                "an earlier version of Syncline saved its state here, but the system in this directory does not come "
                f"from it; that state is put aside in {aside}"
            )
        return None
    # Without a state, `s3` may be this version's: it creates directories there, and no files.
    if not state.is_dir() and not any(path.is_file() for path in objects.rglob("*")):
        return None
    if not _is_whole(state):
        aside = _put_aside(storage.directory, state, objects)
        _say(
            "an earlier version of Syncline was killed before it had saved its tables; "
            f"what it left is put aside in {aside}, and everything begins anew"
        )
        return None
    os.environ |= {"PERSIST_STATE": "1", "STATE_DIR": str(state), "S3_PERSIST": "1", "S3_DATA_DIR": str(objects)}
    return state


def _put_aside(directory: Path, *left: Path) -> Path:
    """Move directories to a place where nothing reads them; return that place."""
    aside = directory / "incomplete"
    aside.mkdir(mode=0o700, exist_ok=True)
    for path in left:
        if path.is_dir():
            path.rename(aside / f"{path.name}-{time.time_ns()}")
    return aside


def _is_whole(state: Path) -> bool:
    """Return True if the complete state of a deployed system was saved."""
    try:
        deployment = (state / "cloudformation.json").read_text()
        saved = [json.loads((state / f"{name}.json").read_text()) for name in ("dynamodb", "iam", "s3", "sns", "sqs")]
    except (OSError, ValueError):
        return False
    return all(saved) and any(f'"StackStatus": "{status}"' in deployment for status in _COMPLETE)


def _read_back(storage: Storage, emulator: Any, earlier: Path | None) -> None:
    """Fill the emulator from the storage, or both from the earlier state. Raise StorageDamaged or StorageFailed."""
    began = time.monotonic()
    emulation = WriteThrough(storage)
    if earlier is not None:
        emulator._load_persisted_state()
        emulator.PERSIST_STATE = False
        emulation.take_over()
        storage.commit()
        shutil.rmtree(earlier)
        _say("took over the state that an earlier version of Syncline saved")
        return
    gc.disable()  # the collector would repeatedly visit everything that is read, and find no garbage
    found = emulation.read_back()
    gc.freeze()
    gc.enable()
    if found.rows:
        carried = storage.log_bytes
        others = found.rows - found.items - found.objects
        _say(
            f"read back {found.items:,} items, {found.objects:,} objects and {others:,} other records "
            f"in {time.monotonic() - began:.1f} s"
            + (
                f"; it had not been stopped cleanly, and {carried:,} bytes of its log were carried over"
                if carried
                else ""
            )
        )
    if found.unfinished:
        _say(f"removed {found.unfinished:,} objects that were being uploaded")


def _durable(app: App, storage: Storage) -> App:
    """Return `app` with durability: an answer is sent only after all earlier changes are durable, and a change is
    refused if the disk is full.
    """
    said = 0.0

    async def durable(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal said
        started = False

        async def send_when_durable(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                await storage.durable()
                started = True
            await send(message)

        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if _needs_room(scope) and storage.room() < announced_bytes(scope):
            if time.monotonic() - said > _SAY_AGAIN_SECONDS:
                said = time.monotonic()
                _complain(f"no room: {_NO_ROOM}; {storage.directory} is on a disk that is full")
            await refuse(scope, send, _INSUFFICIENT_STORAGE, "InsufficientStorage", _NO_ROOM)
            return
        try:
            await app(scope, receive, send_when_durable)
        except StorageFailed:
            if started:  # the answer has begun, so no other one can be sent
                raise
            await refuse(scope, send, _UNAVAILABLE, "ServiceUnavailable", "the storage failed; try again")
        except asyncio.CancelledError:  # a pending long poll at the end of the process
            if started:
                raise
            await refuse(scope, send, _UNAVAILABLE, "ServiceUnavailable", "the embedded AWS is stopping")

    return durable


def _needs_room(scope: Scope) -> bool:
    """Return True if the request stores user data: objects and items."""
    if scope["method"] == "PUT":
        return True
    return operation(scope) in _STORING_OPERATIONS


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
        if action == "s3:PutObject":
            parts = {"uploads", "partNumber"} & set(query or ())
            context["s3:ObjectCreationOperation"] = "false" if parts else "true"
        # S3 accepts only `*` for a PUT; the emulator would accept an ETag, which permits overwriting.
        if context.get("s3:if-none-match", "*") != "*":
            del context["s3:if-none-match"]
        return context

    actions.s3_service_context = s3_service_context


def _hide_what_is_missing(emulator: Any) -> None:
    s3: Any = importlib.import_module("ministack.services.s3")
    known = s3.handle_request

    @functools.wraps(known)
    async def handle_request(
        method: str, path: str, headers: Mapping[str, str], body: bytes, query: Any, **more: Any
    ) -> tuple[int, Mapping[str, str], Any]:
        answer: tuple[int, Mapping[str, str], Any] = await known(method, path, headers, body, query, **more)
        bucket, _, key = path.lstrip("/").partition("/")
        if answer[0] != HTTPStatus.NOT_FOUND or not key or not _is_missing_key(method, answer[2]):
            return answer
        listed = f"arn:aws:s3:::{bucket}"
        denial = emulator._enforce_data_plane("s3", "s3:ListBucket", headers, query, "", resource_arn=listed)
        if denial is None:
            return answer
        status, fields, text = denial
        return status, fields, b"" if method == "HEAD" else text

    s3.handle_request = handle_request


def _is_missing_key(method: str, body: Any) -> bool:
    """Return True for the answer that an object does not exist; an answer to HEAD has no body with the reason."""
    return method == "HEAD" or (method == "GET" and isinstance(body, bytes) and b"<Code>NoSuchKey</Code>" in body)


def _know_literals() -> None:
    """Make `${*}`, `${?}` and `${$}` in a policy stand for the characters `*`, `?` and `$`, as on AWS."""
    evaluator: Any = importlib.import_module("ministack.core.iam_evaluator")
    without_literals = evaluator._fnmatch_compile
    wildcards = {"*": ".*", "?": "."}

    @functools.lru_cache(maxsize=4096)
    def _fnmatch_compile(pattern: str, ignore_case: bool) -> re.Pattern[str]:
        parts = re.split(r"\$\{([*?$])\}", pattern)
        if len(parts) == 1:
            compiled: re.Pattern[str] = without_literals(pattern, ignore_case)
            return compiled
        expression = "".join(
            re.escape(part) if is_literal else "".join(wildcards.get(one, re.escape(one)) for one in part)
            for part, is_literal in zip(parts, itertools.cycle((False, True)), strict=False)
        )
        return re.compile(f"^{expression}$", re.IGNORECASE if ignore_case else 0)

    evaluator._fnmatch_compile = _fnmatch_compile


def _know_one_root(access_key_id: str) -> None:
    evaluator: Any = importlib.import_module("ministack.core.iam_evaluator")
    sts: Any = importlib.import_module("ministack.services.sts")

    def is_root_access_key(key: str) -> bool:
        return key == access_key_id

    def is_exempt_from_signature_checks(_key: str) -> bool:
        return False

    evaluator.is_root_access_key = sts.is_root_access_key = is_root_access_key
    evaluator._is_root_key = is_exempt_from_signature_checks


def _guarded(app: App, access_key_id: str, secret_access_key: str) -> App:
    root = b"Basic " + base64.b64encode(f"{access_key_id}:{secret_access_key}".encode())

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_OWN_PATHS) or _may_read(scope, root):
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return guarded


def _may_read(scope: Scope, root: bytes) -> bool:
    headers = {name.lower(): value for name, value in scope["headers"]}
    host = headers.get(b"host", b"").rpartition(b":")[0]
    from_page = b"origin" in headers or b"sec-fetch-site" in headers or host not in {b"127.0.0.1", b"localhost"}
    if scope["method"] not in {"GET", "HEAD"} or from_page:
        return False
    by_root = scope["path"] in _READABLE_BY_ROOT and hmac.compare_digest(headers.get(b"authorization", b""), root)
    return by_root or scope["path"] in _READABLE


if __name__ == "__main__":
    raise SystemExit(main())
