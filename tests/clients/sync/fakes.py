"""A space, storage and devices in memory and temporary directories, to run the real engine over."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from clients.sdk.requests import Counts
from clients.sync.engine import Engine, KnownBlocks, Transfers
from clients.sync.files import Files
from clients.sync.folder import Folder, link, open_folder
from clients.sync.report import Report
from clients.transfer.jobs import Downloaded, DownloadJob, Failed, Signature, Trouble, Uploaded, UploadJob
from core.blocks import EMPTY_MANIFEST, BlockRef, Digest, Manifest
from core.errors import InvalidCursor, RequestIdReused, Unavailable
from core.identifiers import ROOT, NodeId, RequestId, SpaceId, created_node_id, new_request_id
from core.names import RESERVED_AT_ROOT, name_problem
from core.tree import (
    MAX_MUTATIONS,
    Change,
    Content,
    CreateNode,
    DeleteNode,
    MoveNode,
    Mutation,
    Node,
    NodeKind,
    Result,
    UpdateContent,
    Verdict,
)

SPACE = SpaceId("s" * 26)


class Crash(BaseException):
    """The process ends here."""


class NeverCrash:
    def __call__(self) -> None:
        pass


class CrashAt:
    """Crashes at the n-th point that is passed."""

    def __init__(self, points: int) -> None:
        self.left = points

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash


Point = Callable[[], None]


@dataclass(frozen=True)
class Page:
    nodes: tuple[Node, ...]
    cursor: bytes
    reset: bool
    seq: int


@dataclass(frozen=True)
class Answer:
    seq: int
    results: tuple[Result, ...]


@dataclass
class MemorySpace:
    """The semantics of CommitChanges and ListChanges, one journal entry for each request."""

    id: SpaceId = SPACE
    nodes: dict[NodeId, Node] = field(default_factory=dict)
    journal: list[tuple[Node, ...]] = field(default_factory=list)
    answers: dict[RequestId, tuple[Sequence[Mutation], Answer]] = field(default_factory=dict)
    objects: dict[Digest, bytes] = field(default_factory=dict)
    history: set[Digest] = field(default_factory=set)
    """The digests of all versions there ever were."""
    forgotten: int = 0
    """Cursors up to here get a listing."""
    page: int = 100
    commits: list[int] = field(default_factory=list)
    """How many mutations each request had."""

    # ---- commit ----

    def commit(self, mutations: Sequence[Mutation], request_id: RequestId) -> Answer:
        assert 0 < len(mutations) <= MAX_MUTATIONS
        if request_id in self.answers:
            before, answer = self.answers[request_id]
            if list(before) != list(mutations):
                raise RequestIdReused
            return answer
        self.commits.append(len(mutations))
        seq = len(self.journal) + 1
        results = []
        for index, mutation in enumerate(mutations):
            result = self._decide(mutation, seq, created_node_id(self.id, request_id, index))
            if result.verdict is Verdict.ACCEPTED:
                assert result.node is not None
                self.nodes[result.node.id] = result.node
                if result.node.content:
                    self.history.add(result.node.content.digest)
            results.append(result)
        changed = tuple(r.node for r in results if r.verdict is Verdict.ACCEPTED and r.node)
        answer = Answer(seq if changed else seq - 1, tuple(results))
        if changed:
            self.journal.append(changed)
            self.answers[request_id] = (list(mutations), answer)
        return answer

    def _decide(self, mutation: Mutation, seq: int, new_id: NodeId) -> Result:
        match mutation:
            case CreateNode(parent, name, kind, content):
                if refused := self._place_refused(parent, name, None) or self._content_refused(kind, content):
                    return refused
                version = 0 if kind is NodeKind.DIRECTORY else 1
                return Result(Verdict.ACCEPTED, Node(new_id, parent, name, kind, version, content, seq), Change.CREATED)
            case UpdateContent(node_id, base_version, content):
                node = self.nodes.get(node_id)
                if node is None:
                    return Result(Verdict.NODE_NOT_FOUND)
                if node.kind is NodeKind.DIRECTORY:
                    return Result(Verdict.WRONG_KIND, node)
                if not self.is_live(node):
                    return Result(Verdict.NODE_DELETED, node)
                if node.version != base_version:
                    return Result(Verdict.VERSION_CONFLICT, node)
                if refused := self._content_refused(node.kind, content):
                    return refused
                new = dataclasses.replace(node, version=node.version + 1, content=content, seq=seq)
                return Result(Verdict.ACCEPTED, new, Change.UPDATED)
            case MoveNode(node_id, from_parent, from_name, parent, name):
                node = self.nodes.get(node_id)
                if node is None:
                    return Result(Verdict.NODE_NOT_FOUND)
                if not self.is_live(node):
                    return Result(Verdict.NODE_DELETED, node)
                if (node.parent, node.name) != (from_parent, from_name):
                    return Result(Verdict.MOVED, node)
                if self._is_within(parent, node_id):
                    return Result(Verdict.CYCLE, node)
                if refused := self._place_refused(parent, name, node_id):
                    return refused
                new = dataclasses.replace(node, parent=parent, name=name, seq=seq)
                return Result(Verdict.ACCEPTED, new, Change.MOVED, (from_parent, from_name))
            case DeleteNode(node_id, base_version):
                node = self.nodes.get(node_id)
                if node is None:
                    return Result(Verdict.NODE_NOT_FOUND)
                if not self.is_live(node):
                    return Result(Verdict.NODE_DELETED, node)
                if node.version != base_version:
                    return Result(Verdict.VERSION_CONFLICT, node)
                return Result(Verdict.ACCEPTED, dataclasses.replace(node, deleted_at_ms=seq, seq=seq), Change.DELETED)
        raise AssertionError(mutation)

    def _place_refused(self, parent: NodeId, name: str, mover: NodeId | None) -> Result | None:
        if name_problem(name) or (parent == ROOT and name == RESERVED_AT_ROOT):
            return Result(Verdict.NAME_INVALID)
        if parent != ROOT:
            directory = self.nodes.get(parent)
            if directory is None or directory.kind is not NodeKind.DIRECTORY or not self.is_live(directory):
                return Result(Verdict.PARENT_NOT_FOUND)
        holder = self.child(parent, name)
        return Result(Verdict.NAME_TAKEN, holder) if holder and holder.id != mover else None

    def _content_refused(self, kind: NodeKind, content: Content | None) -> Result | None:
        if kind is NodeKind.DIRECTORY:
            return Result(Verdict.MANIFEST_INVALID) if content else None
        if content is None or content.manifest.size != (0 if kind is NodeKind.SYMLINK else content.size):
            return Result(Verdict.MANIFEST_INVALID)
        if any(digest not in self.objects for digest in content.manifest.object_digests()):
            return Result(Verdict.OBJECT_MISSING)
        return None

    def _is_within(self, inner: NodeId, outer: NodeId) -> bool:
        while inner != ROOT:
            if inner == outer:
                return True
            if inner not in self.nodes:
                return False
            inner = self.nodes[inner].parent
        return False

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
        above = "" if node.parent == ROOT else self.path(self.nodes[node.parent]) + "/"
        return above + node.name

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
        head = len(self.journal)
        after = int(cursor or b"0")
        if after > head:
            raise InvalidCursor
        if after < self.forgotten:
            nodes = list(self.nodes.values())
            for at in range(0, len(nodes), self.page):
                yield Page(tuple(nodes[at : at + self.page]), b"", at == 0, head)
            yield Page((), str(head).encode(), not nodes, head)
            return
        sent = False
        for seq in range(after + 1, head + 1):
            yield Page(self.journal[seq - 1], str(seq).encode(), False, seq)
            sent = True
        if not sent:
            yield Page((), str(head).encode(), False, head)

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


class SpacePort:
    """One device's connection to a space: it may break at any point, before or after the space has acted."""

    def __init__(self, space: MemorySpace, point: Point, counter: list[str]) -> None:
        self._space = space
        self._point = point
        self._calls = counter
        self.online = True

    def changes(self, cursor: bytes) -> Iterator[Page]:
        self._begin("changes")
        yield from self._space.changes(cursor)

    def commit(self, mutations: Sequence[Mutation], request_id: RequestId) -> Answer:
        self._begin("commit")
        assert len(mutations) <= 1000
        answer = self._space.commit(mutations, request_id)
        self._point()
        return answer

    def _begin(self, call: str) -> None:
        self._calls.append(call)
        self._point()
        if not self.online:
            raise Unavailable("the service does not answer; try again later")


class MemoryUploader:
    def __init__(self, space: MemorySpace, point: Point, calls: list[str], known: KnownBlocks) -> None:
        self._space = space
        self._point = point
        self._calls = calls
        self._known = known

    def upload(self, jobs: Iterable[UploadJob]) -> Iterator[Uploaded | Failed]:
        for job in list(jobs):
            self._point()
            yield self._one(job)

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
    def __init__(self, space: MemorySpace, point: Point, calls: list[str]) -> None:
        self._space = space
        self._point = point
        self._calls = calls
        self.full = False
        self.jobs: list[DownloadJob] = []

    def download(self, jobs: Iterable[DownloadJob]) -> Iterator[Downloaded | Failed]:
        for job in jobs:
            self._point()
            self.jobs.append(job)
            if self.full:
                yield Failed(job, "does not fit on the disk; free some space and sync again", Trouble.NO_ROOM)
                continue
            self._calls.append("get")
            job.destination.write_bytes(self._space.data(job.content))
            yield Downloaded(job)


class PointedFiles(Files):
    """Files that pass a point before and after each change of the folder."""

    def __init__(self, root: Path, point: Point) -> None:
        super().__init__(root)
        self._point = point

    def make_directory(self, path: str) -> None:
        self._point()
        super().make_directory(path)

    def move(self, path: str, to: str, *, directory: bool = False) -> None:
        self._point()
        super().move(path, to, directory=directory)
        self._point()

    def _exchange(self, path: str, other: str) -> bool:
        self._point()
        exchanged = super()._exchange(path, other)
        self._point()
        return exchanged

    def _unlink(self, path: str) -> None:
        self._point()
        super()._unlink(path)

    def flush(self, files: Iterable[str], directories: Iterable[str]) -> None:
        # What a test machine has in its caches is not lost.
        del files, directories
        self._point()

    def remove_directory(self, path: str) -> None:
        self._point()
        super().remove_directory(path)


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
        self.downloader: MemoryDownloader | None = None

    @property
    def folder(self) -> Folder:
        return open_folder(self.home, self.root) or link(self.home, self.root, self.space.id, "personal")

    def engine(self, point: Point | None = None, **changes: Any) -> Engine:
        point = point or NeverCrash()
        port = SpacePort(self.space, point, self.calls)
        port.online = self.online
        self.downloader = downloader = MemoryDownloader(self.space, point, self.calls)
        downloader.full = self.full
        calls = self.calls
        return Engine(
            folder=self.folder,
            space=changes.pop("space", port),
            transfers=Transfers(
                lambda known: MemoryUploader(self.space, point, calls, known),
                downloader,
                lambda: Counts(grpc=calls.count("changes") + calls.count("commit"), s3_put=calls.count("put")),
            ),
            device=self.name,
            files=changes.pop("files", lambda folder: PointedFiles(folder.root, point)),
            now=lambda: datetime(2026, 11, 3, 14, 25, 1),  # noqa: DTZ001 - local time, as in names of copies
            **changes,
        )

    def sync(self, point: Point | None = None, *, allow_mass_delete: bool = False) -> Report:
        self.calls.clear()
        return self.engine(point).sync(allow_mass_delete=allow_mass_delete)

    def tree(self) -> dict[str, object]:
        return tree_of(self.root)

    def write(self, path: str, data: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)


def tree_of(root: Path) -> dict[str, object]:
    """As MemorySpace.tree."""
    found: dict[str, object] = {}
    for directory, names, files in os.walk(root):
        if Path(directory) == root and ".syncline" in names:
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
