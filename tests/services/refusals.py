"""Calls every method of a service, so that a new one is covered without a word."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from core.errors import PermissionDenied
from runtime.errors import error_from_rpc


async def methods_open_to(channel: grpc.aio.Channel, service: ServiceDescriptor, metadata: Any) -> set[str]:
    """The full names of the methods that do not answer PERMISSION_DENIED to an empty request of this caller."""
    found = set()
    for method in service.methods:
        name = f"{service.full_name}/{method.name}"
        shape = (
            ("stream" if method.client_streaming else "unary")
            + "_"
            + ("stream" if method.server_streaming else "unary")
        )
        call = getattr(channel, shape)(f"/{name}")
        request = iter([b""]) if method.client_streaming else b""
        if not await _refused(call(request, metadata=metadata, timeout=10), streams=method.server_streaming):
            found.add(name)
    return found


async def _refused(call: Any, *, streams: bool) -> bool:
    try:
        await (call.read() if streams else call)
    except grpc.aio.AioRpcError as error:
        return isinstance(error_from_rpc(error), PermissionDenied)
    finally:
        call.cancel()
    return False
