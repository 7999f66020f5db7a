"""Fair admission of calls: many calls of one person do not start before those of others.

gRPC accepts calls in the order of arrival, one in some rounds of the event loop. Without this module, all calls of a
person with hundreds of calls would start before the next call of another person. Therefore one call per network starts
at a time, and the others wait here, once their callers are known and their requests have arrived. A call whose token
has expired by its turn is refused.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from typing_extensions import override

from runtime.fair_queue import FairQueue
from runtime.identity import find_identity
from runtime.interceptors import Wrapping, parts
from runtime.network import current_share
from runtime.permissions import CallerKind
from runtime.pool import Share
from syncline.model.errors import TokenExpired

if TYPE_CHECKING:
    import grpc
    import grpc.aio

    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

BEGUN_AT_ONCE: Final = 8
"""Maximum number of calls, each of a different network, that have started within the last BEGUN_SECONDS and have not
ended.
"""
BEGUN_SECONDS: Final = 0.003
"""Seconds for which a call counts as recently started. A call that takes longer is waiting for I/O, or takes turns
itself.
"""

_HEALTH: Final = "/grpc.health.v1.Health/"


class Beginnings:
    """The recently started calls and the waiting ones, for one event loop (not thread-safe).

    Turns are round-robin over the networks, and within each network over its callers.
    """

    def __init__(self) -> None:
        self._begun: set[str] = set()
        """The networks of the recently started calls."""
        self._waiting = FairQueue()
        """The waiting calls, by network and by caller."""

    async def begin(self, share: Share) -> Callable[[], None]:
        """Wait until a call of `share` may start, and count the call as recently started. Return the function that ends
        the count early.
        """
        if self._may(share.network):
            self._begun.add(share.network)
        else:
            await self._turn(share)
        return _Begun(partial(self._end, share.network)).end

    def _may(self, network: str) -> bool:
        return len(self._begun) < BEGUN_AT_ONCE and network not in self._begun

    async def _turn(self, share: Share) -> None:
        """Wait for a turn, and count the call when the turn comes."""
        turn = self._waiting.add(share.network, share.caller)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._end(share.network)
            raise

    def _end(self, network: str) -> None:
        self._begun.remove(network)
        while (following := self._waiting.take(self._may)) is not None:
            begun, turn = following
            self._begun.add(begun)
            turn.set_result(None)


class _Begun:
    """A call that counts as recently started, for a limited time."""

    __slots__ = ("_counted_out", "_over")

    def __init__(self, counted_out: Callable[[], None]) -> None:
        self._counted_out: Callable[[], None] | None = counted_out
        self._over = asyncio.get_running_loop().call_later(BEGUN_SECONDS, self.end)

    def end(self) -> None:
        """Stop counting the call; has no effect after the first time."""
        counted_out, self._counted_out = self._counted_out, None
        if counted_out is not None:
            self._over.cancel()
            counted_out()


class Beginning(Wrapping):
    """Makes the calls of people start in turn.

    Calls of other services do not wait, since they belong to calls of people that have had their turn. Health checks do
    not wait either, since a busy process has to answer them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._beginnings = Beginnings()

    @override
    def _wrap(self, method: str, handler: Handler) -> Handler:
        if method.startswith(_HEALTH):
            return handler
        inner, make = parts(handler)

        async def plain(request: Any, context: Context) -> Any:
            end = await self._begin()
            try:
                _check_unexpired()
                return await inner(request, context)
            finally:
                end()

        async def generated(request: Any, context: Context) -> AsyncIterator[Any]:
            end = await self._begin()
            try:
                _check_unexpired()
                async with aclosing(inner(request, context)) as responses:
                    async for response in responses:
                        yield response
            finally:
                end()

        wrapped: Handler = make(
            generated if inspect.isasyncgenfunction(inner) else plain,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    async def _begin(self) -> Callable[[], None]:
        identity = find_identity()
        if identity is not None and identity.kind is CallerKind.SERVICE:
            return _nothing
        return await self._beginnings.begin(current_share())


def _check_unexpired() -> None:
    """Raise TokenExpired if the caller's token has expired while the call waited. Streams are ended later when their
    token expires.
    """
    caller = find_identity()
    if caller is not None and caller.expires_at <= time.time():
        raise TokenExpired("the access token has expired while the call waited; refresh it or sign in again")


def _nothing() -> None:
    """End of a call that is not counted."""
