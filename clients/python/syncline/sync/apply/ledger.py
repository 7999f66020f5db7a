"""Record of the operations that a round has carried out. When all operations of a node are done, both sides agree on
the node, and the base (the last state on which they agreed) is updated.

If an operation of a node fails, the node keeps its old base, and the next round finds out which operations were done.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections import Counter

from syncline.model.identifiers import NodeId
from syncline.sync.folder.files import FileChanged
from syncline.sync.plan.operations import Delete
from syncline.sync.plan.plan import Plan
from syncline.sync.report import Report
from syncline.sync.state.database import State
from syncline.sync.state.mirror import Mirror
from syncline.sync.trees import BaseNode, LocalNode, Place, Problem, is_provisional, path_of, printable

_PASSING = {errno.EEXIST, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENOTEMPTY, errno.EISDIR, errno.ESTALE}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NAME_REFUSED = {errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG}
NAME_REFUSED_REASON = "the filesystem of this folder does not accept the name; rename it in the space"


class Ledger:
    """Keeps the results of the operations of one round: which are done, which have failed and why, and the resulting
    base.

    - `here` is the local tree, which each operation in the folder updates.
    - `base` is a copy in memory of the base in the state database; both are updated together.
    - `passing` and `problems()` have paths and reasons to show to people.
    """

    def __init__(
        self, plan: Plan, *, base: dict[NodeId, BaseNode], mirror: Mirror, state: State, report: Report
    ) -> None:
        self.plan = plan
        self.base = base
        self.mirror = mirror
        self.state = state
        self.report = report
        self.here: dict[NodeId, LocalNode] = dict(plan.local)
        self.ids: dict[NodeId, NodeId] = {}
        """The ids that the space has assigned, by the provisional id that the node had in the plan."""
        self.operations_done = 0
        self.passing: dict[str, str] = {}
        """Reasons, by path, for operations that were not done in this round but may succeed in another one."""
        self._problems: dict[str, str] = {}
        self._open = Counter(operation.node for operation in plan.in_order())
        self.refused = False
        """True if a commit, or credentials to upload, were refused because this device lacks the right."""
        self._failed: set[NodeId] = set()
        self._before: dict[NodeId, Place] = {node: (here.parent, here.local_name) for node, here in plan.local.items()}

    def settle(self) -> None:
        """Update the base for the nodes of the plan that need no operation: those on which both sides agree, and those
        that neither side has.
        """
        for node in self.plan.gone:
            self.forget(node)
        for node in self.plan.agreed:
            self._agree(node)

    # ---- ids ----

    def real(self, node: NodeId) -> NodeId | None:
        """Return the id in the space of `node`, an id of the plan; None if the space does not have the node yet."""
        return self.ids.get(node) if is_provisional(node) else node

    # ---- outcomes ----

    def done(self, node: NodeId) -> None:
        """Record that one operation of the node was carried out. After the last one, the base is updated, unless an
        operation of the node has failed.
        """
        self.operations_done += 1
        self._open[node] -= 1
        if not self._open[node] and node not in self._failed and node in self.plan.target:
            self._agree(node)

    def is_done(self, node: NodeId) -> bool:
        """Return True if every operation of the plan on this node has been carried out, or if there was none."""
        return not self._open[node]

    def is_failed(self, node: NodeId) -> bool:
        return node in self._failed

    def blocked(self, node: NodeId) -> None:
        """Record that an operation on the node was not tried because an earlier operation failed. No reason is
        recorded, because the failure of the earlier operation has been recorded with its reason.
        """
        self._failed.add(node)

    def retry(self, node: NodeId, reason: str) -> None:
        """Record that an operation was not carried out because the file in the folder or the node in the space has
        changed since the plan was made. `reason` is a text for people. The next round makes a new plan.
        """
        self._failed.add(node)
        self.passing[self.path(node)] = reason

    def problem(self, node: NodeId, reason: str) -> None:
        """Record that an operation was not carried out because of something that only the user can change. `reason` is
        a text for people.
        """
        self._failed.add(node)
        self._problems[self.path(node)] = reason

    def failed_here(self, node: NodeId, error: OSError) -> None:
        """Record that an operation in the folder raised `error`: as a problem for the user or as a reason to plan
        again, depending on the errno of `error`.
        """
        if error.errno == errno.ENOTEMPTY:
            self.retry(node, "the directory contains items that are not synced; move them away, or delete it yourself")
        elif isinstance(error, FileChanged) or error.errno in _PASSING:
            self.retry(node, "changed while syncing; will be scanned again")
        elif error.errno in _NO_ROOM:
            self.problem(node, "does not fit on the disk; free some space and sync again")
        elif error.errno in NAME_REFUSED:
            self.problem(node, NAME_REFUSED_REASON)
        elif error.errno == errno.EXDEV:
            self.problem(
                node,
                "belongs on a filesystem other than the folder's, which sync cannot write safely; unmount "
                "that, or move the item",
            )
        else:
            why = os.strerror(error.errno) if error.errno else str(error)
            self.problem(node, f"cannot be changed here ({why}); fix that and sync again")

    def path(self, node: NodeId) -> str:
        """Return the path of a node to show to people: its path after the sync if it still exists then, otherwise its
        path before.
        """
        places = self.plan.target if node in self.plan.target else self._before
        if node not in places:
            places = {known: there.place for known, there in self.mirror.nodes.items()}
        return printable(path_of(node, places))

    # ---- the base ----

    def forget(self, node: NodeId) -> None:
        """Remove a node, which exists neither in the folder nor in the space, from the base and from the state
        database.
        """
        if self.base.pop(node, None) is not None:
            self.state.remove_base(node)

    def deleted_there(self, deletion: Delete) -> None:
        for node in (deletion.node, *deletion.below):
            self.forget(node)
        self.operations_done += 1
        self._open[deletion.node] -= 1
        self.report.deleted_remote += 1 + len(deletion.below)

    def update_here(self, node: NodeId, **changes: object) -> None:
        self.here[node] = dataclasses.replace(self.here[node], **changes)  # type: ignore[arg-type]

    def _agree(self, node: NodeId) -> None:
        parent, name = self.plan.target[node]
        real = self.real(node)
        there = self.mirror.nodes.get(real) if real is not None else None
        here = self.here.get(node)
        if there is None or here is None or there.deleted:
            return
        before, above = self.base.get(there.id), self.real(parent)
        if above is None:
            return
        place = above, name
        # If the space has just moved the node, or has it at a place that is invalid here, the base is updated except
        # for the place.
        if there.place != place and (before is None or before.place != place):
            return
        if (here.digest, here.executable) != (there.digest, there.executable):
            return
        if (here.parent, here.local_name) != self.plan.names[node]:
            return
        agreed = BaseNode(
            id=there.id,
            parent=above,
            name=name,
            kind=there.kind,
            version=there.version,
            digest=there.digest,
            executable=there.executable,
            signature=here.signature,
            local_name=here.local_name,
            trusted=here.trusted,
            filesystem=here.filesystem,
        )
        self.base[there.id] = agreed
        self.state.put_base(agreed)
        if node in self.plan.conflicts and node in self._open:
            self.report.conflicts += 1

    def problems(self) -> list[Problem]:
        """Return the problems that the user has to solve, each with the path and a reason in words."""
        return [Problem(path, reason) for path, reason in self._problems.items()]
