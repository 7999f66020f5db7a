"""The operations of a plan in the space: mutations in few large commits, and contents as soon as they are in storage.

A commit is recorded before it is sent. If its answer is lost, the next run sends the same request again; the service
answers as it did the first time, or applies the request now.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

from syncline.model.errors import PermissionDenied, RightChanged, SynclineError
from syncline.model.identifiers import ROOT, NodeId, RequestId, SpaceId, created_node_id
from syncline.model.tree import (
    MAX_REQUEST_BYTES,
    Content,
    CreateNode,
    DeleteNode,
    MoveNode,
    Mutation,
    NodeKind,
    Result,
    UpdateContent,
)
from syncline.model.verdicts import Verdict
from syncline.rpc import traces
from syncline.sdk.right import Right
from syncline.sync.apply.ledger import Ledger
from syncline.sync.apply.local import LocalApplier
from syncline.sync.folder.files import Files
from syncline.sync.plan.operations import Delete, Make, Move, Operation, Write
from syncline.sync.ports import SpacePort, SyncProgress, UploaderPort
from syncline.sync.scan.identify import is_trusted, target_digest
from syncline.sync.state.database import Evidence, InFlight, State
from syncline.sync.state.mirror import Mirror
from syncline.sync.trees import BaseNode, Place, is_provisional
from syncline.transfer.jobs import Failed, Signature, Trouble, Uploaded, UploadJob

MAX_BATCH_MUTATIONS = 1000
"""Maximum number of mutations in one commit."""
_MAX_BATCH_BYTES = MAX_REQUEST_BYTES - 10_000
_MAX_WAIT_SECONDS = 10.0
"""Maximum number of seconds that an uploaded file waits for further files that are committed with it."""

_RETRYING_PASSING = {Trouble.VANISHED, Trouble.CHANGED, Trouble.NOT_A_FILE}
_BLOCKS_GONE = {
    Verdict.OBJECT_MISSING,
    Verdict.OBJECT_NOT_SEALED,
    Verdict.BLOCK_OUT_OF_BOUNDS,
    Verdict.BLOCK_NOT_IN_PACK,
}
_FINAL = {
    Verdict.QUOTA_EXCEEDED,
    Verdict.NODES_EXCEEDED,
    Verdict.PATH_TOO_LONG,
    Verdict.NAME_INVALID,
    Verdict.MANIFEST_INVALID,
    Verdict.WRONG_KIND,
}
"""Verdicts that a new plan does not change, so that the user has to act."""


class RemoteApplier:
    """Carries out, in the space, the operations of the plan of one round, and records their results in the Ledger of
    the round.
    """

    def __init__(
        self,
        ledger: Ledger,
        here: LocalApplier,
        *,
        files: Files,
        space: SpacePort,
        space_id: SpaceId,
        right: Right | None,
        uploader: UploaderPort,
        new_request: Callable[[], RequestId],
        progress: SyncProgress,
    ) -> None:
        """`ledger` has the plan, and receives the results. `here` is the applier of the same round for the folder.
        `new_request` returns a new request id for each commit. `right` is the right of this device in the space, as it
        was when the plan was made; None if the service has not stated it. Every commit carries the right, so that the
        service refuses a plan that was made before the right to write was granted anew.
        """
        self._ledger = ledger
        self._plan = ledger.plan
        self._here = here
        self._files = files
        self._space = space
        self._space_id = space_id
        self._right = right
        self._uploader = uploader
        self._new_request = new_request
        self._progress = progress
        self._batch = _Batch(new_request())
        self._refusal: PermissionDenied | RightChanged | None = None
        self._moved: dict[NodeId, Place] = {}

    # ---- stages ----

    def arrange(self) -> None:
        """Queue the mutations that create directories, move nodes, or free a name by a deletion. They are sent with the
        first contents.
        """
        self._while_permitted(self._plan.arrange_remote, self._arrange)

    def send(self) -> None:
        """Upload contents and send all queued mutations. Raise SynclineError if the service or storage fails; answers
        that were received before the error are recorded.
        """
        self._while_permitted((*self._plan.arrange_remote, *self._plan.sends), self._send)

    def delete(self) -> None:
        """Queue and send the deletions at the end of the plan: those on which no other operation waits."""
        self._while_permitted(self._plan.delete_remote, self._delete)

    def _while_permitted(self, operations: tuple[Operation, ...], stage: Callable[[], None]) -> None:
        if self._refusal is None:
            try:
                stage()
            except (PermissionDenied, RightChanged) as error:
                # The local changes stay unsent; changes of the space are still applied here.
                self._batch = _Batch(self._new_request())
                self._refusal = error
        left = [operation.node for operation in operations if not self._ledger.is_done(operation.node)]
        match self._refusal:
            case RightChanged():
                for node in left:
                    self._ledger.retry(node, "your right to change the space has changed; will be planned again")
            case PermissionDenied():
                self._ledger.refused = True
                for node in left:
                    self._ledger.problem(node, f"stays here only: {self._refusal}")

    def _arrange(self) -> None:
        for operation in self._plan.arrange_remote:
            match operation:
                case Make(node=node):
                    self._create(node, None, None)
                case Move():
                    self._move(operation)
                case Delete():
                    self._add_deletion(operation)

    def _delete(self) -> None:
        operations = self._plan.delete_remote
        nodes = self._ledger.mirror.nodes
        if any(
            nodes[operation.node].kind is NodeKind.DIRECTORY for operation in operations
        ) and self._ledger.mirror.pull(self._space):
            # A directory is deleted with everything in it, which may include something new that no scan here has seen.
            for operation in operations:
                self._ledger.retry(operation.node, "the space has changed while syncing; will be planned again")
            return
        for operation in operations:
            self._add_deletion(operation)
        self._flush()

    # ---- mutations ----

    def _parent(self, node: NodeId) -> NodeId | None:
        """Return the id, in the space, of the directory in which the plan puts a node; None if the space does not have
        that directory yet.
        """
        parent = self._plan.target[node][0]
        return ROOT if parent == ROOT else self._ledger.real(parent)

    def _create(self, node: NodeId, content: Content | None, evidence: Evidence | None) -> None:
        parent = self._parent(node)
        if parent is None or self._ledger.is_failed(node):
            self._ledger.blocked(node)
            return
        here = self._ledger.here[node]
        if content is None:
            evidence = Evidence(here.signature, here.trusted, here.local_name)
        mutation = CreateNode(parent, self._plan.target[node][1], here.kind, content)
        self._reserve(mutation)
        self._ledger.ids[node] = created_node_id(self._space_id, self._batch.request, len(self._batch.mutations))
        self._batch.add(mutation, node, None, evidence)

    def _update(self, node: NodeId, content: Content, evidence: Evidence) -> None:
        mutation = UpdateContent(node, self._ledger.mirror.nodes[node].version, content)
        self._reserve(mutation)
        self._batch.add(mutation, node, None, evidence)

    def _move(self, operation: Move) -> None:
        node = operation.node
        parent = ROOT if operation.to[0] == ROOT else self._ledger.real(operation.to[0])
        if parent is None or self._ledger.is_failed(node):
            self._ledger.blocked(node)
            return
        before = self._moved.get(node) or self._ledger.mirror.nodes[node].place
        mutation = MoveNode(node, *before, parent, operation.to[1])
        self._reserve(mutation)
        self._moved[node] = (parent, operation.to[1])
        self._batch.add(mutation, node, operation, None)

    def _add_deletion(self, operation: Delete) -> None:
        mutation = DeleteNode(operation.node, self._ledger.mirror.nodes[operation.node].version)
        self._reserve(mutation)
        self._batch.add(mutation, operation.node, operation, None)

    # ---- contents ----

    def _send(self) -> None:
        here = self._ledger.here
        operations, paths = [], {}
        for operation in self._plan.sends:
            path = self._here.path(operation.node)
            if self._ledger.is_failed(operation.node) or path is None:
                self._ledger.blocked(operation.node)
            elif here[operation.node].kind is NodeKind.SYMLINK:
                self._send_link(operation, path)
            else:
                operations.append(operation)
                paths[operation.node] = path
        self._progress.expect(
            "uploading",
            files=len(operations),
            size=sum(here[operation.node].signature.size for operation in operations),
        )
        by_node = {operation.node: operation for operation in operations}
        started_ns = time.time_ns()
        try:
            jobs = (UploadJob(node, self._files.root / path, root=self._files.root) for node, path in paths.items())
            for result in self._uploader.upload(jobs) if paths else ():
                operation = by_node[result.job.key]  # type: ignore[index]
                if isinstance(result, Uploaded):
                    trusted = is_trusted(result.signature, started_ns)
                    self._sent(operation, result.content, result.signature, trusted=trusted)
                elif isinstance(result, Failed) and result.trouble in _RETRYING_PASSING:
                    self._ledger.retry(operation.node, result.reason)
                else:
                    self._ledger.problem(operation.node, result.reason)
                if self._batch.waits_too_long():
                    self._flush()
        except (PermissionDenied, RightChanged):
            raise
        except SynclineError:
            self._flush()
            raise
        self._flush()

    def _send_link(self, operation: Write, path: str) -> None:
        try:
            target = self._files.read_link(path)
            found = self._files.stat(path)
            size = len(target.encode())
        except (OSError, UnicodeEncodeError):
            self._ledger.retry(operation.node, "changed while syncing; will be scanned again")
            return
        content = Content(target_digest(target), size, found.st_mtime_ns, target=target)
        self._sent(operation, content, Signature.of(found), trusted=True)

    def _sent(self, operation: Write, content: Content, signature: Signature, *, trusted: bool) -> None:
        """Queue the mutation that gives the node of `operation` a content, which is in storage now, unless the space
        has the same content already. `signature` is that of the file that was read; `trusted` is False if the file may
        have changed since without a change of its signature.
        """
        node, ledger = operation.node, self._ledger
        ledger.update_here(
            node, digest=content.digest, executable=content.executable, signature=signature, trusted=trusted
        )
        evidence = Evidence(signature, trusted, ledger.here[node].local_name)
        if not operation.replaces:
            self._create(node, content, evidence)
            return
        there = ledger.mirror.nodes[node]
        if (there.digest, there.executable) == (content.digest, content.executable):
            ledger.done(node)
        else:
            self._update(node, content, evidence)

    # ---- commits ----

    def _reserve(self, mutation: Mutation) -> None:
        """Send the mutations that wait, if together with `mutation` they would exceed a limit of one request."""
        size = _wire_size(mutation)
        if self._batch.mutations and (
            len(self._batch.mutations) >= MAX_BATCH_MUTATIONS or self._batch.size + size > _MAX_BATCH_BYTES
        ):
            self._flush()
        self._batch.size += size

    def _flush(self) -> None:
        batch, self._batch = self._batch, _Batch(self._new_request())
        if not batch.mutations:
            return
        state = self._ledger.state
        state.put_in_flight(InFlight(batch.request, tuple(batch.mutations), tuple(batch.evidence), self._right))
        state.commit()
        try:
            with traces.span("commit", mutations=len(batch.mutations)):
                answer = self._space.commit(batch.mutations, batch.request, right=self._right)
        except SynclineError as error:
            if not error.passing:
                # The batch was not applied and never will be.
                state.remove_in_flight(batch.request)
                state.commit()
            raise
        for index, result in enumerate(answer.results):
            self._absorb(batch, index, result)
        state.remove_in_flight(batch.request)
        state.commit()

    def _absorb(self, batch: _Batch, index: int, result: Result) -> None:
        node, mutation, operation, ledger = (
            batch.nodes[index],
            batch.mutations[index],
            batch.operations[index],
            self._ledger,
        )
        if result.verdict is Verdict.ACCEPTED and result.node is not None:
            ledger.mirror.absorb([result.node])
            match mutation:
                case DeleteNode():
                    assert isinstance(operation, Delete)
                    ledger.deleted_there(operation)
                    return
                case MoveNode():
                    if isinstance(operation, Move) and not operation.aside and node not in self._plan.conflicts:
                        ledger.report.moved += 1
                case CreateNode(kind=kind) if kind is not NodeKind.DIRECTORY:
                    ledger.report.uploaded += 1
                case UpdateContent():
                    ledger.report.uploaded += 1
            ledger.done(node)
            return
        if is_provisional(node):
            ledger.ids.pop(node, None)
        if result.verdict in _FINAL:
            ledger.problem(node, result.verdict.text)
            return
        if result.verdict in _BLOCKS_GONE:
            ledger.state.forget_blocks()
        ledger.retry(node, "the space has changed while syncing; will be planned again")


def repeat_in_flight(space: SpacePort, *, state: State, mirror: Mirror, base: dict[NodeId, BaseNode]) -> None:
    """Repeat the commits of earlier runs whose answers are unknown, and record the answers in `state`, `mirror` and
    `base`. A commit that the service refuses for good was not applied, and is dropped: its changes are planned anew.
    Raise the error of a commit that may succeed later; this commit and the following ones stay recorded.
    """
    for commit in state.in_flight():
        try:
            results = space.commit(commit.mutations, commit.request, right=commit.right).results
        except SynclineError as error:
            if error.passing:
                raise
            results = ()  # The commit was not applied and never will be; its changes are planned anew.
        for result, evidence in zip(results, commit.evidence, strict=False):
            if result.verdict is Verdict.ACCEPTED and result.node is not None:
                mirror.absorb([result.node])
                if evidence is not None:
                    agreed = _agreed(result, evidence, base)
                    if agreed is not None:
                        base[agreed.id] = agreed
                        state.put_base(agreed)
        state.remove_in_flight(commit.request)
        state.commit()


def _agreed(result: Result, evidence: Evidence, base: dict[NodeId, BaseNode]) -> BaseNode | None:
    """Return the base (the agreed state) of a node after the space has accepted a content of it.

    - `result` is the service's answer. `evidence` is the signature that the file had when it was read, and the spelling
      of its name.
    - The parent and name stay those of `base`, because a move of the node may still be pending.
    - None is returned if the node is not in `base` and has several versions: somebody else has changed it since it was
      created, so no agreed state is known.
    """
    node = result.node
    assert node is not None
    digest = node.content.digest if node.content else None
    executable = node.content.executable if node.content else False
    before = base.get(node.id)
    if before is not None:
        return dataclasses.replace(
            before,
            version=node.version,
            digest=digest,
            executable=executable,
            signature=evidence.signature,
            trusted=evidence.trusted,
        )
    if node.version > 1:
        return None
    return BaseNode(
        id=node.id,
        parent=node.parent,
        name=node.name,
        kind=node.kind,
        version=node.version,
        digest=digest,
        executable=executable,
        signature=evidence.signature,
        local_name=evidence.local_name,
        trusted=evidence.trusted,
    )


def _wire_size(mutation: Mutation) -> int:
    """Return an upper bound, close to the exact value, of the bytes that a mutation takes in its request."""
    content = getattr(mutation, "content", None)
    size = 128 + 4 * len(getattr(mutation, "name", "")) + 4 * len(getattr(mutation, "from_name", ""))
    if content is not None:
        manifest = content.manifest
        size += 100 + len(manifest.blocks) + len(manifest.objects) + 15 * len(manifest) + 4 * len(content.target)
    return size


@dataclass(slots=True)
class _Batch:
    """A request of mutations that is being put together. For each mutation it has the operation, and what is to be
    recorded after the answer.
    """

    request: RequestId
    mutations: list[Mutation] = dataclasses.field(default_factory=list)
    nodes: list[NodeId] = dataclasses.field(default_factory=list)
    operations: list[Move | Delete | None] = dataclasses.field(default_factory=list)
    evidence: list[Evidence | None] = dataclasses.field(default_factory=list)
    size: int = 0
    since: float = 0.0

    def add(self, mutation: Mutation, node: NodeId, operation: Move | Delete | None, evidence: Evidence | None) -> None:
        if not self.mutations:
            self.since = time.monotonic()
        self.mutations.append(mutation)
        self.nodes.append(node)
        self.operations.append(operation)
        self.evidence.append(evidence)

    def waits_too_long(self) -> bool:
        return bool(self.mutations) and time.monotonic() - self.since > _MAX_WAIT_SECONDS
