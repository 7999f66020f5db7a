"""Rounds of pull, scan, identify, plan and apply, until folder and space agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from syncline.model.blocks import Digest
from syncline.model.identifiers import ROOT, NodeId, RequestId
from syncline.model.names import normalize
from syncline.model.tree import NodeKind
from syncline.rpc import traces
from syncline.sdk.right import Right
from syncline.sync.apply.ledger import Ledger
from syncline.sync.apply.links import leading_out
from syncline.sync.apply.local import LocalApplier, rescue
from syncline.sync.apply.remote import RemoteApplier, repeat_in_flight
from syncline.sync.errors import FolderMissing, NotExcluded
from syncline.sync.folder.files import Files
from syncline.sync.folder.link import MARKER, Folder
from syncline.sync.folder.mounts import may_be_same
from syncline.sync.plan.conflict_names import conflict_name
from syncline.sync.plan.disown import disown, is_estranged, read_only
from syncline.sync.plan.dry_run import described
from syncline.sync.plan.mass_deletion import guarded
from syncline.sync.plan.operations import Make
from syncline.sync.plan.plan import Plan, plan
from syncline.sync.ports import AS_BEFORE, MassDelete, SpacePort, SyncProgress, Transfers, Wanted
from syncline.sync.report import Report
from syncline.sync.scan.digests import hash_files
from syncline.sync.scan.filters import IGNORE_FILE, Excluded, Filters, by_path, found_again
from syncline.sync.scan.identify import Hashed, identify
from syncline.sync.scan.nested import nested
from syncline.sync.scan.other_filesystems import shows_files
from syncline.sync.scan.walk import TOP, Scan, scan
from syncline.sync.state.database import Settled, State
from syncline.sync.state.mirror import Mirror
from syncline.sync.trees import RECOVERED, BaseNode, Exclusion, LocalNode, Problem, RemoteNode, live_nodes, path_of

_Node = TypeVar("_Node")

_TAKEN_BACK = (
    "{count} items were changed here without the right to change the space, and are made again what they are there; "
    "edits are kept as conflict copies"
)

MAX_ROUNDS = 8
"""Maximum number of rounds of one sync. A folder that changes all the time is left to the next sync."""


def preview(
    folder: Folder,
    files: Files,
    state: State,
    space: SpacePort,
    *,
    label: str,
    report: Report,
    wanted: Wanted = AS_BEFORE,
) -> None:
    """Add to `report` what a sync with the options `wanted` would do: the operations that it would carry out, the paths
    that are excluded, and the problems. The folder and the space stay unchanged, while `state` gets the changes of the
    space and the options. `label` is part of the names of conflict copies.
    """
    base = state.load_base()
    mirror = Mirror(state, base)
    mirror.pull(space)
    choose(state, wanted)
    found = _look(folder, files, state, base, mirror, label, verify=wanted.verify)
    report.excluded = [exclusion.path for exclusion in state.excluded()]
    report.planned = list(described(found.plan, found.remote))
    report.problems = found.problems
    report.skipped = found.scan.skipped


@dataclass(frozen=True, slots=True)
class _Found:
    """The state of folder and space, as one round has found them, and the plan for it."""

    scan: Scan
    remote: dict[NodeId, RemoteNode]
    base: dict[NodeId, BaseNode]
    """The base, by node id, from which the plan was made, without the nodes that are not synced from now on."""
    plan: Plan
    holding: frozenset[NodeId]
    problems: list[Problem]
    disowned: int
    """Number of nodes that were changed here without the right to change the space."""
    right: Right | None
    """The right that the plan is based on; None if the service has reported none."""


def choose(state: State, wanted: Wanted) -> None:
    """Store in `state` the exclusions and inclusions that `wanted`, the options of a sync, requests.

    Raise NotExcluded if a path to include is not excluded. A path that the last sync included may be given again, for
    example after a failed sync.
    """
    if wanted.outside_links is not None and wanted.outside_links != state.outside_links:
        state.outside_links = wanted.outside_links
    known = state.excluded()
    live = live_nodes(state.load_remote()).nodes if wanted.include else {}
    places = {node.id: node.place for node in live.values()}
    for path in wanted.include:
        chosen = [one for one in known if path in {one.path, path_of(one.node or ROOT, places)}]
        if not chosen and path not in state.included:
            raise NotExcluded(f"{path!r} is not excluded; `syncline status DIR` says what is")
        for one in chosen:
            state.remove_excluded(one.path)
    if wanted.include and wanted.include != state.included:
        state.included = wanted.include
    for path in wanted.exclude:
        if path not in {one.path for one in known} or path in wanted.include:
            state.put_excluded(Exclusion(path))


def _look(  # noqa: PLR0917 - all that a round is about
    folder: Folder,
    files: Files,
    state: State,
    base: dict[NodeId, BaseNode],
    mirror: Mirror,
    label: str,
    *,
    verify: bool = False,
) -> _Found:
    with traces.span("scan"):
        scanned = scan(files)
    _check_filesystem(scanned, base, state, folder)

    def hash_entries(numbers: Sequence[int]) -> dict[int, Hashed]:
        paths = {scanned.path(number): number for number in numbers}
        return {paths[path]: hashed for path, hashed in hash_files(files, list(paths)).items()}

    with traces.span("plan"):
        live = live_nodes(mirror.nodes, base, files.naming)
        exclusions = state.excluded()
        for exclusion in found_again(exclusions, live.nodes) if exclusions else ():
            state.put_excluded(exclusion)
        chosen = state.excluded() if exclusions else ()
        within = nested(folder, files, scanned, Excluded.of(chosen, live.nodes).paths)
        alone_within = {normalize(scanned.path(number)): number for number in within}
        outside = [] if state.outside_links else leading_out(state, live.nodes)
        excluded = Excluded.of([*chosen, *map(Exclusion, alone_within), *outside], live.nodes)
        remote = {id_: node for id_, node in live.nodes.items() if id_ not in excluded.nodes}
        filters = Filters(scanned, files, excluded.paths)
        identified = identify(scanned, _distrusted(base) if verify else base, remote, hash_entries, filters)
        if verify:
            _distrust_changed(identified.local, base, state)
        alone = identified.excluded | (excluded.nodes - identified.local.keys()) | identified.forgotten
        # A directory in the space that contains something invisible here is not deleted there: it counts as new.
        alone |= {
            node
            for node in _above(live.withheld | excluded.nodes | identified.asleep, mirror.nodes)
            if node in remote and node not in identified.local and node not in identified.asleep
        }
        agreed = {id_: node for id_, node in base.items() if id_ not in alone} if alone else base
        trees = _awake(agreed, identified.asleep), identified.local, _awake(remote, identified.asleep)
        # Ignored entries are not synced in any case, unless the space has them.
        there = by_path(alone_within, live.nodes) if within else {}
        left_alone = [within[n] for path, n in alone_within.items() if path in there or not filters.is_ignored(n)]
        kept: list[Problem] = []
        right = mirror.right
        disowned = None
        if right is not None and is_estranged(right, state):
            disowned = disown(*trees, label=label, edits=right.read_only or right != state.right)
            agreed = {id_: node for id_, node in agreed.items() if id_ not in disowned.forgotten}
        todo = disowned.plan if disowned is not None else plan(*trees, label=label)
        if right is not None and right.read_only:
            todo, kept = read_only(todo)
        return _Found(
            scanned,
            remote,
            agreed,
            todo,
            identified.holding,
            [*scanned.problems, *identified.problems, *live.problems, *filters.problems, *kept, *left_alone],
            len(disowned.nodes) if disowned is not None else 0,
            right,
        )


def _awake(nodes: dict[NodeId, _Node], asleep: frozenset[NodeId]) -> dict[NodeId, _Node]:
    return {id_: node for id_, node in nodes.items() if id_ not in asleep} if asleep else nodes


def _check_filesystem(scanned: Scan, base: Mapping[NodeId, BaseNode], state: State, folder: Folder) -> None:
    """Raise FolderMissing if the folder is not on the filesystem that was synced, and has files in the base. Otherwise
    record its present path and filesystem in `state`. A folder that was moved may be on another filesystem.
    """
    root, filesystem = state.place or (None, "")
    if (root, filesystem) == (folder.root, scanned.filesystem):
        return
    if (
        root == folder.root
        and not (may_be_same(filesystem, scanned.filesystem) and shows_files(scanned, TOP, base.values()))
        and any(node.kind is NodeKind.FILE for node in base.values())
    ):
        raise FolderMissing(
            f"another filesystem is mounted at {folder.root} than the one that was synced, so nothing was changed. "
            "Mount the right one; or, if this is the folder from now on, as after a restore to a new disk, remove "
            f"{folder.root / MARKER} and {folder.state} and sync again (nothing is deleted then)"
        )
    state.place = folder.root, scanned.filesystem


def _above(nodes: Iterable[NodeId], known: Mapping[NodeId, RemoteNode]) -> set[NodeId]:
    """Return the ids of all ancestors of these nodes, as far as `known`, the nodes of the space by id, has them."""
    above: set[NodeId] = set()
    for node in nodes:
        at = known.get(node)
        while at is not None and at.parent not in above:
            above.add(at.parent)
            at = known.get(at.parent)
    return above


def _distrusted(base: dict[NodeId, BaseNode]) -> dict[NodeId, BaseNode]:
    """Return the base with all signatures distrusted, so that every file is read."""
    return {id_: dataclasses.replace(node, trusted=False) for id_, node in base.items()}


def _distrust_changed(local: Mapping[NodeId, LocalNode], base: dict[NodeId, BaseNode], state: State) -> None:
    """Find the files of `local` whose bytes have changed while their signature has not. Mark them as not trusted in
    `base` and `state`, so that they are read again until they are synced.
    """
    for id_, here in local.items():
        before = base.get(id_)
        if before is not None and here.digest != before.digest and before.trusted:
            base[id_] = dataclasses.replace(before, trusted=False)
            state.put_base(base[id_])


def _rules_first(todo: Plan) -> Plan | None:
    """Return the part of the plan `todo` that downloads ignore files (`.synclineignore`), if the whole plan would
    upload files before their rules are known here; the rest follows in the next round. Return None if the whole plan
    can be carried out as it is.
    """
    fetches = tuple(fetch for fetch in todo.fetches if todo.target[fetch.node][1] == IGNORE_FILE)
    if not fetches or not (todo.sends or todo.arrange_remote):
        return None
    above: set[NodeId] = set()
    for fetch in fetches:
        node = fetch.node
        while (node := todo.target[node][0]) != ROOT:
            above.add(node)
    directories = tuple(make for make in todo.arrange_local if isinstance(make, Make) and make.node in above)
    return Plan(target=todo.target, local=todo.local, names=todo.names, arrange_local=directories, fetches=fetches)


class Rounds:
    """Carries out the rounds of one sync, and keeps what the rounds share: the base, the mirror (a copy of the space's
    tree) and the report.
    """

    def __init__(
        self,
        *,
        folder: Folder,
        space: SpacePort,
        transfers: Transfers,
        files: Files,
        state: State,
        new_request: Callable[[], RequestId],
        progress: SyncProgress,
        label: str,
        report: Report,
        wanted: Wanted,
        now: int,
    ) -> None:
        """`files` accesses the files of `folder`, and `new_request` returns a new request id for each commit. `report`
        receives the results. `label` is part of the names of conflict copies, and `wanted` has the options of the sync.
        `now` is the present time, in seconds since 1970.
        """
        self._now = now
        self._wanted = wanted
        self._folder = folder
        self._space = space
        self._transfers = transfers
        self._files = files
        self._state = state
        self._new_request = new_request
        self._progress = progress
        self._label = label
        self._report = report
        self._base = state.load_base()
        self._mirror = Mirror(state, self._base)

    def converge(self, mass_delete: MassDelete) -> None:
        if self._wanted.verify:
            self._state.forget_unobtainable()
        self._rescue(discard=False)
        repeat_in_flight(self._space, state=self._state, mirror=self._mirror, base=self._base)
        choose(self._state, self._wanted)
        told = False
        for number in range(MAX_ROUNDS):
            with traces.span("pull"):
                self._pull()
            if not number:
                # Discarding comes this late because only now it is certain that the space still has its contents: it
                # may have been restored from a backup.
                self._rescue(discard=True)
            found = self._look()
            if not told and (rules := _rules_first(found.plan)):
                told = True
                self._apply(rules, found)
                found = self._look()
            todo, self._report.waiting = guarded(found.plan, found.base, mass_delete, root=self._folder.root)
            for node in self._base.keys() - found.base.keys():
                del self._base[node]
                self._state.remove_base(node)
            ledger = self._apply(todo, found)
            self._report.skipped = found.scan.skipped
            self._report.problems = [*found.problems, *ledger.problems()]
            disowning = found.disowned and ledger.operations_done
            if not found.disowned:
                self._note_right(found.right, refused=ledger.refused)
            elif number == 0:
                self._report.notices.append(_TAKEN_BACK.format(count=found.disowned))
            if not ledger.passing and not found.scan.unsettled and not disowning:
                self._note_settled(found)
                return
            if number and not ledger.operations_done:
                break
        self._report.problems += [Problem(path, reason) for path, reason in ledger.passing.items()]

    def _pull(self) -> None:
        self._mirror.pull(self._space)
        if self._mirror.went_back:
            self._mirror.went_back = False
            self._report.notices.append(
                "the space has lost earlier changes, as after a restore from a backup; nothing is deleted here, "
                "and this device uploads again what it still has"
            )

    def _note_right(self, right: Right | None, *, refused: bool) -> None:
        """Record `right`, the right with which changes are made here from now on; do nothing if the service has
        reported none. `refused` is True if the space has refused a change because this device lacked the right.
        """
        if right is not None and (self._state.right, self._state.refused) != (right, refused):
            self._state.right, self._state.refused = right, refused
            self._state.commit()

    def _note_settled(self, found: _Found) -> None:
        """Record the fingerprint of the folder if the plan was empty and the sync had no problems, so that the next
        sync can skip the rounds if folder and space are unchanged.
        """
        if not found.plan.is_empty or self._report.problems:
            return
        settled = Settled(found.scan.fingerprint, found.scan.skipped)
        if self._state.settled != settled and all(node.trusted for node in self._base.values()):
            self._state.settled = settled
            self._state.commit()

    def _look(self) -> _Found:
        return _look(
            self._folder,
            self._files,
            self._state,
            self._base,
            self._mirror,
            self._label,
            verify=self._wanted.verify,
        )

    def _apply(self, todo: Plan, found: _Found) -> Ledger:
        ledger = Ledger(todo, base=self._base, mirror=self._mirror, state=self._state, report=self._report)
        ledger.settle()
        here = LocalApplier(
            ledger,
            files=self._files,
            downloader=self._transfers.downloader,
            progress=self._progress,
            now=self._now,
            holding=found.holding,
        )
        if not todo.is_empty:
            here.arrange()
            here.checkpoint()
            self._apply_both(ledger, here, found.right)
        here.checkpoint()
        return ledger

    def _apply_both(self, ledger: Ledger, here: LocalApplier, right: Right | None) -> None:
        there = RemoteApplier(
            ledger,
            here,
            files=self._files,
            space=self._space,
            space_id=self._folder.space,
            right=right,
            uploader=self._transfers.uploader(self._state.known_block),
            new_request=self._new_request,
            progress=self._progress,
        )
        there.arrange()
        with traces.span("transfer up"):
            there.send()
        with traces.span("transfer down"):
            here.fetch()
        here.set_modes()
        here.delete()
        here.checkpoint()
        there.delete()

    def _rescue(self, *, discard: bool) -> None:
        """Put files back that an interrupted run had moved aside."""

        def known(node: NodeId) -> set[Digest | None]:
            before, there = self._base.get(node), self._mirror.nodes.get(node)
            return {known.digest for known in (before, there) if known is not None}

        def path_for(node: NodeId) -> str:
            before = self._base.get(node) or self._mirror.nodes.get(node)
            places = {known.id: (known.parent, known.local_name) for known in self._base.values()}
            above = path_of(before.parent, places) if before is not None else ""
            if above and not self._files.exists(above):
                above = ""
            name = before.name if before is not None else RECOVERED
            prefix = f"{above}/" if above else ""
            return prefix + conflict_name(name, self._label, _Taken(self._files, prefix))

        for path in rescue(self._files, known, path_for, discard=discard):
            self._report.notices.append(f"an interrupted sync had moved a file aside; it was put back as {path}")


class _Taken:
    """Container of the taken names of a directory, each of which is looked up in the folder when it is tested."""

    def __init__(self, files: Files, prefix: str) -> None:
        self._files = files
        self._prefix = prefix

    def __contains__(self, name: object) -> bool:
        return self._files.is_taken(f"{self._prefix}{name}")
