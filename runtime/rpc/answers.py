"""Limit for answers that their callers have not read yet: their bytes are bounded for each caller, and for all
together.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias

from typing_extensions import override

from runtime.network import current_share, own_connection
from runtime.pool import Pool, Share
from runtime.rpc.intake import Intake
from runtime.rpc.interceptors import Wrapping, parts

if TYPE_CHECKING:
    import grpc
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]


class Answers(Wrapping):
    """Interceptor that charges the bytes of each answer to its caller until gRPC has sent them.

    gRPC buffers an answer until the client has room for it, without a time limit. The following therefore holds:

    - If a caller's unread answers leave no room for the next one, the call ends with TooMuchAtOnce: a unary call
      instead of its answer, a stream after its earlier answers.
    - An answer of at most 1/1024 of the free memory is buffered even then.
    - The connection of a caller who reads too slowly is closed, whatever the deadlines of its calls.
    """

    def __init__(self, total: int, intake: Intake | None, *, seconds: float, rate: float) -> None:
        """`total` is the memory for unread answers of all callers of this process, in bytes.

        `intake` closes a connection whose client has not read an answer in time: the client has `seconds`, plus one
        second for each `rate` bytes of unread answers on the connection. If `intake` is None, no connection is closed.
        """
        super().__init__()
        self._pool = Pool("answers", total)
        self._intake = intake
        self._seconds = seconds
        self._rate = rate
        self._unread: Counter[str] = Counter()
        """Unread bytes by connection."""

    @override
    def _wrap(self, method: str, handler: Handler) -> Handler:  # the same for all methods
        inner, make = parts(handler)
        is_generator = inspect.isasyncgenfunction(inner)
        if handler.response_streaming and not is_generator:
            return handler  # the health service, whose messages are tiny
        serialize = handler.response_serializer or bytes

        async def plain(request: Any, context: Context) -> Any:
            response = await inner(request, context)
            if response is None:
                return None
            raw = serialize(response)
            taken: Any = self._kept(len(raw), current_share())
            context.add_done_callback(taken)
            return raw

        async def generated(request: Any, context: Context) -> AsyncIterator[Any]:
            share = current_share()
            async with aclosing(inner(request, context)) as responses:
                async for response in responses:
                    raw = serialize(response)
                    taken = self._kept(len(raw), share)
                    try:
                        yield raw  # resumes when the connection has taken the message
                    finally:
                        taken(None)

        wrapped: Handler = make(
            generated if is_generator else plain,
            request_deserializer=handler.request_deserializer,
        )
        return wrapped

    def _kept(self, size: int, share: Share) -> Callable[[Any], None]:
        """Charge the `size` bytes of an answer to `share`. Return the function to call when the answer was sent or is
        dropped; it ends the charge, and ignores its argument. Raise TooMuchAtOnce, and charge nothing, if the pool has
        too little memory for this share.
        """
        if not self._pool.try_take(size, share):
            raise self._pool.refused("too many answers are waiting to be read; read them, then repeat the request")
        connection = own_connection()
        timer: asyncio.TimerHandle | None = None
        if connection is not None and self._intake is not None:
            self._unread[connection] += size
            patience = self._seconds + self._unread[connection] / self._rate
            timer = asyncio.get_running_loop().call_later(patience, self._intake.end, connection, "unread")

        def taken(_: object) -> None:
            self._pool.give(size, share)
            if connection is not None and timer is not None:
                timer.cancel()
                self._unread[connection] -= size
                if self._unread[connection] <= 0:
                    del self._unread[connection]

        return taken
