"""A space with the service's real core, and devices in temporary directories, to run the real engine over."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from runtime.pool import Share
from services.metadata import sealing as metadata_objects
from services.metadata.entry import BEGINNING, JournalEntry, Position, replay
from services.metadata.journal.commit import Request
from services.metadata.journal.open_spaces import OpenSpaces
from services.metadata.tree import reads
from services.metadata.tree.depths import Depths
from services.metadata.tree.search import NameSearch
from services.metadata.wire import cursor_from_wire, cursor_to_wire
from syncline.model.blocks import EMPTY_MANIFEST, BlockRef, Digest, Manifest
from syncline.model.errors import PermissionDenied, RightChanged, Unavailable
from syncline.model.identifiers import ROOT, NodeId, RequestId, SpaceId, new_request_id
from syncline.model.tree import (
    Content,
    CreateNode,
    DeleteNode,
    MoveNode,
    Mutation,
    Node,
    NodeKind,
    Result,
    UpdateContent,
    Version,
)
from syncline.model.verdicts import SealVerdict, Verdict
from syncline.sdk.requests import Counts
from syncline.sdk.right import Right
from syncline.sync.engine import Engine
from syncline.sync.folder.files import PRIVATE, TEMPORARY, Files
from syncline.sync.folder.link import Folder, link_folder, open_folder
from syncline.sync.folder.mounts import Mounts, OpenDirectory
from syncline.sync.ports import AS_BEFORE, KnownBlocks, MassDelete, Transfers, Wanted
from syncline.sync.report import Report
from syncline.sync.state.database import State
from syncline.transfer.jobs import Downloaded, DownloadJob, Failed, Signature, Suspect, Trouble, Uploaded, UploadJob
from tests.support.journal import small_entry
from tests.support.metadata import FixedQuotas, MemoryJournal, MemoryObjects, MemoryTable, MemoryTopic, still_allowed

SPACE = SpaceId("a" * 26)


class Crash(BaseException):
    """The process ends here."""


POINTS = (
    "changes asked", "page read", "commit sent", "commit answered", "state commit", "state committed",
    "upload", "uploaded", "download", "downloaded", "flush", "flushed",
    "make directory", "directory made", "remove directory", "directory removed", "make link", "link made",
    "move", "moved", "exchange", "exchanged", "unlink", "unlinked", "set mode", "mode set",
)  # fmt: skip
"""The names of points that the executor passes, before and after effects in the folder, state, space and storage."""


class NeverCrash:
    def __call__(self, name: str) -> None:
        assert name in POINTS


class CrashAt:
    """Crashes at the n-th point that is passed, of those with this name if one is given."""

    def __init__(self, points: int, name: str | None = None) -> None:
        self.left = points
        self.name = name

    def __call__(self, name: str) -> None:
        if self.name in {None, name}:
            self.left -= 1
        if self.left == 0:
            raise Crash(name)


Point = Callable[[str], None]


class Fault(Enum):
    """A fault of a call that goes on living."""

    NOT_SENT = "it never got there"
    NOT_ANSWERED = "it was done, and nobody was told"
    TWICE = "it got there twice"
    REFUSED = "storage does not take or give this file"
    DOWN = "storage does not answer"
    FULL = "the disk has no room for this"


Faults = Callable[[str], Fault | None]
"""Asked with the name of the point before each effect."""


def no_faults(name: str) -> Fault | None:
    return None


@dataclass(frozen=True)
class Page:
    nodes: tuple[Node, ...]
    cursor: bytes
    reset: bool
    seq: int
    right: Right = field(default_factory=Right)


@dataclass(frozen=True)
class Answer:
    seq: int
    results: tuple[Result, ...]


class Objects(dict[Digest, bytes]):
    """The storage of one space as its clients see it: what is put is proven by the service at once."""

    def __init__(self, space: MemorySpace) -> None:
        super().__init__()
        self._space = space

    def __setitem__(self, digest: Digest, data: bytes) -> None:
        super().__setitem__(digest, data)
        self._space.seal(digest, data)


class MemorySpace:
    """A space of the metadata service: its real core, over memory, as one process has it."""

    def __init__(self) -> None:
        self.id = SPACE
        self.nodes: dict[NodeId, Node] = {}
        self.history: set[Digest] = set()
        """The digests of all versions there ever were."""
        self.forgotten = 0
        """Cursors up to here get a listing."""
        self.page = 100
        self.commits: list[int] = []
        """The number of mutations of each request, in order."""
        self.objects: dict[Digest, bytes] = Objects(self)
        self._sealed_after: dict[Digest, int] = {}
        self._loop = asyncio.new_event_loop()
        self._journal = MemoryJournal()
        self._backend = MemoryObjects()
        self._proofs = metadata_objects.Objects(index=self._backend, storage=self._backend)
        self._table = MemoryTable()
        self._spaces = self._process()

    def _process(self) -> OpenSpaces:
        return OpenSpaces(
            journal=self._journal,
            table=self._table,
            topic=MemoryTopic(),
            objects=self._proofs,
            depths=Depths(NameSearch(journal=self._journal)),
            process="process",
            reserving=FixedQuotas(),
            max_nodes=1 << 40,
            max_journal_bytes=1 << 40,
            now_ms=lambda: len(self.journal) + 1,
            coalesce_seconds=0.0,
            lease_ms=30_000,
            capacity=100_000,
        )

    def go_back_to(self, head: int) -> None:
        """Be restored from a backup: what was committed after entry `head` never happened."""
        self._loop.run_until_complete(self._spaces.stop())
        del self.journal[head:]
        for digest in [digest for digest, after in self._sealed_after.items() if after >= head]:
            # The bucket has the object still, the table does not know it any more.
            self._backend.index.pop((self.id, digest), None)
            del self._sealed_after[digest]
        self._table = MemoryTable()
        self._proofs = metadata_objects.Objects(index=self._backend, storage=self._backend)
        self._spaces = self._process()
        self.nodes = replay(self.entries())
        self.history = {content.digest for content in self.contents()}
        self.forgotten = min(self.forgotten, head)

    def close(self) -> None:
        self._loop.run_until_complete(self._spaces.stop())
        self._loop.close()

    @property
    def journal(self) -> list[bytes]:
        return self._journal.entries[self.id]

    def entries(self) -> list[JournalEntry]:
        return [small_entry(number, blob) for number, blob in enumerate(self.journal, 1)]

    def contents(self) -> Iterator[Content]:
        """Yield the content of every version that the journal tells of."""
        for entry in self.entries():
            for result in entry.accepted():
                if result.node is not None and result.node.content is not None:
                    yield result.node.content

    def versions(self, node: NodeId) -> list[Version]:
        """Return the history of a file, as the service tells it."""

        async def listed() -> list[Version]:
            async with self._spaces.use(self.id) as live:
                return (await reads.list_versions(live.view, node, before=1 << 60, limit=1000))[0]

        return self._loop.run_until_complete(listed())

    def restart(self) -> None:
        """Another process takes over."""
        self._loop.run_until_complete(self._spaces.stop())
        self._spaces = self._process()

    def seal(self, digest: Digest, data: bytes) -> None:
        self._backend.stored[self.id, digest] = data
        declaration = metadata_objects.DeclaredObject(digest, len(data), metadata_objects.SingleBlock())
        (verdict,) = self._loop.run_until_complete(self._proofs.seal(self.id, [declaration], share=Share.alone("ann")))
        assert verdict is SealVerdict.SEALED
        self._sealed_after.setdefault(digest, len(self.journal))

    def commit(self, mutations: Sequence[Mutation], request_id: RequestId, *, right_changed: bool = False) -> Answer:
        self.commits.append(len(mutations))
        fingerprint = hashlib.sha256(repr(tuple(mutations)).encode()).digest()
        request = Request(request_id, fingerprint, "user", "device", tuple(mutations), 100)

        async def committed() -> Answer:
            async with self._spaces.use(self.id) as live:
                answer = await (live.committer.first_answer if right_changed else live.committer.commit)(
                    request, ask=still_allowed
                )
                if answer is None:
                    raise RightChanged
                return Answer(answer.seq, answer.results)

        answer = self._loop.run_until_complete(committed())
        for result in answer.results:
            node = result.node
            if result.verdict is Verdict.ACCEPTED and node is not None:
                known = self.nodes.get(node.id)
                if known is None or known.seq <= node.seq:
                    self.nodes[node.id] = node
                if node.content:
                    self.history.add(node.content.digest)
        return answer

    # ---- reading ----

    def is_live(self, node: Node | None) -> bool:
        while node is not None:
            if node.deleted_at_ms:
                return False
            if node.parent == ROOT:
                return True
            node = self.nodes.get(node.parent)
        return False

    def child(self, parent: NodeId, name: str) -> Node | None:
        for node in self.nodes.values():
            if not node.deleted_at_ms and (node.parent, node.name) == (parent, name):
                return node
        return None

    def path(self, node: Node) -> str:
        names = [node.name]
        while node.parent != ROOT:
            node = self.nodes[node.parent]
            names.append(node.name)
        return "/".join(reversed(names))

    def live(self) -> dict[str, Node]:
        return {self.path(node): node for node in self.nodes.values() if self.is_live(node)}

    def tree(self) -> dict[str, object]:
        """Paths and what is there: None for a directory, bytes, or ("link", target); executable files in a tuple."""
        found: dict[str, object] = {}
        for path, node in self.live().items():
            match node.kind:
                case NodeKind.DIRECTORY:
                    found[path] = None
                case NodeKind.SYMLINK:
                    assert node.content
                    found[path] = ("link", node.content.target)
                case NodeKind.FILE:
                    assert node.content
                    data = self.data(node.content)
                    found[path] = ("exec", data) if node.content.executable else data
        return found

    def data(self, content: Content) -> bytes:
        return b"".join(self.objects[ref.object][ref.offset :][: ref.length] for ref in content.manifest.refs())

    def changes(self, cursor: bytes) -> Iterator[Page]:
        after = cursor_from_wire(self.id, cursor)
        listing = after.seq < self.forgotten

        async def listed() -> list[tuple[list[Node], Position]]:
            async with self._spaces.use(self.id) as live:
                start = BEGINNING if listing else after
                return [page async for page in reads.changes(live.view, self._journal, after=start)]

        pages = self._loop.run_until_complete(listed())
        if listing:
            nodes, head = list(self.nodes.values()), pages[-1][1]
            for at in range(0, len(nodes), self.page):
                yield Page(tuple(nodes[at : at + self.page]), b"", at == 0, head.seq)
            yield Page((), cursor_to_wire(self.id, head), not nodes, head.seq)
            return
        for changed, position in pages:
            yield Page(tuple(changed), cursor_to_wire(self.id, position), False, position.seq)

    # ---- what another client does ----

    def do(self, *mutations: Mutation) -> tuple[Result, ...]:
        results = self.commit(mutations, new_request_id()).results
        assert all(result.verdict is Verdict.ACCEPTED for result in results), results
        return results

    def put(self, path: str, data: bytes | None, *, executable: bool = False, target: str = "") -> NodeId:
        """Make or change what is at a path; directories on the way must be there."""
        live = self.live()
        parent, _, name = path.rpartition("/")
        above = live[parent].id if parent else ROOT
        if data is None and not target:
            result = self.do(CreateNode(above, name, NodeKind.DIRECTORY))[0]
        else:
            content = link_content(target) if target else self.store(data or b"", executable=executable)
            kind = NodeKind.SYMLINK if target else NodeKind.FILE
            if path in live:
                result = self.do(UpdateContent(live[path].id, live[path].version, content))[0]
            else:
                result = self.do(CreateNode(above, name, kind, content))[0]
        assert result.node
        return result.node.id

    def store(self, data: bytes, *, executable: bool = False, mtime_ns: int = 10**18) -> Content:
        digest = sha256(data)
        if data:
            self.objects[digest] = data
        return Content(digest, len(data), mtime_ns, executable, manifest_of(data))

    def move(self, path: str, to: str) -> None:
        live = self.live()
        parent, _, name = to.rpartition("/")
        node = live[path]
        self.do(MoveNode(node.id, node.parent, node.name, live[parent].id if parent else ROOT, name))

    def delete(self, path: str) -> None:
        node = self.live()[path]
        self.do(DeleteNode(node.id, node.version))


def sha256(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).digest())


def manifest_of(data: bytes) -> Manifest:
    return Manifest.of([BlockRef(sha256(data), len(data), sha256(data), 0)]) if data else EMPTY_MANIFEST


def link_content(target: str) -> Content:
    return Content(sha256(target.encode()), len(target.encode()), 10**18, target=target)


class FakeSpace:
    """One device's connection to a space: it may break at any point, before or after the space has acted."""

    def __init__(self, space: MemorySpace, point: Point, counter: list[str], faults: Faults = no_faults) -> None:
        self._space = space
        self._point = point
        self._calls = counter
        self._faults = faults
        self.online = True
        self.right = Right()
        self.remembered: Right | None = None
        """The right that the space assumes until it has reason to ask; None if it knows the right."""

    def changes(self, cursor: bytes, *, fresh_right: bool = False) -> Iterator[Page]:
        self._calls.append("changes")
        self._point("changes asked")
        if not self.online or self._faults("changes asked") is not None:
            raise _no_answer()
        for page in self._space.changes(cursor):
            yield replace(page, right=self.right if fresh_right or self.remembered is None else self.remembered)
            self._point("page read")
            if self._faults("page read") is not None:
                raise _no_answer()

    def commit(self, mutations: Sequence[Mutation], request_id: RequestId, *, right: Right | None) -> Answer:
        self._calls.append("commit")
        self._point("commit sent")
        fault = self._faults("commit sent")
        if self.right.read_only:
            raise PermissionDenied("as viewer you can read this space but not change it; ask an owner for another role")
        if not self.online or fault is Fault.NOT_SENT:
            raise _no_answer()
        assert len(mutations) <= 1000
        answer = self._space.commit(mutations, request_id, right_changed=right not in {None, self.right})
        if fault is Fault.TWICE:
            head = len(self._space.journal)
            assert self._space.commit(mutations, request_id).results == answer.results
            assert len(self._space.journal) == head, "a mutation that was applied twice was applied twice"
        self._point("commit answered")
        if fault is Fault.NOT_ANSWERED:
            raise _no_answer()
        return answer


def _no_answer() -> Unavailable:
    return Unavailable("the service does not answer; try again later")


class MemoryUploader:
    def __init__(
        self, space: MemorySpace, point: Point, calls: list[str], known: KnownBlocks, faults: Faults = no_faults
    ) -> None:
        self._space = space
        self._point = point
        self._calls = calls
        self._known = known
        self._faults = faults

    def upload(self, jobs: Iterable[UploadJob]) -> Iterator[Uploaded | Failed]:
        for job in list(jobs):
            self._point("upload")
            fault = self._faults("upload")
            if fault is Fault.DOWN:
                raise Unavailable("the storage does not answer; try again later")
            if fault is Fault.REFUSED:
                yield Failed(job, "was not accepted; will be tried again", Trouble.REFUSED)
                continue
            result = self._one(job)
            self._point("uploaded")
            yield result

    def _one(self, job: UploadJob) -> Uploaded | Failed:
        try:
            descriptor = os.open(job.path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return Failed(job, "vanished", Trouble.VANISHED)
        except OSError as error:
            return Failed(job, str(error.strerror), Trouble.UNREADABLE)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            return Failed(job, "is a directory now", Trouble.NOT_A_FILE)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read()
        digest = sha256(data)
        if data and self._known(digest) is None:
            self._calls.append("put")
            self._space.objects[digest] = data
        content = Content(digest, len(data), found.st_mtime_ns, bool(found.st_mode & 0o100), manifest_of(data))
        return Uploaded(job, content, Signature.of(found))


class MemoryDownloader:
    def __init__(self, space: MemorySpace, point: Point, calls: list[str], faults: Faults = no_faults) -> None:
        self._space = space
        self._point = point
        self._calls = calls
        self._faults = faults
        self.full = False
        self.jobs: list[DownloadJob] = []

    def download(self, jobs: Iterable[DownloadJob]) -> Iterator[Downloaded | Failed]:
        for job in jobs:
            self._point("download")
            self.jobs.append(job)
            fault = self._faults("download")
            if fault is Fault.DOWN:
                raise Unavailable("the storage does not answer; try again later")
            if fault is Fault.REFUSED:
                passing = Suspect(job.content.digest, "damaged for a moment")
                yield Failed(job, "storage gave other bytes; will be tried again", Trouble.CORRUPT, passing)
                continue
            if self.full or fault is Fault.FULL:
                yield Failed(job, "does not fit on the disk; free some space and sync again", Trouble.NO_ROOM)
                continue
            self._calls.append("get")
            job.destination.write_bytes(self._space.data(job.content))
            job.destination.chmod(job.mode)
            with suppress(OverflowError):
                os.utime(job.destination, ns=(job.content.mtime_ns, job.content.mtime_ns))
            self._point("downloaded")
            yield Downloaded(job, Signature.of(job.destination.stat()))


class PointedFiles(Files):
    """Files that pass a point before and after each change of the folder."""

    def __init__(self, root: Path, point: Point, faults: Faults = no_faults, mounts: Mounts | None = None) -> None:
        super().__init__(root, mounts)
        self._point = point
        self._faults = faults

    def _before(self, name: str) -> None:
        self._point(name)
        if self._faults(name) is Fault.FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def make_directory(self, path: str) -> None:
        if path in {PRIVATE, TEMPORARY}:
            super().make_directory(path)
            return
        self._before("make directory")
        super().make_directory(path)
        self._point("directory made")

    def make_symlink(self, path: str, target: str) -> None:
        self._before("make link")
        super().make_symlink(path, target)
        self._point("link made")

    def move(self, path: str, to: str, *, directory: bool = False, back: bool = False) -> None:
        self._before("move")
        super().move(path, to, directory=directory, back=back)
        self._point("moved")

    def _exchange(self, path: str, other: str) -> bool:
        self._before("exchange")
        exchanged = super()._exchange(path, other)
        self._point("exchanged")
        return exchanged

    def _unlink(self, path: str) -> None:
        self._point("unlink")
        super()._unlink(path)
        self._point("unlinked")

    def set_executable(self, path: str, *, executable: bool) -> None:
        self._point("set mode")
        super().set_executable(path, executable=executable)
        self._point("mode set")

    def flush(self, files: Iterable[str], directories: Iterable[str]) -> None:
        # The files in a test machine's caches are not lost.
        if [*files]:
            self._before("flush")
        else:
            self._point("flush")
        self._point("flushed")

    def remove_directory(self, path: str) -> None:
        self._point("remove directory")
        super().remove_directory(path)
        self._point("directory removed")


class PretendedMounts:
    """Mounts of one folder, for tests that may not mount: `mount` and `unmount` swap directories.

    As on a real system, what is mounted goes along when a directory above it is renamed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.filesystem = "disk"
        self.mounted: dict[str, str] = {}
        self.aside = root.with_name(f"{root.name}-unmounted")
        self._covers: dict[str, tuple[int, Path]] = {}
        """By the path of a mount: the inode of what is mounted there, and where that is which it covers."""

    def points(self) -> frozenset[str]:
        self._follow()
        return frozenset(self.mounted)

    def look(self, path: str, descriptor: int) -> OpenDirectory:
        self._follow()
        on = max((point for point in self.mounted if f"{path}/".startswith(f"{point}/")), key=len, default=None)
        if on is None:
            return OpenDirectory("", f"uuid={self.filesystem}", f"/{path}")
        return OpenDirectory(on, self.mounted[on], f"/{path.removeprefix(on).lstrip('/')}")

    def mount(self, name: str, path: str) -> None:
        """Mount the filesystem of this name, an empty one if it is new."""
        covered, disk = self._aside_of(path), self.aside / name
        covered.parent.mkdir(parents=True, exist_ok=True)
        disk.mkdir(exist_ok=True)
        (self.root / path).rename(covered)
        disk.rename(self.root / path)
        self.mounted[path] = name if "=" in name else f"uuid={name}"
        self._covers[path] = ((self.root / path).stat().st_ino, covered)

    def unmount(self, path: str) -> str:
        """Unmount what was mounted at this path; where that was at last."""
        covered = self._aside_of(path)
        self._follow()
        (at,) = (at for at, (_, other) in self._covers.items() if other == covered)
        name = self.mounted.pop(at).removeprefix("uuid=")
        del self._covers[at]
        (self.root / at).rename(self.aside / name)
        covered.rename(self.root / at)
        return at

    def _aside_of(self, path: str) -> Path:
        """The place for a thing that was at this path when something was mounted over it; no two lie in each other."""
        return self.aside / "covered" / sha256(path.encode()).hex()

    def _follow(self) -> None:
        for path, (inode, covered) in list(self._covers.items()):
            if self._inode(self.root / path) != inode:
                places = (Path(above) / name for above, names, _ in os.walk(self.root) for name in names)
                now = str(next(place for place in places if self._inode(place) == inode).relative_to(self.root))
                self.mounted[now] = self.mounted.pop(path)
                del self._covers[path]
                self._covers[now] = (inode, covered)

    @staticmethod
    def _inode(path: Path) -> int | None:
        return path.lstat().st_ino if os.path.lexists(path) else None


class PointedState(State):
    """A state that passes a point before and after it is made durable."""

    point: Point

    def commit(self) -> None:
        self.point("state commit")
        super().commit()
        self.point("state committed")


NOW = datetime(2026, 11, 3, 14, 25, 1)  # noqa: DTZ001 - local time, as in names of copies


class Device:
    """A device with one synced folder."""

    def __init__(self, base: Path, name: str, space: MemorySpace) -> None:
        self.name = name
        self.space = space
        self.home = base / f"home-{name}"
        self.root = base / name
        self.calls: list[str] = []
        self.full = False
        self.online = True
        self.mounts: Mounts | None = None
        self.right = Right()
        self.remembered: Right | None = None
        self.port: FakeSpace | None = None
        """The connection of the last sync."""
        self.faults: Faults = no_faults
        self.new_request: Callable[[], RequestId] = new_request_id
        self.downloader: MemoryDownloader | None = None

    @property
    def folder(self) -> Folder:
        return open_folder(self.home, self.root) or link_folder(self.home, self.root, self.space.id, "personal")

    def engine(self, point: Point | None = None, **changes: Any) -> Engine:
        point = point or NeverCrash()
        faults = self.faults

        def open_state(path: Path) -> State:
            state = PointedState.open(path)
            assert isinstance(state, PointedState)
            state.point = point
            return state

        self.port = port = FakeSpace(self.space, point, self.calls, faults)
        port.online = self.online
        port.right, port.remembered = self.right, self.remembered
        self.downloader = downloader = MemoryDownloader(self.space, point, self.calls, faults)
        downloader.full = self.full
        calls = self.calls
        downloads = changes.pop("downloads", None) or downloader
        return Engine(
            folder=self.folder,
            space=changes.pop("space", port),
            transfers=Transfers(
                lambda known: MemoryUploader(self.space, point, calls, known, faults),
                lambda: downloads,
                lambda: Counts(grpc=calls.count("changes") + calls.count("commit"), s3_put=calls.count("put")),
            ),
            device=self.name,
            files=changes.pop("files", lambda folder: PointedFiles(folder.root, point, faults, self.mounts)),
            open_state=open_state,
            new_request=self.new_request,
            now=changes.pop("now", lambda: NOW),
            **changes,
        )

    def sync(
        self,
        point: Point | None = None,
        *,
        allow_mass_delete: bool = False,
        hold_mass_delete: bool = False,
        wanted: Wanted = AS_BEFORE,
        **changes: Any,
    ) -> Report:
        self.calls.clear()
        mass_delete = MassDelete.DO if allow_mass_delete else MassDelete.HOLD if hold_mass_delete else MassDelete.REFUSE
        return self.engine(point, **changes).sync(mass_delete=mass_delete, wanted=wanted)

    def tree(self) -> dict[str, object]:
        return tree_of(self.root)

    def write(self, path: str, data: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)


def tree_of(root: Path) -> dict[str, object]:
    """Return the tree as MemorySpace.tree does, without the files that clients keep there."""
    found: dict[str, object] = {}
    for directory, names, files in os.walk(root):
        if ".syncline" in names:
            names.remove(".syncline")
        for name in [*names, *files]:
            path = Path(directory) / name
            relative = path.relative_to(root).as_posix()
            if path.is_symlink():
                found[relative] = ("link", str(path.readlink()))
            elif path.is_dir():
                found[relative] = None
            elif path.stat().st_mode & 0o100:
                found[relative] = ("exec", path.read_bytes())
            else:
                found[relative] = path.read_bytes()
    return found
