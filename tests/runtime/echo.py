"""A service without protos: methods take and give bytes."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from runtime.rpc.server import Mount
from syncline.rpc.channel import aio_channel, sync_channel

SERVICE = "test.Echo"


def mount(**handlers: grpc.RpcMethodHandler[Any, Any]) -> Mount:
    """Mounts `handlers`, made with `unary` and its siblings, as methods of test.Echo."""
    generic = grpc.method_handlers_generic_handler(SERVICE, dict(handlers))
    return lambda server: server.add_generic_rpc_handlers((generic,))


unary = grpc.unary_unary_rpc_method_handler
stream = grpc.unary_stream_rpc_method_handler
upload = grpc.stream_unary_rpc_method_handler
chat = grpc.stream_stream_rpc_method_handler


def path(method: str) -> str:
    return f"/{SERVICE}/{method}"


async def same(request: bytes, _context: Any) -> bytes:
    return request


def connect(target: str, **options: Any) -> Any:
    """A channel of ours, without the types that only generated stubs give."""
    return aio_channel(target, **options)


def connect_sync(target: str, **options: Any) -> Any:
    """The same for threads."""
    return sync_channel(target, **options)
