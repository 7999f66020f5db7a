"""Messages that arrive: none is taken in before its caller is known, and what arrives has a bound and a time.

gRPC takes in a message when somebody asks for it, and keeps what has come until the message is complete. Left to itself
it asks for the request of a unary call before any code of ours runs, for as long as the caller likes. So `Arriving`,
outermost of all, hands on the request as something that is still to come, and `Taking`, right behind authentication,
takes it in. Until then the connection holds no more
of a call than its first window, of WINDOW_BYTES.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
from typing_extensions import override

from runtime.identity import find_identity
from runtime.interceptors import Wrapping, parts
from runtime.network import current_share
from runtime.permissions import CallerKind
from runtime.pool import Pool, Share
from syncline.model.errors import DeadlineExceeded, InvalidArgument

if TYPE_CHECKING:
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]

WINDOW_BYTES: Final = 65_535
"""Bytes of a message that arrive before anybody asks for them; the window with which HTTP/2 begins."""
ARRIVING_SECONDS: Final = 1.0
"""A message is waited for so long before it counts as one that may be large. The bytes that can come within so short a
time are then the bound."""
MESSAGES_ARRIVING: Final = 64
"""Messages that are waited for at once for so long."""
SILENT_STREAMS: Final = 64
"""Streams whose next message is waited for at once for longer."""
HEALTH_SECONDS: Final = 1.0
"""Seconds in which a request of the health service has to arrive. Such a request takes nothing from the pool, so that a
caller who takes all of the pool does not make a process look ill. Until it arrives, the bound is what can come within
so short a time.
"""
HEALTH_BYTES: Final = 1_024
"""Maximum size of a request of the health service, in bytes. It names one service, and a watch keeps it."""
_HEALTH: Final = "/grpc.health.v1.Health/"
_NO_REQUEST: Final = "the call ended without a request"


class Arriving(Wrapping):
    """Calls handlers of one request before that has arrived: what they get is an iterator that has it."""

    @override
    def _wrap(self, method: str, handler: Handler) -> Handler:
        if handler.request_streaming:
            return handler
        inner, _ = parts(handler)
        streams, answers = grpc.stream_stream_rpc_method_handler, grpc.stream_unary_rpc_method_handler
        make = streams if handler.response_streaming else answers

        async def begun(arriving: Any, context: Context) -> Any:
            return await inner(arriving, context)

        wrapped: Handler = make(begun, response_serializer=handler.response_serializer)
        return wrapped


class Taking(Wrapping):
    """Takes in the messages of calls, each within a time and as a share of what there is room for.

    Nobody sees how much of a message has come until it is there. So a message is given one of MESSAGES_ARRIVING places,
    but only for ARRIVING_SECONDS: nearly all are there by then, and silent calls are gone. One that takes longer may be
    as large as messages can be, and many of these could come bit by bit. It needs one of the places for late messages
    of calls, of which there are as many as fit into half of the room, or for streams, which may be silent, one of
    SILENT_STREAMS. Without one the call ends. What has come has its own size of the other half of the room: the request
    of a call until it has been answered, the message of a stream until the next one has come, since whoever
    handles it keeps it so long. It waits if there is nothing left for its caller.
    """

    def __init__(self, total: int, *, message_bytes: int, seconds: float) -> None:
        """`total` is the room in bytes, for all callers of this process, `message_bytes` the largest size of a message.

        The request of a call may take `seconds` to arrive.
        """
        super().__init__()
        self._pool = Pool("requests", total - total // 2)
        self._arriving = Pool("arriving", MESSAGES_ARRIVING, counted=True)
        self._late = Pool("late", total // 2 // message_bytes, counted=True)
        self._silent = Pool("silent", SILENT_STREAMS, counted=True)
        self._seconds = seconds

    @override
    def _wrap(self, method: str, handler: Handler) -> Handler:
        inner, make = parts(handler)
        arrived: Any = self._stream if handler.request_streaming else self._unary
        if method.startswith(_HEALTH):
            arrived = self._small

        async def plain(arriving: Any, context: Context) -> Any:
            async with arrived(arriving, context) as request:
                return await inner(request, context)

        async def generated(arriving: Any, context: Context) -> AsyncIterator[Any]:
            async with arrived(arriving, context) as request, aclosing(inner(request, context)) as responses:
                async for response in responses:
                    yield response

        wrapped: Handler = make(
            generated if inspect.isasyncgenfunction(inner) else plain,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    @asynccontextmanager
    async def _unary(self, arriving: AsyncIterator[bytes], _context: Context) -> AsyncIterator[bytes]:
        """The one message of a call."""
        share = _share()
        if share is None:
            yield await _next(arriving, self._seconds)
            return
        request = await self._message(arriving, share, self._late, seconds=self._seconds)
        if request is None:
            raise InvalidArgument(_NO_REQUEST)
        try:
            yield request
        finally:
            self._pool.give(len(request), share)

    @asynccontextmanager
    async def _small(self, arriving: AsyncIterator[bytes], _context: Context) -> AsyncIterator[bytes]:
        """The only message of a call of the health service, which takes nothing of the pool."""
        request = await _next(arriving, HEALTH_SECONDS)
        if len(request) > HEALTH_BYTES:
            raise InvalidArgument(f"a request of the health service has at most {HEALTH_BYTES} bytes")
        yield request

    @asynccontextmanager
    async def _stream(self, arriving: AsyncIterator[bytes], _context: Context) -> AsyncIterator[AsyncIterator[bytes]]:
        """The messages of a stream, as they come."""
        share = _share()
        if share is None:
            yield arriving
            return
        async with aclosing(self._messages(arriving, share)) as messages:
            yield messages

    async def _messages(self, arriving: AsyncIterator[bytes], share: Share) -> AsyncGenerator[bytes, None]:
        held = 0
        try:
            while True:
                message = await self._message(arriving, share, self._silent, seconds=math.inf)
                self._pool.give(held, share)
                held = len(message or b"")
                if message is None:
                    return
                yield message
        finally:
            self._pool.give(held, share)

    async def _message(
        self, arriving: AsyncIterator[bytes], share: Share, later: Pool, *, seconds: float
    ) -> bytes | None:
        """The next message, whose size is taken of the pool; None when there is none any more.

        One that takes long has a place of `later`. DeadlineExceeded after `seconds`.
        """
        at_first = min(ARRIVING_SECONDS, seconds)
        place = self._arriving
        await place.take(1, share)
        coming = asyncio.ensure_future(_or_end(arriving))
        try:
            await asyncio.wait((coming,), timeout=at_first)
            if not coming.done() and seconds > at_first:
                place = _moved(place, later, share)
                await asyncio.wait((coming,), timeout=None if seconds == math.inf else seconds - at_first)
            if not coming.done():
                raise _late(seconds)
            message = coming.result()
            size = len(message or b"")
            if not self._pool.try_take(size, share):
                if place is not later:  # a message that waits for room is not in the way of those that arrive
                    place = _moved(place, later, share)
                await self._pool.take(size, share)
            return message
        finally:
            coming.cancel()
            place.give(1, share)


def _share() -> Share | None:
    """Return whose share a message takes from; None if other services, which are trusted, send it."""
    identity = find_identity()
    return None if identity is not None and identity.kind is CallerKind.SERVICE else current_share()


def _moved(place: Pool, later: Pool, share: Share) -> Pool:
    """Give a place back for one of `later`, at once."""
    if not later.try_take(1, share):
        raise later.refused("too many messages are late or wait for room; send this again, without a pause in it")
    place.give(1, share)
    return later


async def _or_end(arriving: AsyncIterator[bytes]) -> bytes | None:
    """The next message; None when there is none any more."""
    return await anext(arriving, None)


async def _next(arriving: AsyncIterator[bytes], seconds: float) -> bytes:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await anext(arriving)
    except StopAsyncIteration:
        raise InvalidArgument(_NO_REQUEST) from None
    except TimeoutError:
        if not limit.expired():
            raise
        raise _late(seconds) from None


def _late(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"the request did not arrive within {seconds:g} seconds")
