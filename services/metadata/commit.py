"""Commits: requests that come together are decided together and appended as one journal entry.

A commit is acknowledged when its entry is appended, and the append succeeds only at `head + 1`. So the decisions
it carries were made on the head, whichever process made them, and a space is serialisable without a lock.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.blocks import Digest, MalformedManifest
from core.errors import Contended, NoSuchRequest, RequestIdReused, RequestTooLarge, Unavailable
from core.identifiers import ROOT, NodeId, RequestId, created_node_id
from core.tree import (
    MAX_MUTATIONS,
    MAX_REQUEST_BYTES,
    Change,
    Content,
    CreateNode,
    Mutation,
    Node,
    NodeKind,
    Result,
    UpdateContent,
    Verdict,
)
from runtime import traces
from runtime.turns import slices
from services.metadata import metrics
from services.metadata.decide import Circumstances, NotLoaded, PathLength, Unsealed, decide
from services.metadata.depths import Depths
from services.metadata.journal import Commit, Entry, NameKey, name_changes
from services.metadata.objects import Objects
from services.metadata.ports import EntryTaken, Journal, Sealed
from services.metadata.project import Projector
from services.metadata.view import MAX_LAG, Missing, SpaceView
from services.metadata.wire import entry_from_bytes, entry_to_bytes

MAX_ENTRY_BYTES = 380_000
"""A DynamoDB item holds 400 KB, keys and the other attributes included."""
MAX_ATTEMPTS = 40
"""How often a lost race for the next entry is run again before the caller is told to come back."""
LAG_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Request:
    """What one caller wants done in one space. `size` is the serialised size of the mutations in bytes."""

    id: RequestId
    fingerprint: bytes
    user: str
    device: str
    mutations: tuple[Mutation, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The entry that holds what was accepted (the head where nothing was), and the result of each mutation."""

    seq: int
    results: tuple[Result, ...]


def check_size(mutations: int, size: int) -> None:
    """RequestTooLarge for more mutations, or serialised bytes of them, than one request holds."""
    if mutations > MAX_MUTATIONS or size > MAX_REQUEST_BYTES:
        raise RequestTooLarge(
            f"a request holds at most {MAX_MUTATIONS} mutations and {MAX_REQUEST_BYTES} bytes, not {mutations} and "
            f"{size}; split it"
        )


@dataclass(slots=True)
class _Pending:
    request: Request
    answer: asyncio.Future[Answer]
    cause: traces.Cause


class _Waiting:
    """Requests that wait to be decided: each person's in order, and the persons in turn."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[_Pending]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, pending: _Pending) -> None:
        self._of.setdefault(pending.request.user, deque()).append(pending)

    def first(self) -> _Pending:
        """What `take` will return."""
        return next(iter(self._of.values()))[0]

    def take(self) -> _Pending:
        user, waiting = self._of.popitem(last=False)
        pending = waiting.popleft()
        if waiting:
            self._of[user] = waiting
        return pending

    def put_back(self, some: Sequence[_Pending]) -> None:
        """Have these taken next, as if they had never been taken."""
        for pending in reversed(some):
            self._of.setdefault(pending.request.user, deque()).appendleft(pending)
            self._of.move_to_end(pending.request.user, last=False)


@dataclass(slots=True)
class _Decided:
    pending: _Pending
    commit: Commit

    @property
    def accepted(self) -> bool:
        return any(result.verdict is Verdict.ACCEPTED for result in self.commit.results)


_OBJECTS_REFUSED = frozenset(
    {
        Verdict.OBJECT_MISSING,
        Verdict.OBJECT_NOT_SEALED,
        Verdict.BLOCK_OUT_OF_BOUNDS,
        Verdict.BLOCK_NOT_IN_PACK,
        Verdict.MANIFEST_INVALID,
    }
)
"""Verdicts that may follow from what is not proven."""


def _objects_of(mutation: Mutation) -> set[Digest]:
    """The objects that a mutation's content names."""
    content = mutation.content if isinstance(mutation, CreateNode | UpdateContent) else None
    if content is None:
        return set()
    if content.manifest_object:
        return {Digest(content.manifest_object)}
    try:
        content.manifest.check()
    except MalformedManifest:
        return set()
    return set(content.manifest.object_digests())


@dataclass(frozen=True, slots=True)
class _Listed:
    """The first names that a directory held at a sequence number, and whether these are all."""

    seq: int
    names: frozenset[str]
    complete: bool


class Draft:
    """The tree as it will be when the decisions made so far are appended: the view with these on top."""

    def __init__(
        self,
        view: SpaceView,
        *,
        objects: Objects,
        looked: Mapping[Digest, Sealed | Unsealed],
        versions: Mapping[tuple[NodeId, int], Content | None],
        listed: Mapping[NodeId, _Listed],
        known_depths: Mapping[NodeId, PathLength],
        alone: bool,
    ) -> None:
        """`alone`: the batch has one mutation, so no later one needs to know how deep directories have become."""
        self.missing = Missing()
        self.known_live: set[NodeId] = set()
        self.known_path_lengths: dict[NodeId, PathLength] = {}
        self.used_bytes = view.used_bytes
        self._view = view
        self._objects = objects
        self._looked = looked
        self._versions = versions
        self._listed = listed
        self._known_depths = known_depths
        self._alone = alone
        self._added_depths: dict[NodeId, PathLength] = {}
        """The longest path, by directory, below which this draft has put something."""
        self._nodes: dict[NodeId, Node] = {}
        self._names: dict[NameKey, NodeId | None] = {}
        self._created: set[NodeId] = set()
        self._undecided: set[NodeId] = set()

    def node(self, node: NodeId) -> Node | None:
        if (drafted := self._nodes.get(node)) is not None:
            return drafted
        if node in self._undecided:
            raise NotLoaded
        return self._view.node(node, self.missing)

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        if (parent, name) in self._names:
            return self._names[parent, name]
        if parent in self._created:
            return None
        return self._view.child(parent, name, self.missing)

    def version(self, node: NodeId, number: int) -> Content | None:
        drafted = self._nodes.get(node)
        if drafted is not None and drafted.version == number:
            return drafted.content
        if (node, number) not in self._versions:
            self.missing.versions.add((node, number))
            raise NotLoaded
        return self._versions[node, number]

    def depth_below(self, directory: NodeId) -> PathLength:
        put = self._added_depths.get(directory, PathLength())
        if directory in self._created:
            return put
        if directory not in self._known_depths:
            self.missing.depths.add(directory)
            raise NotLoaded
        return put.max_with(self._known_depths[directory])

    def object(self, digest: Digest) -> Sealed | Unsealed:
        found = self._looked.get(digest) or self._objects.remembered(self._view.space, digest)
        if found is None:
            self.missing.objects.add(digest)
            raise NotLoaded
        return found

    def is_empty(self, directory: NodeId) -> bool:
        drafted = {name: holder for (parent, name), holder in self._names.items() if parent == directory}
        if any(drafted.values()):
            return False
        if directory in self._created:
            return True
        listed = self._listed.get(directory)
        if listed is None or listed.seq != self._view.seq:
            self.missing.directories.add(directory)
            raise NotLoaded
        return listed.complete and listed.names <= drafted.keys()

    def decide(self, mutation: Mutation, at: Circumstances) -> Result | None:
        """The result, taken into the draft; None if something must be loaded first."""
        result: Result | None = None
        depth: PathLength | None = None
        try:
            decided = decide(self, mutation, at)
            depth = self._depth_of(decided)
            result = decided
        except NotLoaded:
            pass
        if result is not None and result.verdict in _OBJECTS_REFUSED:
            # Another process may have proven more of the objects than is remembered here.
            unseen = _objects_of(mutation) - self._looked.keys()
            self.missing.objects |= unseen
            result = None if unseen else result
        if result is None:
            if isinstance(mutation, CreateNode):
                self._undecided.add(at.new_id)
            return None
        if result.verdict is Verdict.ACCEPTED:
            self._take(result)
            if depth is not None:
                self._add_depth(result, depth)
        return result

    def _depth_of(self, result: Result) -> PathLength | None:
        """The longest path that the result puts into its parent; None if it puts nothing anywhere."""
        node = result.node
        if self._alone or node is None or result.change not in {Change.CREATED, Change.MOVED, Change.RESTORED}:
            return None
        depth = PathLength.of(node.name)
        is_full = node.kind is NodeKind.DIRECTORY and result.change is not Change.CREATED
        return depth + self.depth_below(node.id) if is_full else depth

    def _add_depth(self, result: Result, depth: PathLength) -> None:
        """Record the depth at all directories above, so that later mutations can move them.

        Stops at a directory that already has at least this depth.
        """
        assert result.node is not None
        directory = result.node.parent
        while directory != ROOT:
            known = self._added_depths.get(directory, PathLength())
            node = self._nodes.get(directory) or self._view.known_nodes.get(directory)
            if depth.fits_in(known) or node is None:
                return
            self._added_depths[directory] = known.max_with(depth)
            depth += PathLength.of(node.name)
            directory = node.parent

    def _take(self, result: Result) -> None:
        node = result.node
        assert node is not None
        self._nodes[node.id] = node
        self._names.update(name_changes(result))
        if result.change is Change.CREATED:
            self._created.add(node.id)
        if node.kind is NodeKind.DIRECTORY:
            if result.change in {Change.DELETED, Change.DISCARDED}:
                self.known_live.clear()
            elif result.change is Change.MOVED:
                self.known_path_lengths.clear()
        if result.change in {Change.CREATED, Change.UPDATED} and node.content is not None:
            self.used_bytes += node.content.size


class Committer:
    """Commits of one space in this process."""

    def __init__(
        self,
        view: SpaceView,
        *,
        journal: Journal,
        objects: Objects,
        projector: Projector,
        depths: Depths,
        quota_bytes: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._depths = depths
        self._view = view
        self._journal = journal
        self._objects = objects
        self._projector = projector
        self._quota_bytes = quota_bytes
        self._now_ms = now_ms
        self._queue = _Waiting()
        self._in_flight: dict[RequestId, _Pending] = {}
        self._worker: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is waiting."""
        return not self._in_flight

    async def commit(self, request: Request) -> Answer:
        """Decide and append. Repeating a request that was recorded returns its first answer.

        Errors: RequestTooLarge, RequestIdReused, Contended, Unavailable; after the last two the request may or may
        not have been recorded, and repeating it tells.
        """
        check_size(len(request.mutations), request.size)
        pending = self._in_flight.get(request.id)
        if pending is None:
            pending = _Pending(request, asyncio.get_running_loop().create_future(), traces.current())
            self._in_flight[request.id] = pending
            pending.answer.add_done_callback(lambda _: self._in_flight.pop(request.id, None))
            self._queue.add(pending)
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._work(), name=f"commit {self._view.space}")
        elif (pending.request.fingerprint, pending.request.user) != (request.fingerprint, request.user):
            raise RequestIdReused
        # A caller that gives up must not take the answer from another that repeated the request.
        return await asyncio.shield(pending.answer)

    async def first_answer(self, request: Request) -> Answer | None:
        """What `commit` returns for a request that was recorded before, or is being decided on here; else None.

        RequestIdReused, and what `commit` raises.
        """
        if request.id not in self._in_flight:
            await self._view.validate()
            if request.id not in await self._view.answered([request.id]):
                return None
        return await self.commit(request)

    async def answer(self, request: RequestId, *, user: str) -> Answer:
        """What a recorded request of this user's was answered. NoSuchRequest, also for another user's."""
        await self._view.validate()
        seq = (await self._view.answered([request])).get(request)
        if seq is not None:
            commit = await self._recorded(request, seq)
            if commit.user == user:
                return Answer(seq, commit.results)
        raise NoSuchRequest

    async def stop(self) -> None:
        """Let the worker finish what it has taken."""
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        while self._queue:
            batch = self._take_batch()
            cause, *others = (pending.cause for pending in batch)
            try:
                with traces.span("append", parent=cause, links=others, syncline__requests=len(batch)):
                    await self._commit(batch)
            except Exception as error:
                for pending in batch:
                    _fail(pending, error)
            except BaseException:
                for pending in batch:
                    _fail(pending, Unavailable("the service is stopping; repeat the request"))
                raise

    def _take_batch(self) -> list[_Pending]:
        """As many waiting requests as share an entry, one of each person in turn."""
        batch = [self._queue.take()]
        mutations, size = len(batch[0].request.mutations), batch[0].request.size
        while self._queue:
            request = self._queue.first().request
            mutations += len(request.mutations)
            size += request.size
            if mutations > MAX_MUTATIONS or size > MAX_REQUEST_BYTES:
                break
            batch.append(self._queue.take())
        return batch

    async def _commit(self, batch: list[_Pending]) -> None:
        if self._view.seq == 0:
            await self._view.validate()  # opens the view, if this is its first use
        for attempt in range(MAX_ATTEMPTS):
            batch[:] = await self._answer_repeated(batch)
            if not batch:
                return
            decided = await self._decide(batch)
            if decided is None:
                continue
            recorded = [one for one in decided if one.accepted]
            if not recorded:
                # A refusal is true only if it was made on the head.
                seq = self._view.seq
                await self._view.validate()
                if self._view.seq == seq:
                    self._resolve(decided, seq)
                    return
                continue
            if (entry := await self._append(batch, recorded)) is not None:
                self._resolve(decided, entry.seq)
                return
            if not batch:
                return
            # Full jitter; a loser has caught up already, so the wait only spreads the next try.
            await asyncio.sleep(random.random() * 0.002 * min(attempt + 1, 10))  # noqa: S311 - not a secret
        raise Contended

    async def _answer_repeated(self, batch: list[_Pending]) -> list[_Pending]:
        """Answer the requests that an entry has answered already; return the others."""
        if not batch:
            return batch
        while True:
            answered = await self._view.answered(pending.request.id for pending in batch)
            floor = self._view.requests_floor
            for pending in batch:
                if (seq := answered.get(pending.request.id)) is not None and not pending.answer.done():
                    await self._answer_from_journal(pending, seq)
            if self._view.requests_floor == floor:
                return [pending for pending in batch if pending.request.id not in answered]

    async def _answer_from_journal(self, pending: _Pending, seq: int) -> None:
        request = pending.request
        commit = await self._recorded(request.id, seq)
        if (commit.fingerprint, commit.user) != (request.fingerprint, request.user):
            _fail(pending, RequestIdReused())
        elif not pending.answer.done():
            pending.answer.set_result(Answer(seq, commit.results))

    async def _recorded(self, request: RequestId, seq: int) -> Commit:
        """The commit of a request that entry `seq` is said to answer."""
        for _, blob in await self._journal.read(self._view.space, seq - 1, 1):
            for commit in entry_from_bytes(seq, blob).commits:
                if commit.request == request:
                    return commit
        raise RuntimeError(f"entry {seq} of space {self._view.space} lacks a request that it is said to answer")

    async def _decide(self, batch: list[_Pending]) -> list[_Decided] | None:
        """Decide all of the batch at the view's seq; None if a request may turn out to be answered already."""
        floor = self._view.requests_floor
        looked: dict[Digest, Sealed | Unsealed] = {}
        versions: dict[tuple[NodeId, int], Content | None] = {}
        listed: dict[NodeId, _Listed] = {}
        depths_seq, known_depths = self._view.seq, dict[NodeId, PathLength]()
        alone = sum(len(pending.request.mutations) for pending in batch) == 1
        while True:
            if depths_seq != self._view.seq:
                depths_seq, known_depths = self._view.seq, {}  # what is below a directory may have changed
            draft = Draft(
                self._view,
                objects=self._objects,
                looked=looked,
                versions=versions,
                listed=listed,
                known_depths=known_depths,
                alone=alone,
            )
            known = any(self._view.known_request(pending.request.id) for pending in batch)
            if known or self._view.requests_floor != floor:
                return None
            seq = self._view.seq
            decided = [await self._decide_request(draft, pending, seq=seq + 1) for pending in batch]
            if self._view.seq != seq:
                continue  # another process has appended meanwhile
            missing = draft.missing
            if not missing and None not in decided:
                return [one for one in decided if one is not None]
            await self._view.load(missing)
            if missing.objects:
                looked |= await self._objects.look(self._view.space, missing.objects)
            for node, number in missing.versions:
                versions[node, number] = await self._view.version(node, number)
            for directory in missing.directories:
                # One request cannot take away more than that.
                held, more = await self._view.list_names(directory, after="", limit=MAX_MUTATIONS)
                listed[directory] = _Listed(self._view.seq, frozenset(name for name, _ in held), more is None)
            if missing.depths:
                wanted = missing.depths | known_depths.keys()
                depths_seq, known_depths = await self._depths.depths_below(self._view, wanted)

    async def _decide_request(self, draft: Draft, pending: _Pending, *, seq: int) -> _Decided | None:
        request, now_ms = pending.request, self._now_ms()
        results: list[Result] = []
        complete = True
        numbered = list(enumerate(request.mutations))
        async for some in slices(numbered, request.user):
            for index, mutation in some:
                at = Circumstances(
                    user=request.user,
                    device=request.device,
                    now_ms=now_ms,
                    seq=seq,
                    new_id=created_node_id(self._view.space, request.id, index),
                    free_bytes=self._quota_bytes - draft.used_bytes,
                )
                result = draft.decide(mutation, at)
                if result is None:
                    complete = False
                else:
                    results.append(result)
        if not complete:
            return None
        commit = Commit(request.id, request.fingerprint, request.user, request.device, now_ms, tuple(results))
        return _Decided(pending, commit)

    async def _append(self, batch: list[_Pending], recorded: Sequence[_Decided]) -> Entry | None:
        """Append one entry at the view's seq + 1. None: the race was lost, or the batch was cut; decide again."""
        entry = Entry(
            seq=self._view.seq + 1,
            append_id=secrets.token_bytes(16),
            commits=tuple(one.commit for one in recorded),
            used_bytes=_used_after(self._view.used_bytes, recorded),
        )
        blob = await entry_to_bytes(entry)
        if len(blob) > MAX_ENTRY_BYTES:
            self._cut(batch)
            return None
        await self._wait_for_projection()
        async with self._projector.dirty():
            try:
                await self._journal.append(self._view.space, entry.seq, blob)
            except EntryTaken as taken:
                other = entry_from_bytes(entry.seq, taken.blob)
                if other.append_id != entry.append_id:
                    metrics.RACES_LOST.inc()
                    self._view.apply(other)
                    await self._view.validate()
                    return None
            self._view.apply(entry)
        metrics.COMMITS.inc(len(recorded))
        metrics.ENTRIES.inc()
        metrics.ENTRY_BYTES.inc(len(blob))
        return entry

    def _cut(self, batch: list[_Pending]) -> None:
        """The entry would be too large: keep the first half of the batch, put the other back."""
        if len(batch) == 1:
            _fail(
                batch.pop(), RequestTooLarge("what the request changes does not fit into one journal entry; split it")
            )
            return
        half = (len(batch) + 1) // 2
        self._queue.put_back(batch[half:])
        del batch[half:]

    async def _wait_for_projection(self) -> None:
        """Backpressure: writers wait while the table is too far behind."""
        if self._view.seq - self._view.floor >= MAX_LAG:
            try:
                async with asyncio.timeout(LAG_PATIENCE_SECONDS):
                    await self._projector.caught_up_to(self._view.seq - MAX_LAG // 2)
            except TimeoutError:
                raise Unavailable("the table is too far behind the journal; repeat the request later") from None

    def _resolve(self, decided: Sequence[_Decided], seq: int) -> None:
        for one in decided:
            for verdict, count in Counter(result.verdict for result in one.commit.results).items():
                metrics.MUTATIONS.labels(verdict.name).inc(count)
            if not one.pending.answer.done():
                one.pending.answer.set_result(Answer(seq, one.commit.results))


def _used_after(before: int, recorded: Sequence[_Decided]) -> int:
    return before + sum(
        result.node.content.size
        for one in recorded
        for result in one.commit.accepted()
        if result.change in {Change.CREATED, Change.UPDATED} and result.node and result.node.content
    )


def _fail(pending: _Pending, error: Exception) -> None:
    if not pending.answer.done():
        pending.answer.set_exception(error)
        pending.answer.exception()  # read once, so that asyncio does not complain where the caller has given up
