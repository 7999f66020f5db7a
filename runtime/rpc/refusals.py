"""Delay of refusals by limits: if a network exceeds a rate of refused calls (runtime/refusals.py), a call that a limit
refuses is answered after a pause. Otherwise a client that calls again at once would take more of the process than its
limit grants.
"""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from typing_extensions import override

from runtime.identity import find_identity
from runtime.network import current_share, is_from_gateway, own_connection
from runtime.permissions import CallerKind
from runtime.refusals import DelayedRefusals
from runtime.rpc.intake import Intake
from runtime.rpc.interceptors import Around, Rpc
from syncline.model.errors import SynclineError

if TYPE_CHECKING:
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class Refusals(Around):
    """Interceptor that delays the answers to calls that limits refuse while their network exceeds the rate of refused
    calls.

    This interceptor is around those that hold resources for a call, so that a delayed call holds nothing but its error.
    Calls of the gateway and of other services are not delayed.

    If no further answer can be delayed, the call is answered at once. Its connection is then not read for the time of
    the delay, if the connection carries only calls of this caller.
    """

    def __init__(self, intake: Intake | None, delayed: DelayedRefusals) -> None:
        """`delayed` delays the answers. `intake` stops reading a connection; None if the service has no intake."""
        super().__init__()
        self._intake = intake
        self._delayed = delayed

    @override
    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Context) -> AsyncIterator[None]:
        try:
            yield
        except SynclineError as error:
            if error.slow_down_seconds is not None:
                # The frames that the error has passed keep the request, which may be large.
                traceback.clear_frames(error.__traceback__)
                await self._delay()
            raise

    async def _delay(self) -> None:
        identity, share = find_identity(), current_share()
        # The gateway holds the request of its client meanwhile, and delays its own answers with 429.
        if is_from_gateway() or (identity is not None and identity.kind is CallerKind.SERVICE):
            return
        rest = await self._delayed.delay(share)
        if rest and self._intake is not None and (connection := own_connection()) is not None:
            self._intake.rest(connection, rest)
