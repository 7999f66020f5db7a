"""Answers of a hostile service, which would take many times their size in the memory of a client."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.errors import RequestTooLarge, SynclineError
from syncline.rpc.channel import MAX_ANSWER_BYTES, MAX_RECEIVE_BYTES, aio_channel, sync_channel
from syncline.rpc.errors import rpc_errors
from syncline.wire.pages import PAGE_BYTES

METADATA, AUTH = "syncline.metadata.v1.MetadataService", "syncline.auth.v1.AuthService"
EMPTY_PARTS = b"\x0a\x00" * (15 * 1024 * 1024 // 2)


class Answering(grpc.GenericRpcHandler):
    """Answers each call with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.calls = 0

    def service(self, details: Any) -> Any:
        def one(_request: bytes, _context: Any) -> bytes:
            self.calls += 1
            return self._answer

        def each(_request: bytes, _context: Any) -> Iterator[bytes]:
            self.calls += 1
            yield self._answer

        if details.method.endswith("ListChanges"):
            return grpc.unary_stream_rpc_method_handler(each)
        return grpc.unary_unary_rpc_method_handler(one)


@contextmanager
def service(answer: bytes) -> Iterator[tuple[str, Answering]]:
    handler = Answering(answer)
    server = grpc.server(
        futures.ThreadPoolExecutor(2), handlers=[handler], options=[("grpc.max_send_message_length", -1)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", handler
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("idempotent", [(), (METADATA, AUTH), (f"{AUTH}/ListSpaces", f"{METADATA}/ListNodes")])
def test_an_answer_far_above_a_page_is_refused_before_it_is_parsed(idempotent: tuple[str, ...]) -> None:
    with (
        service(EMPTY_PARTS) as (target, handler),
        sync_channel(target, idempotent=idempotent) as channel,
    ):
        for ask in (
            lambda: AuthServiceStub(channel).ListSpaces(auth_pb2.ListSpacesRequest()),
            lambda: MetadataServiceStub(channel).ListNodes(metadata_pb2.ListNodesRequest()),
        ):
            with pytest.raises(RequestTooLarge, match=f"{len(EMPTY_PARTS)} vs. {MAX_ANSWER_BYTES}"), rpc_errors():
                ask()
        assert handler.calls == 2  # no call is repeated


async def test_the_same_in_a_service() -> None:
    with service(EMPTY_PARTS) as (target, _):
        async with aio_channel(target, idempotent=[METADATA]) as channel:
            stub: Any = MetadataServiceStub(channel)
            with pytest.raises(RequestTooLarge), rpc_errors():
                await stub.ListNodes(metadata_pb2.ListNodesRequest())


@pytest.mark.parametrize("idempotent", [(), (METADATA,)])
def test_a_message_of_changes_has_many_bytes_for_manifests_but_not_for_very_many_nodes(
    idempotent: tuple[str, ...],
) -> None:
    manifest = journal_pb2.Manifest(blocks=bytes(32 * 1024), objects=bytes(32 * 1024))
    node = journal_pb2.Node(content=journal_pb2.Content(manifest=manifest))
    large = metadata_pb2.ListChangesResponse(nodes=[node] * 110, complete=True).SerializeToString()
    assert MAX_ANSWER_BYTES < len(large) < MAX_RECEIVE_BYTES
    with service(large) as (target, _), sync_channel(target, idempotent=idempotent) as channel:
        (answer,) = MetadataServiceStub(channel).ListChanges(metadata_pb2.ListChangesRequest())
        assert len(answer.nodes) == 110
    empty = b"\x12\x00" * (len(EMPTY_PARTS) // 2)
    with service(empty) as (target, _), sync_channel(target, idempotent=idempotent) as channel:
        stream = MetadataServiceStub(channel).ListChanges(metadata_pb2.ListChangesRequest())
        with pytest.raises(SynclineError, match="deserializ"), rpc_errors():
            list(stream)


def test_a_page_is_within_the_bound() -> None:
    nodes = [journal_pb2.Node(name="x" * 900)] * (PAGE_BYTES // 910)
    page = metadata_pb2.ListNodesResponse(nodes=nodes, next_page_token="x" * 8192)
    assert page.ByteSize() < 0.6 * MAX_ANSWER_BYTES
    with service(page.SerializeToString()) as (target, _), sync_channel(target) as channel:
        answer = MetadataServiceStub(channel).ListNodes(metadata_pb2.ListNodesRequest())
        assert len(answer.nodes) == len(nodes)
