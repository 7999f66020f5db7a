"""Calls every method of a service, so that a new one is covered without a word."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from syncline.model.errors import PermissionDenied
from syncline.rpc.errors import error_from_rpc


async def methods_open_to(
    channel: grpc.aio.Channel, service: ServiceDescriptor, metadata: Any, *, refused: tuple[str, ...] = ()
) -> set[str]:
    """The full names of the methods that do not answer PERMISSION_DENIED to an empty request of this caller.

    `refused` are reasons that count as well.
    """
    reasons, found = {PermissionDenied.reason, *refused}, set()
    for method in service.methods:
        name = f"{service.full_name}/{method.name}"
        shape = (
            ("stream" if method.client_streaming else "unary")
            + "_"
            + ("stream" if method.server_streaming else "unary")
        )
        call = getattr(channel, shape)(f"/{name}")
        # Nothing is streamed: grpc.aio tells a failure of its own if the server refuses before that is sent.
        request = iter([]) if method.client_streaming else b""
        if await _reason(call(request, metadata=metadata, timeout=60), streams=method.server_streaming) not in reasons:
            found.add(name)
    return found


async def _reason(call: Any, *, streams: bool) -> str | None:
    """Return the reason that the call failed, or None if it did not."""
    try:
        await (call.read() if streams else call)
    except grpc.aio.AioRpcError as error:
        known = error_from_rpc(error)
        return known.reason if known is not None else None
    finally:
        call.cancel()
    return None
