"""Server reflection: what tools such as grpcurl ask to learn the contract from a running service.

It is public, as the contract is. `grpcio-reflection` has only `v1alpha`; `v1` is the same messages under another name,
so both are served by one servicer.
"""

from __future__ import annotations

from typing import Any, Final

import grpc

V1: Final = "grpc.reflection.v1.ServerReflection"
V1_ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"
NAMES: Final = (V1, V1_ALPHA)

_METHOD: Final = "ServerReflectionInfo"


class Reflection(grpc.GenericRpcHandler):
    """Server reflection, loaded with the first call to it: it takes megabytes and most processes are never asked."""

    def __init__(self, services: list[str]) -> None:
        self._services = services
        self._handler: grpc.RpcMethodHandler[Any, Any] | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See grpc.GenericRpcHandler."""
        if handler_call_details.method not in {f"/{name}/{_METHOD}" for name in NAMES}:
            return None
        if self._handler is None:
            self._handler = _handler([*self._services, *NAMES])
        return self._handler


def _handler(services: list[str]) -> grpc.RpcMethodHandler[Any, Any]:
    from grpc_reflection.v1alpha import reflection, reflection_pb2  # noqa: PLC0415 # see above

    _describe_v1(reflection_pb2.DESCRIPTOR)
    messages: Any = reflection_pb2
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(services).ServerReflectionInfo,
        request_deserializer=messages.ServerReflectionRequest.FromString,
        response_serializer=messages.ServerReflectionResponse.SerializeToString,
    )
    return handler


def _describe_v1(alpha: Any) -> None:
    """Make `v1` known to the pool that reflection answers from, so that it can describe itself."""
    from google.protobuf import descriptor_pb2, descriptor_pool, text_format  # noqa: PLC0415 # see above

    file = descriptor_pb2.FileDescriptorProto()
    alpha.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    pool: Any = descriptor_pool.Default()
    pool.Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))
