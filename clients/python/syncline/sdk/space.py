"""Client of one space, with its tree, its journal, its history, and the sealing of uploads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from queue import SimpleQueue
from typing import Any, NamedTuple

from syncline.metadata.v1 import metadata_pb2
from syncline.model.blocks import DIGEST_BYTES, Digest
from syncline.model.errors import SynclineError, Unavailable
from syncline.model.identifiers import ID_BYTES, ROOT, NodeId, RequestId, SpaceId
from syncline.model.limits import MAX_FIND_DIGESTS, MAX_SEAL_DECLARATIONS, MAX_SEAL_READ_BYTES
from syncline.model.tree import MAX_CHECK_FILES, Mutation, Node, Result, Version
from syncline.model.verdicts import Difference, SealVerdict
from syncline.sdk.errors import understood
from syncline.sdk.pages import Progress
from syncline.sdk.right import Right
from syncline.sdk.session import PATIENCE_SECONDS, Session, Stubs
from syncline.sdk.streams import Broken, Stream, StreamCall
from syncline.sdk.watch import Watch
from syncline.wire.tree import mutation_to_wire, node_from_wire, number_from_wire, result_from_wire, version_from_wire

MAX_SEAL_BYTES = 2 * 1024 * 1024
"""Maximum serialised size of the declarations in one SealObjects call, in bytes. A server accepts 4 MiB."""
SEAL_TIMEOUT_SECONDS = 120.0
"""Deadline of a SealObjects call in seconds; the service reads packs before it answers."""
COMMIT_TIMEOUT_SECONDS = 60.0

_MAX_RESUMES = 5
"""Maximum number of consecutive times that a stream is reopened without any progress."""
_FIRST_PAUSE_SECONDS = 0.1
_SILENCE_SECONDS = 120.0
"""Seconds without a message after which a stream that is being read counts as dead."""
_MAX_CHECK_BATCHES = 4
"""Maximum number of batches of a version check in flight."""


class SpaceState(NamedTuple):
    """The size of a space and the limits for it.

    - `head` is the last sequence number of the journal.
    - `used_bytes` is the size of all versions, and `quota_bytes` the quota.
    - `nodes` is the present number of nodes, and `max_nodes` their maximum.
    - `unsealed_bytes` and `unsealed_objects` are the size and the number of uploads that are not sealed, as of the last
      time that the service determined them.
    """

    head: int
    used_bytes: int
    quota_bytes: int
    nodes: int = 0
    max_nodes: int | None = None
    """The maximum number of nodes; None if the service states no maximum."""
    unsealed_bytes: int = 0
    unsealed_objects: int = 0


class Committed(NamedTuple):
    """The answer to a commit: the sequence number of the journal entry that holds the accepted mutations, or of the
    head if none was accepted, and one result for each mutation, in order.
    """

    seq: int
    results: tuple[Result, ...]


class Restored(NamedTuple):
    """The sequence number of the journal entry of a restore, and the result of the restore."""

    seq: int
    result: Result


class BroughtBack(NamedTuple):
    """The result of restoring a node from the trash, and the present path of the node."""

    result: Result
    path: str


class Trashed(NamedTuple):
    """A node in the trash, and its former path."""

    node: Node
    path: str


class Located(NamedTuple):
    """A live node, its path from the root, and the sequence number at which both were valid."""

    node: Node
    path: str
    seq: int


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """One page of the changes in a space: the states of nodes after the changes, in order. Of two states of one node,
    the one with the higher `seq` is valid.

    - With `reset`, everything that the client knew before this page is invalid.
    - `cursor` is the cursor after this page; it is empty while a listing is incomplete.
    - `seq` is the sequence number for which the cursor stands.
    - `right` is the right of this device in the space.
    """

    nodes: tuple[Node, ...]
    cursor: bytes
    reset: bool
    seq: int
    right: Right


class Differing(NamedTuple):
    """A file that is not the current version.

    - `asked` is its path or id as in the request, and `difference` the kind of the difference.
    - `node`, `version` and `digest` are the current state of the node; None, 0 and None if there is no node.
    """

    asked: str | NodeId
    difference: Difference
    node: NodeId | None
    version: int
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer to one batch: as of `seq`, all of its `count` files are current except those in `differing`."""

    seq: int
    count: int
    differing: tuple[Differing, ...]


@dataclass(frozen=True, slots=True)
class PackEntries:
    """The blocks of a pack: the concatenation of their digests, and their offsets (ascending) and lengths in bytes."""

    blocks: bytes
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]


class Form(Enum):
    """The form of an uploaded object that is no pack. For a pack, a Declaration has PackEntries instead."""

    BLOCK = "a single block"
    MANIFEST = "a serialised manifest"


@dataclass(frozen=True, slots=True)
class Declaration:
    """A client's statement about an object that it has uploaded: the digest and the size in bytes of the object, and
    its form. The service checks the statement before it seals the object.
    """

    digest: Digest
    size: int
    form: Form | PackEntries = Form.BLOCK


class Space:
    """Client of one space: reads and changes its tree, follows its journal, and has uploads sealed. Usable from any
    thread.
    """

    def __init__(self, session: Session, space: SpaceId) -> None:
        self.id = space
        self.session = session

    def get_space(self) -> SpaceState:
        answer = self.session.call(
            lambda stubs: stubs.metadata.GetSpace, metadata_pb2.GetSpaceRequest(space_id=self.id)
        )
        return SpaceState(
            answer.head,
            answer.used_bytes,
            answer.quota_bytes,
            answer.nodes,
            answer.max_nodes if answer.HasField("max_nodes") else None,
            answer.unsealed_bytes,
            answer.unsealed_objects,
        )

    # ---- objects ----

    def find_missing(self, objects: Sequence[Digest]) -> set[Digest]:
        """Return the digests of those `objects` that the space does not have as sealed objects, so that they have to be
        uploaded.
        """
        missing: set[Digest] = set()
        for at in range(0, len(objects), MAX_FIND_DIGESTS):
            batch = objects[at : at + MAX_FIND_DIGESTS]
            request = metadata_pb2.FindMissingObjectsRequest(space_id=self.id, objects=b"".join(batch))
            answer = self.session.call(lambda stubs: stubs.metadata.FindMissingObjects, request)
            with understood():
                missing.update(batch[index] for index in answer.missing)
        return missing

    def seal(self, objects: Sequence[Declaration]) -> list[SealVerdict]:
        """Have the service check that uploaded objects hold what the declarations say; return one verdict for each, in
        order. Only objects with the verdict SEALED can be named by a version. Safe to repeat.
        """
        verdicts: list[SealVerdict] = []
        for batch in _seal_batches(objects):
            request = metadata_pb2.SealObjectsRequest(space_id=self.id, objects=batch)
            answer = self.session.call(lambda stubs: stubs.metadata.SealObjects, request, timeout=SEAL_TIMEOUT_SECONDS)
            with understood():
                verdicts.extend(SealVerdict(verdict) for _, verdict in zip(batch, answer.verdicts, strict=True))
        return verdicts

    # ---- changes ----

    def commit(self, mutations: Sequence[Mutation], request_id: RequestId, *, right: Right | None = None) -> Committed:
        """Apply mutations in order, in one entry, each with its own verdict; return the sequence number of the entry
        and the results. A call may be repeated with the same `request_id` and `right`.

        `right` is the right of this device on which the mutations are based, as `changes` has stated it. With None, any
        right to write suffices, as for a change that a person has just requested. Nothing is applied if one of these
        errors is raised:

        - RightChanged if the right to write was granted anew after `right` was stated;
        - PermissionDenied if the caller may not write;
        - RequestTooLarge if the mutations exceed one request;
        - RequestIdReused if the id was used for another request;
        - Contended if too many clients write at once.
        """
        request = metadata_pb2.CommitChangesRequest(
            space_id=self.id,
            request_id=request_id,
            mutations=map(mutation_to_wire, mutations),
            writes_since_ms=right.writes_since_ms if right is not None else None,
        )
        answer = self.session.call(lambda stubs: stubs.metadata.CommitChanges, request, timeout=COMMIT_TIMEOUT_SECONDS)
        with understood():
            results = tuple(result_from_wire(result) for _, result in zip(mutations, answer.results, strict=True))
        return Committed(answer.seq, results)

    def restore_version(self, node: NodeId, version: int, base_version: int, request_id: RequestId) -> Restored:
        """Make the content of version `version` the newest version of the file `node`, and return the result. If the
        current version is no longer `base_version`, nothing is changed, and the verdict of the result says so. A call
        may be repeated with the same `request_id`.
        """
        request = metadata_pb2.RestoreVersionRequest(
            space_id=self.id, request_id=request_id, node=node, version=version, base_version=base_version
        )
        answer = self.session.call(lambda stubs: stubs.metadata.RestoreVersion, request)
        with understood():
            return Restored(answer.seq, result_from_wire(answer.result))

    def restore_node(
        self, node: NodeId, request_id: RequestId, *, name: str = "", path: str | None = None
    ) -> BroughtBack:
        """Restore a node from the trash: into its former directory, under `name` (empty: its former name), or to
        `path`, a path from the root. Missing directories are created. Return the result and the new path of the node.

        If `path` is an existing directory, the node goes into it; otherwise the last name of `path` becomes the node's
        name. A name that neither argument states is replaced by a free one if it is taken. A call may be repeated with
        the same `request_id`.
        """
        request = metadata_pb2.RestoreNodeRequest(
            space_id=self.id, request_id=request_id, node=node, name=name, path=path, make_way=True
        )
        answer = self.session.call(lambda stubs: stubs.metadata.RestoreNode, request)
        with understood():
            return BroughtBack(result_from_wire(answer.result), answer.path)

    # ---- reads ----

    def changes(self, cursor: bytes = b"", *, fresh_right: bool = False) -> Iterator[ChangesPage]:
        """Yield the changes after `cursor` up to the head at the time of the call, in at least one page. Raise
        InvalidCursor if the journal has no such position.

        The right in the pages may be five seconds old unless `fresh_right` is set. A broken stream is resumed; if a
        listing has to start again, its first page has `reset`.
        """
        again = False  # Pages without a cursor were yielded and will be sent again.
        breaks = 0
        progress = Progress("a stream of changes")
        while True:
            request = metadata_pb2.ListChangesRequest(space_id=self.id, cursor=cursor, fresh_right=fresh_right)
            stream: Stream[metadata_pb2.ListChangesResponse] = Stream(
                self.session,
                lambda stubs, request=request: stubs.metadata.ListChanges(request),  # type: ignore[misc]
                silence=_SILENCE_SECONDS,
                complete=lambda page: page.complete,
            )
            listing = False
            try:
                for page in stream:
                    progress.page(len(page.nodes))
                    with understood():
                        nodes = tuple(map(node_from_wire, page.nodes))
                        seq = number_from_wire(page.seq, what="seq")
                    yield ChangesPage(
                        nodes,
                        page.cursor,
                        page.reset or again,
                        seq,
                        Right(page.read_only, page.writes_since_ms),
                    )
                    again = False
                    listing = not page.cursor
                    if page.cursor:
                        cursor, breaks = page.cursor, 0
            except Broken as broken:
                if breaks >= _MAX_RESUMES:
                    raise broken.error from None
                error = broken.error
            else:
                return
            finally:
                stream.close()
            _pause(breaks, error)
            breaks += 1
            again = again or listing

    def check_versions(self, files: Iterable[tuple[str | NodeId, Digest]]) -> Iterator[Checked]:
        """Compare local digests with the current versions. Each file is given by its path or its node id, with the
        digest of the local file; a directory has the digest `NO_DIGEST`. Yield one answer for each batch of files, in
        order.

        `files` is consumed in the caller's thread, a few batches ahead of the answers.
        """
        stream = _CheckStream(self)
        try:
            for batch in _check_batches(files):
                stream.send(batch)
                if len(stream) >= _MAX_CHECK_BATCHES:
                    yield stream.answer()
            while stream:
                yield stream.answer()
        finally:
            stream.close()

    def get_node(self, selector: NodeId | str) -> Located:
        """Return the live node with the id or the path `selector`, and its path. Raise NoSuchNode if there is none."""
        request = (
            metadata_pb2.GetNodeRequest(space_id=self.id, path=selector)
            if isinstance(selector, str)
            else metadata_pb2.GetNodeRequest(space_id=self.id, node=selector)
        )
        answer = self.session.call(lambda stubs: stubs.metadata.GetNode, request)
        with understood():
            return Located(node_from_wire(answer.node), answer.path, answer.seq)

    def list_nodes(self, parent: NodeId = ROOT) -> Iterator[Node]:
        """Yield the live children of the directory `parent`, in the order of their names. Raise NoSuchNode if there is
        no such live directory.
        """

        request = metadata_pb2.ListNodesRequest(space_id=self.id, parent=parent)
        return self.session.listing(
            lambda stubs: stubs.metadata.ListNodes, request, lambda page: map(node_from_wire, page.nodes)
        )

    def versions(self, node: NodeId) -> Iterator[Version]:
        """Yield the versions of the file `node` (deleted or not), newest first. Raise NoSuchNode if there is no such
        file.
        """

        request = metadata_pb2.ListVersionsRequest(space_id=self.id, node=node)
        return self.session.listing(
            lambda stubs: stubs.metadata.ListVersions, request, lambda page: map(version_from_wire, page.versions)
        )

    def trash(self, path: str = "") -> Iterator[Trashed]:
        """Yield the nodes that were deleted themselves, in the order of their ids. Nodes that were deleted with a
        directory above them are left out. With a path, yield the nodes that were at this path before their deletion,
        including those that were deleted with a directory above them.
        """

        def trashed(page: metadata_pb2.ListTrashResponse) -> Iterator[Trashed]:
            # A service of the preceding release sends no paths.
            paths = page.paths or [node.name for node in page.nodes]
            return (Trashed(node_from_wire(node), was) for node, was in zip(page.nodes, paths, strict=True))

        request = metadata_pb2.ListTrashRequest(space_id=self.id, page_size=1000, path=path)
        return self.session.listing(lambda stubs: stubs.metadata.ListTrash, request, trashed)

    def watch(self) -> Watch:
        """Return a watch of the doorbells of this space."""
        return Watch(self.session, [self.id])


def _pause(breaks: int, error: SynclineError) -> None:
    """Sleep before a stream is reopened after `breaks` consecutive breaks without a message, longer after each, because
    another server may have to take over first. If a limit of the service ended the stream, sleep for as long as `error`
    states.
    """
    time.sleep(max(_FIRST_PAUSE_SECONDS * 2**breaks, min(error.slow_down_seconds or 0, PATIENCE_SECONDS)))


class _Batch(NamedTuple):
    """The files of one message of a check of versions: all are named by path, or all by id."""

    names: list[str] | list[NodeId]
    digests: list[Digest]

    def message(self) -> metadata_pb2.CheckVersionsRequest:
        batch = metadata_pb2.CheckVersionsBatch(digests=b"".join(self.digests))
        if isinstance(self.names[0], str):
            batch.paths.extend(self.names)
        else:
            batch.node_ids = b"".join(self.names)
        return metadata_pb2.CheckVersionsRequest(batch=batch)


def _check_batches(files: Iterable[tuple[str | NodeId, Digest]]) -> Iterator[_Batch]:
    names: list[Any] = []
    digests: list[Digest] = []
    for name, digest in files:
        if names and (len(names) == MAX_CHECK_FILES or isinstance(name, str) is not isinstance(names[0], str)):
            yield _Batch(names, digests)
            names, digests = [], []
        names.append(name)
        digests.append(digest)
    if names:
        yield _Batch(names, digests)


class _CheckStream:
    """The CheckVersions call. It is opened when the first answer is requested, and reopened with the unanswered batches
    after a break.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._sent: deque[_Batch] = deque()
        """Batches without an answer yet."""
        self._requests: SimpleQueue[metadata_pb2.CheckVersionsRequest | None] = SimpleQueue()
        self._stream: Stream[metadata_pb2.CheckVersionsResponse] | None = None

    def __len__(self) -> int:
        return len(self._sent)

    def send(self, batch: _Batch) -> None:
        self._sent.append(batch)
        if self._stream is not None:
            self._requests.put(batch.message())

    def answer(self) -> Checked:
        """Return the answer to the first unanswered batch. Raise the error that ended the stream after _MAX_RESUMES
        attempts without progress.
        """
        breaks = 0
        while True:
            if self._stream is None:
                self._stream = Stream(self._space.session, self._begin, silence=_SILENCE_SECONDS)
            try:
                answer = next(self._stream)
                if answer.complete:
                    raise Broken(Unavailable("the service ended the check before every batch was answered; try again"))
            except Broken as broken:
                if breaks == _MAX_RESUMES:
                    raise broken.error from None
                self.close()
                _pause(breaks, broken.error)
                breaks += 1
            else:
                return _checked(self._sent.popleft(), answer)

    def _begin(self, stubs: Stubs) -> StreamCall[metadata_pb2.CheckVersionsResponse]:
        requests: SimpleQueue[metadata_pb2.CheckVersionsRequest | None] = SimpleQueue()
        requests.put(metadata_pb2.CheckVersionsRequest(open=metadata_pb2.CheckVersionsOpen(space_id=self._space.id)))
        for batch in self._sent:
            requests.put(batch.message())
        self._requests.put(None)  # this ends the requests of a call that was refused
        self._requests = requests
        return stubs.metadata.CheckVersions(iter(requests.get, None))

    def close(self) -> None:
        self._requests.put(None)
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _checked(batch: _Batch, answer: metadata_pb2.CheckVersionsResponse) -> Checked:
    differing = []
    with understood():
        for i, (index, difference) in enumerate(zip(answer.indexes, answer.differences, strict=True)):
            node = answer.node_ids[i * ID_BYTES : (i + 1) * ID_BYTES]
            digest = answer.digests[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES]
            differing.append(
                Differing(
                    batch.names[index],
                    Difference(difference),
                    NodeId(node) if any(node) else None,
                    answer.versions[i],
                    Digest(digest) if any(digest) else None,
                )
            )
    return Checked(answer.seq, len(batch.names), tuple(differing))


def _seal_batches(objects: Sequence[Declaration]) -> Iterator[list[metadata_pb2.ObjectDeclaration]]:
    batch: list[metadata_pb2.ObjectDeclaration] = []
    size = to_read = 0
    for declaration in objects:
        pb = _declaration_to_wire(declaration)
        weight = pb.ByteSize()
        reads = 0 if declaration.form is Form.BLOCK else declaration.size
        is_too_large = size + weight > MAX_SEAL_BYTES or to_read + reads > MAX_SEAL_READ_BYTES
        if batch and (len(batch) == MAX_SEAL_DECLARATIONS or is_too_large):
            yield batch
            batch, size, to_read = [], 0, 0
        batch.append(pb)
        size += weight
        to_read += reads
    if batch:
        yield batch


def _declaration_to_wire(declaration: Declaration) -> metadata_pb2.ObjectDeclaration:
    pb = metadata_pb2.ObjectDeclaration(sha256=declaration.digest, size=declaration.size)
    match declaration.form:
        case PackEntries(blocks, offsets, lengths):
            pb.pack.CopyFrom(metadata_pb2.PackEntries(blocks=blocks, offsets=offsets, lengths=lengths))
        case Form.MANIFEST:
            pb.manifest.SetInParent()
        case Form.BLOCK:
            pass
    return pb
