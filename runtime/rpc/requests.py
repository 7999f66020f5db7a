"""Admission of messages: no message is read before its caller is known, and every message has a size limit and a time
limit.

gRPC reads a message when the server asks for it, and buffers the received part until the message is complete. By
default it reads the request of a unary call before any code of ours runs, without a time limit. Two interceptors change
that: `Arriving`, the outermost one, passes the request on as an iterator that has not read it yet, and `Taking`,
directly after authentication, reads it. Until then the connection buffers no more of a call than WINDOW_BYTES.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
import grpc.aio
from typing_extensions import override

from runtime.identity import find_identity
from runtime.network import current_share
from runtime.permissions import SMALL_REQUEST, CallerKind
from runtime.pool import Pool, Share
from runtime.rpc.interceptors import Wrapping, parts
from syncline.model.errors import DeadlineExceeded, InvalidArgument
from syncline.rpc.message_bounds import check_bytes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from runtime.permissions import RequestBound

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]

NextMessage: TypeAlias = "Callable[[], Awaitable[Any]]"
"""The method `read` of gRPC's context, which returns the next message of a call in bytes, or EOF, and keeps none.

gRPC's own iterator over the messages of a call refers to each message until the next one is read, or until garbage is
collected, and so to the request of a call long after the call has ended.
"""

WINDOW_BYTES: Final = 65_535
"""Number of bytes of a message that arrive before the server reads it: the initial flow-control window of HTTP/2."""
ARRIVING_SECONDS: Final = 1.0
"""Seconds after which a message that is not complete counts as possibly large. Until then, the bytes that the network
can transmit in that time bound its size.
"""
MAX_ARRIVING_MESSAGES: Final = 32
"""Maximum number of messages that the process reads at the same time within their first ARRIVING_SECONDS."""
MAX_SILENT_STREAMS: Final = 64
"""Maximum number of streams of which the process has been reading the next message for longer than ARRIVING_SECONDS."""
HEALTH_SECONDS: Final = 1.0
"""Seconds in which a request of the health service has to arrive. Such a request is not charged to a pool of memory, so
that a caller who exhausts the pool does not make the process look unhealthy. Until it is complete, the bytes that the
network can transmit in that time bound its size.
"""
MAX_HEALTH_REQUEST_BYTES: Final = 1_024
"""Maximum size of a request of the health service, in bytes. A request names one service, and a call of Watch keeps its
request in memory.
"""
_HEALTH: Final = "/grpc.health.v1.Health/"
_NO_REQUEST: Final = "the call ended without a request"


class Arriving(Wrapping):
    """Interceptor that calls handlers of unary requests before the request has arrived; they get an iterator that
    yields it.
    """

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
    """Interceptor that reads the messages of calls, each within a time limit and charged to a pool of memory.

    The size of a message is unknown until it is complete. Three pools of slots, one for each message, therefore bound
    the memory of incomplete messages:

    - Each message first takes a slot of the pool with MAX_ARRIVING_MESSAGES slots, for ARRIVING_SECONDS at most. Nearly
      all messages are complete by then.
    - The request of a call that takes longer may have the maximum size. It moves to a pool with as many slots as
      messages of the maximum size fit into half of the memory. So does each complete message that waits for memory.
    - The next message of a stream that takes longer moves to a pool of MAX_SILENT_STREAMS slots, because streams may be
      silent for long.

    If the second pool has no free slot, the call ends with TooMuchAtOnce.

    A complete message that exceeds the bound of its method is refused as RequestTooLarge. Any other is charged to the
    other half of the memory with the size that it may have when it is parsed: the request of a call until the call is
    answered, and the message of a stream until the next one has arrived, because the handler keeps it that long. A
    message waits if the share of its caller and network is used up.
    """

    def __init__(self, total: int, *, message_bytes: int, bounds: Mapping[str, RequestBound], seconds: float) -> None:
        """`total` is the memory for the messages of all callers of this process, in bytes. `message_bytes` is the
        maximum size of a message of any method, in bytes, and `bounds` has those of methods by their full names.
        `seconds` is the time in which the request of a call has to arrive.
        """
        super().__init__()
        self._pool = Pool("requests", total - total // 2)
        self._arriving = Pool("arriving", MAX_ARRIVING_MESSAGES, counted=True)
        self._late = Pool("late", total // 2 // message_bytes, counted=True)
        self._silent = Pool("silent", MAX_SILENT_STREAMS, counted=True)
        self._bounds = bounds
        self._seconds = seconds

    @override
    def _wrap(self, method: str, handler: Handler) -> Handler:
        inner, make = parts(handler)
        bound = self._bounds.get(method.removeprefix("/"), SMALL_REQUEST)
        arrived: Any = partial(self._stream if handler.request_streaming else self._unary, bound)
        if method.startswith(_HEALTH):
            arrived = self._small

        async def plain(_: object, context: Context) -> Any:
            async with arrived(context.read) as request:
                return await inner(request, context)

        async def generated(_: object, context: Context) -> AsyncIterator[Any]:
            async with arrived(context.read) as request, aclosing(inner(request, context)) as responses:
                async for response in responses:
                    yield response

        wrapped: Handler = make(
            generated if inspect.isasyncgenfunction(inner) else plain,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    @asynccontextmanager
    async def _unary(self, bound: RequestBound, read: NextMessage) -> AsyncIterator[bytes]:
        """Yield the one message of a unary request, which stays charged to the pool until the context manager exits.

        Raise InvalidArgument if the call has no message, RequestTooLarge if the message exceeds `bound`,
        DeadlineExceeded if the message is not complete after the time for requests, and TooMuchAtOnce if too many
        messages arrive slowly.
        """
        share = _share()
        if share is None:
            request = await _next(read, self._seconds)
            check_bytes(len(request), bound.max_bytes)
            yield request
            return
        message = await self._message(read, bound, share, self._late, seconds=self._seconds)
        if message is None:
            raise InvalidArgument(_NO_REQUEST)
        try:
            yield message
        finally:
            self._pool.give(bound.parsed_bytes(len(message)), share)

    @asynccontextmanager
    async def _small(self, read: NextMessage) -> AsyncIterator[bytes]:
        """Yield the one message of a call of the health service, which is not charged to a pool. Raise InvalidArgument
        if there is no message or the message exceeds MAX_HEALTH_REQUEST_BYTES, and DeadlineExceeded if the message is
        not complete after HEALTH_SECONDS.
        """
        request = await _next(read, HEALTH_SECONDS)
        if len(request) > MAX_HEALTH_REQUEST_BYTES:
            raise InvalidArgument(f"a request of the health service has at most {MAX_HEALTH_REQUEST_BYTES} bytes")
        yield request

    @asynccontextmanager
    async def _stream(self, bound: RequestBound, read: NextMessage) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield an iterator over the messages of a stream, each charged to the pool until the next one has arrived. The
        iterator raises TooMuchAtOnce if no slot is free for the next message, and RequestTooLarge if the message
        exceeds `bound`.
        """
        share = _share()
        incoming = _within(read, bound) if share is None else self._messages(read, bound, share)
        async with aclosing(incoming) as messages:
            yield messages

    async def _messages(self, read: NextMessage, bound: RequestBound, share: Share) -> AsyncGenerator[bytes, None]:
        """Yield the messages of a stream. Each is charged to `share` until the next one has arrived or the iterator is
        closed.
        """
        held = 0
        try:
            while True:
                message = await self._message(read, bound, share, self._silent, seconds=math.inf)
                self._pool.give(held, share)
                held = bound.parsed_bytes(len(message or b""))
                if message is None:
                    return
                yield message
        finally:
            self._pool.give(held, share)

    async def _message(
        self, read: NextMessage, bound: RequestBound, share: Share, later: Pool, *, seconds: float
    ) -> bytes | None:
        """Return the next message, after charging it to the pool of memory; None at the end of the stream. The caller
        releases the charge.

        A message that is not complete after ARRIVING_SECONDS moves from the pool of slots for arriving messages to the
        pool `later`. Raise DeadlineExceeded if the message is not complete after `seconds` (infinity sets no limit),
        RequestTooLarge if the message exceeds `bound`, and TooMuchAtOnce if a pool has no free slot. Nothing is
        charged after an error.
        """
        at_first = min(ARRIVING_SECONDS, seconds)
        place = self._arriving
        await place.take(1, share)
        coming = asyncio.ensure_future(_or_end(read))
        try:
            await asyncio.wait((coming,), timeout=at_first)
            if not coming.done() and seconds > at_first:
                place = _moved(place, later, share)
                await asyncio.wait((coming,), timeout=None if seconds == math.inf else seconds - at_first)
            if not coming.done():
                raise _late(seconds)
            message = coming.result()
            check_bytes(len(message or b""), bound.max_bytes)
            size = bound.parsed_bytes(len(message or b""))
            if not self._pool.try_take(size, share):
                if place is not self._late:  # a message that waits for memory has arrived, and has its full size
                    place = _moved(place, self._late, share)
                await self._pool.take(size, share)
            return message
        finally:
            coming.cancel()
            place.give(1, share)


async def _within(read: NextMessage, bound: RequestBound) -> AsyncGenerator[bytes, None]:
    """Yield the messages of a stream. Raise RequestTooLarge if one exceeds `bound`."""
    while (message := await _or_end(read)) is not None:
        check_bytes(len(message), bound.max_bytes)
        yield message


def _share() -> Share | None:
    """Return the share that a message is charged to; None for a message of another service, which is trusted and not
    charged.
    """
    identity = find_identity()
    return None if identity is not None and identity.kind is CallerKind.SERVICE else current_share()


def _moved(place: Pool, later: Pool, share: Share) -> Pool:
    """Move a message from the pool of slots `place` to the pool of slots `later`, and return `later`: take a slot of
    `later` without waiting, then release the slot of `place`.

    Raise TooMuchAtOnce if `later` has no free slot; the message then still has its slot of `place`.
    """
    if not later.try_take(1, share):
        raise later.refused(
            "too many messages arrive slowly or wait for memory; send this one again, without a pause in it"
        )
    place.give(1, share)
    return later


async def _or_end(read: NextMessage) -> bytes | None:
    """Return the next message of a call; None at the end of the stream."""
    message = await read()
    return None if message is grpc.aio.EOF else message


async def _next(read: NextMessage, seconds: float) -> bytes:
    """Return the next message of a call. Raise InvalidArgument if there is none, and DeadlineExceeded if it is not
    complete after `seconds`.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            message = await _or_end(read)
    except TimeoutError:
        if not limit.expired():
            raise
        raise _late(seconds) from None
    if message is None:
        raise InvalidArgument(_NO_REQUEST)
    return message


def _late(seconds: float) -> DeadlineExceeded:
    """Return the error for a message that is not complete after `seconds`."""
    return DeadlineExceeded(f"the request did not arrive within {seconds:g} seconds")
