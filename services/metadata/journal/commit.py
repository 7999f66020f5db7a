"""Commits: concurrent requests are decided as one batch and appended as one journal entry.

A commit is acknowledged when its entry is appended, and the append succeeds only at `head + 1`. The decisions in the
entry were therefore made on the head, whichever process made them, and a space is serialisable without a lock.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, islice
from operator import itemgetter
from typing import Final, TypeAlias

from runtime.interruption import ASK_SECONDS
from runtime.network import charge_to
from runtime.pool import Share
from runtime.rates import BYTES_PER_CALL, charge
from runtime.turns import slices
from services.metadata import metrics
from services.metadata.entry import Commit, JournalEntry, created
from services.metadata.journal.draft import Draft, ListedNames, Looked
from services.metadata.journal.project import Projector
from services.metadata.ports import EntryTaken, Journal
from services.metadata.reserving import SpaceReservation
from services.metadata.sealing import Objects
from services.metadata.tree.decide import Circumstances
from services.metadata.tree.depths import Depths
from services.metadata.tree.view import MAX_LAG_ENTRIES, Missing, SpaceView
from services.metadata.wire import entry_from_bytes, entry_to_bytes, with_journal_bytes
from syncline.model.errors import Contended, NoSuchRequest, RequestIdReused, RequestTooLarge, Unavailable
from syncline.model.identifiers import NodeId, RequestId, created_node_id
from syncline.model.tree import (
    MAX_MUTATIONS,
    MAX_REQUEST_BYTES,
    Change,
    CreateNode,
    DeleteNode,
    MoveNode,
    Mutation,
    Node,
    NodeKind,
    RestoreNode,
    Result,
)
from syncline.model.verdicts import Verdict
from syncline.rpc import traces

MAX_ENTRY_BYTES = 380_000
"""Maximum size of a journal entry, in bytes. A DynamoDB item holds 400 KB, including keys and the other attributes."""
MAX_ATTEMPTS = 40
"""Maximum number of attempts to append the next entry before the caller is told to retry later."""
LAG_PATIENCE_SECONDS = 20.0
MAX_TRIES_PER_MUTATION: Final = 40
"""Maximum number of trial decisions, per mutation of a batch. A trial decides a mutation before the mutations ahead of
it are decided, only to find out which nodes and names its decision needs.
"""
MAX_LISTED_NAMES: Final = 20_000
"""Maximum number of names, including those that are free again, that are listed to find out which directories of one
batch are empty.
"""
_NAMES_LISTED_AT_ONCE: Final = 32
_TOO_MANY_NAMES: Final = 1 << 30
"""A count larger than the number of names that one batch can remove."""


class Overtaken(Exception):
    """A change by another request, which came first, breaks the condition of this request (`Request.condition`).
    Nothing of this request was committed.
    """


@dataclass(frozen=True, slots=True)
class Untouched:
    """A condition of a request: no change in an entry above `seq` concerns one of `nodes`, or a node that is directly
    in one of them.
    """

    seq: int
    nodes: Collection[NodeId]

    def is_broken_by(self, changes: Iterable[Result]) -> bool:
        """Return True if one of `changes`, the accepted results of an entry above `seq`, breaks the condition."""
        return any(
            result.node is not None and (result.node.id in self.nodes or result.node.parent in self.nodes)
            for result in changes
        )


@dataclass(frozen=True, slots=True)
class Request:
    """The mutations that one caller requests in one space.

    - `fingerprint` distinguishes this request from a different one with the same id.
    - `user` and `device` are the ids of the caller.
    - `size` is the serialised size of the mutations, in bytes.
    - `condition` has to hold when the request is committed; None for no condition.
    """

    id: RequestId
    fingerprint: bytes
    user: str
    device: str
    mutations: tuple[Mutation, ...]
    size: int
    condition: Untouched | None = None
    all_or_nothing: bool = False
    """True if no mutation takes effect unless all are accepted."""

    @property
    def is_decided_alone(self) -> bool:
        """True if this request must be a batch by itself. Such a request may be refused as a whole, and the other
        requests of its batch would then have to be decided again.
        """
        return self.condition is not None or self.all_or_nothing


@dataclass(frozen=True, slots=True)
class CommitOutcome:
    """The result of each mutation of a request, in order. `seq` is the sequence number of the entry that has the
    accepted mutations; if none was accepted, it is the head.
    """

    seq: int
    results: tuple[Result, ...]


def check_size(mutations: int, size: int) -> None:
    """Raise RequestTooLarge if a request has too many mutations, or too many bytes. `mutations` is their number, and
    `size` their serialised size in bytes.
    """
    if mutations > MAX_MUTATIONS or size > MAX_REQUEST_BYTES:
        raise RequestTooLarge(
            f"a request holds at most {MAX_MUTATIONS} mutations and {MAX_REQUEST_BYTES} bytes, not {mutations} and "
            f"{size}; split it"
        )


AskAnew: TypeAlias = Callable[[], Awaitable[None]]
"""Coroutine function without arguments that checks again if the caller of a commit has the right to write. If the
caller has not, it raises the error with which the commit is to be refused.
"""


@dataclass(slots=True)
class _Pending:
    request: Request
    answer: asyncio.Future[CommitOutcome]
    cause: traces.Cause
    ask: AskAnew
    asked_at_ms: int
    unbroken_to: int = 0
    """The sequence number of the last entry that is known not to break the condition of the request."""


class _Waiting:
    """Queue of requests to decide: `take` serves the people in turn, and the requests of each person in the order of
    arrival.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[_Pending]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, pending: _Pending) -> None:
        self._of.setdefault(pending.request.user, deque()).append(pending)

    def first(self) -> _Pending:
        """Return the request that `take` will return next."""
        return next(iter(self._of.values()))[0]

    def take(self) -> _Pending:
        user, waiting = self._of.popitem(last=False)
        pending = waiting.popleft()
        if waiting:
            self._of[user] = waiting
        return pending

    def put_back(self, some: Sequence[_Pending]) -> None:
        """Return the requests `some`, which `take` has returned, to the front of the queue, so that `take` returns them
        again in the same order.
        """
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


class _Decisions:
    """Decides the mutations of a batch in order. The decisions stay valid as long as the view is at the sequence number
    of the draft.
    """

    def __init__(
        self,
        view: SpaceView,
        draft: Draft,
        batch: Sequence[_Pending],
        *,
        quota_bytes: int,
        max_nodes: int,
        is_journal_full: bool,
        now_ms: int,
    ) -> None:
        """`quota_bytes` is the maximum size of all versions of the space. The other limits are those of `Committer`."""
        self.draft = draft
        self._view = view
        self._batch = batch
        self._quota_bytes = quota_bytes
        self._max_nodes = max_nodes
        self._is_journal_full = is_journal_full
        self._now_ms = now_ms
        self._mutations = [
            (pending.request, index, mutation)
            for pending in batch
            for index, mutation in enumerate(pending.request.mutations)
        ]
        self._results: list[Result] = []

    async def go_on(self) -> bool:
        """Decide mutations in order. Return True if all are decided. Return False in two cases:

        - a decision needs nodes or names that are not loaded, which are then in `missing` of the draft;
        - the view has advanced, so that the draft is out of date.
        """
        self.draft.missing = Missing()
        async for some in self._left():
            for request, index, mutation in some:
                result = self.draft.decide(mutation, self._circumstances(self.draft, request, index))
                if result is None:
                    return False
                self._results.append(result)
        return len(self._results) == len(self._mutations)

    async def try_rest(self) -> int:
        """Decide the remaining mutations on a copy of the draft and drop the decisions, only to add the nodes and names
        that they seem to need to `missing` of the draft. Return the number of mutations tried.
        """
        fork = self.draft.fork()
        async for some in self._left():
            for request, index, mutation in some:
                fork.decide(mutation, self._circumstances(fork, request, index))
        return len(self._mutations) - len(self._results)

    def of_requests(self) -> list[_Decided]:
        """Return the decisions grouped by request. All mutations must be decided."""
        results = iter(self._results)
        decided = []
        for pending in self._batch:
            one = pending.request
            own = tuple(islice(results, len(one.mutations)))
            if one.all_or_nothing:
                own = _all_or_none(own)
            decided.append(_Decided(pending, Commit(one.id, one.fingerprint, one.user, one.device, self._now_ms, own)))
        return decided

    @cached_property
    def moved(self) -> Mapping[NodeId, Node]:
        """Return the states in the view of the nodes that mutations of the batch move, delete or restore, by id."""
        named = {
            mutation.node
            for _, _, mutation in self._mutations
            if isinstance(mutation, MoveNode | DeleteNode | RestoreNode)
        }
        return {one: node for one in named if (node := self._view.known_nodes.get(one)) is not None}

    @cached_property
    def leaving(self) -> Counter[NodeId]:
        """Return the number of names that the batch may free (by moving or deleting nodes) in each directory."""
        return Counter(node.parent for node in self.moved.values())

    async def _left(self) -> AsyncIterator[Sequence[tuple[Request, int, Mutation]]]:
        """Yield the mutations that are not decided, each with its request and its index there. Waiting for each slice
        is charged to the sender of its request. The iterator ends early if the view advances.
        """
        for request, some in groupby(self._mutations[len(self._results) :], key=itemgetter(0)):
            async for few in slices(list(some), request.user):
                if self._view.seq != self.draft.seq:
                    return
                yield few

    def _circumstances(self, draft: Draft, request: Request, index: int) -> Circumstances:
        return Circumstances(
            user=request.user,
            device=request.device,
            now_ms=self._now_ms,
            seq=draft.seq + 1,
            new_id=created_node_id(self._view.space, request.id, index),
            free_bytes=self._quota_bytes - draft.used_bytes,
            free_nodes=self._max_nodes - draft.nodes,
            is_journal_full=self._is_journal_full,
        )


class Committer:
    """Decides the requests to change one space that arrive in this process, and appends them to the journal."""

    def __init__(
        self,
        view: SpaceView,
        *,
        journal: Journal,
        objects: Objects,
        projector: Projector,
        depths: Depths,
        reservation: SpaceReservation,
        max_nodes: int,
        max_journal_bytes: int,
        now_ms: Callable[[], int],
    ) -> None:
        """- `view` is the view of the space, and `projector` projects what is appended.
        - `objects` answers which objects are sealed, and `depths` computes the depths of directories.
        - `reservation` has what is reserved of quotas for the space. `max_nodes` is the maximum number of its nodes,
          and `max_journal_bytes` the maximum size of its journal in bytes.
        - `now_ms` returns milliseconds since 1970.
        """
        self._max_nodes = max_nodes
        self._max_journal_bytes = max_journal_bytes
        self._depths = depths
        self._view = view
        self._journal = journal
        self._objects = objects
        self._projector = projector
        self._reservation = reservation
        self._now_ms = now_ms
        self._queue = _Waiting()
        self._in_flight: dict[RequestId, _Pending] = {}
        self._worker: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """True if no request is being decided or waits."""
        return not self._in_flight

    async def commit(self, request: Request, *, ask: AskAnew) -> CommitOutcome:
        """Decide the mutations of the request, append those that are accepted to the journal, and return the outcome. A
        repetition of a request that was recorded returns the first outcome.

        The caller's right was checked before the call. If the commit has to wait for longer than ASK_SECONDS, `ask`
        checks the right again before the commit takes effect, and its errors are raised.

        - Raise RequestTooLarge if the request fits into no entry.
        - Raise RequestIdReused if its id was used for another request.
        - Raise Overtaken if the condition of the request does not hold.
        - Raise Contended if other processes appended the next entry first in MAX_ATTEMPTS attempts, and Unavailable if
          the journal does not answer. The request may have been recorded then; a repetition returns the outcome.
        """
        check_size(len(request.mutations), request.size)
        pending = self._in_flight.get(request.id)
        if pending is None:
            answer = asyncio.get_running_loop().create_future()
            pending = _Pending(request, answer, traces.current(), ask, self._now_ms())
            self._in_flight[request.id] = pending
            pending.answer.add_done_callback(lambda _: self._in_flight.pop(request.id, None))
            self._queue.add(pending)
            if self._worker is None or self._worker.done():
                self._worker = asyncio.create_task(self._work(), name=f"commit {self._view.space}")
        elif (pending.request.fingerprint, pending.request.user) != (request.fingerprint, request.user):
            raise RequestIdReused
        # If one caller is cancelled, a caller that repeated the request still has to get the answer.
        return await asyncio.shield(pending.answer)

    async def first_answer(self, request: Request, *, ask: AskAnew) -> CommitOutcome | None:
        """Return the result of `commit` for a request that was recorded before, or that is being decided in this
        process; return None for any other request. `ask` has the same meaning as for `commit`.

        Raise RequestIdReused if another request was recorded under the id, and the errors of `commit`.
        """
        if request.id not in self._in_flight:
            await self._view.validate()
            if request.id not in await self._view.answered([request.id]):
                return None
        return await self.commit(request, ask=ask)

    async def answer(self, request: RequestId, *, user: str) -> CommitOutcome:
        """Return the recorded outcome of a request of this user. The entry with the outcome is read from the journal,
        and its size is charged as further calls of the caller. Raise NoSuchRequest if no request of this user was
        recorded under the id, even if another user's was.
        """
        await self._view.validate()
        seq = (await self._view.answered([request])).get(request)
        if seq is not None:
            commit, size = await self._recorded(request, seq, account=user)
            charge(size // BYTES_PER_CALL)
            if commit.user == user:
                return CommitOutcome(seq, commit.results)
        raise NoSuchRequest

    async def stop(self) -> None:
        """Stop the worker after it has finished the batch that it has taken from the queue."""
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        charge_to(Share.alone(self._view.space))  # the next batches are of other callers
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
        """Take waiting requests out of the queue, as many as fit into one entry; the people who sent them take
        turns. A request that is decided alone is a batch by itself.
        """
        batch = [self._queue.take()]
        if batch[0].request.is_decided_alone:
            return batch
        mutations, size = len(batch[0].request.mutations), batch[0].request.size
        while self._queue:
            request = self._queue.first().request
            mutations += len(request.mutations)
            size += request.size
            if mutations > MAX_MUTATIONS or size > MAX_REQUEST_BYTES or request.is_decided_alone:
                break
            batch.append(self._queue.take())
        return batch

    async def _commit(self, batch: list[_Pending]) -> None:
        if self._view.seq == 0:
            await self._view.validate()  # the first use opens the view
        await self._view.count_nodes()
        await self._view.weigh_journal()
        has_current_quota = False  # A refusal for want of quota has to be decided on a current one.
        if not self._reservation.is_recent and any(map(_may_grow, batch)):
            await self._reservation.ask(used_bytes=self._view.used_bytes)
            has_current_quota = True
        for attempt in range(MAX_ATTEMPTS):
            batch[:] = await self._answer_repeated(batch)
            floor = self._view.requests_floor
            if reused := await self._reused(batch):
                if self._view.requests_floor != floor:
                    continue  # another process may have answered a request in the meantime
                for pending in reused:
                    _fail(pending, RequestIdReused())
                    batch.remove(pending)
            await self._refuse_overtaken(batch)
            if not batch:
                return
            decided = await self._decide(batch)
            if decided is None:
                continue
            if any(one.request.condition and one.unbroken_to != self._view.seq for one in batch):
                continue  # the view has advanced, so that the condition is to be checked first
            recorded = [one for one in decided if one.accepted]
            if not has_current_quota and not self._is_journal_full and any(map(_lacks_quota, decided)):
                await self._reservation.ask(used_bytes=self._view.used_bytes)
                has_current_quota = True
                continue
            if not recorded:
                # A refusal is valid only if it was decided on the head.
                seq = self._view.seq
                await self._view.validate()
                if self._view.seq == seq and not await self._without_right(batch):
                    self._resolve(decided, seq)
                    return
                continue
            if (entry := await self._append(batch, recorded)) is not None:
                self._resolve(decided, entry.seq)
                return
            if not batch:
                return
            # Full jitter. The loser of a race has already caught up, so the wait only spreads the next attempts.
            await asyncio.sleep(random.random() * 0.002 * min(attempt + 1, 10))  # noqa: S311 - not a secret
        raise Contended

    @property
    def _is_journal_full(self) -> bool:
        return self._view.known_journal_bytes >= self._max_journal_bytes

    async def _is_reserved(self, entry: JournalEntry) -> bool:
        """Reserve the bytes that the versions of `entry` take. Return False if they are not reserved, because quotas
        allow less than when the entry was decided.
        """
        more = _bytes_taken(entry.commits)
        if more and entry.used_bytes > self._reservation.reserved_bytes:
            await self._reservation.ask(used_bytes=entry.used_bytes - more, wanted_bytes=entry.used_bytes)
        return not more or entry.used_bytes <= self._reservation.reserved_bytes

    async def _answer_repeated(self, batch: list[_Pending]) -> list[_Pending]:
        """Answer the requests of the batch that an earlier entry has recorded, and return the others."""
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

    async def _reused(self, batch: Sequence[_Pending]) -> list[_Pending]:
        """Return the requests of the batch whose id was used by an earlier request whose answer is not kept any more.

        The node whose id follows from the request id then exists. No other node may take that id, even one of the same
        kind.
        """
        made: list[set[NodeId]] = []
        for pending in batch:
            request = pending.request
            numbers = [index for index, one in enumerate(request.mutations) if isinstance(one, CreateNode)]
            ids: set[NodeId] = set()
            async for some in slices(numbers, request.user):
                ids.update(created_node_id(self._view.space, request.id, index) for index in some)
            made.append(ids)
        await self._view.load(Missing(nodes=set().union(*made)))
        known = self._view.known_nodes
        return [
            pending
            for pending, ids in zip(batch, made, strict=True)
            if self._view.known_request(pending.request.id) is None and any(known.get(one) for one in ids)
        ]

    async def _answer_from_journal(self, pending: _Pending, seq: int) -> None:
        request = pending.request
        commit, _ = await self._recorded(request.id, seq, account=request.user)
        if (commit.fingerprint, commit.user) != (request.fingerprint, request.user):
            _fail(pending, RequestIdReused())
        elif not pending.answer.done():
            pending.answer.set_result(CommitOutcome(seq, commit.results))

    async def _recorded(self, request: RequestId, seq: int, *, account: str) -> tuple[Commit, int]:
        """Return the commit of `request` in entry `seq`, and the size of the entry in bytes. `account` is charged for
        the work. Raise RuntimeError if the entry does not have the request, which is a defect.
        """
        for _, blob in await self._journal.read(self._view.space, seq - 1, 1):
            for commit in (await entry_from_bytes(seq, blob, account=account)).commits:
                if commit.request == request:
                    return commit, len(blob)
        raise RuntimeError(f"entry {seq} of space {self._view.space} lacks a request that it is said to answer")

    async def _decide(self, batch: list[_Pending]) -> list[_Decided] | None:
        """Decide the whole batch at the view's sequence number, and return the decisions. Return None if an earlier
        entry may have recorded one of the requests.

        The method repeats two steps: it decides in order until a mutation needs nodes or names that are not loaded, and
        loads these. To repeat less often, it also loads those that the later mutations seem to need. The number of
        trial decisions for this is bounded, because each mutation may depend on the one before it.
        """
        floor = self._view.requests_floor
        looked = Looked(names_left=MAX_LISTED_NAMES)
        tries = MAX_TRIES_PER_MUTATION * sum(len(pending.request.mutations) for pending in batch)
        decisions: _Decisions | None = None
        while True:
            known = any(self._view.known_request(pending.request.id) for pending in batch)
            if known or self._view.requests_floor != floor:
                return None
            if decisions is None or decisions.draft.seq != self._view.seq:
                decisions = self._begin(batch, looked)  # first round, or another process has appended in the meantime
            complete = await decisions.go_on()
            if decisions.draft.seq != self._view.seq:
                continue
            if complete:
                return decisions.of_requests()
            if tries > 0:
                tries -= await decisions.try_rest()
            await self._look(decisions, looked)

    async def _refuse_overtaken(self, batch: list[_Pending]) -> None:
        """Refuse the requests of the batch whose condition an entry up to the view's sequence number breaks, and remove
        them from the batch.
        """
        for pending in list(batch):
            condition = pending.request.condition
            if condition is None:
                continue
            pending.unbroken_to = max(pending.unbroken_to, condition.seq)
            async for entry in self._view.entries_after(pending.unbroken_to, account=self._view.space):
                if condition.is_broken_by(entry.accepted()):
                    _fail(pending, Overtaken())
                    batch.remove(pending)
                    break
                pending.unbroken_to = entry.seq

    def _begin(self, batch: Sequence[_Pending], looked: Looked) -> _Decisions:
        alone = sum(len(pending.request.mutations) for pending in batch) == 1
        draft = Draft(self._view, objects=self._objects, looked=looked, nodes=self._view.counted_nodes(), alone=alone)
        return _Decisions(
            self._view,
            draft,
            batch,
            quota_bytes=self._reservation.quota_bytes,
            max_nodes=self._max_nodes,
            is_journal_full=self._is_journal_full,
            now_ms=self._now_ms(),
        )

    async def _look(self, decisions: _Decisions, looked: Looked) -> None:
        """Load the nodes, names, depths and objects that `decisions` found missing: nodes and names into the view, the
        rest into `looked`.
        """
        missing = decisions.draft.missing
        await self._view.load(missing)
        if missing.objects:
            found = await self._objects.look(
                self._view.space, missing.objects, beside=looked.entries, unsealed_before=looked.unsealed
            )
            looked.add(found)
        for node, number in missing.versions:
            looked.versions[node, number] = await self._view.version(node, number)
        for directory, names in missing.directories.items():
            enough = max(names, decisions.leaving[directory] + 1)
            looked.directories[directory] = await self._listed(directory, enough, looked)
        if missing.depths:
            # The depths of all directories that the batch moves are measured in one pass, which costs little more than
            # measuring one.
            moved = {one for one, node in decisions.moved.items() if node.kind is NodeKind.DIRECTORY}
            looked.depths_seq, looked.depths = await self._depths.depths_below(self._view, missing.depths | moved)

    async def _listed(self, directory: NodeId, enough: int, looked: Looked) -> ListedNames:
        """Return the number of names in a directory, counted up to `enough`. If more names have to be listed for this
        than `looked` still allows, return _TOO_MANY_NAMES as the number.
        """
        seq, names, size = self._view.seq, 0, max(enough, _NAMES_LISTED_AT_ONCE)
        after: str | None = ""
        while after is not None and names < enough:
            if looked.names_left <= 0:
                return ListedNames(seq, _TOO_MANY_NAMES, complete=False)
            page, after = await self._view.list_names(directory, after=after, limit=size)
            names += len(page)
            looked.names_left -= len(page) + 1 if after is None else size
            size *= 2
        return ListedNames(seq, names, complete=after is None)

    async def _append(self, batch: list[_Pending], recorded: Sequence[_Decided]) -> JournalEntry | None:
        """Append the decisions `recorded` as one entry directly after the view's sequence number, and return the entry.
        Return None, for the caller to decide again, if another process appended that entry first, if requests had to
        leave the batch, or if the bytes that the entry takes could not be reserved.
        """
        commits = tuple(one.commit for one in recorded)
        entry = JournalEntry(
            seq=self._view.seq + 1,
            append_id=secrets.token_bytes(16),
            commits=commits,
            used_bytes=self._view.used_bytes + _bytes_taken(commits),
            nodes=self._view.counted_nodes() + created(commits),
        )
        blob = await entry_to_bytes(entry)
        journal_bytes = await self._view.weigh_journal() + len(blob)
        entry, blob = replace(entry, journal_bytes=journal_bytes), with_journal_bytes(blob, journal_bytes)
        if len(blob) > MAX_ENTRY_BYTES:
            self._cut(batch)
            return None
        await self._wait_for_projection()
        if await self._without_right(batch) or not await self._is_reserved(entry):
            return None
        async with self._projector.dirty():
            try:
                await self._journal.append(self._view.space, entry.seq, blob)
            except EntryTaken as taken:
                other = await entry_from_bytes(entry.seq, taken.blob, account=self._view.space)
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

    async def _without_right(self, batch: list[_Pending]) -> bool:
        """Check again the right of each caller whose request has waited for longer than ASK_SECONDS, and refuse the
        requests whose callers have lost it. Return True if a request was refused; the remaining requests then have to
        be decided anew.
        """
        now_ms = self._now_ms()
        waited = [one for one in batch if not 0 <= now_ms - one.asked_at_ms <= ASK_SECONDS * 1000]
        answers = await asyncio.gather(*(one.ask() for one in waited), return_exceptions=True)
        for pending, answer in zip(waited, answers, strict=True):
            if isinstance(answer, Exception):
                _fail(pending, answer)
                batch.remove(pending)
            elif answer is not None:
                raise answer
            else:
                pending.asked_at_ms = now_ms
        return any(answers)

    def _cut(self, batch: list[_Pending]) -> None:
        """Keep the first half of a batch, whose entry would be too large, and put the second half back to the front of
        the queue.
        """
        if len(batch) == 1:
            _fail(
                batch.pop(), RequestTooLarge("what the request changes does not fit into one journal entry; split it")
            )
            return
        half = (len(batch) + 1) // 2
        self._queue.put_back(batch[half:])
        del batch[half:]

    async def _wait_for_projection(self) -> None:
        """Wait while too many entries are not projected yet. Raise Unavailable after LAG_PATIENCE_SECONDS."""
        if self._view.seq - self._view.floor >= MAX_LAG_ENTRIES:
            try:
                async with asyncio.timeout(LAG_PATIENCE_SECONDS):
                    await self._projector.caught_up_to(self._view.seq - MAX_LAG_ENTRIES + 1)
            except TimeoutError:
                raise Unavailable("the table is too far behind the journal; repeat the request later") from None

    def _resolve(self, decided: Sequence[_Decided], seq: int) -> None:
        for one in decided:
            for verdict, count in Counter(result.verdict for result in one.commit.results).items():
                metrics.MUTATIONS.labels(verdict.name).inc(count)
            if not one.pending.answer.done():
                one.pending.answer.set_result(CommitOutcome(seq, one.commit.results))


def _all_or_none(results: tuple[Result, ...]) -> tuple[Result, ...]:
    """Return the results of a request whose mutations take effect together: unchanged if all are accepted; otherwise
    the accepted ones are replaced by the first refusal.
    """
    refusal = next((result for result in results if result.verdict is not Verdict.ACCEPTED), None)
    if refusal is None:
        return results
    return tuple(refusal if result.verdict is Verdict.ACCEPTED else result for result in results)


def _may_grow(pending: _Pending) -> bool:
    """Return True if a request may add versions to the space."""
    return not all(isinstance(mutation, MoveNode | DeleteNode) for mutation in pending.request.mutations)


def _lacks_quota(decided: _Decided) -> bool:
    return any(result.verdict is Verdict.QUOTA_EXCEEDED for result in decided.commit.results)


def _bytes_taken(commits: Sequence[Commit]) -> int:
    """Return the sizes of all versions that these commits add."""
    return sum(
        result.node.content.size
        for commit in commits
        for result in commit.accepted()
        if result.change in {Change.CREATED, Change.UPDATED} and result.node and result.node.content
    )


def _fail(pending: _Pending, error: Exception) -> None:
    if not pending.answer.done():
        pending.answer.set_exception(error)
        # retrieve the exception, so that asyncio does not report it as unhandled if the caller was cancelled
        pending.answer.exception()
