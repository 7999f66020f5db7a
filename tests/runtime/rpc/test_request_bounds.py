"""Requests that take much more memory when they are parsed than on the wire, and the bounds that they meet before."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from runtime.identity import find_identity
from runtime.permissions import (
    MAX_SMALL_REQUEST_BYTES,
    PEOPLE,
    REQUEST_BOUNDS,
    RPCS,
    SMALL_REQUEST,
    CallerKind,
    RequestBound,
)
from runtime.rpc.requests import WINDOW_BYTES
from runtime.rpc.server import RECEIVED_SIZE_FACTOR, App, received_bytes, running
from runtime.settings import ServiceSettings
from syncline.admin.v1 import admin_pb2
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.blocks import DIGEST_BYTES, MAX_OBJECT_BYTES, MAX_PACK_ENTRIES
from syncline.model.errors import RequestTooLarge
from syncline.model.identifiers import ID_BYTES, new_text_id
from syncline.model.limits import (
    MAX_CHECKED_RIGHTS,
    MAX_FIND_DIGESTS,
    MAX_KEY_SPACES,
    MAX_LABEL_CHARACTERS,
    MAX_MEASURED_NODES,
    MAX_MESSAGE_BYTES,
    MAX_PASSWORD_CHARACTERS,
    MAX_QUERY_CHARACTERS,
    MAX_SEAL_DECLARATIONS,
    MAX_WATCHED_SPACES,
    REQUEST_MEMORY_BYTES,
)
from syncline.model.names import MAX_NAME_BYTES, MAX_PATH_BYTES
from syncline.model.tree import MAX_CHECK_FILES, MAX_MUTATIONS, MAX_REQUEST_BYTES
from syncline.notify.v1 import notify_pb2
from syncline.rpc.message_bounds import Malformed, Shape, check_bytes, check_fields, shape_of
from syncline.sdk.space import MAX_SEAL_BYTES
from tests.runtime import echo
from tests.runtime.http2 import http2
from tests.runtime.rpc.test_requests import Doorkeeper

SERVICES = (
    admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
    auth_pb2.DESCRIPTOR.services_by_name["AuthService"],
    metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"],
    notify_pb2.DESCRIPTOR.services_by_name["NotifyService"],
)
METHODS = {f"{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods}
SPACE = new_text_id()
DIGEST = b"\xff" * DIGEST_BYTES
NODE = b"\xff" * ID_BYTES
TEXT_PAGE_TOKEN = "x" * 8192


def _shape(message: Any) -> Shape:
    """Return the shape of a message or of a class of messages."""
    return shape_of(message.DESCRIPTOR)


def _check(method: str, request: Message) -> None:
    """Check a request as a service does."""
    raw = request.SerializeToString()
    bound = REQUEST_BOUNDS.get(method, SMALL_REQUEST)
    check_bytes(len(raw), bound.max_bytes)
    if bound.max_fields is not None:
        check_fields(raw, _shape(request), bound.max_fields)


def _pack(entries: int) -> metadata_pb2.ObjectDeclaration:
    step = MAX_OBJECT_BYTES // entries
    pack = metadata_pb2.PackEntries(
        blocks=DIGEST * entries, offsets=[step * n for n in range(entries)], lengths=[step] * entries
    )
    return metadata_pb2.ObjectDeclaration(sha256=DIGEST, size=MAX_OBJECT_BYTES, pack=pack)


def _commit() -> metadata_pb2.CommitChangesRequest:
    """Return a request of as many mutations as possible, of exactly the maximum size."""
    content = journal_pb2.Content(digest=DIGEST, size=1, mtime_ns=1, manifest=journal_pb2.Manifest(blocks=DIGEST))
    create = metadata_pb2.CreateNode(parent=NODE, name="x", kind=journal_pb2.NODE_KIND_FILE, content=content)
    request = metadata_pb2.CommitChangesRequest(space_id=SPACE, request_id=NODE, writes_since_ms=1 << 62)
    request.mutations.extend([metadata_pb2.Mutation(create=create)] * MAX_MUTATIONS)
    return request


def _largest() -> Iterator[tuple[str, Message]]:
    """Yield the largest requests that methods accept by their other limits."""
    metadata, auth = "syncline.metadata.v1.MetadataService/", "syncline.auth.v1.AuthService/"
    yield (
        auth + "CreateKey",
        auth_pb2.CreateKeyRequest(
            request_id=NODE,
            name="\U0001f600" * 100,
            expires_at_ms=1 << 62,
            scopes=[auth_pb2.KEY_SCOPE_READ, auth_pb2.KEY_SCOPE_WRITE, auth_pb2.KEY_SCOPE_SHARE],
            space_ids=[SPACE] * MAX_KEY_SPACES,
        ),
    )
    yield metadata + "CommitChanges", _commit()
    update = metadata_pb2.UpdateContent(node=NODE, base_version=1 << 62)
    update.content.manifest.blocks = bytes(MAX_REQUEST_BYTES - 200)
    whole = metadata_pb2.CommitChangesRequest(
        space_id=SPACE, request_id=NODE, mutations=[metadata_pb2.Mutation(update=update)]
    )
    assert MAX_REQUEST_BYTES - 200 < whole.ByteSize() <= MAX_REQUEST_BYTES
    yield metadata + "CommitChanges", whole
    yield (
        metadata + "FindMissingObjects",
        metadata_pb2.FindMissingObjectsRequest(space_id=SPACE, objects=DIGEST * MAX_FIND_DIGESTS),
    )
    sixteen = metadata_pb2.SealObjectsRequest(space_id=SPACE, objects=[_pack(MAX_PACK_ENTRIES)] * 16)
    yield metadata + "SealObjects", sixteen
    many = metadata_pb2.SealObjectsRequest(space_id=SPACE, objects=[_pack(48)] * MAX_SEAL_DECLARATIONS)
    assert many.ByteSize() > 0.9 * MAX_SEAL_BYTES
    yield metadata + "SealObjects", many
    batch = metadata_pb2.CheckVersionsBatch(
        paths=["x" * MAX_PATH_BYTES] * MAX_CHECK_FILES, digests=DIGEST * MAX_CHECK_FILES
    )
    yield metadata + "CheckVersions", metadata_pb2.CheckVersionsRequest(batch=batch)
    yield metadata + "MeasureTree", metadata_pb2.MeasureTreeRequest(space_id=SPACE, nodes=[NODE] * MAX_MEASURED_NODES)
    yield (
        metadata + "SearchNodes",
        metadata_pb2.SearchNodesRequest(
            space_id=SPACE, query="\U0001f600" * MAX_QUERY_CHARACTERS, page_token=TEXT_PAGE_TOKEN
        ),
    )
    yield (
        metadata + "ListTrash",
        metadata_pb2.ListTrashRequest(space_id=SPACE, path="x" * MAX_PATH_BYTES, page_token=TEXT_PAGE_TOKEN),
    )
    yield (
        metadata + "RestoreNode",
        metadata_pb2.RestoreNodeRequest(
            space_id=SPACE, node=NODE, parent=NODE, name="x" * MAX_NAME_BYTES, path="x" * MAX_PATH_BYTES
        ),
    )
    ids = [SPACE] * MAX_CHECKED_RIGHTS
    yield auth + "CheckWriters", auth_pb2.CheckWritersRequest(space_id=SPACE, device_ids=ids)
    yield auth + "BatchCheckAccess", auth_pb2.BatchCheckAccessRequest(user_id=SPACE, space_ids=ids, device_ids=ids)
    yield (
        auth + "SignUp",
        auth_pb2.SignUpRequest(
            email="x" * 254,
            password="\U0001f600" * MAX_PASSWORD_CHARACTERS,
            device_name="\U0001f600" * MAX_LABEL_CHARACTERS,
        ),
    )
    watched = notify_pb2.WatchRequest(space_ids=[SPACE] * MAX_WATCHED_SPACES)
    yield "syncline.notify.v1.NotifyService/Watch", watched


def _id_of(value: str | Message) -> str:
    """The name of a test, which is the same in each process that collects it: requests have random ids."""
    return value.rpartition("/")[2] if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(("method", "request_"), list(_largest()), ids=_id_of)
def test_the_largest_request_that_a_method_accepts_is_within_its_bound(method: str, request_: Message) -> None:
    _check(method, request_)


def _lists(kind: Descriptor) -> bool:
    return any(field.is_repeated or (field.message_type and _lists(field.message_type)) for field in kind.fields)


def test_a_method_with_a_list_has_a_largest_request_here_and_bounds_are_those_of_methods() -> None:
    known = {method for method, _ in _largest()}
    assert {name for name, method in METHODS.items() if _lists(method.input_type)} <= known
    assert REQUEST_BOUNDS.keys() <= METHODS.keys() & RPCS.keys()


def test_one_caller_can_hold_the_largest_request_of_each_method() -> None:
    share = REQUEST_MEMORY_BYTES // 2 // 2
    for bound in (*REQUEST_BOUNDS.values(), SMALL_REQUEST):
        assert bound.parsed_bytes(bound.max_bytes) <= share
        assert bound.max_bytes <= MAX_MESSAGE_BYTES


def _empty_parts(kind: Descriptor, size: int) -> bytes:
    """Return `size` bytes of the first field of a kind of message that holds messages or texts, empty each time."""
    for field in kind.fields:
        if field.message_type is not None or field.is_repeated:
            return bytes([field.number << 3 | 2, 0]) * (size // 2)
    return b""


@pytest.mark.parametrize("method", [name for name, kind in METHODS.items() if _lists(kind.input_type)])
def test_a_request_of_millions_of_empty_parts_is_refused_before_it_is_parsed(method: str) -> None:
    kind = METHODS[method].input_type
    bound = REQUEST_BOUNDS.get(method, SMALL_REQUEST)
    raw = _empty_parts(kind, MAX_MESSAGE_BYTES)
    if bound.max_fields is None:
        with pytest.raises(RequestTooLarge):
            check_bytes(len(raw), bound.max_bytes)
    else:
        with pytest.raises(RequestTooLarge):
            check_fields(raw[: bound.max_bytes // 2 * 2], shape_of(kind), bound.max_fields)


def test_parts_inside_of_parts_count() -> None:
    paths = metadata_pb2.CheckVersionsBatch(paths=[""] * 100)
    shape = shape_of(metadata_pb2.CheckVersionsRequest.DESCRIPTOR)
    raw = metadata_pb2.CheckVersionsRequest(batch=paths).SerializeToString()
    check_fields(raw, shape, 101)
    with pytest.raises(RequestTooLarge):
        check_fields(raw, shape, 100)
    # Each message of another kind in a oneof takes memory of its own, although only the last one is there at the end.
    forms = b"\x1a\x00\x22\x00" * 50
    raw = b"\x12" + bytes([0x80 | len(forms) & 0x7F, len(forms) >> 7]) + forms
    assert len(metadata_pb2.SealObjectsRequest.FromString(raw).objects) == 1
    with pytest.raises(RequestTooLarge):
        check_fields(raw, shape_of(metadata_pb2.SealObjectsRequest.DESCRIPTOR), 100)


def test_numbers_of_a_pack_do_not_count() -> None:
    request = metadata_pb2.SealObjectsRequest(objects=[_pack(4096)])
    check_fields(request.SerializeToString(), shape_of(request.DESCRIPTOR), 4)


@pytest.mark.parametrize(
    "raw",
    [b"\x0a", b"\x0a\x05ab", b"\xff" * 11, b"\x0f", b"\x09\x00", b"\x12\x02\x1a\x05", b"\x0a\xff\xff\xff\xff\xff"],
)
def test_bytes_that_are_no_message_are_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        metadata_pb2.SealObjectsRequest.FromString(raw)
    with pytest.raises(Malformed):
        check_fields(raw, shape_of(metadata_pb2.SealObjectsRequest.DESCRIPTOR), 100)


@given(st.binary(max_size=60))
def test_whatever_the_parser_takes_passes_if_it_is_small(raw: bytes) -> None:
    for kind in (metadata_pb2.SealObjectsRequest, metadata_pb2.CheckVersionsRequest, health_pb2.HealthCheckRequest):
        try:
            kind.FromString(raw)
        except DecodeError:
            continue
        check_fields(raw, _shape(kind), 100)


BOUNDED = RequestBound(100_000, max_fields=20, parsed_bytes_per_byte=2)
TABLE = {"test.Echo/" + name: PEOPLE | {CallerKind.SERVICE} for name in ("Small", "Bounded", "Chat")}


@pytest.mark.parametrize("token", ["ann", "service"])
@pytest.mark.parametrize("method", ["Small", "Bounded", "Chat"])
async def test_a_service_refuses_a_request_above_the_bound_of_its_method(method: str, token: str) -> None:
    seen: list[int] = []

    def decode(raw: bytes) -> Any:
        seen.append(len(raw))
        return metadata_pb2.SealObjectsRequest.FromString(raw)

    class Kind:
        DESCRIPTOR = metadata_pb2.SealObjectsRequest.DESCRIPTOR

        def from_string(self, raw: bytes) -> Any:
            return decode(raw)

    async def one(request: Any, _context: Any) -> bytes:
        return str(len(request.objects)).encode()

    async def each(requests: Any, _context: Any) -> Any:
        async for request in requests:
            yield str(len(request.objects)).encode()

    reads: Any = {"request_deserializer": Kind().from_string}
    mount = echo.mount(Small=echo.unary(one, **reads), Bounded=echo.unary(one, **reads), Chat=echo.chat(each, **reads))
    bounds = {"test.Echo/Bounded": BOUNDED, "test.Echo/Chat": BOUNDED}
    app = App(name="test", mounts=[mount], verifier=Doorkeeper(), operations=TABLE, bounds=bounds)
    async with running(app) as target, echo.connect(target, authorization=lambda: token) as channel:

        async def ask(raw: bytes) -> bytes:
            if method != "Chat":
                answer: bytes = await channel.unary_unary(echo.path(method))(raw)
                return answer
            call = channel.stream_stream(echo.path(method))()
            await call.write(raw)
            response: bytes = await call.read()
            return response

        assert await ask(b"\x12\x00" * 10) == b"10"
        most = MAX_SMALL_REQUEST_BYTES if method == "Small" else BOUNDED.max_bytes
        refused = [b"\x0a" + bytes([0x80 | most & 0x7F, 0x80 | most >> 7 & 0x7F, most >> 14]) + b"x" * most]
        if method != "Small":
            refused.append(b"\x12\x00" * 21)
        seen.clear()
        for raw in refused:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(raw)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "at most" in (caught.value.details() or "")
        assert not seen
        assert await ask(b"\x12\x00" * 20) == b"20"


@pytest.mark.parametrize(
    ("service", "received"),
    [("auth.v1.AuthService", 256), ("notify.v1.NotifyService", 256), ("metadata.v1.MetadataService", 4096)],
)
def test_a_service_receives_little_more_than_its_largest_request(service: str, received: int) -> None:
    assert received_bytes([f"syncline.{service}"], REQUEST_BOUNDS, MAX_MESSAGE_BYTES) == received * 1024


async def test_a_message_that_is_far_too_large_is_refused_when_its_size_is_known() -> None:
    async def done(_request: bytes, _context: Any) -> bytes:
        return b"done"

    app = App(name="test", mounts=[echo.mount(Small=echo.unary(done))], verifier=Doorkeeper(), operations=TABLE)
    async with running(app) as target, http2(target) as caller:
        most = RECEIVED_SIZE_FACTOR * MAX_SMALL_REQUEST_BYTES
        codes = []
        for size in (MAX_SMALL_REQUEST_BYTES, most, most + 1, MAX_MESSAGE_BYTES):
            stream = caller.begin(echo.path("Small"), token="ann", message_bytes=size, finished=True)
            await caller.until(partial(caller.codes.__contains__, stream))
            codes.append(int(caller.codes[stream]))
        assert codes == [
            code.value[0]
            for code in (
                grpc.StatusCode.OK,
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            )
        ]
        assert caller.sent[stream] <= WINDOW_BYTES


async def test_a_request_is_charged_with_the_memory_of_its_parsed_form() -> None:
    """One caller has four requests with 64 KiB, which may take 2 MiB each, at once in a pool of 16 MiB. Further ones
    wait in slots for late messages, of which it may have two.
    """
    entered: list[str] = []
    going_on = asyncio.Event()

    async def hold(_request: bytes, _context: Any) -> bytes:
        identity = find_identity()
        assert identity is not None
        entered.append(identity.user)
        if identity.user == "mallory":
            await going_on.wait()
        return b"done"

    settings = ServiceSettings(
        listen="127.0.0.1:0",
        drain_seconds=0,
        grace_seconds=0,
        request_bytes=8 * MAX_MESSAGE_BYTES,
        service_secret=SecretStr("s" * 32),
    )
    operations = {"test.Echo/Hold": PEOPLE}
    app = App(name="test", mounts=[echo.mount(Hold=echo.unary(hold))], verifier=Doorkeeper(), operations=operations)
    async with (
        running(app, settings) as target,
        echo.connect(target, authorization=lambda: "mallory", timeout=120) as channel,
        echo.connect(target, authorization=lambda: "ann", timeout=120) as other,
    ):
        call = channel.unary_unary(echo.path("Hold"))
        held = [asyncio.ensure_future(_answer(call(bytes(MAX_SMALL_REQUEST_BYTES)))) for _ in range(6)]
        async with asyncio.timeout(120):
            while len(entered) < 4:
                await asyncio.sleep(0.01)
        for _ in range(3):
            assert await other.unary_unary(echo.path("Hold"))(bytes(MAX_SMALL_REQUEST_BYTES)) == b"done"
        assert Counter(entered) == {"mallory": 4, "ann": 3}
        going_on.set()
        assert await asyncio.gather(*held) == [b"done"] * 6


async def _answer(call: Any) -> bytes:
    answer: bytes = await call
    return answer
