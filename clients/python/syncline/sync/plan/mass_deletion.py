"""Guard against accidental mass deletions. Pure."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from syncline.model.tree import NodeKind
from syncline.sync.errors import TooManyDeletions
from syncline.sync.plan.merge import Base
from syncline.sync.plan.operations import Delete, Operation, Side
from syncline.sync.plan.plan import Plan
from syncline.sync.ports import MassDelete

MIN_GUARDED_FILES = 20
"""Minimum number of files in the base for which a mass deletion needs a confirmation."""


@dataclass(frozen=True, slots=True)
class Deletions:
    """Numbers of files of the base: those that a plan deletes in the folder (`local`) and in the space (`remote`), and
    all (`of`).
    """

    local: int
    remote: int
    of: int


def guarded(todo: Plan, base: Base, mass_delete: MassDelete, *, root: Path) -> tuple[Plan, str]:
    """Return the part of the plan `todo` that may be carried out, and a text about the deletions that wait for a
    confirmation; the text is empty if none waits. A plan is a mass deletion if it deletes more than half of the files
    of the base on one side, and the base has at least MIN_GUARDED_FILES files.

    `mass_delete` decides what happens to a mass deletion: with DO, the plan is carried out; with HOLD, it is carried
    out without its deletions on that side; with REFUSE, TooManyDeletions is raised. `root` is the path of the folder,
    for the texts.
    """
    if mass_delete is MassDelete.DO:
        return todo, ""
    count = deletions(todo, base)
    sides = {side for side, number in ((Side.LOCAL, count.local), (Side.REMOTE, count.remote)) if 2 * number > count.of}
    if count.of < MIN_GUARDED_FILES or not sides:
        return todo, ""
    if count.local >= count.remote:
        number, where, origin = count.local, "here", "from the trash of the space"
    else:
        number, where, origin = count.remote, "in the space", "here"
    if mass_delete is MassDelete.REFUSE:
        raise TooManyDeletions(
            f"this sync would delete {number} of {count.of} files {where}, so nothing was changed; "
            "if that is what you want, add --allow-mass-delete"
        )
    waiting = (
        f"{number} of {count.of} files would be deleted {where}; these wait, everything else is synced. "
        f"If it is what you want: `syncline sync --allow-mass-delete {shlex.quote(str(root))}`; "
        f"else restore them {origin}"
    )
    return without_deletions(todo, base, sides), waiting


def deletions(todo: Plan, base: Base) -> Deletions:
    """Return the numbers of files of `base` that the plan `todo` deletes. A file whose place another file takes is
    replaced, not deleted.
    """
    deleted = _deleted_files(todo, base)

    def count(side: Side) -> int:
        return sum(deleted(operation) for operation in todo.operations(side) if isinstance(operation, Delete))

    files = sum(1 for node in base.values() if node.kind is not NodeKind.DIRECTORY)
    return Deletions(local=count(Side.LOCAL), remote=count(Side.REMOTE), of=files)


def without_deletions(todo: Plan, base: Base, sides: Container[Side]) -> Plan:
    """Return the plan `todo` without its deletions on these sides, which a later sync may make.

    Replacements are kept. An operation that needs the place of a node that is not deleted will fail and be reported.
    """
    deleted = _deleted_files(todo, base)

    def is_done(operation: Operation) -> bool:
        if not isinstance(operation, Delete) or operation.side not in sides:
            return True
        if operation.side is Side.LOCAL and todo.local[operation.node].kind is NodeKind.DIRECTORY:
            return False  # A directory without its former contents would not be restored when the deletion is undone.
        return not deleted(operation)

    return dataclasses.replace(
        todo,
        arrange_local=tuple(filter(is_done, todo.arrange_local)),
        delete_local=tuple(filter(is_done, todo.delete_local)),
        arrange_remote=tuple(filter(is_done, todo.arrange_remote)),
        delete_remote=tuple(filter(is_done, todo.delete_remote)),
    )


def _deleted_files(todo: Plan, base: Base) -> Callable[[Delete], int]:
    """Return a function that counts the files of the base which a deletion removes and which are not replaced."""
    taken = set(todo.target.values())

    def count(deletion: Delete) -> int:
        return sum(
            1
            for node in (deletion.node, *deletion.below)
            if (before := base.get(node)) is not None
            and before.kind is not NodeKind.DIRECTORY
            and before.place not in taken
        )

    return count
