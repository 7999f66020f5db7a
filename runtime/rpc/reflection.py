"""Server reflection, by which tools such as grpcurl learn the contract from a running service.

Reflection is public, like the contract. No other work depends on it, so it gets few resources. `grpcio-reflection` has
only `v1alpha`; `v1` has the same messages under another name, so one servicer serves both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc

from runtime.permissions import Work
from runtime.pool import Pool, Share
from runtime.rates import Rate, Rates
from syncline.model.errors import InvalidArgument

V1: Final = "grpc.reflection.v1.ServerReflection"
V1_ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"
NAMES: Final = (V1, V1_ALPHA)

STREAMS_AT_ONCE: Final = 8
ANSWERS_PER_SECOND: Final = 50
"""Maximum number of answers per second of one process. A tool needs some dozens."""
_BURST: Final = 200
MAX_REQUEST_BYTES: Final = 1_024
"""Maximum size of a request, in bytes. A request names a file or a symbol, and a stream keeps it until the next one
comes.
"""
_METHOD: Final = "ServerReflectionInfo"


class Reflection(grpc.GenericRpcHandler):
    """Server reflection. Its code is loaded at the first call of reflection, because the code takes megabytes and most
    processes never receive such a call.
    """

    def __init__(self, services: list[str]) -> None:
        self._services = services
        self._handler: grpc.RpcMethodHandler[Any, Any] | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        if handler_call_details.method not in {f"/{name}/{_METHOD}" for name in NAMES}:
            return None
        if self._handler is None:
            self._handler = _handler([*self._services, *NAMES])
        return self._handler


def _handler(services: list[str]) -> grpc.RpcMethodHandler[Any, Any]:
    from grpc_reflection.v1alpha import reflection, reflection_pb2  # noqa: PLC0415 # see above

    _describe_v1(reflection_pb2.DESCRIPTOR)
    messages: Any = reflection_pb2
    answered: Any = reflection.aio.ReflectionServicer(services).ServerReflectionInfo
    streams = Pool("reflection", STREAMS_AT_ONCE)
    rates = Rates({Work.READ: Rate(ANSWERS_PER_SECOND, burst=_BURST)})

    async def paced(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            if request.ByteSize() > MAX_REQUEST_BYTES:
                raise InvalidArgument(f"a request of reflection has at most {MAX_REQUEST_BYTES} bytes")
            await rates.take(Work.READ, _METHOD)
            yield request

    async def bounded(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        share = Share.alone(context.peer())
        if not streams.try_take(1, share):
            raise streams.refused("reflection is busy; ask again in a few seconds")
        try:
            async with aclosing(answered(paced(requests), context)) as responses:
                async for response in responses:
                    yield response
        finally:
            streams.give(1, share)

    handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
        bounded,
        request_deserializer=messages.ServerReflectionRequest.FromString,
        response_serializer=messages.ServerReflectionResponse.SerializeToString,
    )
    return handler


def _describe_v1(alpha: Any) -> None:
    """Register `v1` in the descriptor pool that reflection answers from, so that it can describe itself."""
    from google.protobuf import descriptor_pb2, descriptor_pool, text_format  # noqa: PLC0415 # see above

    file = descriptor_pb2.FileDescriptorProto()
    alpha.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    pool: Any = descriptor_pool.Default()
    pool.Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))
