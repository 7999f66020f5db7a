"""Fair order in which calls start: many calls of one person do not start before those of others.

gRPC hands calls to this process in the order of arrival, a few at a time. Without this module, all calls of a person
with hundreds of calls would start before the next call of another person. Therefore one call per network starts at a
time, and the others wait here. A call waits after its token was verified and its request has arrived; it is refused if
the token has expired when its turn comes.

No call waits while the event loop is idle: the next one then starts, even if started calls have not ended.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from typing_extensions import override

from runtime.fair_queue import FairQueue
from runtime.identity import find_identity
from runtime.network import current_share
from runtime.permissions import CallerKind
from runtime.pool import Share
from runtime.rests import Rests
from runtime.rpc.interceptors import Wrapping, parts
from syncline.model.errors import TokenExpired

if TYPE_CHECKING:
    import grpc
    import grpc.aio

    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

MAX_BEGUN_CALLS: Final = 8
"""Maximum number of calls, each of a different network, that have started within the last BEGUN_SECONDS and have not
ended.
"""
BEGUN_SECONDS: Final = 0.003
"""Seconds for which a call counts as recently started. A call that takes longer is waiting for I/O, or lets other calls
run in between by taking turns (`runtime.turns`).
"""
LOOK_SECONDS: Final = 0.001
"""Seconds between two measurements of the load of the event loop, while calls wait."""
IDLE_ITERATIONS: Final = 10
"""Number of iterations of the event loop that one measurement of its load takes."""
IDLE_SECONDS: Final = 0.000_25
"""Maximum seconds that IDLE_ITERATIONS iterations take on an idle event loop. All started calls are then waiting for
I/O, and no call has to wait for them.
"""

_HEALTH: Final = "/grpc.health.v1.Health/"
_END: Final = object()
"""Stands for the end of a stream of responses."""


class Beginnings:
    """Decides when each call may start: keeps the recently started calls and the waiting ones, for one event loop (not
    thread-safe).

    Waiting calls start round-robin over the networks, and within each network over its callers. Calls wait only while
    the event loop is busy.
    """

    def __init__(
        self,
        *,
        begun: Callable[[str], None] = lambda _network: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`begun` is called with the network of each call that starts after waiting. `clock` returns seconds."""
        self._clock = clock
        self._on_begun = begun
        self._begun: dict[str, tuple[object, float]] = {}
        """The recently started call of each network, and the time of its start."""
        self.rests = Rests(clock, by_time=True)
        """The rests of networks whose calls have occupied the event loop."""
        self._waiting = FairQueue()
        """The waiting calls, by network and by caller."""
        self._looks = False
        """True if a measurement is scheduled."""

    def waiting(self, network: str) -> int:
        """Return the number of waiting calls of a network, including recently cancelled ones."""
        return self._waiting.count(network)

    async def begin(self, share: Share) -> Callable[[], None]:
        """Wait until a call of `share` may start, and count the call as recently started. Return the function that the
        caller must call when the call ends; the call then no longer counts. If the waiting task is cancelled, the call
        does not count.
        """
        if self._waiting or not self._may(share.network):
            self._forget(self._clock() - BEGUN_SECONDS)
            self._serve()
        if not self._waiting.count(share.network) and self._may(share.network):
            call = object()
            self._count(share.network, call)
            return partial(self._end, share.network, call)
        turn = self._waiting.add(share.network, share.caller)
        self._look_later()
        await self._turn(share.network, turn)
        return partial(self._end, share.network, turn)

    def _may(self, network: str) -> bool:
        """Return True if a call of `network` may start now: the network has rested, fewer than MAX_BEGUN_CALLS calls
        count as recently started, and none of them is of this network.
        """
        return len(self._begun) < MAX_BEGUN_CALLS and network not in self._begun and self.rests.has_rested(network)

    def _count(self, network: str, call: object) -> None:
        self._begun[network] = call, self._clock()

    def _forget(self, until: float) -> None:
        """Stop counting the calls that started at `until` or before, a time of the clock in seconds."""
        self._begun = {network: begun for network, begun in self._begun.items() if begun[1] > until}

    async def _turn(self, network: str, turn: asyncio.Future[None]) -> None:
        """Wait for the future `turn` of a waiting call of `network`. `_serve` counts the call as started, then sets the
        result of the future. If the task is cancelled, the call stops counting and the cancellation is raised.
        """
        try:
            await turn
        except asyncio.CancelledError:
            self._end(network, turn)
            raise

    def _end(self, network: str, call: object) -> None:
        """Stop counting a call as recently started, and start waiting calls that may start now. Has no effect after the
        first time.
        """
        if network in self._begun and self._begun[network][0] is call:
            del self._begun[network]
            self._serve()

    def _serve(self) -> None:
        """Start the waiting calls that may start now, in the order of the queue, and report each to `begun`."""
        while (following := self._waiting.take(self._may)) is not None:
            network, turn = following
            self._count(network, turn)
            turn.set_result(None)
            self._on_begun(network)

    def _look_later(self) -> None:
        """Schedule a measurement of the load of the event loop in LOOK_SECONDS, unless one is scheduled."""
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self, iterations: int = IDLE_ITERATIONS, since: float | None = None) -> None:
        """Measure the load of the event loop, then start waiting calls. The method schedules itself once per iteration
        of the event loop; `iterations` is the number of those that are left, and `since` the clock's time, in seconds,
        at which the measurement began.

        If the iterations took less than IDLE_SECONDS, the loop is idle: no started call counts any more, and all rests
        end. Otherwise calls that started at least BEGUN_SECONDS ago stop counting. While calls wait, the next
        measurement is scheduled.
        """
        now = self._clock()
        since = now if since is None else since
        if iterations:
            asyncio.get_running_loop().call_soon(self._look, iterations - 1, since)
            return
        is_idle = now - since < IDLE_SECONDS
        self._forget(math.inf if is_idle else now - BEGUN_SECONDS)
        if is_idle:
            self.rests.end_all()
        self._serve()
        self._looks = False
        if self._waiting:
            self._look_later()


class Beginning(Wrapping):
    """Interceptor that lets the calls of people wait until they may start.

    Calls of other services do not wait, because they are made for calls of people that have waited in the calling
    service. Health checks do not wait either, because a busy process has to answer them.
    """

    def __init__(self, beginnings: Beginnings) -> None:
        """`beginnings` decides when each call may start."""
        super().__init__()
        self._beginnings = beginnings

    @override
    def _wrap(self, method: str, handler: Handler) -> Handler:
        if method.startswith(_HEALTH):
            return handler
        inner, make = parts(handler)

        async def plain(request: Any, context: Context) -> Any:
            end = await self._begin()
            try:
                _check_unexpired()
                return await self._charged(inner(request, context))
            finally:
                end()

        async def generated(request: Any, context: Context) -> AsyncIterator[Any]:
            end = await self._begin()
            try:
                _check_unexpired()
                async with aclosing(inner(request, context)) as responses:
                    while (response := await self._charged(anext(responses, _END))) is not _END:
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
        """Wait until the call of this task may start. Return the function to call when the call ends."""
        return _nothing if _is_service() else await self._beginnings.begin(current_share())

    async def _charged(self, work: Any) -> Any:
        """Await `work`, a part of the call of this task, and return its result. The caller's network rests for it."""
        if _is_service():
            return await work
        return await self._beginnings.rests.charged(current_share().network, work)


def _is_service() -> bool:
    """Return True if the call of this task is made by another service."""
    identity = find_identity()
    return identity is not None and identity.kind is CallerKind.SERVICE


def _check_unexpired() -> None:
    """Raise TokenExpired if the caller's token has expired while the call waited. Streams are ended later when their
    token expires.
    """
    caller = find_identity()
    if caller is not None and caller.expires_at <= time.time():
        raise TokenExpired("the access token has expired while the call waited; refresh it or sign in again")


def _nothing() -> None:
    """Do nothing at the end of a call that is not counted as started."""
