"""Answers that wait for readers, bounded for each caller and for all callers together."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from typing_extensions import override

from runtime.identity import find_identity
from runtime.interceptors import Wrapping, parts
from runtime.pool import Pool, Share

if TYPE_CHECKING:
    import grpc
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]


class Answers(Wrapping):
    """Counts the bytes of each answer against its caller until the connection has taken them.

    gRPC keeps an answer until its reader has room for it, for as long as the reader likes. A caller who leaves so much
    unread that nothing is left for the next answer gets TooMuchAtOnce: a unary call instead of its answer, a stream at
    its end. An answer of at most 1/1024 of what is free is kept whatever its
    caller left unread.
    """

    def __init__(self, total: int) -> None:
        """`total` is in bytes, of all callers of this process."""
        super().__init__()
        self._pool = Pool("answers", total)

    @override
    def _wrap(self, method: str, handler: Handler) -> Handler:  # the same for all
        inner, make = parts(handler)
        is_generator = inspect.isasyncgenfunction(inner)
        if handler.response_streaming and not is_generator:
            return handler  # the health service, whose messages are tiny
        serialize = handler.response_serializer or bytes

        async def plain(request: Any, context: Context) -> Any:
            response = await inner(request, context)
            if response is None:
                return None
            raw, share = serialize(response), _share()
            self._take(len(raw), share)
            # Called when the answer was sent, or will never be.
            done: Any = partial(self._sent, len(raw), share)
            context.add_done_callback(done)
            return raw

        async def generated(request: Any, context: Context) -> AsyncIterator[Any]:
            share = _share()
            async with aclosing(inner(request, context)) as responses:
                async for response in responses:
                    raw = serialize(response)
                    self._take(len(raw), share)
                    try:
                        yield raw  # comes back when the connection has taken it
                    finally:
                        self._pool.give(len(raw), share)

        wrapped: Handler = make(
            generated if is_generator else plain,
            request_deserializer=handler.request_deserializer,
        )
        return wrapped

    def _sent(self, size: int, share: Share, _: object) -> None:
        self._pool.give(size, share)

    def _take(self, size: int, share: Share) -> None:
        if not self._pool.try_take(size, share):
            raise self._pool.refused("too many answers are waiting to be read; read them, then repeat the request")


def _share() -> Share:
    """Return the share of the pool that an answer counts for. Callers of services come by few networks, so networks are
    not told apart.
    """
    identity = find_identity()
    return Share.alone("nobody" if identity is None else identity.account)
