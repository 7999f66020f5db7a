"""Messages that arrive: none is taken in before its caller is known, and what arrives has a bound and a time.

gRPC takes in a message when somebody asks for it, and keeps what has come until the message is complete. Left to itself
it asks for the request of a unary call before any code of ours runs, for as long as the caller likes. So `Arriving`,
outermost of all, hands on the request as something that is still to come, and `Taking`, right behind authentication,
takes it in. Until then the connection holds no more of a call than its first window, of WINDOW_BYTES.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
from typing_extensions import override

from runtime.identity import find_identity
from runtime.interceptors import Wrapping, parts
from runtime.operations import CallerKind
from runtime.pool import Pool, Share
from syncline.model.errors import DeadlineExceeded, InvalidArgument

if TYPE_CHECKING:
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]

WINDOW_BYTES: Final = 65_535
"""Bytes of a message that arrive before anybody asks for them; the window with which HTTP/2 begins."""
MESSAGES_ARRIVING: Final = 64
"""Messages of streams that are waited for at once, until they have come or need their share of the pool."""
HEALTH_SECONDS: Final = 1.0
"""Seconds in which a request of the health service has to arrive. Such a request takes nothing from the pool, so that a
caller who takes all of the pool does not make a process look ill. Until it arrives, the bound is what can come within
so short a time.
"""
HEALTH_BYTES: Final = 1_024
"""Maximum size of a request of the health service, in bytes. It names one service, and a watch keeps it."""
_HEALTH: Final = "/grpc.health.v1.Health/"
_NOBODY: Final = "nobody"
"""On whose account requests without a token arrive, where networks are not told apart."""


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
    """Takes in the messages of calls, each within a time and a share of a pool.

    A unary request has MESSAGE_BYTES of the pool while it arrives and its own size until the call has been answered;
    it waits if there is nothing left for its caller. The next message of a stream has one of MESSAGES_ARRIVING places
    at first, and nothing of the pool, as streams may be silent. Once it has been waited for for `seconds`, it needs
    MESSAGE_BYTES of the pool instead, and if nothing is left the stream ends. A message that has come has its own size
    until the next one has, since whoever handles it keeps it so long.
    """

    def __init__(
        self, total: int, *, message_bytes: int, seconds: float, network: Callable[[Context], str] | None = None
    ) -> None:
        """`total` is in bytes, of all callers of this process, `message_bytes` the size of the largest message.

        A message may take `seconds` to arrive. `network` tells where a caller comes from who has no token.
        """
        super().__init__()
        self._pool = Pool("requests", total)
        self._arriving = Pool("arriving", MESSAGES_ARRIVING, counted=True)
        self._message_bytes = message_bytes
        self._seconds = seconds
        self._network = network

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
    async def _unary(self, arriving: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """The one message of a call."""
        share = self._share(context)
        if share is None:
            yield await _next(arriving, self._seconds)
            return
        held = self._message_bytes
        await self._pool.take(held, share)
        try:
            request = await _next(arriving, self._seconds)
            self._pool.give(held - len(request), share)
            held = len(request)
            yield request
        finally:
            self._pool.give(held, share)

    @asynccontextmanager
    async def _small(self, arriving: AsyncIterator[bytes], _context: Context) -> AsyncIterator[bytes]:
        """The only message of a call of the health service, which takes nothing of the pool."""
        request = await _next(arriving, HEALTH_SECONDS)
        if len(request) > HEALTH_BYTES:
            raise InvalidArgument(f"a request of the health service has at most {HEALTH_BYTES} bytes")
        yield request

    @asynccontextmanager
    async def _stream(self, arriving: AsyncIterator[bytes], context: Context) -> AsyncIterator[AsyncIterator[bytes]]:
        """The messages of a stream, as they come."""
        share = self._share(context)
        if share is None:
            yield arriving
            return
        async with aclosing(self._messages(arriving, share)) as messages:
            yield messages

    async def _messages(self, arriving: AsyncIterator[bytes], share: Share) -> AsyncGenerator[bytes, None]:
        held = 0
        try:
            while True:
                message = await self._message(arriving, share)
                self._pool.give(held, share)
                held = len(message or b"")
                if message is None:
                    return
                yield message
        finally:
            self._pool.give(held, share)

    async def _message(self, arriving: AsyncIterator[bytes], share: Share) -> bytes | None:
        """The next message, for which its size of the pool is taken; None when there is none any more."""
        await self._arriving.take(1, share)
        places, held = 1, 0
        coming = asyncio.ensure_future(_or_end(arriving))
        try:
            await asyncio.wait((coming,), timeout=self._seconds)
            if not coming.done():
                if not self._pool.try_take(self._message_bytes, share):
                    raise self._pool.refused("too many streams wait for their next message; go on with a new one")
                held = self._message_bytes
                self._arriving.give(places, share)
                places = 0
                await asyncio.wait((coming,))
            message = coming.result()
            size = len(message or b"")
            if size > held:
                await self._pool.take(size - held, share)
                held = size
            self._pool.give(held - size, share)
            held = 0  # from here on it is the caller's
            return message
        finally:
            coming.cancel()
            self._pool.give(held, share)
            self._arriving.give(places, share)

    def _share(self, context: Context) -> Share | None:
        """Return the share of the pool that a message counts for; None if it comes from a service, which is trusted."""
        identity = find_identity()
        if identity is None:
            return Share.alone(_NOBODY if self._network is None else self._network(context))
        return None if identity.kind is CallerKind.SERVICE else Share.alone(identity.account)


async def _or_end(arriving: AsyncIterator[bytes]) -> bytes | None:
    """The next message; None when there is none any more."""
    return await anext(arriving, None)


async def _next(arriving: AsyncIterator[bytes], seconds: float) -> bytes:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await anext(arriving)
    except StopAsyncIteration:
        raise InvalidArgument("the call ended without a request") from None
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded(f"the request did not arrive within {seconds:g} seconds") from None
