"""Undoing a copy that was not completed, even if its caller may not write any more.

A copy of a directory is many requests of one caller. A caller who loses the right to write during the copy can neither
complete nor undo it. Metadata then undoes it without asking for that right, after a proof from the journal: the
caller's own requests have made the directory and everything that is in it, and nobody has changed any of it since. The
proof holds at the journal entry that undoes the copy, because the commit is refused if an entry between the two touches
the copy.

The proof follows the journal from the entry that has made the directory to the head. It reads each entry once, however
often the copy is changed meanwhile, and keeps the directories of the copy and the nodes that others have changed in
them. The undo goes on when its caller is gone, so that the proof may take longer than one call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from runtime.logs import structlog
from runtime.network import charge_to
from runtime.pool import Pool, Share, TooMuchAtOnce
from runtime.turns import slices
from services.metadata.entry import JournalEntry
from services.metadata.journal.commit import AskAnew, CommitOutcome, Overtaken, Request, Untouched
from services.metadata.journal.open_spaces import LiveSpace, OpenSpaces
from services.metadata.tree.reads import ViewReader, settled
from syncline.model.errors import (
    DeadlineExceeded,
    InvalidArgument,
    Kind,
    NoSuchRequest,
    PermissionDenied,
    RequestIdReused,
    SynclineError,
    Unavailable,
)
from syncline.model.identifiers import ROOT, NodeId, RequestId, SpaceId, derived_request_id
from syncline.model.tree import Change, DeleteNode, Mutation, Node, NodeKind, RestoreNode, Result
from syncline.model.verdicts import Verdict
from syncline.rpc import traces
from syncline.rpc.request_ids import request_id, take_request_id

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_UNDO_SECONDS: Final = 900
"""Maximum age in seconds of a copy that this module undoes. The gateway ends a copy after ten minutes."""
MAX_PROOF_SECONDS: Final = 600.0
"""Maximum duration of one undo in seconds, after which metadata gives it up. Its caller may be gone long before."""
UNDOS_AT_ONCE: Final = 4
"""Maximum number of copies that one process undoes at the same time; further undos wait for a while."""
_MAX_COMMIT_ATTEMPTS: Final = 10
"""Maximum number of attempts to commit one undo. If the copy changes during an attempt, the next attempt follows, which
reads only the journal entries since.
"""
_NODES_PER_LOOK: Final = 100
"""Number of changed nodes that are looked up together."""

log = structlog.get_logger()


class CopyChanged(SynclineError):
    """Somebody has changed something in the copy, so it stays; a member can delete what is not needed of it."""

    reason = "COPY_CHANGED"
    kind = Kind.CONFLICT


class CopyUndos:
    """Undoes copies of directories, and keeps the undos that are in progress in this process. An undo is a task of its
    own, which does not end with its caller. A repeated request waits for the task of the first one.

    To undo a copy means to move the copy to the trash, and to restore the node that it has replaced, if there is one.
    """

    def __init__(self, spaces: OpenSpaces, *, now_ms: Callable[[], int], seconds: float = MAX_PROOF_SECONDS) -> None:
        """`spaces` gives access to the spaces of this process, `now_ms` returns milliseconds since 1970, and `seconds`
        is the maximum duration of one undo.
        """
        self._spaces = spaces
        self._now_ms = now_ms
        self._seconds = seconds
        self._room = Pool("undos", UNDOS_AT_ONCE, counted=True)
        self._of: dict[tuple[SpaceId, RequestId], tuple[Request, asyncio.Task[CommitOutcome]]] = {}
        """The undos in progress, by space and request."""

    async def undo(
        self, space: SpaceId, want: Request, copy: RequestId, *, share: Share, check: AskAnew
    ) -> CommitOutcome:
        """Undo a copy as `undo_copy` does with the same arguments and errors, and return its result. The undo goes on
        if the calling task is cancelled. A repetition of the request `want` waits for the undo in progress. `share` is
        charged for one of the UNDOS_AT_ONCE slots for undos of this process.

        - Raise TooMuchAtOnce if no slot is free after a while; nothing is changed then.
        - Raise DeadlineExceeded if the undo takes longer than one may, and Unavailable if the service stops meanwhile.
          The request may be repeated.
        - Raise RequestIdReused if an undo in progress has the same id and is for another request or caller.
        """
        key = (space, want.id)
        if key in self._of:
            first, task = self._of[key]
            if (first.fingerprint, first.user, first.device) != (want.fingerprint, want.user, want.device):
                raise RequestIdReused
        else:
            # An empty context has no rate that the reads could be charged to: the copy may have exhausted it.
            context = Context()
            context.run(_bind, share, request_id(), structlog.contextvars.get_contextvars())
            work = self._run(space, want, copy, share, check, cause=traces.current())
            task = asyncio.create_task(work, name=f"undo {space}", context=context)
            self._of[key] = (want, task)
            task.add_done_callback(lambda done: self._ended(key, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if task.cancelled() and not (caller is not None and caller.cancelling()):
                raise Unavailable("the service is stopping; repeat the request") from None
            raise

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Context manager. At its end, the undos of copies that are in progress are cancelled; their callers may ask
        another process for them.
        """
        try:
            yield
        finally:
            tasks = [task for _, task in self._of.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(
        self, space: SpaceId, want: Request, copy: RequestId, share: Share, check: AskAnew, *, cause: traces.Cause
    ) -> CommitOutcome:
        with traces.span("undo", parent=cause):
            return await self._bounded(space, want, copy, share, check)

    async def _bounded(
        self, space: SpaceId, want: Request, copy: RequestId, share: Share, check: AskAnew
    ) -> CommitOutcome:
        async with self._room.lent(1, share), self._spaces.use(space) as live:
            limit = asyncio.timeout(self._seconds)
            try:
                async with limit:
                    return await undo_copy(live, want, copy, now_ms=self._now_ms(), check=check)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise DeadlineExceeded("the proof of the copy takes too long; a member can delete the copy") from None

    def _ended(self, key: tuple[SpaceId, RequestId], task: asyncio.Task[CommitOutcome]) -> None:
        del self._of[key]
        # The exception is retrieved in any case, so that asyncio does not report it if all callers are gone.
        error = None if task.cancelled() else task.exception()
        # The gateway repeats an undo for which no slot was free.
        if error is not None and not isinstance(error, NoSuchRequest | TooMuchAtOnce):
            reason = error.reason if isinstance(error, SynclineError) else type(error).__name__
            log.warning("copy not undone", space=key[0], reason=reason)


def _bind(share: Share, request: str | None, logged: Mapping[str, Any]) -> None:
    """Let the current context charge pools to `share`, and give its log events the request id and the fields of a call.

    `request` is the id of the request of the call, None without one, and `logged` has the fields by their names.
    """
    charge_to(share)
    if request is not None:
        take_request_id(request)
    structlog.contextvars.bind_contextvars(**logged)


async def undo_copy(live: LiveSpace, want: Request, copy: RequestId, *, now_ms: int, check: AskAnew) -> CommitOutcome:
    """Undo a copy in the space `live`: move the node that the request with the id `copy` has created to the trash, and
    restore the node that the same request has deleted in order to make room, if there is one.

    - `want` is the request to undo the copy, without mutations. A repetition of it returns the first outcome.
    - `now_ms` is the present time in milliseconds since 1970.
    - `check`, which has the same meaning as for `Committer.commit`, checks the right of the caller again, also before
      each attempt to commit, because the proof may take long. It does nothing for the gateway, whose callers need no
      right.

    Errors:

    - Raise NoSuchRequest if the caller has made no such copy, and InvalidArgument if the request has done something
      else.
    - Raise PermissionDenied if another device of the caller has made the copy, or it is older than MAX_UNDO_SECONDS.
    - Raise CopyChanged, with nothing changed, if the copy has nodes that are not of it, if something in it was changed
      since, or if a directory above it is in the trash. Raise it, with the copy in the trash, if a node that it has
      replaced cannot be restored there.
    - Raise the errors of `Committer.commit`.
    """
    if (answer := await live.committer.first_answer(want, ask=check)) is not None:
        return _whole(answer)
    proof = await _begun(live, want, copy, now_ms=now_ms)
    for _ in range(_MAX_COMMIT_ATTEMPTS):
        await live.view.validate()
        async for entry in live.view.entries_after(proof.seq, account=want.user):
            await proof.follow(entry)
        seq = proof.seq
        await proof.check(live)
        mutations: list[Mutation] = [DeleteNode(proof.top.id, proof.top.version)]
        mutations += [RestoreNode(one.id) for one in proof.replaced if one.id not in proof.changed_by_others]
        undo = replace(want, mutations=tuple(mutations), condition=Untouched(seq, proof.directories))
        await check()
        try:
            return _whole(await live.committer.commit(undo, ask=check))
        except Overtaken:
            continue
    raise CopyChanged


def _whole(answer: CommitOutcome) -> CommitOutcome:
    """Return the outcome of an undo. Raise CopyChanged if a part of it was refused."""
    deletion, *restored = answer.results
    if deletion.verdict is not Verdict.ACCEPTED:
        raise CopyChanged("a directory above the copy was deleted or changed meanwhile, so the copy stays in it")
    if any(result.verdict is not Verdict.ACCEPTED for result in restored):
        raise CopyChanged("the copy is in the trash, but what it has replaced cannot be restored to its place")
    return answer


class _Proof:
    """The facts about one copy that follow from the journal up to entry `seq`."""

    def __init__(self, copy: RequestId, top: Node, replaced: Sequence[Node], *, user: str, seq: int) -> None:
        """`top` is the node that the request `copy` has made, and `replaced` has the nodes that the request has
        deleted. `user` made the request. `seq` is the number of the entry before that of the request, after which the
        journal is followed.
        """
        self.top = top
        self.replaced = replaced
        self.seq = seq
        self.directories = {top.id}
        """The directories that the copy has made; `top` even if it is a file."""
        self.changed_by_others: set[NodeId] = set()
        """The replaced nodes that others have changed, so that they are not restored."""
        self._user = user
        self._copy = copy
        self._expected_request = copy
        self._found_requests = 0
        """The number of further requests of the copy that were found."""
        self._changed: set[NodeId] = set()
        """The nodes that were in the copy after a change by others."""
        self._watched = {one.id for one in replaced}

    async def follow(self, entry: JournalEntry) -> None:
        """Take account of entry `seq` + 1. The entry is looked at in turns that are charged to the caller."""
        for commit in entry.commits:
            # The requests of a copy follow one after the other, so that only one of them can come next.
            is_own = commit.request == self._expected_request and commit.user == self._user
            if is_own:
                self._expected_request = derived_request_id(self._copy, self._found_requests)
                self._found_requests += 1
            if self._expected_request == self._copy:
                continue  # the entry may begin with changes from before the copy
            async for some in slices(list(commit.accepted()), self._user):
                for result in some:
                    self._note(result, is_own=is_own)
        self.seq = entry.seq

    def _note(self, result: Result, *, is_own: bool) -> None:
        node = result.node
        assert node is not None, "an accepted result has a node"
        if is_own:
            if result.change is Change.CREATED and node.kind is NodeKind.DIRECTORY:
                self.directories.add(node.id)
            return
        if node.id in self._watched:
            self.changed_by_others.add(node.id)
        # A node that has left the copy, or that was not in it before, needs no further attention: its next change in
        # the copy names a directory of the copy as its parent.
        if node.id == self.top.id or node.parent in self.directories:
            self._changed.add(node.id)

    async def check(self, live: LiveSpace) -> None:
        """Raise CopyChanged if others have changed the copy's own node, or if a node that they have changed is in the
        copy now.
        """
        if self.top.id in self._changed:
            raise CopyChanged
        async for some in slices(list(self._changed), self._user, size=_NODES_PER_LOOK):
            few = tuple(some)

            def is_changed(reader: ViewReader, few: tuple[NodeId, ...] = few) -> bool:
                return any(_is_in(reader, one, self.top.id) for one in few)

            if await settled(live.view, is_changed):
                raise CopyChanged


def _is_in(reader: ViewReader, node: NodeId, top: NodeId) -> bool:
    """Return True if the node is in the directory `top`, at any depth, and neither it nor a directory between the two
    is deleted. Raise NotLoaded if a node on the way is not loaded.
    """
    while node != ROOT:
        if node == top:
            return True
        found = reader.node(node)
        if found is None or found.deleted_at_ms:
            return False
        node = found.parent
    return False


async def _begun(live: LiveSpace, want: Request, copy: RequestId, *, now_ms: int) -> _Proof:
    """Return a proof for the copy that the request `copy` has begun; the proof has followed no entry of the journal
    yet. Raise those errors of `undo_copy` that concern this request.
    """
    first = await live.committer.answer(copy, user=want.user)
    accepted = [result for result in first.results if result.verdict is Verdict.ACCEPTED]
    made = [result.node for result in accepted if result.change is Change.CREATED and result.node is not None]
    replaced = [result.node for result in accepted if result.change is Change.DELETED and result.node is not None]
    if len(made) != 1 or len(replaced) != len(accepted) - 1:
        raise InvalidArgument("that request has not made one node", field="copy_request_id")
    top = made[0]
    if top.device != want.device or now_ms - top.committed_at_ms > MAX_UNDO_SECONDS * 1000:
        raise PermissionDenied("a copy is undone only for its device, and soon")
    return _Proof(copy, top, replaced, user=want.user, seq=first.seq - 1)
