"""NotifyService: parse, call, format, return."""

# ruff: noqa: N802, ARG002 # grpc names the methods and passes both arguments to each

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias

from runtime.identity import current_user
from services.notify import wire
from services.notify.preferences import Preferences
from services.notify.watch import Watches
from syncline.notify.v1 import notify_pb2
from syncline.notify.v1.notify_pb2_grpc import NotifyServiceServicer
from syncline.wire.identifiers import request_id_from_wire, space_id_from_wire

if TYPE_CHECKING:
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class NotifyServicer(NotifyServiceServicer):
    """The gRPC servicer of notify. notify.proto states what each method promises."""

    def __init__(self, *, watches: Watches, preferences: Preferences) -> None:
        self._watches = watches
        self._preferences = preferences

    async def Watch(
        self, request: notify_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[notify_pb2.WatchResponse]:
        spaces = wire.space_ids_from_wire(request.space_ids)
        caller = current_user()
        async with aclosing(self._watches.watch(spaces, user=caller.user, device=caller.device)) as watch:
            async for doorbell in watch:
                yield wire.doorbell_to_wire(doorbell)

    async def GetPreference(
        self, request: notify_pb2.GetPreferenceRequest, context: Context
    ) -> notify_pb2.GetPreferenceResponse:
        space = space_id_from_wire(request.space_id)
        caller = current_user()
        mode = await self._preferences.get(space, user=caller.user, device=caller.device)
        return notify_pb2.GetPreferenceResponse(mode=wire.mode_to_wire(mode))

    async def SetPreference(
        self, request: notify_pb2.SetPreferenceRequest, context: Context
    ) -> notify_pb2.SetPreferenceResponse:
        request_id = request_id_from_wire(request.request_id)
        space = space_id_from_wire(request.space_id)
        mode = wire.mode_from_wire(request.mode)
        caller = current_user()
        mode = await self._preferences.set(space, mode, request=request_id, user=caller.user, device=caller.device)
        return notify_pb2.SetPreferenceResponse(mode=wire.mode_to_wire(mode))
