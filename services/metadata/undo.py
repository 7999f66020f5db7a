"""Undoing a copy whose caller may not write any more.

A copy of a directory is many requests of one caller. A caller who loses the right to write during the copy can neither
complete nor undo it. Metadata then undoes it without asking for that right, after a proof from the journal: the
caller's own requests have made the directory and everything that is in it, and nobody has changed any of it since. The
proof holds at the journal entry that undoes the copy, since the commit is refused if an entry between the two touches
the copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from typing import Final

from runtime.turns import turn
from services.metadata.journal.commit import CommitOutcome, Committer, Overtaken, Request, Untouched
from services.metadata.journal.open_spaces import LiveSpace
from services.metadata.tree.view import Missing, SpaceView
from syncline.model.errors import InvalidArgument, Kind, NoSuchRequest, PermissionDenied, SynclineError
from syncline.model.identifiers import NodeId, RequestId, derived_request_id
from syncline.model.tree import Change, DeleteNode, Mutation, Node, NodeKind, RestoreNode

MAX_UNDO_SECONDS: Final = 900
"""Maximum age in seconds of a copy that is undone in this way. The gateway ends a copy after ten minutes."""
_PROOFS: Final = 5
"""Maximum number of proofs for one undo; each further one follows a change of the copy during the one before it."""
_NAMES_PER_LISTING: Final = 500


class CopyChanged(SynclineError):
    """Somebody has changed something in the copy, so it stays; a member can delete what is not needed of it."""

    reason = "COPY_CHANGED"
    kind = Kind.CONFLICT


async def undo_copy(live: LiveSpace, want: Request, copy: RequestId, *, now_ms: int) -> CommitOutcome:
    """Move the directory that the request with the id `copy` has created to the trash, and restore the node that the
    same request has deleted in order to make room, if there is one. `want` is the request to do so, without mutations;
    a repetition of it returns the first outcome.

    - Raise NoSuchRequest if the caller has made no such copy, and InvalidArgument if the request has done something
      else.
    - Raise PermissionDenied if another device of the caller has made the copy, or it is older than MAX_UNDO_SECONDS.
    - Raise CopyChanged if the copy has nodes that are not of it, or something in it was changed since.
    - Raise the errors of `Committer.commit`.
    """
    if (answer := await live.committer.first_answer(want, ask=_proven_instead)) is not None:
        return answer
    for _ in range(_PROOFS):
        await live.view.validate()
        seq = live.view.seq
        try:
            undo = await _proven(live, want, copy, since=seq, now_ms=now_ms)
            return await live.committer.commit(undo, ask=_proven_instead)
        except CopyChanged:
            # A request of the copy itself may have been recorded after its answer was looked for.
            if live.view.seq == seq:
                raise
        except Overtaken:
            continue
    raise CopyChanged


async def _proven_instead() -> None:
    """Do nothing when the right to write is to be checked again: the proof replaces this check."""


async def _proven(live: LiveSpace, want: Request, copy: RequestId, *, since: int, now_ms: int) -> Request:
    """Return the request that undoes the copy, after proving that the caller's own requests have made everything in it.
    The request has the condition that nothing of the copy has changed after entry `since`.
    """
    view = live.view
    first = await live.committer.answer(copy, user=want.user)
    results = [result for result in first.results if result.node is not None and result.change is not None]
    made = [result.node for result in results if result.change is Change.CREATED and result.node is not None]
    replaced = [result.node for result in results if result.change is Change.DELETED and result.node is not None]
    if len(made) != 1 or len(replaced) != len(results) - 1:
        raise InvalidArgument("that request has not made one node", field="copy_request_id")
    top = made[0]
    if top.device != want.device or now_ms - top.committed_at_ms > MAX_UNDO_SECONDS * 1000:
        raise PermissionDenied("a copy is undone without the right to write only for its device, and soon")
    nodes = {top.id: first.seq} | await _made_below(live.committer, copy, user=want.user)
    await _check_unchanged(view, top, nodes, account=want.user)
    mutations: list[Mutation] = [DeleteNode(top.id, top.version)]
    mutations += [RestoreNode(one.id) for one in await _still_as_left(view, replaced)]
    return replace(want, mutations=tuple(mutations), condition=Untouched(since, nodes.keys()))


async def _made_below(committer: Committer, copy: RequestId, *, user: str) -> dict[NodeId, int]:
    """Return the nodes that the further requests of a copy have made, each with the sequence number of its entry."""
    nodes: dict[NodeId, int] = {}
    for index in count():
        try:
            answer = await committer.answer(derived_request_id(copy, index), user=user)
        except NoSuchRequest:
            return nodes
        for result in answer.results:
            if result.change is Change.CREATED and result.node is not None:
                nodes[result.node.id] = answer.seq
    raise AssertionError("the numbers do not end")


async def _check_unchanged(view: SpaceView, top: Node, nodes: dict[NodeId, int], *, account: str) -> None:
    """Raise CopyChanged unless `top` and every live node below it is one of `nodes`, and as its entry has left it. The
    turns are charged to `account`.
    """
    await view.load(Missing(nodes={top.id}))
    _check(view, [top.id], nodes)
    pending = [top.id]
    while pending:
        directory = pending.pop()
        after: str | None = ""
        while after is not None:
            page, after = await view.list_names(directory, after=after, limit=_NAMES_PER_LISTING)
            await turn(account)
            children = {child for _, child in page}
            await view.load(Missing(nodes=children))
            pending += _check(view, children, nodes)


def _check(view: SpaceView, some: Iterable[NodeId], nodes: dict[NodeId, int]) -> list[NodeId]:
    """Return the directories among `some`. Raise CopyChanged if one of `some` is not as its entry has left it."""
    directories = []
    for one in some:
        node = view.known_nodes.get(one)
        if node is None or node.seq != nodes.get(one):
            raise CopyChanged
        if node.kind is NodeKind.DIRECTORY:
            directories.append(one)
    return directories


async def _still_as_left(view: SpaceView, nodes: list[Node]) -> list[Node]:
    """Return those of `nodes` that are as these states of them are."""
    await view.load(Missing(nodes={node.id for node in nodes}))
    return [node for node in nodes if (now := view.known_nodes.get(node.id)) is not None and now.seq == node.seq]
