"""Durability of the emulator: no answer begins before all earlier changes are durable."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from runtime.logs import structlog
from stack.emulator.asgi import AsgiApp, AsgiScope, Receive, Send, announced_bytes, operation, refuse
from stack.emulator.storage import Storage, StorageFailed

log = structlog.get_logger()

_SAY_AGAIN_SECONDS: Final = 60.0
_INSUFFICIENT_STORAGE: Final = 507
_UNAVAILABLE: Final = 503
_NO_ROOM: Final = "the disk of the embedded AWS is full; make room there, then try again"
_STORING_OPERATIONS: Final = frozenset({b"PutItem", b"UpdateItem", b"BatchWriteItem", b"TransactWriteItems"})


def durable(app: AsgiApp, storage: Storage) -> AsgiApp:
    """Return an ASGI application around `app`, whose changes are collected in `storage`. The application sends an
    answer only after all changes before the answer are durable, and refuses a request that stores data if the disk is
    full.
    """
    said = 0.0

    async def answer(scope: AsgiScope, receive: Receive, send: Send) -> None:
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
                complaint = f"no room: {_NO_ROOM}; {storage.directory} is on a disk that is full"
                log.error(complaint)  # a whole sentence, for whoever reads the terminal of `syncline up`
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

    return answer


def _needs_room(scope: AsgiScope) -> bool:
    """Return True if the request stores user data: objects and items."""
    if scope["method"] == "PUT":
        return True
    return operation(scope) in _STORING_OPERATIONS
