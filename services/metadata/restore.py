"""Restoring from the trash, even if directories above the node were deleted, moved or replaced.

For a directory above that was deleted, a new directory of the same name is created; the other children of the deleted
one stay in the trash. A directory that has the same parent and name now, and is not deleted, is used as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count
from typing import Final

from services.metadata.journal.commit import CommitOutcome
from services.metadata.tree.reads import ViewReader, settled
from services.metadata.tree.view import SpaceView
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import ROOT, NodeId, RequestId, created_node_id
from syncline.model.names import name_problem, with_mark
from syncline.model.tree import MAX_MUTATIONS, CreateNode, Mutation, Node, NodeKind, RestoreNode, Result
from syncline.model.verdicts import Verdict

_MAX_ATTEMPTS: Final = 5
"""Maximum number of attempts to plan a restore when concurrent changes invalidate the plan."""
_MAX_TRIED_NAMES: Final = 100
"""Maximum number of candidate names that are tried to find a free one; after that, a part of the node's id makes the
name unique.
"""


async def way_back(
    view: SpaceView, want: RestoreNode, *, request: RequestId, path: Sequence[str] | None = None
) -> tuple[Mutation, ...]:
    """Return the mutations that restore a node from the trash, for the commit `request`: first the missing directories
    are created, then the node is restored. `want` is the requested restore.

    - With `path`, the names of a path, the node is restored there: into the directory at that path under its own name
      if there is one, otherwise under the last name of the path.
    - A name that neither `want.name` nor `path` requests is replaced by a free one if it is taken.
    - A requested name, or a directory on the requested path, is not replaced; if it is taken, the commit refuses the
      mutation.

    Raise InvalidArgument if the path becomes too long.
    """

    def answer(reader: ViewReader) -> tuple[Mutation, ...]:
        node = reader.node(want.node)
        if node is None or reader.live(node):
            return (want,)  # The commit refuses such a mutation.
        if want.name and name_problem(want.name):
            # The commit refuses this mutation too, before any directory is created.
            return (RestoreNode(node.id, ROOT, want.name),)
        way = _Way(reader, view, request)
        name = want.name
        if path is not None:
            if path and way.directory(ROOT, path) is None:
                way.enter(ROOT, path[:-1], asked=True)
                name = path[-1]
            else:
                way.enter(ROOT, path)
        elif want.parent is not None:
            way.enter(want.parent, ())
        else:
            way.enter(*_lost(reader, node))
        name = name or way.free_name(node.name, node.id)
        return (*way.made, RestoreNode(node.id, way.at, name))

    return await settled(view, answer)


async def brought_back(
    plan: Callable[[], Awaitable[tuple[Mutation, ...]]],
    commit: Callable[[tuple[Mutation, ...]], Awaitable[CommitOutcome]],
) -> tuple[CommitOutcome, Result]:
    """Restore a node: call `commit` with the mutations that `plan` returns, and return the outcome of the commit and
    the result for the node. If concurrent changes have invalidated the mutations, both functions are called again, at
    most _MAX_ATTEMPTS times in total.
    """
    mutations = await plan()
    answer = await commit(mutations)
    for _ in range(_MAX_ATTEMPTS - 1):
        if any(result.verdict is Verdict.ACCEPTED for result in answer.results):
            break
        tried, mutations = mutations, await plan()
        if mutations == tried:
            break
        answer = await commit(mutations)
    refused = (result for result in answer.results if result.verdict is not Verdict.ACCEPTED)
    return answer, next(refused, answer.results[-1])


class _Way:
    """The way from an existing directory along the names of a path, and the mutations that create the directories
    missing on it.
    """

    def __init__(self, reader: ViewReader, view: SpaceView, request: RequestId) -> None:
        self._reader = reader
        self._view = view
        self._request = request
        self.at = ROOT
        self.made: list[CreateNode] = []

    def directory(self, start: NodeId, names: Sequence[str]) -> NodeId | None:
        """Return the directory at this path below `start`; None if there is none outside of the trash."""
        for name in names:
            found = self._child(start, name)
            if found is None or found.kind is not NodeKind.DIRECTORY:
                return None
            start = found.id
        return start

    def enter(self, start: NodeId, names: Sequence[str], *, asked: bool = False) -> None:
        """Descend from the directory `start` along `names`; missing directories are added to the mutations. If a file
        has the name of a directory, the new directory gets a free name, unless the caller requested the names of the
        path (`asked` is True). Raise InvalidArgument if more directories are missing than one request can create.
        """
        self.at = start
        for name in names:
            found = None if self.made else self._child(self.at, name)
            if found is not None and found.kind is NodeKind.DIRECTORY:
                self.at = found.id
                continue
            if len(self.made) + 1 >= MAX_MUTATIONS:
                raise InvalidArgument("the former path is too long; give another path")
            made = created_node_id(self._view.space, self._request, len(self.made))
            called = name if asked else self.free_name(name, made)
            self.made.append(CreateNode(self.at, called, NodeKind.DIRECTORY))
            self.at = made

    def free_name(self, name: str, node: NodeId) -> str:
        """Return `name` if it is free in the directory `at`, and otherwise a similar name that is free there, for the
        node with the id `node`.
        """
        if self.made and self.at == created_node_id(self._view.space, self._request, len(self.made) - 1):
            return name
        return next(one for one in _like(name, node) if self._child(self.at, one) is None)

    def _child(self, parent: NodeId, name: str) -> Node | None:
        if name_problem(name):
            return None
        held = self._reader.child(parent, name)
        return self._reader.node(held) if held is not None else None


def _lost(reader: ViewReader, node: Node) -> tuple[NodeId, list[str]]:
    """Return the nearest directory above `node` that is not in the trash itself and has none in the trash above it, and
    the names of the directories between that directory and the node, from the top.
    """
    names: list[str] = []
    above = reader.node(node.parent) if node.parent != ROOT else None
    while above is not None and not reader.live(above):
        names.append(above.name)
        if above.parent == ROOT:
            return ROOT, names[::-1]
        above = reader.node(above.parent)
    return (above.id if above is not None else ROOT), names[::-1]


def _like(name: str, node: NodeId) -> Iterator[str]:
    yield name
    for number in count(2):
        yield with_mark(name, f"({number})" if number < _MAX_TRIED_NAMES else f"({node.hex()} {number})")
