"""Recognition of saves: many programs replace a document by several requests, so that it is never half written. This
module translates such requests of one client into a new version of the document.

| a program | result |
|---|---|
| PUTs a new file and MOVEs or COPYs it over the old one | a new version of the old one |
| DELETEs the old one, then PUTs, MOVEs or COPYs the new one there | the old one is restored with a new version |
| MOVEs the old one away, then PUTs, MOVEs or COPYs the new one there | as above; a copy stays where it was moved to |
| DELETEs a file that it has just made and whose content another file has | nothing is left |

The document at a path therefore keeps its history, its public links and its place on devices, and nothing of a save
remains in the trash. Replaced directories are merged by the paths of the files in them (`merge.py`). `steps.py` stores
facts about a client's earlier requests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from gateway.dav import merge, properties, steps
from gateway.dav.refusals import DavRefused
from gateway.dav.session import DavSession, DavSpace, accepted_or_raise
from gateway.dav.steps import SAVE_SECONDS, StepKind
from syncline.model.identifiers import NodeId
from syncline.model.tree import Change, Content, CreateNode, DeleteNode, MoveNode, Mutation, Node, NodeKind

_FOLDER_SECONDS: Final = 3600
"""Seconds after its creation for which a directory counts as made by the client as a part of a save: filling it may
take long.
"""
_MAX_SEARCHED_NODES: Final = 20
"""Maximum number of nodes in a directory that was made as a part of a save; a larger directory is treated as any other
one.
"""
_MAX_REMEMBERED_CHILDREN: Final = 200
"""Maximum number of nodes of a deleted directory that are recorded when the client makes the directory again."""
_BACKUP: Final = re.compile(r"[~#]|bak|back|copy|old|orig|prev|sav", re.IGNORECASE)
"""Regular expression for parts of file names that indicate a backup."""

Names = tuple[str, ...]


def delete_node(session: DavSession, space: DavSpace, names: Names, node: Node) -> None:
    """Delete `node`, which is at the path `names`. If something would be lost otherwise, the node goes to the trash; if
    not, it leaves no trace. Raise DavRefused, with the node unchanged, if the deletion is refused.
    """
    mutations: Sequence[Mutation] | None = None
    if node.kind is NodeKind.DIRECTORY and _is_own(session, node, _FOLDER_SECONDS):
        mutations = _dissolving(session, space, node)
    if mutations is None:
        mutations = [_discarding(session, space, node)]
    result = session.commit(space, mutations)[-1]
    accepted_or_raise(result)
    if not isinstance(result, DavRefused) and result.change is Change.DELETED:
        steps.remember(session, space, StepKind.TAKEN_AWAY, names, {"node": node.id.hex(), "kind": node.kind.value})


def remember_move(session: DavSession, space: DavSpace, *, was: Names, now: Names, node: Node) -> None:
    """Record that the client has moved `node` from the path `was` to the path `now`, where no node was. Later requests
    of the client then recognise a save.
    """
    home = _home(session, space, was, node)
    if home == now:
        steps.forget_step(session, space, StepKind.TAKEN_AWAY, home)
        return
    if node.kind is NodeKind.FILE and not _is_blank(session, node):
        taken_away = {"node": node.id.hex(), "kind": node.kind.value, "version": node.version, "now": now}
        steps.remember(session, space, StepKind.TAKEN_AWAY, home, taken_away)
    moved_here = {"node": node.id.hex(), "home": home}
    steps.remember(session, space, StepKind.MOVED_HERE, now, moved_here)
    if now[:-1] != was[:-1] and now[:-1]:
        steps.remember(session, space, StepKind.MOVED_INTO, now[:-1], moved_here)


def replace_file(session: DavSession, space: DavSpace, *, was: Names, source: Node, target: Node) -> None:
    """Make the content of the file `source`, which is at the path `was`, the newest version of the file `target`, and
    delete `source`. Raise DavRefused if a change is refused.
    """
    home = _home(session, space, was, source)
    lasting = _is_lasting(session, space, source)
    both = merge.Merge()
    both.replace(source, target)
    updated, removed = session.commit(space, [*both.updates, *both.others], all_or_nothing=True)
    if isinstance(updated, DavRefused):
        # A metadata service of the preceding release decides each mutation by itself.
        if not isinstance(removed, DavRefused):
            session.restore(space, source.id, parent=source.parent, name=source.name)
        raise updated
    properties.copy(session, space, [(source.id, target.id)])
    remember_holders(session, space, target.content, target.id)
    accepted_or_raise(removed)
    if lasting:
        steps.remember(session, space, StepKind.TAKEN_AWAY, home, {"node": source.id.hex(), "kind": source.kind.value})


def remember_holders(session: DavSession, space: DavSpace, content: Content | None, *holders: NodeId) -> None:
    """Record, for later requests of the same client, that the files `holders` have this content as their current
    version or the one before. If the client deletes another file with the same content that it has just made, that file
    need not go to the trash. Do nothing for an empty content.
    """
    if content is not None and content.size:
        told = {"in": [holder.hex() for holder in holders]}
        steps.remember(session, space, StepKind.CONTENT_HOLDERS, (content.digest.hex(),), told)


def bring_back(
    session: DavSession, space: DavSpace, parent: NodeId, names: Names, kind: NodeKind, *, written: bool
) -> Node | None:
    """Restore the node that the client has removed from the path `names` within the last SAVE_SECONDS, and return it.
    The caller is about to put a new content at this path, which becomes the next version of the restored node. Return
    None if the client removed no node of the kind `kind` from there, or if the node cannot be restored.

    `parent` is the directory of the path. `written` is True if the client has written the new content at another path
    before.
    """
    taken_away = steps.remembered(session, space, StepKind.TAKEN_AWAY, names)
    if taken_away is None:
        return _taken_again(session, space, parent, names, kind)
    if taken_away["kind"] != kind.value:
        return None
    if "now" in taken_away:
        return _exchanged(session, space, parent, names, taken_away, written=written)
    steps.forget_step(session, space, StepKind.TAKEN_AWAY, names)
    return _restored(session, space, NodeId(bytes.fromhex(taken_away["node"])), parent, names[-1])


def bring_back_empty(session: DavSession, space: DavSpace, parent: NodeId, names: Names) -> bool:
    """Restore the directory that the client has deleted from the path `names` within the last SAVE_SECONDS, without the
    nodes in it, and return True. The nodes are recorded, so that `bring_back` can restore them one by one. Return
    False, with nothing restored, if there is no such directory or it has too many nodes.
    """
    taken_away = steps.remembered(session, space, StepKind.TAKEN_AWAY, names)
    if taken_away is not None and "now" in taken_away:
        return False
    directory = bring_back(session, space, parent, names, NodeKind.DIRECTORY, written=False)
    if directory is None:
        return False
    children = merge.few_children(session, space, directory, most=_MAX_REMEMBERED_CHILDREN)
    results = session.commit(space, [DeleteNode(one.id, one.version) for one in children or ()]) if children else []
    if children is None or any(isinstance(result, DavRefused) for result in results):
        session.commit(space, [DeleteNode(directory.id, directory.version)])
        return False
    told = {one.name: [one.id.hex(), one.kind.value] for one in children}
    steps.remember(session, space, StepKind.EMPTIED, names, told)
    return True


def finish_save(session: DavSession, space: DavSpace, names: Names, *, writable: Callable[[Names], bool]) -> bool:
    """Complete a save before the client deletes its backup, which is at the path `names`: the old document, which the
    client has moved there, or a directory into which the client has moved it.

    If the client has put a new node of the same kind at the former path of the old document, the old document returns
    there with the new content. Return True if the old document was at `names` itself, where nothing is left to delete;
    otherwise False. `writable` takes a path, and returns True if no lock prevents the client from writing to the file
    at this path.
    """
    moved_here = steps.remembered(session, space, StepKind.MOVED_HERE, names)
    step = moved_here or steps.remembered(session, space, StepKind.MOVED_INTO, names)
    if step is None:
        return False
    home: Names = tuple(step["home"])
    old, new = session.node(space, NodeId(bytes.fromhex(step["node"]))), session.find(space, home)
    if old is None or new is None or old.id == new.id or old.kind is not new.kind or home == names[: len(home)]:
        return False
    within = _FOLDER_SECONDS if new.kind is NodeKind.DIRECTORY else SAVE_SECONDS
    if not _is_own(session, new, within) or not writable(home):
        return False
    merged = merge.merging(session, space, source=new, target=old)
    if merged is None:
        return False
    steps.forget_step(session, space, StepKind.MOVED_HERE if moved_here else StepKind.MOVED_INTO, names)
    back = MoveNode(old.id, old.parent, old.name, new.parent, new.name)
    return merge.commit_merge(session, space, merged, back) and moved_here is not None


def merge_directory(session: DavSession, space: DavSpace, *, source: Node, target: Node) -> bool:
    """Replace the directory `target` by the directory `source` in such a way that the files of `target` keep their
    history, and return True. A file of `target` gets the content of the file at the same path in `source` as a new
    version. All other nodes of `source` move into `target`, and the other nodes of `target` go to the trash. `source`
    is deleted.

    Return False if that is not possible: nothing has changed then, except that some files of `target` may have their
    new versions already. Raise DavRefused if the space refuses a commit, or a mutation that follows the new versions;
    no content is lost then, but the merge is incomplete.
    """
    found = merge.merging(session, space, source=source, target=target)
    return found is not None and merge.commit_merge(session, space, found)


def _home(session: DavSession, space: DavSpace, was: Names, node: Node) -> Names:
    """Return the path from which the client moved `node` to its present path `was`; if the client has not moved it,
    return `was`. The recorded move to `was` is forgotten.
    """
    moved_here = steps.remembered(session, space, StepKind.MOVED_HERE, was)
    if moved_here is None:
        return was
    steps.forget_step(session, space, StepKind.MOVED_HERE, was)
    return tuple(moved_here["home"]) if moved_here["node"] == node.id.hex() else was


def _exchanged(
    session: DavSession, space: DavSpace, parent: NodeId, names: Names, taken_away: steps.StepData, *, written: bool
) -> Node | None:
    """Restore to the path `names` the file that the client has moved away from there, and leave a copy at the path that
    it was moved to. `taken_away` is the recorded move. Return the restored file.

    Return None, with the file where it was moved to, in these cases:

    - the file has changed or is gone since the move;
    - nothing indicates a save: the new content was not written elsewhere before, the file is new as well, and its name
      after the move is not that of a backup;
    - a mutation is refused, for example because the quota has no room for the copy.
    """
    node = session.node(space, NodeId(bytes.fromhex(taken_away["node"])))
    # the node is a document of its own
    if node is None or node.content is None or node.version != taken_away["version"]:
        return None
    if not (written or _is_lasting(session, space, node) or _is_backup(names, tuple(taken_away["now"]))):
        return None
    steps.forget_step(session, space, StepKind.TAKEN_AWAY, names)
    copy = CreateNode(node.parent, node.name, NodeKind.FILE, node.content)
    move = MoveNode(node.id, node.parent, node.name, parent, names[-1])
    back, made = session.commit(space, [move, copy], all_or_nothing=True)
    if isinstance(back, DavRefused):
        # A metadata service of the preceding release decides each mutation by itself.
        if not isinstance(made, DavRefused):
            session.commit(space, [DeleteNode(accepted_or_raise(made).id, 1, discard=True, kept_in=node.id)])
        return None
    if isinstance(made, DavRefused):  # there is no quota for a copy: the file stays where it was moved to
        session.commit(space, [MoveNode(node.id, parent, names[-1], node.parent, node.name)])
        return None
    properties.copy(session, space, [(node.id, accepted_or_raise(made).id)])
    remember_holders(session, space, node.content, node.id)
    return accepted_or_raise(back)


def _taken_again(session: DavSession, space: DavSpace, parent: NodeId, names: Names, kind: NodeKind) -> Node | None:
    """Restore the node that was at the path `names` when the client deleted its directory, which the client has made
    again since. Return the restored node; None if there was no node of this kind, or it cannot be restored.
    """
    children = steps.remembered(session, space, StepKind.EMPTIED, names[:-1])
    if children is None or names[-1] not in children:
        return None
    node, was = children.pop(names[-1])
    if was != kind.value:
        return None
    steps.remember(session, space, StepKind.EMPTIED, names[:-1], children)  # renewed, because the client is still at it
    return _restored(session, space, NodeId(bytes.fromhex(node)), parent, names[-1])


def _restored(session: DavSession, space: DavSpace, node: NodeId, parent: NodeId, name: str) -> Node | None:
    try:
        return session.restore(space, node, parent=parent, name=name)
    except DavRefused:  # another client has changed the node in the meantime
        return None


def _discarding(session: DavSession, space: DavSpace, node: Node) -> DeleteNode:
    """Return the mutation that deletes `node`: without a trace if the client has just made the node and another file
    has its content, otherwise to the trash.
    """
    within = _FOLDER_SECONDS if node.kind is NodeKind.DIRECTORY else SAVE_SECONDS
    own = _is_own(session, node, within)
    kept = _other_holder(session, space, node) if own else None
    return DeleteNode(node.id, node.version, discard=own, kept_in=kept)


def _dissolving(session: DavSession, space: DavSpace, directory: Node) -> list[Mutation] | None:
    """Return the mutations that delete `directory` and everything below it without a trace. Return None if that would
    lose something, or if there are more than _MAX_SEARCHED_NODES nodes.
    """
    found, directories = list[Mutation](), [directory]
    for one in directories:
        children = merge.few_children(session, space, one, most=_MAX_SEARCHED_NODES)
        if children is None or len(found) + len(directories) + len(children) > _MAX_SEARCHED_NODES:
            return None
        for child in children:
            if child.kind is NodeKind.DIRECTORY:
                directories.append(child)
                continue
            deletion = _discarding(session, space, child)
            if not deletion.discard or (child.content and child.content.size and deletion.kept_in is None):
                return None
            found.append(deletion)
    return [*found, *(DeleteNode(one.id, one.version, discard=True) for one in reversed(directories))]


def _other_holder(session: DavSession, space: DavSpace, node: Node) -> NodeId | None:
    """Return another file that has the same content as `node`, as far as the client's recent requests are recorded;
    None if none is known.
    """
    if node.content is None:
        return None
    told = steps.remembered(session, space, StepKind.CONTENT_HOLDERS, (node.content.digest.hex(),)) or {"in": []}
    return next((NodeId(bytes.fromhex(holder)) for holder in told["in"] if holder != node.id.hex()), None)


def _is_own(session: DavSession, node: Node, seconds: float) -> bool:
    """Return True if this client has made the directory, or the current version of the file, within the last `seconds`
    seconds before the request began.
    """
    person = session.person
    own = (node.user, node.device) == (person.user, person.device)
    return own and node.committed_at_ms > (session.began - seconds) * 1000


def _is_blank(session: DavSession, node: Node) -> bool:
    """Return True if the file is empty and this client has made its current version within the last SAVE_SECONDS."""
    return node.content is not None and not node.content.size and _is_own(session, node, SAVE_SECONDS)


def _is_lasting(session: DavSession, space: DavSpace, node: Node) -> bool:
    """Return True if a file is a document that somebody keeps, rather than one that this client has just made in order
    to move it. That is so in two cases:

    - its current version was not made by this client within the last SAVE_SECONDS;
    - it has had more than one content that is not empty.
    """
    if not _is_own(session, node, SAVE_SECONDS):
        return True
    if node.version == 1:
        return False
    return len({content.digest for content in session.contents(space, node) if content.size}) > 1


def _is_backup(was: Names, now: Names) -> bool:
    """Return True if the move of a file from the path `was` to the path `now` gave the file a name that looks like the
    name of a backup.
    """
    stem = was[-1].rpartition(".")[0] or was[-1]
    if stem not in now[-1] or _BACKUP.search(was[-1]):
        return False
    added = now[-1].replace(stem, "", 1)
    return _BACKUP.search(added if now[:-1] == was[:-1] else f"{now[-2] if len(now) > 1 else ''}/{added}") is not None
