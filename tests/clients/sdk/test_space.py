"""A space over a real server: what is asked, what comes back, and streams that break."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from syncline.metadata.v1 import journal_pb2, metadata_pb2, metadata_pb2_grpc
from syncline.model.blocks import MIB, NO_DIGEST, Digest, Manifest
from syncline.model.errors import (
    Draining,
    InvalidCursor,
    Kind,
    LimitReached,
    NoSuchNode,
    PermissionDenied,
    RateExceeded,
    SynclineError,
    Unavailable,
)
from syncline.model.identifiers import ROOT, NodeId, RequestId, SpaceId, new_text_id
from syncline.model.tree import (
    Change,
    Content,
    CreateNode,
    DeleteNode,
    MoveNode,
    Mutation,
    Node,
    NodeKind,
    Result,
    UpdateContent,
    Version,
)
from syncline.model.verdicts import Difference, SealVerdict, Verdict
from syncline.rpc.errors import DETAILS_KEY
from syncline.sdk import pages
from syncline.sdk import session as session_module
from syncline.sdk import space as space_module
from syncline.sdk.errors import UnexpectedAnswer
from syncline.sdk.pages import MAX_EMPTY_PAGES
from syncline.sdk.right import Right
from syncline.sdk.space import ChangesPage, Declaration, Form, Located, PackEntries, Space, SpaceState
from syncline.wire.tree import mutation_from_wire, node_to_wire, result_to_wire, version_to_wire
from tests.clients.sdk.conftest import enter
from tests.clients.sdk.servicers import Auth, Running, refuse, running

SPACE = SpaceId(new_text_id())
REQUEST = RequestId(b"r" * 16)


def digest(number: int) -> Digest:
    return Digest(number.to_bytes(32, "big"))


def node(number: int, *, name: str = "", seq: int = 0) -> Node:
    content = Content(digest(number), number, 7, manifest=Manifest(digest(number), (number,)))
    node_id = NodeId(number.to_bytes(16, "big"))
    return Node(node_id, ROOT, name or f"file {number}", NodeKind.FILE, 1, content, seq, 0, "u", "d", 3)


def sized(size: int) -> Node:
    return replace(node(1), content=Content(digest(1), size, 7))


class Metadata(metadata_pb2_grpc.MetadataServiceServicer):
    """Answers each rpc by the function of that name in `answers`, and remembers what was asked."""

    def __init__(self) -> None:
        self.auth: Auth | None = None
        self.answers: dict[str, Callable[..., Any]] = {}
        self.asked: list[Any] = []

    def _unary(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        assert self.auth is not None
        self.auth.check(context)
        self.asked.append(request)
        try:
            return self.answers[name](request)
        except SynclineError as error:
            refuse(context, error)

    def _stream(self, name: str, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        assert self.auth is not None
        self.auth.check(context)
        self.asked.append(request)
        try:
            yield from self.answers[name](request)
        except SynclineError as error:
            refuse(context, error)


UNARY = (
    "GetSpace",
    "FindMissingObjects",
    "SealObjects",
    "CommitChanges",
    "RestoreVersion",
    "RestoreNode",
    "GetNode",
    "MeasureTree",
    "ListNodes",
    "ListVersions",
    "ListTrash",
    "GetVersion",
    "SearchNodes",
    "ListActivity",
    "GetAnswer",
    "UndoCopy",
)
for rpc in UNARY:
    setattr(Metadata, rpc, lambda self, request, context, rpc=rpc: self._unary(rpc, request, context))
for rpc in ("ListChanges", "CheckVersions"):
    setattr(Metadata, rpc, lambda self, request, context, rpc=rpc: self._stream(rpc, request, context))


@contextmanager
def opened(metadata: Metadata, home: Path) -> Iterator[Space]:
    with running(metadata=metadata) as services, enter(services, home) as session:
        metadata.auth = services.auth
        yield Space(session, SPACE)


@pytest.fixture
def metadata() -> Metadata:
    return Metadata()  # type: ignore[abstract]  # its rpcs are set below the class


@pytest.fixture
def space(metadata: Metadata, home: Path) -> Iterator[Space]:
    with opened(metadata, home) as space:
        yield space


def broken(code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> SynclineError:
    """Return the error by which a client sees that a server goes away."""
    assert code is grpc.StatusCode.UNAVAILABLE
    return Unavailable("the server went away")


# ---- unary calls ----


def test_get_space(metadata: Metadata, space: Space) -> None:
    metadata.answers["GetSpace"] = lambda request: metadata_pb2.GetSpaceResponse(
        head=7, used_bytes=8, quota_bytes=9, nodes=10, max_nodes=11, unsealed_bytes=12, unsealed_objects=2
    )
    assert space.get_space() == SpaceState(7, 8, 9, 10, 11, 12, 2)
    assert metadata.asked[0].space_id == SPACE


def test_find_missing_in_batches(metadata: Metadata, space: Space) -> None:
    objects = [digest(i) for i in range(25_000)]

    def find(request: metadata_pb2.FindMissingObjectsRequest) -> metadata_pb2.FindMissingObjectsResponse:
        numbers = [int.from_bytes(request.objects[at : at + 32], "big") for at in range(0, len(request.objects), 32)]
        assert len(numbers) <= 10_000
        return metadata_pb2.FindMissingObjectsResponse(missing=[i for i, n in enumerate(numbers) if n % 1000 == 7])

    metadata.answers["FindMissingObjects"] = find
    assert space.find_missing(objects) == {digest(i) for i in range(7, 25_000, 1000)}
    assert len(metadata.asked) == 3
    assert space.find_missing([]) == set()


def test_seal_says_what_each_object_is(metadata: Metadata, space: Space) -> None:
    metadata.answers["SealObjects"] = lambda request: metadata_pb2.SealObjectsResponse(
        verdicts=[
            metadata_pb2.SEAL_VERDICT_SEALED,
            metadata_pb2.SEAL_VERDICT_OBJECT_MISSING,
            metadata_pb2.SEAL_VERDICT_CHECKSUM_MISMATCH,
        ]
    )
    entries = PackEntries(digest(1) + digest(2), (0, 5), (5, 6))
    declared = [
        Declaration(digest(1), 10),
        Declaration(digest(2), 11, entries),
        Declaration(digest(3), 12, Form.MANIFEST),
    ]
    assert space.seal(declared) == [
        SealVerdict.SEALED,
        SealVerdict.OBJECT_MISSING,
        SealVerdict.CHECKSUM_MISMATCH,
    ]
    (request,) = metadata.asked
    assert [one.WhichOneof("form") for one in request.objects] == [None, "pack", "manifest"]
    assert request.objects[1].pack == metadata_pb2.PackEntries(
        blocks=entries.blocks, offsets=entries.offsets, lengths=entries.lengths
    )
    assert [(one.sha256, one.size) for one in request.objects] == [(digest(1), 10), (digest(2), 11), (digest(3), 12)]


def test_seal_in_batches_that_a_server_takes(metadata: Metadata, space: Space) -> None:
    sizes = []

    def seal(request: metadata_pb2.SealObjectsRequest) -> metadata_pb2.SealObjectsResponse:
        sizes.append((len(request.objects), request.ByteSize()))
        return metadata_pb2.SealObjectsResponse(verdicts=[metadata_pb2.SEAL_VERDICT_SEALED] * len(request.objects))

    metadata.answers["SealObjects"] = seal
    entries = PackEntries(b"".join(map(digest, range(4096))), tuple(range(4096)), (1,) * 4096)
    assert space.seal([Declaration(digest(i), 1, entries) for i in range(60)]) == [SealVerdict.SEALED] * 60
    assert all(size < 4 * 1024 * 1024 for _, size in sizes)
    assert len(sizes) > 1
    sizes.clear()
    space.seal([Declaration(digest(i), 1) for i in range(2500)])
    assert [count for count, _ in sizes] == [1000, 1000, 500]
    sizes.clear()
    space.seal([Declaration(digest(i), 8 * MIB, Form.MANIFEST) for i in range(130)])
    assert [count for count, _ in sizes] == [64, 64, 2], "a server reads 512 MiB for one call"


class Busy(SynclineError):
    """Too much at once; come back later."""

    reason = "BUSY_FOR_A_TEST"
    kind = Kind.EXHAUSTED


def test_a_limit_that_says_when_to_come_back_is_waited_for(metadata: Metadata, space: Space) -> None:
    refusals = [Busy(retry_after_seconds="0.01")] * 3

    def seal(request: metadata_pb2.SealObjectsRequest) -> metadata_pb2.SealObjectsResponse:
        if refusals:
            raise refusals.pop()
        return metadata_pb2.SealObjectsResponse(verdicts=[metadata_pb2.SEAL_VERDICT_SEALED])

    metadata.answers["SealObjects"] = seal
    assert space.seal([Declaration(digest(1), 10)]) == [SealVerdict.SEALED]
    assert len(metadata.asked) == 4
    refusals.append(Busy(retry_after_seconds="3600"))
    with pytest.raises(SynclineError, match="come back"):
        space.seal([Declaration(digest(1), 10)])


def late(seconds: float = 0.01) -> RateExceeded:
    return RateExceeded("go on more slowly", retry_after_seconds=f"{seconds:.3f}")


def test_a_rate_is_waited_for_longer_than_other_limits(
    metadata: Metadata, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other devices of the person may be faster each time."""
    monkeypatch.setattr(session_module, "PATIENCE_SECONDS", 0.05)
    told: list[tuple[str, float]] = []
    space.session.on_wait = lambda error, seconds: told.append((error.reason, seconds))
    refusals: list[SynclineError] = [late()] * 20

    def seal(request: metadata_pb2.SealObjectsRequest) -> metadata_pb2.SealObjectsResponse:
        if refusals:
            raise refusals.pop()
        return metadata_pb2.SealObjectsResponse(verdicts=[metadata_pb2.SEAL_VERDICT_SEALED])

    metadata.answers["SealObjects"] = seal
    assert space.seal([Declaration(digest(1), 10)]) == [SealVerdict.SEALED]
    assert len(metadata.asked) == 21
    assert [reason for reason, _ in told] == ["RATE_EXCEEDED"] * 20
    assert space.session.requests.counts().waited_seconds == pytest.approx(sum(seconds for _, seconds in told))
    refusals[:] = [Busy(retry_after_seconds="0.01")] * 20
    with pytest.raises(SynclineError, match="come back"):
        space.seal([Declaration(digest(1), 10)])


def test_what_was_waited_for_a_rate_leaves_the_patience_for_other_limits(
    metadata: Metadata, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "PATIENCE_SECONDS", 0.05)
    refusals: list[SynclineError] = [*[late()] * 10, Busy(retry_after_seconds="0.01")]

    def seal(request: metadata_pb2.SealObjectsRequest) -> metadata_pb2.SealObjectsResponse:
        if refusals:
            raise refusals.pop(0)
        return metadata_pb2.SealObjectsResponse(verdicts=[metadata_pb2.SEAL_VERDICT_SEALED])

    metadata.answers["SealObjects"] = seal
    assert space.seal([Declaration(digest(1), 10)]) == [SealVerdict.SEALED]
    assert len(metadata.asked) == 12


@pytest.mark.parametrize("told", ["-1e9", "-inf", "nan", "inf", "soon"])
def test_a_time_that_is_none_is_not_waited_for(metadata: Metadata, space: Space, told: str) -> None:
    def seal(request: metadata_pb2.SealObjectsRequest) -> metadata_pb2.SealObjectsResponse:
        raise Busy(retry_after_seconds=told)

    metadata.answers["SealObjects"] = seal
    with pytest.raises(SynclineError, match="come back"):
        space.seal([Declaration(digest(1), 10)])
    assert len(metadata.asked) == 1


def test_details_of_an_error_that_are_none_are_no_details(metadata: Metadata, home: Path) -> None:
    class Damaged(metadata_pb2_grpc.MetadataServiceServicer):
        def GetSpace(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - an rpc
            context.set_trailing_metadata(((DETAILS_KEY, b"\xff\xff\xff"),))
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")

    with (
        running(metadata=Damaged()) as services,  # type: ignore[abstract]  # as above
        enter(services, home) as session,
        pytest.raises(UnexpectedAnswer, match="FAILED_PRECONDITION"),
    ):
        Space(session, SPACE).get_space()


def test_a_limit_that_waiting_does_not_help_against_is_told_at_once(metadata: Metadata, space: Space) -> None:
    def seal(request: metadata_pb2.SealObjectsRequest) -> metadata_pb2.SealObjectsResponse:
        raise LimitReached("you have 5 GiB that are not sealed; seal or remove some")

    metadata.answers["SealObjects"] = seal
    with pytest.raises(LimitReached, match="you have 5 GiB"):
        space.seal([Declaration(digest(1), 10)])
    assert len(metadata.asked) == 1


def test_the_verdicts_and_differences_are_those_of_the_wire() -> None:
    def names(enum: Any, prefix: str) -> dict[str, int]:
        return {name.removeprefix(prefix): value for name, value in enum.items() if value}

    assert {one.name: one.value for one in SealVerdict} == names(metadata_pb2.SealVerdict, "SEAL_VERDICT_")
    assert {one.name: one.value for one in Difference} == names(metadata_pb2.Difference, "DIFFERENCE_")


def test_commit(metadata: Metadata, space: Space) -> None:
    content = Content(digest(1), 1, manifest=Manifest(digest(1), (1,)))
    mutations: list[Mutation] = [
        CreateNode(ROOT, "file", NodeKind.FILE, content),
        UpdateContent(node(1).id, 3, content),
        MoveNode(node(1).id, ROOT, "a", ROOT, "b"),
        DeleteNode(node(1).id, 4),
    ]
    results = (
        Result(Verdict.ACCEPTED, node(1, seq=9), Change.CREATED),
        Result(Verdict.VERSION_CONFLICT, node(2)),
        Result(Verdict.ACCEPTED, node(3, seq=9), Change.MOVED, (ROOT, "a")),
        Result(Verdict.NODE_NOT_FOUND),
    )
    metadata.answers["CommitChanges"] = lambda request: metadata_pb2.CommitChangesResponse(
        seq=9, results=map(result_to_wire, results)
    )
    committed = space.commit(mutations, REQUEST)
    assert committed == (9, results)
    (request,) = metadata.asked
    assert (request.space_id, request.request_id) == (SPACE, REQUEST)
    assert [mutation_from_wire(one) for one in request.mutations] == mutations
    assert not request.HasField("writes_since_ms")
    for since in (0, 5):
        space.commit(mutations, REQUEST, right=Right(writes_since_ms=since))
        assert metadata.asked[-1].HasField("writes_since_ms")
        assert metadata.asked[-1].writes_since_ms == since


def test_restores(metadata: Metadata, space: Space) -> None:
    result = Result(Verdict.ACCEPTED, node(1), Change.UPDATED)
    metadata.answers["RestoreVersion"] = lambda request: metadata_pb2.RestoreVersionResponse(
        seq=5, result=result_to_wire(result)
    )
    metadata.answers["RestoreNode"] = lambda request: metadata_pb2.RestoreNodeResponse(
        seq=6, result=result_to_wire(result), path="a/b"
    )
    assert space.restore_version(node(1).id, 2, 4, REQUEST) == (5, result)
    assert space.restore_node(node(1).id, REQUEST, name="new") == (result, "a/b")
    space.restore_node(node(1).id, REQUEST, path="a/b")
    first, second, third = metadata.asked
    assert (first.node, first.version, first.base_version, first.request_id) == (node(1).id, 2, 4, REQUEST)
    assert (second.node, second.parent, second.name) == (node(1).id, b"", "new")
    assert (second.make_way, second.HasField("path")) == (True, False)
    assert (third.name, third.path) == ("", "a/b")


def test_a_node_by_id_or_path(metadata: Metadata, space: Space) -> None:
    metadata.answers["GetNode"] = lambda request: metadata_pb2.GetNodeResponse(
        node=node_to_wire(node(1)), path="a/b", seq=4
    )
    assert space.get_node("a/b") == Located(node(1), "a/b", 4)
    assert space.get_node(node(1).id).node == node(1)
    assert [request.WhichOneof("selector") for request in metadata.asked] == ["path", "node"]


def test_listings_are_read_page_by_page(metadata: Metadata, space: Space) -> None:
    def page(request: Any) -> tuple[int, str]:
        number = int(request.page_token or 0)
        return number, str(number + 1) if number < 2 else ""

    def list_nodes(request: Any) -> metadata_pb2.ListNodesResponse:
        number, token = page(request)
        return metadata_pb2.ListNodesResponse(nodes=[node_to_wire(node(number))], next_page_token=token)

    def list_versions(request: Any) -> metadata_pb2.ListVersionsResponse:
        number, token = page(request)
        content = node(number).content
        assert content is not None
        version = version_to_wire(Version(number, content, "u", "d", 5))
        return metadata_pb2.ListVersionsResponse(versions=[version], next_page_token=token)

    def list_trash(request: Any) -> metadata_pb2.ListTrashResponse:
        number, token = page(request)
        return metadata_pb2.ListTrashResponse(nodes=[node_to_wire(node(number))], next_page_token=token)

    metadata.answers.update(ListNodes=list_nodes, ListVersions=list_versions, ListTrash=list_trash)
    assert list(space.list_nodes(node(5).id)) == [node(0), node(1), node(2)]
    assert [version.number for version in space.versions(node(5).id)] == [0, 1, 2]
    assert [one.node for one in space.trash()] == [node(0), node(1), node(2)]
    assert next(space.trash()).path == node(0).name  # a service that tells no paths leaves the name
    assert metadata.asked[0].parent == node(5).id
    nodes = space.list_nodes()
    before = len(metadata.asked)
    assert next(nodes) == node(0)
    assert len(metadata.asked) == before + 1, "no page is asked for before it is needed"


@pytest.mark.parametrize("error", [NoSuchNode("gone"), PermissionDenied("viewers only read")])
def test_errors_arrive_as_they_were_raised(metadata: Metadata, space: Space, error: SynclineError) -> None:
    def fail(request: Any) -> None:
        raise error

    metadata.answers["GetNode"] = fail
    with pytest.raises(type(error), match=str(error)):
        space.get_node("a")


def test_a_passing_fault_is_retried_by_the_channel(metadata: Metadata, space: Space) -> None:
    outcomes = iter([broken(), broken(), metadata_pb2.GetSpaceResponse(head=1)])

    def answer(request: Any) -> Any:
        outcome = next(outcomes)
        if isinstance(outcome, SynclineError):
            raise outcome
        return outcome

    metadata.answers["GetSpace"] = answer
    before = space.session.requests.counts().grpc
    assert space.get_space().head == 1
    assert len(metadata.asked) == 3
    assert space.session.requests.counts().grpc == before + 1


# ---- ListChanges ----


def changes(*pages: Any) -> Callable[[Any], Iterator[Any]]:
    """A ListChanges that sends these: pages by cursor number, nodes, reset; or raises."""

    def stream(request: Any) -> Iterator[Any]:
        for page in pages:
            if isinstance(page, SynclineError):
                raise page
            yield page

    return stream


def page(cursor: str, *numbers: int, reset: bool = False, complete: bool = False) -> metadata_pb2.ListChangesResponse:
    return metadata_pb2.ListChangesResponse(
        cursor=cursor.encode(),
        seq=len(cursor),
        reset=reset,
        nodes=[node_to_wire(node(n)) for n in numbers],
        complete=complete,
    )


def seen(pages: Iterator[ChangesPage]) -> list[tuple[str, list[int], bool]]:
    return [(page.cursor.decode(), [int.from_bytes(one.id, "big") for one in page.nodes], page.reset) for page in pages]


def test_changes_come_page_by_page_with_one_call(metadata: Metadata, space: Space) -> None:
    metadata.answers["ListChanges"] = changes(page("", 1, reset=True), page("c1", 2), page("c2", complete=True))
    before = space.session.requests.counts().grpc
    assert seen(space.changes(b"c0")) == [("", [1], True), ("c1", [2], False), ("c2", [], False)]
    assert space.session.requests.counts().grpc == before + 1
    assert (metadata.asked[0].cursor, metadata.asked[0].fresh_right) == (b"c0", False)
    assert len(seen(space.changes(b"c0", fresh_right=True))) == 3
    assert metadata.asked[1].fresh_right


def test_changes_go_on_after_a_break_where_they_were(metadata: Metadata, space: Space) -> None:
    streams = {
        b"": changes(page("c1", 1), page("c2", 2), broken()),
        b"c2": changes(page("c3", 3), broken()),
        b"c3": changes(page("c4", 4)),  # ends with OK, as servers once did that stopped
        b"c4": changes(page("c5", 5, complete=True)),
    }
    metadata.answers["ListChanges"] = lambda request: streams[request.cursor](request)
    assert seen(space.changes()) == [
        ("c1", [1], False),
        ("c2", [2], False),
        ("c3", [3], False),
        ("c4", [4], False),
        ("c5", [5], False),
    ]


@pytest.mark.parametrize("ending", [[broken()], []], ids=["broken", "ended early"])
def test_a_listing_that_breaks_begins_again(metadata: Metadata, space: Space, ending: list[Any]) -> None:
    """The rest of an interrupted listing is void, since the listing might have changed by then."""
    streams = iter(
        [
            changes(page("", 1), page("", 2), *ending),
            changes(*ending),
            changes(page("", 1), page("c1", 3, complete=True)),
        ]
    )

    def list_changes(request: Any) -> Iterator[Any]:
        return next(streams)(request)

    metadata.answers["ListChanges"] = list_changes
    assert seen(space.changes()) == [
        ("", [1], False),
        ("", [2], False),
        ("", [1], True),
        ("c1", [3], False),
    ]


def test_a_stream_that_a_limit_refuses_or_ends_goes_on_where_it_was(metadata: Metadata, space: Space) -> None:
    cursors: list[bytes] = []

    def changes(request: metadata_pb2.ListChangesRequest) -> Iterator[metadata_pb2.ListChangesResponse]:
        cursors.append(request.cursor)
        if len(cursors) == 1:
            raise late()
        if len(cursors) == 2:
            yield metadata_pb2.ListChangesResponse(cursor=b"one", seq=1)
            raise Busy(retry_after_seconds="0.01")
        yield metadata_pb2.ListChangesResponse(cursor=b"two", seq=2, complete=True)

    metadata.answers["ListChanges"] = changes
    assert [page.cursor for page in space.changes(b"none")] == [b"one", b"two"]
    assert cursors == [b"none", b"none", b"one"]


def test_a_stream_that_always_breaks_is_given_up(metadata: Metadata, space: Space) -> None:
    metadata.answers["ListChanges"] = changes(page("", 1), broken())
    with pytest.raises(Unavailable, match="went away"):
        seen(space.changes())
    assert len(metadata.asked) == space_module._MAX_RESUMES + 1


def test_a_stream_that_never_says_that_it_is_complete_is_no_answer(metadata: Metadata, space: Space) -> None:
    metadata.answers["ListChanges"] = changes(page("", 1))
    with pytest.raises(Unavailable, match="before it was complete"):
        seen(space.changes())
    assert len(metadata.asked) == space_module._MAX_RESUMES + 1


def test_what_follows_the_end_of_a_complete_stream_does_not_matter(metadata: Metadata, space: Space) -> None:
    metadata.answers["ListChanges"] = changes(page("c1", 1, complete=True), broken())
    assert seen(space.changes()) == [("c1", [1], False)]


def test_a_wrong_cursor_is_an_error(metadata: Metadata, space: Space) -> None:
    metadata.answers["ListChanges"] = changes(InvalidCursor())
    with pytest.raises(InvalidCursor):
        seen(space.changes(b"wrong"))


def test_a_stream_is_opened_with_a_fresh_token_if_need_be(metadata: Metadata, space: Space) -> None:
    metadata.answers["ListChanges"] = changes(page("c1", 1, complete=True))
    assert metadata.auth is not None
    metadata.auth.access.clear()
    assert seen(space.changes()) == [("c1", [1], False)]
    assert metadata.auth.refreshes == 1


def test_a_silent_stream_is_not_waited_for(metadata: Metadata, space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_module, "_SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(space_module, "_MAX_RESUMES", 1)
    release = threading.Event()

    def stalled(request: Any) -> Iterator[Any]:
        yield page("c1", 1)
        release.wait(60)

    metadata.answers["ListChanges"] = stalled
    with pytest.raises(Unavailable, match="went silent"):
        seen(space.changes())
    release.set()


def test_a_caller_who_is_busy_is_not_silence(metadata: Metadata, space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_module, "_SILENCE_SECONDS", 0.2)
    metadata.answers["ListChanges"] = changes(page("c1", 1), page("c2", 2, complete=True))
    pages = space.changes()
    next(pages)
    threading.Event().wait(0.5)
    assert seen(pages) == [("c2", [2], False)]


def test_an_abandoned_stream_is_cancelled(metadata: Metadata, space: Space) -> None:
    cancelled = threading.Event()

    def endless(request: Any) -> Iterator[Any]:
        try:
            for i in itertools.count():
                yield page(f"c{i}")
                cancelled.wait(0.01)
        finally:
            cancelled.set()

    metadata.answers["ListChanges"] = endless
    pages = space.changes()
    next(pages)
    pages.close()  # type: ignore[attr-defined]
    assert cancelled.wait(60)


# ---- CheckVersions ----


class Checker:
    """Says of files with odd numbers that they differ. Breaks after `breaks` answers, each time."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.breaks: Iterator[int] = itertools.repeat(1_000_000)
        self.opened = 0

    def __call__(self, requests: Iterator[Any]) -> Iterator[Any]:
        self.opened += 1
        first = next(requests)
        assert first.open.space_id == SPACE
        left = next(self.breaks)
        for request in requests:
            if not left:
                raise broken()
            left -= 1
            batch = request.batch
            digests = [batch.digests[at : at + 32] for at in range(0, len(batch.digests), 32)]
            assert len(digests) == (len(batch.paths) or len(batch.node_ids) // 16)
            self.batches.append(len(digests))
            differing = [i for i, one in enumerate(digests) if one[-1] % 2]
            yield metadata_pb2.CheckVersionsResponse(
                seq=len(self.batches),
                indexes=differing,
                differences=[metadata_pb2.DIFFERENCE_CONTENT] * len(differing),
                node_ids=b"".join(node(i + 1).id for i in differing),
                versions=[i + 1 for i in differing],
                digests=b"".join(digest(i + 100) for i in differing),
            )


@pytest.fixture
def checker(metadata: Metadata) -> Checker:
    checker = Checker()
    metadata.answers["CheckVersions"] = checker
    return checker


def local(count: int) -> list[tuple[str | NodeId, Digest]]:
    return [(f"file {i}", digest(i)) for i in range(count)]


def test_versions_are_checked_in_batches_with_one_call(space: Space, checker: Checker) -> None:
    before = space.session.requests.counts().grpc
    answers = list(space.check_versions(local(10_500)))
    assert checker.batches == [1000] * 10 + [500]
    assert [answer.count for answer in answers] == checker.batches
    assert [one.asked for answer in answers for one in answer.differing] == [
        f"file {i}" for i in range(10_500) if i % 256 % 2
    ]
    assert space.session.requests.counts().grpc == before + 1
    first = answers[0].differing[0]
    assert (first.difference, first.node, first.version, first.digest) == (
        Difference.CONTENT,
        node(2).id,
        2,
        digest(101),
    )


def test_nothing_to_check_asks_nothing(space: Space, checker: Checker) -> None:
    assert list(space.check_versions([])) == []
    assert checker.opened == 0


def test_files_by_id_and_by_path_go_in_batches_of_their_own(space: Space, checker: Checker) -> None:
    files: list[tuple[str | NodeId, Digest]] = [("a", digest(2)), (node(3).id, digest(3)), (node(4).id, NO_DIGEST)]
    answers = list(space.check_versions(files))
    assert checker.batches == [1, 2]
    assert [one.asked for one in answers[1].differing] == [node(3).id]


def test_what_is_unknown_has_no_node(metadata: Metadata, space: Space) -> None:
    def unknown(requests: Iterator[Any]) -> Iterator[Any]:
        next(requests)
        next(requests)
        yield metadata_pb2.CheckVersionsResponse(
            seq=1,
            indexes=[0],
            differences=[metadata_pb2.DIFFERENCE_UNKNOWN],
            node_ids=bytes(16),
            versions=[0],
            digests=bytes(32),
        )

    metadata.answers["CheckVersions"] = unknown
    ((one,),) = [answer.differing for answer in space.check_versions([("a", digest(1))])]
    assert (one.difference, one.node, one.version, one.digest) == (Difference.UNKNOWN, None, 0, None)


def test_files_are_read_a_few_batches_ahead(space: Space, checker: Checker) -> None:
    read = 0

    def files() -> Iterator[tuple[str | NodeId, Digest]]:
        nonlocal read
        for one in local(20_000):
            read += 1
            yield one

    answers = space.check_versions(files())
    next(answers)
    assert read <= 5001
    assert len(list(answers)) == 19


def test_a_check_that_breaks_goes_on_with_what_was_not_answered(space: Space, checker: Checker) -> None:
    checker.breaks = iter([3, 2, 100])
    answers = list(space.check_versions(local(10_000)))
    assert len(answers) == 10
    assert checker.batches == [1000] * 10
    assert checker.opened == 3
    assert [one.asked for answer in answers for one in answer.differing] == [
        f"file {i}" for i in range(10_000) if i % 256 % 2
    ]


def test_a_check_that_is_refused_by_a_rate_asks_everything_once_it_is_admitted(
    metadata: Metadata, space: Space, checker: Checker
) -> None:
    check, refusals = metadata.answers["CheckVersions"], [late()] * 3

    def limited(requests: Iterator[metadata_pb2.CheckVersionsRequest]) -> Iterator[metadata_pb2.CheckVersionsResponse]:
        if refusals:
            raise refusals.pop()
        yield from check(requests)

    metadata.answers["CheckVersions"] = limited
    assert sum(answer.count for answer in space.check_versions(local(5_000))) == 5_000
    assert checker.batches == [1000] * 5


def test_a_check_outlives_several_services_in_a_row(metadata: Metadata, space: Space, checker: Checker) -> None:
    """One after the other stops before it answers, as while a new release is rolled out."""
    stopping = iter(range(3))
    metadata.answers["CheckVersions"] = lambda requests: (
        iter(()) if next(stopping, None) is not None else checker(requests)
    )
    assert len(list(space.check_versions(local(10)))) == 1
    assert checker.batches == [10]


def test_a_check_that_never_gets_an_answer_is_given_up(space: Space, checker: Checker) -> None:
    checker.breaks = itertools.repeat(0)
    with pytest.raises(Unavailable):
        list(space.check_versions(local(10)))


def test_a_check_that_ends_without_an_answer_is_given_up(metadata: Metadata, space: Space) -> None:
    metadata.answers["CheckVersions"] = lambda requests: iter(())
    with pytest.raises(Unavailable, match="before it was complete"):
        list(space.check_versions(local(10)))


def test_the_end_of_a_check_is_not_taken_for_an_answer(metadata: Metadata, space: Space) -> None:
    metadata.answers["CheckVersions"] = lambda requests: iter([metadata_pb2.CheckVersionsResponse(complete=True)])
    with pytest.raises(Unavailable, match="before every batch was answered"):
        list(space.check_versions(local(10)))


@pytest.mark.parametrize("attempt", range(3))
def test_a_check_of_a_service_that_refuses_it_and_goes_away_ends_with_an_error(
    metadata: Metadata, home: Path, attempt: int
) -> None:
    """gRPC's own repetition of such a call waited for ever, though not each time."""
    with running(metadata=metadata) as services, enter(services, home) as session:
        metadata.auth = services.auth
        _, server, _ = services.servers

        def refused(requests: Iterator[Any]) -> Iterator[Any]:
            next(requests)
            next(requests)
            threading.Thread(target=server.stop, args=(0,)).start()
            raise Draining
            yield

        metadata.answers["CheckVersions"] = refused
        with pytest.raises(Unavailable):
            list(Space(session, SPACE).check_versions(local(150)))


def test_an_error_of_the_callers_files_is_the_callers(space: Space, checker: Checker) -> None:
    def files() -> Iterator[tuple[str | NodeId, Digest]]:
        yield from local(5000)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(space.check_versions(files()))


def test_a_failure_of_the_server_is_an_error(metadata: Metadata, space: Space) -> None:
    def fail(requests: Iterator[Any]) -> Iterator[Any]:
        raise LookupError("a defect")
        yield

    metadata.answers["CheckVersions"] = fail
    with pytest.raises(UnexpectedAnswer, match="UNKNOWN"):
        list(space.check_versions(local(10)))


def test_kinds_of_nodes_survive(metadata: Metadata, space: Space) -> None:
    directory = journal_pb2.Node(id=b"n" * 16, parent=ROOT, name="d", kind=journal_pb2.NODE_KIND_DIRECTORY)
    metadata.answers["ListNodes"] = lambda request: metadata_pb2.ListNodesResponse(nodes=[directory])
    (found,) = space.list_nodes()
    assert found == Node(NodeId(b"n" * 16), ROOT, "d", NodeKind.DIRECTORY)


def test_services_of_a_test_are_of_the_contract() -> None:
    methods = metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"].methods_by_name
    assert {*UNARY, "ListChanges", "CheckVersions"} == set(methods)
    assert isinstance(Running, type)


# ---- listings without an end


def test_a_listing_that_repeats_its_token_ends(metadata: Metadata, space: Space) -> None:
    metadata.answers["ListNodes"] = lambda _: metadata_pb2.ListNodesResponse(next_page_token="again")
    with pytest.raises(UnexpectedAnswer, match="without making progress"):
        list(space.list_nodes())
    assert len(metadata.asked) == 2


def test_a_listing_of_empty_pages_ends(metadata: Metadata, space: Space) -> None:
    metadata.answers["ListNodes"] = lambda _: metadata_pb2.ListNodesResponse(
        next_page_token=f"page {len(metadata.asked)}"
    )
    with pytest.raises(UnexpectedAnswer, match="without making progress"):
        list(space.list_nodes())
    assert len(metadata.asked) == MAX_EMPTY_PAGES + 1


def test_changes_that_do_not_get_on_end(metadata: Metadata, space: Space) -> None:
    def changes(_: metadata_pb2.ListChangesRequest) -> Iterator[metadata_pb2.ListChangesResponse]:
        while True:
            yield metadata_pb2.ListChangesResponse(cursor=b"here")

    metadata.answers["ListChanges"] = changes
    with pytest.raises(UnexpectedAnswer, match="without making progress"):
        list(space.changes())


def test_changes_whose_cursors_go_forth_and_back_end(metadata: Metadata, space: Space) -> None:
    told = itertools.count()

    def changes(_: metadata_pb2.ListChangesRequest) -> Iterator[metadata_pb2.ListChangesResponse]:
        for number in told:
            yield metadata_pb2.ListChangesResponse(cursor=b"here" if number % 2 else b"there", seq=number % 2)

    metadata.answers["ListChanges"] = changes
    with pytest.raises(UnexpectedAnswer, match="without making progress"):
        list(space.changes())


def test_streams_that_break_off_after_each_cursor_end(metadata: Metadata, space: Space) -> None:
    def changes(_: metadata_pb2.ListChangesRequest) -> Iterator[metadata_pb2.ListChangesResponse]:
        yield metadata_pb2.ListChangesResponse(cursor=b"here" if len(metadata.asked) % 2 else b"there")

    metadata.answers["ListChanges"] = changes
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pages, "MAX_EMPTY_PAGES", 3)
        with pytest.raises(UnexpectedAnswer, match="without making progress"):
            list(space.changes())
    assert len(metadata.asked) == 4


def test_changes_that_say_again_and_again_that_they_are_complete_end(metadata: Metadata, space: Space) -> None:
    def changes(_: metadata_pb2.ListChangesRequest) -> Iterator[metadata_pb2.ListChangesResponse]:
        while True:
            yield metadata_pb2.ListChangesResponse(cursor=b"here", complete=True)

    metadata.answers["ListChanges"] = changes
    with pytest.raises(UnexpectedAnswer, match="without making progress"):
        list(space.changes())


def test_a_listing_and_changes_without_an_end_are_given_up(
    metadata: Metadata, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_LISTED_ITEMS", 1000)
    same = node_to_wire(node(1))

    def changes(_: metadata_pb2.ListChangesRequest) -> Iterator[metadata_pb2.ListChangesResponse]:
        for number in itertools.count(1):
            yield metadata_pb2.ListChangesResponse(nodes=[same] * 100, cursor=str(number).encode(), seq=number)

    metadata.answers["ListChanges"] = changes
    with pytest.raises(UnexpectedAnswer, match="without making progress"):
        list(space.changes())
    metadata.answers["ListNodes"] = lambda _: metadata_pb2.ListNodesResponse(
        nodes=[same] * 100, next_page_token=f"page {len(metadata.asked)}"
    )
    before = len(metadata.asked)
    with pytest.raises(UnexpectedAnswer, match="without making progress"):
        list(space.list_nodes())
    assert len(metadata.asked) - before == 11


# ---- answers that the contract does not have


def test_answers_that_no_service_gives_are_refused_in_words(metadata: Metadata, space: Space) -> None:
    nameless = journal_pb2.Node(name="without ids")
    metadata.answers = {
        "FindMissingObjects": lambda _: metadata_pb2.FindMissingObjectsResponse(missing=[7]),
        "SealObjects": lambda _: metadata_pb2.SealObjectsResponse(),
        "CommitChanges": lambda _: metadata_pb2.CommitChangesResponse(seq=1),
        "RestoreVersion": lambda _: metadata_pb2.RestoreVersionResponse(
            result=journal_pb2.MutationResult(verdict=99)  # type: ignore[arg-type]
        ),
        "GetNode": lambda _: metadata_pb2.GetNodeResponse(node=nameless),
        "ListNodes": lambda _: metadata_pb2.ListNodesResponse(nodes=[nameless]),
        "ListTrash": lambda _: metadata_pb2.ListTrashResponse(nodes=[node_to_wire(node(1))], paths=["a", "b"]),
        "ListChanges": lambda _: iter([metadata_pb2.ListChangesResponse(nodes=[nameless], complete=True)]),
        "CheckVersions": lambda _: iter(
            [metadata_pb2.CheckVersionsResponse(indexes=[5], differences=[metadata_pb2.DIFFERENCE_CONTENT])]
        ),
    }
    asking: list[Callable[[], Any]] = [
        lambda: space.find_missing([digest(1)]),
        lambda: space.seal([Declaration(digest(1), 1)]),
        lambda: space.commit([DeleteNode(NodeId(b"n" * 16), 1)], REQUEST),
        lambda: space.restore_version(NodeId(b"n" * 16), 1, 1, REQUEST),
        lambda: space.get_node("a"),
        lambda: list(space.list_nodes()),
        lambda: list(space.trash()),
        lambda: list(space.changes()),
        lambda: list(space.check_versions([("a", digest(1))])),
    ]
    for ask in asking:
        with pytest.raises(UnexpectedAnswer, match="does not understand"):
            ask()


@pytest.mark.parametrize(
    "page",
    [
        metadata_pb2.ListChangesResponse(seq=1 << 63),
        metadata_pb2.ListChangesResponse(nodes=[node_to_wire(node(1, seq=1 << 63))]),
        metadata_pb2.ListChangesResponse(nodes=[node_to_wire(replace(node(1), version=1 << 63))]),
        metadata_pb2.ListChangesResponse(nodes=[node_to_wire(sized(1 << 63))]),
    ],
)
def test_numbers_that_no_database_holds_are_refused_in_words(
    metadata: Metadata, space: Space, page: metadata_pb2.ListChangesResponse
) -> None:
    metadata.answers["ListChanges"] = lambda _: iter([page])
    with pytest.raises(UnexpectedAnswer, match="must be at most"):
        list(space.changes())
