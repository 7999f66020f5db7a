"""Histories: devices that are used, synced, crashed, cut off and set back at random, and what must hold at the end.

A history follows from its seed, but for what the kernel gives: times and inode numbers.
"""

from __future__ import annotations

import random
import shutil
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from services.metadata.entry import replay
from syncline.model.errors import SynclineError
from syncline.model.identifiers import ROOT, NodeId, RequestId
from syncline.model.tree import Node, NodeKind
from syncline.sdk.right import Right
from syncline.sync.scan.identify import FINE_GRAIN_NS
from syncline.sync.state.database import State
from syncline.sync.trees import BaseNode, path_of
from tests.clients.sync.fakes import POINTS, Crash, Device, Fault, MemorySpace, PretendedMounts, no_faults, sha256
from tests.clients.sync.users import User

STEPS = 30
SETTLING = 10
"""The number of syncs of each device after which nothing is left to do."""

RARE = ("exchange", "exchanged", "unlinked", "link made")
RAREST = ("set mode", "mode set", "remove directory", "directory removed")
FAVOURITES = POINTS + 5 * RARE + 8 * RAREST
"""The points at which histories like to crash; a point that is passed seldom is chosen more often."""

PATIENT = 0.06
"""In so many histories time goes by between syncs, so that signatures can be trusted and little is read again."""

FAULTS = {
    "changes asked": (Fault.NOT_SENT,),
    "page read": (Fault.NOT_ANSWERED,),
    "commit sent": (Fault.NOT_SENT, Fault.NOT_ANSWERED, Fault.TWICE),
    "upload": (Fault.REFUSED, Fault.DOWN),
    "download": (Fault.REFUSED, Fault.DOWN, Fault.FULL),
    "make directory": (Fault.FULL,),
    "make link": (Fault.FULL,),
    "flush": (Fault.FULL,),
    "move": (Fault.FULL,),
    "exchange": (Fault.FULL,),
}


def reaches_root(node: BaseNode, base: Mapping[NodeId, BaseNode]) -> bool:
    """True if all directories above the node are known."""
    seen = set[NodeId]()
    while node.parent != ROOT:
        if node.parent not in base or node.parent in seen:
            return False
        seen.add(node.parent)
        node = base[node.parent]
    return True


class History:
    """Some devices of one space, their users, and what befalls them."""

    def __init__(self, base: Path, seed: int, favourite: str | None = None) -> None:
        """The point that it likes to crash at follows from the seed, too, if it is not given."""
        self.rng = rng = random.Random(seed)
        self.base = base
        self.space = MemorySpace()
        self.space.page = rng.choice((2, 100))
        self.devices = [Device(base, name, self.space) for name in "xyz"[: rng.choice((2, 2, 3))]]
        self.crashed: Counter[str] = Counter()
        """The points at which a sync has ended."""
        self.log: list[str] = []
        self._users = [User(device.root, rng, device.name) for device in self.devices]
        for device in self.devices:
            assert device.folder
            ids = random.Random(f"{seed} {device.name}")
            device.new_request = lambda ids=ids: RequestId(ids.randbytes(16))  # type: ignore[misc]
        self._crashes = rng.random() < 0.7
        self._meddling = rng.random() < 0.4
        self._faults = rng.random() < 0.4
        self._amnesia = rng.random() < 0.3
        self._restores = rng.random() < 0.25
        self._forgets = rng.random() < 0.2
        more = random.Random(f"{seed} more")
        self._mounts = not self._restores and more.random() < 0.5
        for device in self.devices if self._mounts else ():
            device.mounts = PretendedMounts(device.root)
        self._roles = more.random() < 0.3
        self._rights = 0
        self.luck_of_rights = random.Random(f"{seed} rights")
        self._patient = random.Random(f"{seed} patient").random() < PATIENT
        self._favourite = favourite or FAVOURITES[seed % len(FAVOURITES)]
        self._journal: list[bytes] = []

    def run(self) -> None:
        """Live, settle, and be judged. AssertionError with what happened."""
        try:
            if self.rng.random() < 0.7:
                self._open()
            for _ in range(STEPS):
                self._step()
            for index in (*range(len(self.devices)), 0):
                self._sync(index)
            self._settle()
            self._judge()
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(self.log)) from None
        finally:
            self.space.close()

    # ---- what happens ----

    def _open(self) -> None:
        """Begin with a tree that all devices have."""
        for _ in range(12):
            self.log.append(f"{self.devices[0].name}: {self._users[0].act()}")
        for device in self.devices:
            device.sync()
            self.log.append(f"{device.name}: sync")

    def _step(self) -> None:
        index = self.rng.randrange(len(self.devices))
        if self._mounts and self.rng.random() < 0.12:
            self._cover(index)
        if self._roles and self.rng.random() < 0.08:
            self.change_role(index)
        chance = self.rng.random()
        if chance < 0.66:
            for _ in range(self.rng.choice((1, 1, 2, 4))):
                self.log.append(f"{self.devices[index].name}: {self._users[index].act()}")
        elif chance < 0.95 or not (self._amnesia or self._restores or self._forgets):
            self._sync(index)
        elif self._forgets and self.rng.random() < 0.5:
            self.space.forgotten = self.rng.randint(0, len(self.space.journal))
            self.log.append(f"space: cursors up to {self.space.forgotten} get a listing")
        elif self._restores and self.rng.random() < 0.5:
            self._restore_space()
        elif self._amnesia:
            self._set_back(index)

    def _restore_space(self) -> None:
        head = self.rng.randint(0, len(self.space.journal))
        self.log.append(f"space: goes back from {len(self.space.journal)} to {head}")
        self.space.go_back_to(head)
        self._journal = list(self.space.journal)

    def change_role(self, index: int) -> None:
        """Give the right to write anew, or take it away; whoever is asked may remember the one before."""
        device = self.devices[index]
        device.remembered = None
        if not device.right.read_only and self.luck_of_rights.random() < 0.5:
            device.remembered = device.right
        if device.right.read_only or self.rng.random() < 0.4:
            self._rights += 1
            device.right = Right(writes_since_ms=self._rights)
        else:
            device.right = Right(read_only=True)
        self.log.append(f"{device.name}: {device.right}{' not known everywhere' if device.remembered else ''}")

    def _cover(self, index: int) -> None:
        """Mount a filesystem over a directory, sync, and take it away again."""
        device = self.devices[index]
        mounts = device.mounts
        assert isinstance(mounts, PretendedMounts)
        covered = self._covered(device)
        if not covered:
            return
        path = self.rng.choice(sorted(covered))
        mounts.mount("disk", path)
        self._users[index].saved += 1
        (device.root / path / "on the disk").write_bytes(f"{device.name} {self._users[index].saved:05}".encode())
        self.log.append(f"{device.name}: {path} is covered")
        for _ in range(self.rng.choice((1, 2))):
            head = len(self.space.journal)
            self._sync(index, still=True)
            changed = {node for node, _ in self._changed_since(head)} & covered[path]
            assert not changed, f"K: {device.name} changed what was covered: {changed}"
            other = self.rng.randrange(len(self.devices))
            if other != index:
                self.log.append(f"{self.devices[other].name}: {self._users[other].act()}")
                self._sync(other)
        path = mounts.unmount(path)
        shutil.rmtree(mounts.aside / "disk")
        self.log.append(f"{device.name}: {path} is not covered any more")

    def _covered(self, device: Device) -> dict[str, set[NodeId]]:
        """The directories in which something is that was agreed on, and all nodes at and below each."""
        with State.in_memory(device.folder.database) as state:
            base, in_flight = state.load_base(), state.in_flight()
        if in_flight:
            return {}
        places = {node.id: (node.parent, node.local_name) for node in base.values()}
        below: dict[str, set[NodeId]] = {}
        # A sync that crashed may have forgotten a directory before what was in it; what is left has no path.
        whole = [node for node in base.values() if reaches_root(node, base)]
        for node in whole:
            if node.parent != ROOT:
                inside, at = {node.id}, node.parent
                while at != ROOT:
                    inside.add(at)
                    below.setdefault(path_of(at, places), set()).update(inside)
                    at = base[at].parent
        inodes = {path_of(node.id, places): node.signature.inode for node in whole}

        def is_where_it_was(path: str) -> bool:
            found = device.root / path
            return found.is_dir() and not found.is_symlink() and found.stat().st_ino == inodes[path]

        def above(path: str) -> list[str]:
            return ["/".join(path.split("/")[:length]) for length in range(1, path.count("/") + 2)]

        return {path: nodes for path, nodes in below.items() if all(map(is_where_it_was, above(path)))}

    def _changed_since(self, head: int) -> Iterator[tuple[NodeId, Node]]:
        """Yield the nodes that the entries after `head` have changed."""
        for entry in self.space.entries()[head:]:
            for result in entry.accepted():
                if result.node is not None:
                    yield result.node.id, result.node

    def _set_back(self, index: int) -> None:
        """The device loses its state, or gets an older one back."""
        device = self.devices[index]
        kept = self.base / f"kept-{device.name}"
        folder = device.folder
        if self.rng.random() < 0.4 and folder.database.exists():
            self.log.append(f"{device.name}: a copy of the state is kept")
            with State.open(folder.database):
                pass  # Closed, it is one file.
            shutil.copyfile(folder.database, kept)
            return
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                folder.database.with_name(folder.database.name + suffix).unlink()
        if kept.exists() and self.rng.random() < 0.7:
            self.log.append(f"{device.name}: the state is set back to the copy")
            shutil.copyfile(kept, folder.database)
        else:
            self.log.append(f"{device.name}: the state is lost")

    def _sync(self, index: int, *, still: bool = False) -> None:
        """Sync, perhaps until a crash or a fault, perhaps while the user goes on, if that is not to keep still."""
        device = self.devices[index]
        self._wait()
        disturbance = _Disturbance(self, index, still=still)
        estranged = not disturbance.meddles and self._is_estranged(device)
        known, head = set(self.space.nodes), len(self.space.journal)
        self.log.append(f"{device.name}: sync{disturbance}")
        device.faults = disturbance.fault
        try:
            report = device.sync(disturbance, allow_mass_delete=True)
            self.log += [f"{device.name}: {problem.path}: {problem.reason}" for problem in report.problems]
        except Crash as crash:
            self.crashed[str(crash)] += 1
            self.log.append(f"{device.name}: crashed at {crash}")
        except SynclineError as error:
            self.log.append(f"{device.name}: {type(error).__name__}")
        finally:
            device.faults = no_faults
        if disturbance.right_changed and not (disturbance.meddles or estranged):
            estranged, (known, head) = True, disturbance.right_changed
        if estranged:
            changed = [node for node, _ in self._changed_since(head) if node in known]
            assert not changed, f"R: {device.name} changed {changed} in the space by what it did without the right"
        lost = disturbance.saved - contents(device) - self._kept()
        assert not lost, f"A: {device.name} lost {sorted(lost)}"
        self._check_journal()

    @staticmethod
    def _is_estranged(device: Device) -> bool:
        if not device.folder.database.exists():
            return False
        with State.in_memory(device.folder.database) as state:
            return state.right not in {None, device.right}

    def _wait(self) -> None:
        if self._patient:
            time.sleep(2 * FINE_GRAIN_NS / 1e9)

    def _settle(self) -> None:
        """Sync all devices in turn until nothing happens any more."""
        self.log.append("settle")
        for device in self.devices:
            device.remembered = None
            if device.right.read_only:
                self._rights += 1
                device.right = Right(writes_since_ms=self._rights)
        self._saved = set[bytes]().union(*map(contents, self.devices)) | self._kept()
        for _ in range(SETTLING):
            head = len(self.space.journal)
            busy = False
            for device in self.devices:
                self._wait()
                report = device.sync(allow_mass_delete=True)
                assert not report.problems, f"J: {device.name} has {report.problems}"
                busy |= any((report.downloaded, report.deleted_local, report.moved, report.conflicts))
                self._check_journal()
            if not busy and len(self.space.journal) == head:
                return
        raise AssertionError("B: does not settle")

    # ---- what must hold ----

    def _kept(self) -> set[bytes]:
        """The contents that the space's history has."""
        return {self.space.objects[digest] for digest in self.space.history if digest in self.space.objects}

    def _check_journal(self) -> None:
        journal = self.space.journal
        assert journal[: len(self._journal)] == self._journal, "D: the journal did not only grow"
        self._journal = list(journal)

    def _judge(self) -> None:
        space = self.space
        lost = self._saved - set[bytes]().union(*map(contents, self.devices)) - self._kept()
        assert not lost, f"A: {sorted(lost)} were lost while settling"
        tree = space.tree()
        for device in self.devices:
            assert composed(device.tree()) == tree, f"B: {device.name} has {device.tree()}, the space {tree}"
            left = sorted(path.name for path in (device.root / ".syncline" / "tmp").iterdir())
            assert not left, f"J: {device.name} has {left} left over"
        assert not any(path.rpartition("/")[2].startswith(".syncline-") for path in tree), f"J: {tree}"
        head = len(space.journal)
        for device in self.devices:
            report = device.sync()
            assert device.calls == ["changes"], f"C: {device.name} called {device.calls}"
            assert not any(
                (report.uploaded, report.downloaded, report.moved, report.deleted_local, report.deleted_remote)
            ), f"C: {report}"
        assert len(space.journal) == head, "C: a second sync committed something"
        self._judge_space()

    def _judge_space(self) -> None:
        space = self.space
        entries = space.entries()
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1)), "D: the journal has a gap"
        for content in space.contents():
            if not content.target:
                content.manifest.check()
                assert all(sha256(space.objects[ref.object]) == ref.object for ref in content.manifest.refs()), "E"
                assert sha256(space.data(content)) == content.digest, "E: the manifest gives other bytes"
        nodes = replay(entries)
        space.restart()
        for page in space.changes(b""):
            for node in page.nodes:
                assert nodes[node.id].seq >= node.seq
        assert nodes == space.nodes, "the answers and the journal differ"
        places = set()
        for node in nodes.values():
            above, steps = node, 0
            while above.parent != ROOT and steps <= len(nodes):
                assert above.parent in nodes, "G: a node without a parent"
                assert nodes[above.parent].kind is NodeKind.DIRECTORY, "G: below something that is no directory"
                above, steps = nodes[above.parent], steps + 1
            assert steps <= len(nodes), "G: a cycle"
            if space.is_live(node):
                assert (node.parent, node.name) not in places, "G: two live nodes of one name"
                places.add((node.parent, node.name))
        told = {
            version.content.digest for node in nodes.values() if node.content for version in space.versions(node.id)
        }
        assert space.history <= told, "A: the service does not give every version"


class _Disturbance:
    """A disturbance befalls one sync: it is a point, and its `fault` gives the faults."""

    def __init__(self, history: History, index: int, *, still: bool = False) -> None:
        self._history = history
        self._device = history.devices[index]
        self._user = history._users[index]
        self._rng = rng = history.rng
        self._crash_at: str | None = None
        self._passes = 0
        if history._crashes and rng.random() < 0.8:
            if rng.random() < (0.4 if history.crashed[history._favourite] else 0.9):
                self._crash_at, self._passes = history._favourite, rng.choice((1, 1, 1, 2, 3))
            else:
                self._crash_at, self._passes = "", rng.choice((2, 3, 5, 8, 13, 21, 34))
        self.meddles = history._meddling and rng.random() < 0.5 and not still
        self._fails = history._faults and rng.random() < 0.6
        self._index = index
        self._demotes = history._roles and not still and history.luck_of_rights.random() < 0.3
        self.right_changed: tuple[set[NodeId], int] | None = None
        """The nodes of the space, and the length of its journal, when the device's right changed meanwhile."""
        self.saved = contents(self._device)
        """The contents that must not get lost: those that were there and not overwritten, and those saved."""

    def __str__(self) -> str:
        crash = f", to crash at {self._crash_at or 'point'} {self._passes}" if self._passes else ""
        return f"{crash}{', meddled with' if self.meddles else ''}{', with faults' if self._fails else ''}"

    def __call__(self, name: str) -> None:
        assert name in POINTS, name
        if self.meddles and self._rng.random() < 0.06:
            there = contents(self._device)
            # An edit that is hidden in the moment between our rename of the file and our look at it cannot be seen.
            self._history.log.append(f"{self._device.name}: meanwhile, at {name}: {self._user.act(honest=True)}")
            now = contents(self._device)
            # The user loses the contents that it overwrote, and keeps those that it saved.
            self.saved -= there - now
            self.saved |= now - there
        if self._demotes and self._history.luck_of_rights.random() < 0.03 and self._device.port is not None:
            space = self._history.space
            self._demotes = False
            self.right_changed = set(space.nodes), len(space.journal)
            self._history.log.append(f"{self._device.name}: meanwhile, at {name}:")
            self._history.change_role(self._index)
            self._device.port.right, self._device.port.remembered = self._device.right, self._device.remembered
        if self._passes and self._crash_at in {"", name}:
            self._passes -= 1
            if not self._passes:
                raise Crash(name)

    def fault(self, name: str) -> Fault | None:
        faults = FAULTS.get(name)
        if not self._fails or faults is None or self._rng.random() > 0.12:
            return None
        fault = self._rng.choice(faults)
        self._history.log.append(f"{self._device.name}: at {name}: {fault.name}")
        return fault


def contents(device: Device) -> set[bytes]:
    """All contents on a device, those that were moved aside too, but for those of no bytes.

    What is still coming in is not the user's yet: nobody has saved it here.
    """
    private, temporary = device.root / ".syncline", device.root / ".syncline" / "tmp"
    found = set()
    for path in device.root.rglob("*"):
        mine = path.parent != private and not (path.parent == temporary and path.name.startswith("new-"))
        if mine and path.is_file() and not path.is_symlink():
            found.add(path.read_bytes())
    return found - {b""}


def composed(tree: dict[str, object]) -> dict[str, object]:
    return {unicodedata.normalize("NFC", path): what for path, what in tree.items()}
