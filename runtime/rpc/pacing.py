"""Rate limits (runtime/rates.py) of gRPC calls.

A call costs one, plus one for each BYTES_PER_CALL of its request, so that a commit of 2,000 changes costs more than one
of a single change. A call above the rate is refused before it is decoded, with the time after which it will be
admitted; a message in an open stream waits instead.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from typing_extensions import override

from runtime.identity import find_identity
from runtime.network import is_from_gateway
from runtime.permissions import METHODS_WITHOUT_RATE_FOR_GATEWAY, CallerKind, Work
from runtime.rates import BYTES_PER_CALL, Rates, bind_charging
from runtime.rpc.interceptors import Wrapping, parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]

STREAM_PAUSE_SECONDS: Final = 5.0
"""Seconds after which a caller with too many open streams may try again."""


class Pacing(Wrapping):
    """Interceptor that applies the rate limits to callers, by the kind of work of each method. Calls of other services
    are not limited.

    It runs after authentication and before decoding.
    """

    def __init__(self, rates: Rates, work: Mapping[str, Work], *, streams: int) -> None:
        """`rates` counts the calls. `work` has the kind of work by full method name; a method that is missing has no
        rate limit. `streams` is the maximum number of open streams of one method for one caller.
        """
        super().__init__()
        self._rates = rates
        self._work = work
        self._streams = streams
        self._open: Counter[tuple[str, str]] = Counter()

    @override
    def _wrap(self, method: str, handler: Handler) -> Handler:
        work = self._work.get(method.removeprefix("/"))
        if work is None:
            return handler
        inner, make = parts(handler)
        repairs = method.removeprefix("/") in METHODS_WITHOUT_RATE_FOR_GATEWAY

        async def plain(request: Any, context: Context) -> Any:
            caller = _caller()
            if caller is not None and repairs and is_from_gateway():
                self._rates.charge(work, caller, _calls(request))
            elif caller is not None:
                self._rates.admit(work, caller, _calls(request))
                bind_charging(partial(self._rates.charge, work, caller))
            return await inner(request, context)

        async def generated(request: Any, context: Context) -> AsyncIterator[Any]:
            caller = _caller()
            calls = 1 if handler.request_streaming else _calls(request)
            with self._opened(work, method, caller, calls):
                if caller is not None:
                    bind_charging(partial(self._rates.charge, Work.READ if handler.request_streaming else work, caller))
                    if handler.request_streaming:
                        request = self._paced(request, caller)
                async with aclosing(inner(request, context)) as responses:
                    async for response in responses:
                        yield response

        wrapped: Handler = make(
            generated if inspect.isasyncgenfunction(inner) else plain,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    @contextmanager
    def _opened(self, work: Work, method: str, caller: str | None, calls: float) -> Iterator[None]:
        if caller is None:
            yield
            return
        if self._open[method, caller] >= self._streams:
            text = f"you have {self._streams} streams of this kind open; close some"
            raise self._rates.refused(work, STREAM_PAUSE_SECONDS, text)
        self._rates.admit(work, caller, calls)
        self._open[method, caller] += 1
        try:
            yield
        finally:
            self._open[method, caller] -= 1
            if not self._open[method, caller]:
                del self._open[method, caller]

    async def _paced(self, requests: AsyncIterator[bytes], caller: str) -> AsyncIterator[bytes]:
        """Yield the messages of a stream, each when the rate allows it: nothing is refused, the sender is slowed
        down.
        """
        async for request in requests:
            await self._rates.take(Work.READ, caller, _calls(request))
            yield request


def _calls(request: bytes) -> float:
    return 1 + len(request) // BYTES_PER_CALL


def _caller() -> str | None:
    """Return the name of the account that the current call is charged to; None for a call of a service, and for a call
    that needs no identity.
    """
    identity = find_identity()
    return None if identity is None or identity.kind is CallerKind.SERVICE else identity.account
