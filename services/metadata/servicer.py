"""The MetadataService: parse, call, format, return."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from google.protobuf.message import Message
from typing_extensions import override

from runtime.identity import Identity, current_reader, current_user
from runtime.interruption import Interruption, asked_again
from runtime.network import current_share, is_from_gateway
from runtime.rates import BYTES_PER_CALL, charge
from runtime.turns import slices, turn_for
from services.metadata.access import RoleCache
from services.metadata.journal.commit import CommitOutcome, Request, check_size
from services.metadata.journal.open_spaces import LiveSpace, OpenSpaces
from services.metadata.ports import Journal, MeasureTable
from services.metadata.restore import brought_back, way_back
from services.metadata.sealing import (
    DeclaredObject,
    Objects,
    PackOfBlocks,
    SerializedManifest,
    SingleBlock,
)
from services.metadata.tree import reads
from services.metadata.tree.activity import list_activity
from services.metadata.tree.link_view import scope, shown
from services.metadata.tree.search import MeasuredTop, NameSearch, TreeSize, words_of
from services.metadata.tree.sizes import TreeSizes
from services.metadata.undo import CopyUndos
from services.metadata.wire import (
    activity_to_wire,
    cursor_from_wire,
    cursor_to_wire,
    place_from_wire,
    place_to_wire,
)
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceServicer
from syncline.model.accounts import Role
from syncline.model.blocks import DIGEST_BYTES, MAX_PACK_ENTRIES, NO_DIGEST, Digest
from syncline.model.errors import InvalidArgument, InvalidPageToken, RequestTooLarge, RightChanged
from syncline.model.identifiers import ID_BYTES, ROOT, NodeId, SpaceId
from syncline.model.limits import MAX_FIND_DIGESTS, MAX_MEASURED_NODES, MAX_SEAL_DECLARATIONS
from syncline.model.names import most_archived_bytes
from syncline.model.tree import MAX_CHECK_FILES, Mutation, Node, NodeKind, RestoreNode, RestoreVersion, Result
from syncline.wire.identifiers import node_id_from_wire, request_id_from_wire, space_id_from_wire
from syncline.wire.pages import (
    PAGE_BYTES,
    page_size_from_wire,
    page_token_from_wire,
    page_token_to_wire,
    text_token_from_wire,
)
from syncline.wire.paths import path_from_wire, paths_from_wire
from syncline.wire.tree import digest_from_wire, mutations_from_wire, node_to_wire, result_to_wire, version_to_wire

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

    Context = ServicerContext[Any, Any]

T = TypeVar("T")
M = TypeVar("M", bound=Message)
P = TypeVar("P")

DEFAULT_PAGE_ENTRIES = 100
"""Default number of entries per page for listings whose entries may hold manifests."""
USUAL_GROWTH: Final = 4
"""Maximum ratio of the size of a commit's answer to the size of its request at which nothing is charged for the answer.
The journal keeps the answer. That to a move of a node with a long manifest is a thousand times as large as the request.
"""
MEASURED_NODES_PER_CALL: Final = 25
"""Number of nodes of a MeasureTree call, each of which is looked up by itself, that are charged like one more call."""


class MetadataServicer(MetadataServiceServicer):
    """The gRPC servicer of metadata. metadata.proto states what each method promises."""

    def __init__(
        self,
        *,
        access: RoleCache,
        spaces: OpenSpaces,
        objects: Objects,
        journal: Journal,
        measures: MeasureTable,
        search: NameSearch,
        sizes: TreeSizes,
        undos: CopyUndos,
        max_nodes: int,
        ask_seconds: float,
        now_ms: Callable[[], int],
    ) -> None:
        """- `max_nodes` is the maximum number of nodes in a space.
        - `ask_seconds` is the interval at which a stream or a long call checks the right of its caller.
        - `now_ms` returns milliseconds since 1970.
        """
        self._now_ms = now_ms
        self._ask_seconds = ask_seconds
        self._access = access
        self._spaces = spaces
        self._objects = objects
        self._journal = journal
        self._measures = measures
        self._search = search
        self._sizes = sizes
        self._undos = undos
        self._max_nodes = max_nodes

    @asynccontextmanager
    async def _open(self, space_id: str, role: Role, caller: Identity | None = None) -> AsyncIterator[LiveSpace]:
        """Context manager that yields the space with its view, committer and projector, after checking as `_allowed`
        does that the caller has at least the role `role` in the space.
        """
        async with self._allowed(space_id, role, caller) as space, self._spaces.use(space) as live:
            yield live

    def _while_allowed(self, space: SpaceId, role: Role) -> AbstractAsyncContextManager[Interruption]:
        """Return a context manager for a stream or a long call. The context manager checks periodically if the caller
        still has at least the role `role` in the space, and yields an interruption, which interrupts the call when the
        right has ended.
        """
        ask = partial(self._access.require, space, current_user(), role, now=True)
        return asked_again(ask, seconds=self._ask_seconds)

    @asynccontextmanager
    async def _allowed(self, space_id: str, role: Role, caller: Identity | None = None) -> AsyncIterator[SpaceId]:
        """Context manager that yields the id of the space after checking that `caller` has at least the role `role` in
        it. By default, `caller` is the caller of this rpc, who must be a person.

        If the call took longer than `ask_seconds`, for example because it waited for its turn, the role is checked
        again at the end of the context, and the call is answered only if the caller still has it.
        """
        space, clock = space_id_from_wire(space_id), asyncio.get_running_loop().time
        await self._access.require(space, caller or current_user(), role)
        asked_at = clock()
        yield space
        if clock() - asked_at > self._ask_seconds:
            await self._access.require(space, caller or current_user(), role, now=True)

    @override
    async def GetSpace(self, request: metadata_pb2.GetSpaceRequest, context: Context) -> metadata_pb2.GetSpaceResponse:
        async with self._open(request.space_id, Role.VIEWER) as live:
            await live.view.validate()
            if live.view.known_node_count is None:
                await live.view.count_nodes()
                live.projector.wake()  # From now on, the table holds the number.
            measured = await self._measures.measure(live.view.space)
            if not live.reservation.is_recent:
                await live.reservation.ask(used_bytes=live.view.used_bytes)
            return metadata_pb2.GetSpaceResponse(
                head=live.view.seq,
                used_bytes=live.view.used_bytes,
                quota_bytes=live.reservation.quota_bytes,
                nodes=live.view.counted_nodes(),
                max_nodes=self._max_nodes,
                unsealed_bytes=measured.unsealed_bytes,
                unsealed_objects=measured.unsealed_objects,
            )

    @override
    async def FindMissingObjects(
        self, request: metadata_pb2.FindMissingObjectsRequest, context: Context
    ) -> metadata_pb2.FindMissingObjectsResponse:
        digests = _packed(request.objects, what="objects", most=MAX_FIND_DIGESTS)
        async with self._allowed(request.space_id, Role.EDITOR) as space:
            missing = await self._objects.missing(space, set(digests), share=current_share())
        return metadata_pb2.FindMissingObjectsResponse(
            missing=[i for i, digest in enumerate(digests) if digest in missing]
        )

    @override
    async def SealObjects(
        self, request: metadata_pb2.SealObjectsRequest, context: Context
    ) -> metadata_pb2.SealObjectsResponse:
        async with self._allowed(request.space_id, Role.EDITOR) as space:
            if len(request.objects) > MAX_SEAL_DECLARATIONS:
                raise InvalidArgument(f"at most {MAX_SEAL_DECLARATIONS} objects can be sealed at once")
            declared = _declarations(request.objects)
            async with self._while_allowed(space, Role.EDITOR) as ending:
                with ending.interrupting():
                    verdicts = await self._objects.seal(space, declared, share=current_share())
        return metadata_pb2.SealObjectsResponse(
            verdicts=[metadata_pb2.SealVerdict.ValueType(verdict.value) for verdict in verdicts]
        )

    @override
    async def CommitChanges(
        self, request: metadata_pb2.CommitChangesRequest, context: Context
    ) -> metadata_pb2.CommitChangesResponse:
        check_size(len(request.mutations), request.ByteSize())  # before any work is done with the request
        writes_since_ms = request.writes_since_ms if request.HasField("writes_since_ms") else None
        user = current_user().user
        mutations: list[Mutation] = []
        async for some in slices(request.mutations, user):
            mutations += mutations_from_wire(some, first=len(mutations))
        answer = await self._commit(request, tuple(mutations), size=request.ByteSize(), writes_since_ms=writes_since_ms)
        results = await _that_fit(answer.results, result_to_wire)
        _charge_growth(results, beyond=USUAL_GROWTH * request.ByteSize())
        if len(results) < len(answer.results):
            # The results of an entry fit into an answer, so nothing was accepted; only the blocking nodes in refusals
            # can be large.
            raise RequestTooLarge("the nodes that block these mutations do not fit into one answer; split them")
        return metadata_pb2.CommitChangesResponse(seq=answer.seq, results=results)

    @override
    async def RestoreVersion(
        self, request: metadata_pb2.RestoreVersionRequest, context: Context
    ) -> metadata_pb2.RestoreVersionResponse:
        node = node_id_from_wire(request.node)
        mutation = RestoreVersion(node, request.version, request.base_version)
        answer = await self._commit(request, (mutation,), size=request.ByteSize())
        result = result_to_wire(answer.results[0])
        _charge_growth([result])
        return metadata_pb2.RestoreVersionResponse(seq=answer.seq, result=result)

    @override
    async def RestoreNode(
        self, request: metadata_pb2.RestoreNodeRequest, context: Context
    ) -> metadata_pb2.RestoreNodeResponse:
        parent = node_id_from_wire(request.parent, what="parent") if request.parent else None
        want = RestoreNode(node_id_from_wire(request.node), parent, request.name)
        path = path_from_wire(request.path) if request.HasField("path") else None
        if path is not None and (parent is not None or request.name):
            raise InvalidArgument("path takes the place of parent and name; give one or the others")
        request_id = request_id_from_wire(request.request_id)
        async with self._open(request.space_id, Role.EDITOR) as live:

            async def plan() -> tuple[Mutation, ...]:
                if not request.make_way and path is None:
                    return (want,)
                return await way_back(live.view, want, request=request_id, path=path)

            async def commit(mutations: tuple[Mutation, ...]) -> CommitOutcome:
                return await self._commit(request, mutations, size=request.ByteSize())

            answer, outcome = await brought_back(plan, commit)
            found = await reads.look(live.view, [want.node], account=current_user().user)
        result = result_to_wire(outcome)
        _charge_growth([result])
        return metadata_pb2.RestoreNodeResponse(seq=answer.seq, result=result, path=found[0].path if found else "")

    async def _commit(
        self,
        request: metadata_pb2.CommitChangesRequest
        | metadata_pb2.RestoreVersionRequest
        | metadata_pb2.RestoreNodeRequest,
        mutations: tuple[Mutation, ...],
        *,
        size: int,
        writes_since_ms: int | None = None,
    ) -> CommitOutcome:
        """Commit `mutations`, which follow from `request` and have a serialised size of `size` bytes. Return the
        outcome.

        `writes_since_ms` is the time, in milliseconds since 1970, at which the caller's right to write was granted when
        the caller made the changes; None if the request does not state it. Raise RightChanged, with nothing committed,
        if the present right was granted at another time. Raise the errors of `Committer.commit`.
        """
        caller = current_user()
        wanted = Request(
            id=request_id_from_wire(request.request_id),
            fingerprint=hashlib.sha256(request.SerializeToString(deterministic=True)).digest(),
            user=caller.user,
            device=caller.device,
            mutations=mutations,
            size=size,
            all_or_nothing=isinstance(request, metadata_pb2.CommitChangesRequest) and request.all_or_nothing,
        )
        space = space_id_from_wire(request.space_id)

        async def ask() -> None:
            has = await self._access.require(space, caller, Role.EDITOR, now=True)
            if writes_since_ms not in {None, has.writes_since_ms}:
                raise RightChanged

        changed: RightChanged | None = None
        try:
            await ask()
        except RightChanged as error:
            changed = error
        async with self._spaces.use(space) as live:
            if changed is None:
                return await live.committer.commit(wanted, ask=ask)
            if (answer := await live.committer.first_answer(wanted, ask=ask)) is not None:
                return answer
            raise changed

    @override
    async def ListChanges(
        self, request: metadata_pb2.ListChangesRequest, context: Context
    ) -> AsyncIterator[metadata_pb2.ListChangesResponse]:
        space = space_id_from_wire(request.space_id)
        writes_since_ms = await self._access.writes_since_ms(space, current_user(), now=request.fresh_right)
        async with self._spaces.use(space) as live:
            after = cursor_from_wire(space, request.cursor)
            response, size = _changes(writes_since_ms), 0
            response.seq = after.seq
            changes = reads.changes(live.view, self._journal, after=after)
            async with self._while_allowed(space, Role.VIEWER) as ending:
                async for nodes, position in ending.until(changes):
                    changed, more = await _nodes_to_wire(nodes)
                    if response.nodes and size + more > PAGE_BYTES:
                        yield response
                        response, size = _changes(writes_since_ms), 0
                    response.nodes.extend(changed)
                    size += more
                    response.seq = position.seq
                    response.cursor = cursor_to_wire(space, position)
            response.complete = True
            yield response

    @override
    async def CheckVersions(
        self, request_iterator: AsyncIterator[metadata_pb2.CheckVersionsRequest], context: Context
    ) -> AsyncIterator[metadata_pb2.CheckVersionsResponse]:
        opening = await anext(request_iterator, None)
        if opening is None or opening.WhichOneof("kind") != "open":
            raise InvalidArgument("the first message of a version check opens a space")
        space = opening.open.space_id
        del opening  # The opening message may be large, and must not stay in memory for the duration of the stream.
        async with self._open(space, Role.VIEWER) as live:
            seq = 0
            async with self._while_allowed(live.view.space, Role.VIEWER) as ending:
                async for message in ending.until(request_iterator):
                    match message.WhichOneof("kind"):
                        case "batch":
                            answer = await self._check_batch(live, message.batch)
                            seq = answer.seq
                            yield answer
                        case _:
                            raise InvalidArgument("after the first message a version check consists of batches")
            yield metadata_pb2.CheckVersionsResponse(seq=seq, complete=True)

    async def _check_batch(
        self, live: LiveSpace, batch: metadata_pb2.CheckVersionsBatch
    ) -> metadata_pb2.CheckVersionsResponse:
        if batch.paths and batch.node_ids:
            raise InvalidArgument("a batch has either paths or node_ids")
        count = len(batch.paths) or len(batch.node_ids) // ID_BYTES
        if count > MAX_CHECK_FILES:
            raise InvalidArgument(f"a batch has at most {MAX_CHECK_FILES} files, not {count}")
        if len(batch.node_ids) % ID_BYTES:
            raise InvalidArgument(f"node_ids must be packed ids of {ID_BYTES} bytes", field="node_ids")
        if len(batch.digests) != count * DIGEST_BYTES:
            raise InvalidArgument("`digests` must hold 32 bytes for each path or node id", field="digests")
        user = current_user().user
        if batch.paths:
            paths: list[str] = []
            async for some in slices(batch.paths, user, size=reads.CHECKS_PER_TURN):
                paths += paths_from_wire(some, first=len(paths))
            await turn_for(count, user)
            found = await reads.check_paths(live.view, paths, batch.digests, account=user)
        else:
            await turn_for(count, user)
            found = await reads.check_nodes(live.view, batch.node_ids, batch.digests, account=user)
        answer = metadata_pb2.CheckVersionsResponse(seq=found.seq, indexes=found.indexes)
        node_ids, digests = list[bytes](), list[bytes]()
        async for differences in slices(found.differences, user, size=reads.CHECKS_PER_TURN):
            answer.differences.extend(metadata_pb2.Difference.ValueType(one.value) for one in differences)
            nodes = found.nodes[len(node_ids) : len(node_ids) + len(differences)]
            node_ids += [node.id if node else bytes(ID_BYTES) for node in nodes]
            answer.versions.extend(node.version if node else 0 for node in nodes)
            digests += [node.content.digest if node and node.content else NO_DIGEST for node in nodes]
        answer.node_ids, answer.digests = b"".join(node_ids), b"".join(digests)
        return answer

    @override
    async def GetNode(self, request: metadata_pb2.GetNodeRequest, context: Context) -> metadata_pb2.GetNodeResponse:
        match request.WhichOneof("selector"):
            case "node":
                selector: NodeId | Sequence[str] = node_id_from_wire(request.node)
            case "path":
                selector = path_from_wire(request.path)
            case _:
                raise InvalidArgument("GetNode needs a node or a path")
        caller = current_reader()
        async with self._open(request.space_id, Role.VIEWER, caller) as live:
            found = await reads.get_node(live.view, selector, within=scope(caller))
        return metadata_pb2.GetNodeResponse(
            node=node_to_wire(shown(found.node, caller)), path=found.path, seq=found.seq
        )

    @override
    async def ListNodes(
        self, request: metadata_pb2.ListNodesRequest, context: Context
    ) -> metadata_pb2.ListNodesResponse:
        parent = node_id_from_wire(request.parent, what="parent")
        listing = f"nodes {request.space_id} {parent.hex()}"
        after = text_token_from_wire(request.page_token, listing=listing)
        caller = current_reader()
        async with self._open(request.space_id, Role.VIEWER, caller) as live:
            nodes, end = await reads.list_nodes(
                live.view, parent, after=after, limit=page_size_from_wire(request.page_size), within=scope(caller)
            )
        page, end = await _fitting(
            nodes, lambda node: node_to_wire(shown(node, caller)), place=lambda node: node.name, end=end
        )
        return metadata_pb2.ListNodesResponse(nodes=page, next_page_token=_token(end, listing))

    @override
    async def ListVersions(
        self, request: metadata_pb2.ListVersionsRequest, context: Context
    ) -> metadata_pb2.ListVersionsResponse:
        node = node_id_from_wire(request.node)
        listing = f"versions {request.space_id} {node.hex()}"
        before = _number_token(request.page_token, listing)
        async with self._open(request.space_id, Role.VIEWER) as live:
            versions, end = await reads.list_versions(
                live.view, node, before=before, limit=page_size_from_wire(request.page_size, usual=DEFAULT_PAGE_ENTRIES)
            )
        page, end = await _fitting(versions, version_to_wire, place=lambda version: version.number, end=end)
        return metadata_pb2.ListVersionsResponse(versions=page, next_page_token=_token(end, listing))

    @override
    async def GetVersion(
        self, request: metadata_pb2.GetVersionRequest, context: Context
    ) -> metadata_pb2.GetVersionResponse:
        node = node_id_from_wire(request.node)
        async with self._open(request.space_id, Role.VIEWER) as live:
            version, file = await reads.get_version(live.view, node, request.version)
        return metadata_pb2.GetVersionResponse(version=version_to_wire(version), node=node_to_wire(file))

    @override
    async def SearchNodes(
        self, request: metadata_pb2.SearchNodesRequest, context: Context
    ) -> metadata_pb2.SearchNodesResponse:
        words = words_of(request.query)
        listing = f"search {request.space_id} {' '.join(words)}"
        after = text_token_from_wire(request.page_token, listing=listing)
        async with self._open(request.space_id, Role.VIEWER) as live:
            found, end = await self._search.search(
                live.view,
                words,
                after=after,
                limit=page_size_from_wire(request.page_size, usual=DEFAULT_PAGE_ENTRIES),
                account=current_user().user,
            )
        page, end = await _fitting(
            found,
            lambda one: metadata_pb2.FoundNode(node=node_to_wire(one.node), path=one.path),
            place=lambda one: one.path,
            end=end,
        )
        return metadata_pb2.SearchNodesResponse(found=page, next_page_token=_token(end, listing))

    @override
    async def MeasureTree(
        self, request: metadata_pb2.MeasureTreeRequest, context: Context
    ) -> metadata_pb2.MeasureTreeResponse:
        if len(request.nodes) > MAX_MEASURED_NODES:
            raise InvalidArgument(f"at most {MAX_MEASURED_NODES} nodes can be measured at once", field="nodes")
        nodes = [node_id_from_wire(raw, what="nodes") for raw in request.nodes]
        charge(len(nodes) // MEASURED_NODES_PER_CALL)
        most = TreeSize(request.max_paths, request.max_path_bytes)
        caller = current_reader()
        async with self._open(request.space_id, Role.VIEWER, caller) as live:
            size, tops = TreeSize(), list[MeasuredTop]()
            for node in nodes:
                if node == ROOT and scope(caller) == ROOT:
                    await live.view.validate()
                    tops.append(MeasuredTop(ROOT, 0))
                    continue
                found = (await reads.get_node(live.view, node, within=scope(caller))).node
                is_directory = found.kind is NodeKind.DIRECTORY
                length = most_archived_bytes(found.name) + is_directory
                size += TreeSize(1, length)
                if is_directory:
                    tops.append(MeasuredTop(found.id, length))
            size += await self._sizes.below(live.view, tops, most=most, account=caller.account)
        return metadata_pb2.MeasureTreeResponse(paths=size.paths, path_bytes=size.path_bytes)

    @override
    async def ListActivity(
        self, request: metadata_pb2.ListActivityRequest, context: Context
    ) -> metadata_pb2.ListActivityResponse:
        listing = f"activity {request.space_id}"
        after = place_from_wire(request.page_token, listing=listing)
        user, limit = current_user().user, page_size_from_wire(request.page_size, usual=DEFAULT_PAGE_ENTRIES)
        async with self._allowed(request.space_id, Role.VIEWER) as space:
            activities, end = await list_activity(self._journal, space, after=after, limit=limit, account=user)
        page, end = await _fitting(activities, activity_to_wire, place=lambda one: one.place, end=end)
        return metadata_pb2.ListActivityResponse(
            activities=page, next_page_token=place_to_wire(end, listing=listing) if end else ""
        )

    @override
    async def GetAnswer(
        self, request: metadata_pb2.GetAnswerRequest, context: Context
    ) -> metadata_pb2.GetAnswerResponse:
        request_id = request_id_from_wire(request.request_id)
        async with self._open(request.space_id, Role.VIEWER) as live:
            answer = await live.committer.answer(request_id, user=current_user().user)
        return metadata_pb2.GetAnswerResponse(seq=answer.seq, results=await _results_to_wire(answer.results))

    @override
    async def UndoCopy(self, request: metadata_pb2.UndoCopyRequest, context: Context) -> metadata_pb2.UndoCopyResponse:
        caller = current_user()
        wanted = Request(
            id=request_id_from_wire(request.request_id),
            fingerprint=hashlib.sha256(request.SerializeToString(deterministic=True)).digest(),
            user=caller.user,
            device=caller.device,
            mutations=(),
            size=request.ByteSize(),
        )
        copy = request_id_from_wire(request.copy_request_id, what="copy_request_id")
        space = space_id_from_wire(request.space_id)
        # The gateway undoes only copies that it made. A caller without a right could undo any change of its own.
        from_gateway = is_from_gateway()

        async def check() -> None:
            if not from_gateway:
                await self._access.require(space, caller, Role.EDITOR, now=True)

        await check()
        answer = await self._undos.undo(space, wanted, copy, share=current_share(), check=check)
        return metadata_pb2.UndoCopyResponse(seq=answer.seq)

    @override
    async def ListTrash(
        self, request: metadata_pb2.ListTrashRequest, context: Context
    ) -> metadata_pb2.ListTrashResponse:
        at = path_from_wire(request.path)
        listing = f"trash {request.space_id} {request.path}"
        after = _id_token(request.page_token, listing)
        async with self._open(request.space_id, Role.VIEWER) as live:
            found, end = await reads.list_trash(
                live.view,
                after=after,
                limit=page_size_from_wire(request.page_size, usual=DEFAULT_PAGE_ENTRIES),
                at=at,
                account=current_user().user,
            )
        page, end = await _fitting(
            found,
            lambda one: metadata_pb2.ListTrashResponse(nodes=[node_to_wire(one.node)], paths=[one.path]),
            place=lambda one: one.node.id,
            end=end,
        )
        answer = metadata_pb2.ListTrashResponse(next_page_token=_token(end, listing))
        for one in page:
            answer.MergeFrom(one)
        return answer


def _packed(raw: bytes, *, what: str, most: int) -> Sequence[Digest]:
    if len(raw) % DIGEST_BYTES:
        raise InvalidArgument(f"{what} must be packed digests of {DIGEST_BYTES} bytes")
    if len(raw) > most * DIGEST_BYTES:
        raise InvalidArgument(f"{what} holds at most {most} digests")
    return [Digest(raw[at : at + DIGEST_BYTES]) for at in range(0, len(raw), DIGEST_BYTES)]


def _declarations(pbs: Sequence[metadata_pb2.ObjectDeclaration]) -> list[DeclaredObject]:
    """Return the declarations in the messages `pbs`, in order. Raise InvalidArgument, with the position of the first
    malformed one.
    """
    declarations = []
    for position, pb in enumerate(pbs):
        try:
            declarations.append(_declaration(pb))
        except InvalidArgument as error:
            raise InvalidArgument(f"objects[{position}]: {error}", field=f"objects[{position}]") from None
    return declarations


def _declaration(pb: metadata_pb2.ObjectDeclaration) -> DeclaredObject:
    form: SingleBlock | PackOfBlocks | SerializedManifest
    match pb.WhichOneof("form"):
        case "pack":
            # checked before the columns are copied
            if max(len(pb.pack.offsets), len(pb.pack.lengths)) > MAX_PACK_ENTRIES:
                raise InvalidArgument(f"a pack has 1 to {MAX_PACK_ENTRIES} entries")
            form = PackOfBlocks(pb.pack.blocks, tuple(pb.pack.offsets), tuple(pb.pack.lengths))
        case "manifest":
            form = SerializedManifest()
        case _:
            form = SingleBlock()
    return DeclaredObject(digest_from_wire(pb.sha256, what="sha256"), pb.size, form)


def _token(end: str | int | bytes | None, listing: str) -> str:
    """Return the page token of `listing` that continues after `end`; empty if `end` is None."""
    if end is None:
        return ""
    return page_token_to_wire(end if isinstance(end, bytes) else str(end).encode(), listing=listing)


def _number_token(token: str, listing: str) -> int:
    raw = page_token_from_wire(token, listing=listing) if token else b"9223372036854775807"
    if not raw.isdigit() or len(raw) > 19:
        raise InvalidPageToken
    return int(raw)


def _id_token(token: str, listing: str) -> NodeId | None:
    raw = page_token_from_wire(token, listing=listing) if token else None
    if raw is not None and len(raw) != ID_BYTES:
        raise InvalidPageToken
    return NodeId(raw) if raw else None


async def _results_to_wire(results: Sequence[Result]) -> list[journal_pb2.MutationResult]:
    """Return the messages of many results, in order. They are made in turns that are charged to the caller."""
    return [result_to_wire(one) async for some in slices(results, current_user().user) for one in some]


async def _that_fit(items: Sequence[T], to_wire: Callable[[T], M]) -> list[M]:
    """Return the messages of as many of the first `items` as fit into one page, but at least one. They are made in
    turns that are charged to the caller.
    """
    page: list[M] = []
    size = 0
    async for some in slices(items, current_reader().account):
        for message in map(to_wire, some):
            size += message.ByteSize()
            if page and size > PAGE_BYTES:
                return page
            page.append(message)
    return page


async def _fitting(
    items: Sequence[T], to_wire: Callable[[T], M], *, place: Callable[[T], P], end: P | None
) -> tuple[list[M], P | None]:
    """Return the messages of as many of the first `items` as fit into one page, and the position after which the next
    page begins. This position is `end` if all of `items` fit; otherwise it is what `place` returns for the last item
    that fits.
    """
    page = await _that_fit(items, to_wire)
    return page, end if len(page) == len(items) else place(items[len(page) - 1])


def _charge_growth(results: Sequence[journal_pb2.MutationResult], *, beyond: int = 0) -> None:
    """Charge the caller for the size of a commit's results as for further calls, because the journal keeps the results.
    Only the part that exceeds `beyond` bytes is charged.
    """
    charge((sum(result.ByteSize() for result in results) - beyond) // BYTES_PER_CALL)


async def _nodes_to_wire(nodes: Sequence[Node]) -> tuple[list[journal_pb2.Node], int]:
    """Return the messages of many nodes, in order, and the size of the messages in bytes. They are made in turns that
    are charged to the caller.
    """
    told: list[journal_pb2.Node] = []
    size = 0
    async for some in slices(nodes, current_user().user):
        part = [node_to_wire(node) for node in some]
        size += sum(node.ByteSize() for node in part)
        told += part
    return told, size


def _changes(writes_since_ms: int | None) -> metadata_pb2.ListChangesResponse:
    """Return a message of the rpc ListChanges without changes, with the time since which its reader may write
    (`writes_since_ms`, in milliseconds since 1970; None for a reader who may not write).
    """
    return metadata_pb2.ListChangesResponse(read_only=writes_since_ms is None, writes_since_ms=writes_since_ms or 0)
