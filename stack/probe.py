"""Readiness probes for child processes. A probe returns True or False within about a second, and never raises: a
process that cannot be reached is not ready.
"""

from __future__ import annotations

import asyncio
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_SECONDS: Final = 1.0
_OK: Final = 200


async def http_ok(host: str, port: int, path: str) -> bool:
    """Return True if `GET path` at this host and port, without TLS, is answered with status 200 within a second. Return
    False for another status, for a connection that is refused or breaks, and after the time limit.
    """
    return await asyncio.to_thread(_http_ok, host, port, path)


async def grpc_serving(target: str) -> bool:
    """Return True if the gRPC health service at `target` (host:port, without TLS) answers SERVING within a second.
    Return False for every other answer, and for none.
    """
    # The synchronous API in a thread: grpc.aio interferes with event loops on other threads of the process, and tests
    # run the stack and its clients on different threads.
    return await asyncio.to_thread(_grpc_serving, target)


def _http_ok(host: str, port: int, path: str) -> bool:
    connection = HTTPConnection(host, port, timeout=_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == _OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _grpc_serving(target: str) -> bool:
    # Without own subchannels, a refused first attempt would delay all later ones by its back-off; and the loopback
    # interface needs no proxy.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(target, options=options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # the types of its methods are not published
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
