"""The operations of a plan in the folder. Each checks what it relies on just before it acts.

The base records an operation only after its effect is durable: contents are flushed before they are renamed into place,
and directories are flushed before the state database is committed.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import stat
from collections.abc import Callable, Container, Iterator
from itertools import islice

from syncline.model.blocks import EMPTY_MANIFEST, MIB, Digest
from syncline.model.errors import SynclineError
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.tree import Content, NodeKind
from syncline.sync.apply.ledger import NAME_REFUSED, NAME_REFUSED_REASON, Ledger
from syncline.sync.apply.links import leads_out
from syncline.sync.folder.files import FileChanged, Files, same_file
from syncline.sync.plan.operations import Delete, Make, Move, Write
from syncline.sync.plan.plan import Plan
from syncline.sync.ports import DownloaderPort, SyncProgress
from syncline.sync.scan.digests import hash_file
from syncline.sync.scan.identify import target_digest
from syncline.sync.scan.walk import directory_signature
from syncline.sync.state.database import Unobtainable
from syncline.sync.trees import LocalNode, Place, copy_id, original_id, printable, transit_name
from syncline.transfer.jobs import Downloaded, DownloadJob, LocalBlock, Signature, Suspect, Trouble
from syncline.wire.tree import manifest_to_wire

_MAX_BATCH_FILES = 2048
"""Maximum number of files that are made durable and put in place together."""
_MAX_BATCH_BYTES = 256 * MIB
"""Maximum number of bytes of the files that are made durable together."""
_LOOKUP_NODES = 500
_LASTING = {Trouble.CORRUPT, Trouble.MISSING, Trouble.WITHHELD}
"""The kinds of failures of a download that another attempt does not solve."""
_FIRST_PAUSE_SECONDS = 86_400
_MAX_PAUSE_SECONDS = 32 * 86_400
"""Maximum pause in seconds before a content that could not be obtained is tried again, because the failure may be due
to this device. The pause doubles with each attempt.
"""


class LocalApplier:
    """Carries out, in the folder, the operations of the plan of one round, and reports their results to the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        files: Files,
        downloader: Callable[[], DownloaderPort],
        progress: SyncProgress,
        now: int,
        holding: Container[NodeId] = frozenset(),
    ) -> None:
        """`ledger` has the plan, and receives the results. `downloader` is called when the first content has to be
        fetched. `holding` are the directories with something inside that is not synced; they have to stay even if the
        space has deleted them. `now` is the present time, in seconds since 1970.
        """
        self._now = now
        self._tried: dict[NodeId, Unobtainable] = {}
        """The record of the earlier failure, by node, for each content that was unobtainable before and is being
        fetched again.
        """
        self._holding = holding
        self._ledger = ledger
        self._plan: Plan = ledger.plan
        self._files = files
        self._downloader = downloader
        self._progress = progress
        self._at: dict[NodeId, Place] = {node: (here.parent, here.local_name) for node, here in ledger.here.items()}
        self._paths: dict[NodeId, str] = {ROOT: ""}
        self._dirty: set[str] = set()
        self._lost: dict[str, list[str]] = {}
        """The paths of the updated files for which an attribute could not be kept, by the description of the
        attribute.
        """
        self._leading_out: list[str] = []
        """Paths of downloaded symlinks that lead out of the folder."""

    def path(self, node: NodeId) -> str | None:
        """Return the present path of a node, relative to the folder; None if the node is not in the folder."""
        place = self._at.get(node)
        return None if place is None else self._path_at(place)

    def _path_at(self, place: Place) -> str | None:
        parent, name = place
        above = self._directory(parent)
        return None if above is None else f"{above}/{name}" if above else name

    def _directory(self, node: NodeId) -> str | None:
        chain: list[NodeId] = []
        while node not in self._paths:
            if node not in self._at or len(chain) > len(self._at):
                return None
            chain.append(node)
            node = self._at[node][0]
        path = self._paths[node]
        for inner in reversed(chain):
            name = self._at[inner][1]
            path = f"{path}/{name}" if path else name
            self._paths[inner] = path
        return path

    def checkpoint(self) -> None:
        """Flush the changed directories to the disk, and then commit the transaction of the state database, so that the
        base never claims what a power cut could undo.
        """
        if self._dirty:
            self._files.flush([], self._dirty)
            self._dirty.clear()
        self._ledger.state.commit()

    # ---- the shape ----

    def arrange(self) -> None:
        for operation in self._plan.arrange_local:
            try:
                match operation:
                    case Make():
                        self._make(operation)
                    case Move():
                        self._move(operation)
                    case Delete():
                        self._delete(operation)
            except OSError as error:
                self._ledger.failed_here(operation.node, error)

    def _make(self, operation: Make) -> None:
        place = self._plan.names[operation.node]
        path = self._path_at(place)
        if path is None:
            self._ledger.blocked(operation.node)
            return
        self._files.make_directory(path)
        self._at[operation.node] = place
        self._touched(path)
        self._ledger.here[operation.node] = LocalNode(
            id=operation.node,
            parent=place[0],
            name=self._plan.target[operation.node][1],
            kind=NodeKind.DIRECTORY,
            digest=None,
            executable=False,
            signature=directory_signature(self._files.stat(path)),
            local_name=place[1],
        )
        self._ledger.done(operation.node)

    def _move(self, operation: Move) -> None:
        node, ledger = operation.node, self._ledger
        path, to = self.path(node), self._path_at(operation.to)
        if path is None or to is None or ledger.is_failed(node):
            ledger.blocked(node)
            return
        here = ledger.here[node]
        self._expect(path, here)
        is_directory = here.kind is NodeKind.DIRECTORY
        if self._is_same_name(node, operation.to):
            # The filesystem takes the new name for the old one, so the node moves by way of its transit name, by which
            # it is found after a crash.
            aside = self._path_at((operation.to[0], transit_name(original_id(node)))) or ""
            self._files.move(path, aside, directory=is_directory)
            path = aside
        self._files.move(path, to, directory=is_directory)
        self._at[node] = operation.to
        if is_directory:
            self._paths = {ROOT: ""}
        self._touched(path)
        self._touched(to)
        signature = self._expect(to, here)
        ledger.update_here(node, parent=operation.to[0], local_name=operation.to[1], signature=signature)
        if not operation.aside and node not in self._plan.conflicts:
            ledger.report.moved += 1
        ledger.done(node)

    def _is_same_name(self, node: NodeId, to: Place) -> bool:
        """Return True if the node would be renamed within its directory, to a name that the filesystem treats as equal
        to its present one, such as the same name in another case. A check whether the new name is taken would find the
        node itself.
        """
        (parent, name), key = self._at[node], self._files.naming.key
        return parent == to[0] and name != to[1] and key(name) == key(to[1])

    def _expect(self, path: str, here: LocalNode) -> Signature:
        """Return the signature (size, times, inode) of the file or directory at `path`. `here` is what the scan found.
        Raise FileChanged if the signature differs, apart from the fields that a rename changes.
        """
        found = self._files.stat(path)
        if here.kind is NodeKind.DIRECTORY:
            signature = directory_signature(found)
            expected = stat.S_ISDIR(found.st_mode) and signature == here.signature
        else:
            signature = Signature.of(found)
            expected = same_file(found, here.signature)
        if not expected:
            raise FileChanged
        return signature

    def delete(self) -> None:
        for operation in self._plan.delete_local:
            try:
                self._delete(operation)
            except OSError as error:
                self._ledger.failed_here(operation.node, error)

    def _delete(self, operation: Delete) -> None:
        node, ledger = operation.node, self._ledger
        path = self.path(node)
        if path is None or ledger.is_failed(node):
            ledger.blocked(node)
            return
        here, before = ledger.here[node], ledger.base.get(node)
        if here.kind is NodeKind.DIRECTORY:
            try:
                self._files.remove_directory(path)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY or node not in self._holding:
                    raise
                # The directory stays, with its entries that are not synced; the space does not know it any more.
                ledger.forget(node)
                ledger.done(node)
                return
        elif before is None or here.digest is None or here.digest != before.digest:
            raise FileChanged  # Only contents that the space has, or had, are ever deleted.
        else:
            self._files.remove(path, here.signature, token=_token(node))
        del self._at[node]
        self._paths.pop(node, None)
        self._touched(path)
        ledger.forget(node)
        ledger.report.deleted_local += 1
        ledger.done(node)

    def _touched(self, path: str) -> None:
        self._dirty.add(path.rpartition("/")[0])

    # ---- contents ----

    def fetch(self) -> None:
        """Download the contents of the plan, and put them in place. Failures of single files are recorded in the
        ledger. Raise SynclineError if storage is unavailable; contents that were downloaded before have been put in
        place.
        """
        operations = []
        for operation in self._plan.fetches:
            if self._ledger.is_failed(operation.node) or self._target_path(operation) is None:
                self._ledger.blocked(operation.node)
            else:
                operations.append(operation)
        sizes = self._ledger.mirror.nodes
        self._progress.expect(
            "downloading", files=len(operations), size=sum(sizes[operation.node].size for operation in operations)
        )
        by_node = {operation.node: operation for operation in operations}
        ready: list[tuple[Write, Content, Signature]] = []
        size = 0
        try:
            for result in self._downloader().download(self._jobs(operations)) if operations else ():
                operation = by_node[result.job.key]  # type: ignore[index]
                if not isinstance(result, Downloaded):
                    assert isinstance(result.job, DownloadJob)
                    if result.trouble in _LASTING:
                        self._remember(operation, result.job.content, result.reason, result.suspect)
                    if result.trouble is Trouble.MISSING:
                        self._ledger.retry(operation.node, result.reason)
                    else:
                        self._ledger.problem(operation.node, result.reason)
                    continue
                content = result.job.content
                ready.append((operation, dataclasses.replace(content, manifest=EMPTY_MANIFEST), result.signature))
                size += content.size
                if len(ready) >= _MAX_BATCH_FILES or size >= _MAX_BATCH_BYTES:
                    self._place(ready)
                    ready, size = [], 0
        except SynclineError:
            self._place(ready)
            self._say_what_is_lost()
            raise
        self._place(ready)
        self._say_what_is_lost()

    def _jobs(self, operations: list[Write]) -> Iterator[DownloadJob]:
        """Yield a download job for each file of `operations` whose content has to be fetched. Symlinks are made at once
        and need no job.
        """
        remaining = iter(operations)
        while batch := list(islice(remaining, _LOOKUP_NODES)):
            nodes = [operation.node for operation in batch]
            contents, known = self._ledger.state.contents(nodes), self._ledger.state.unobtainable(nodes)
            self._tried.update(known)
            for operation in batch:
                content = contents.get(operation.node)
                before = known.get(operation.node)
                if before is not None and content is not None and not self._is_to_be_tried(operation, content, before):
                    if before.suspect is None:
                        self._ledger.problem(operation.node, before.reason)
                        continue
                    suspect: Suspect | None = before.suspect
                else:
                    suspect = None
                if content is None:
                    self._ledger.retry(operation.node, "changed in the space while syncing; will be synced again")
                elif self._ledger.mirror.nodes[operation.node].kind is NodeKind.SYMLINK:
                    self._place_link(operation, content)
                elif (job := self._job(operation, content, suspect)) is not None:
                    yield job

    def _is_to_be_tried(self, operation: Write, content: Content, before: Unobtainable) -> bool:
        """Return True if the content of `operation` is to be downloaded although an earlier attempt failed: because
        that attempt, recorded in `before`, was for another content, or because the pause after it is over.
        """
        return before.is_over(self._now) or before.content != self._identity(operation, content)

    def _identity(self, operation: Write, content: Content) -> bytes:
        """Return a hash that identifies a content under its local name among all contents of the node."""
        manifest = manifest_to_wire(content.manifest).SerializeToString(deterministic=True)
        name = self._plan.names[operation.node][1].encode(errors="surrogateescape")
        parts = (content.digest, content.size.to_bytes(8, "big"), content.manifest_object, manifest, name)
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()

    def _remember(self, operation: Write, content: Content, reason: str, suspect: Suspect | None) -> None:
        """Record a content that could not be obtained, so that not every sync repeats the attempt: one malicious commit
        could otherwise cost gigabytes of downloads per sync.
        """
        identity, before = self._identity(operation, content), self._tried.get(operation.node)
        pause = _FIRST_PAUSE_SECONDS
        if before is not None and before.content == identity:
            if before.suspect == suspect and not before.is_over(self._now):
                return
            pause = min(2 * before.pause_seconds, _MAX_PAUSE_SECONDS)
        self._tried[operation.node] = tried = Unobtainable(identity, reason, suspect, self._now, pause)
        self._ledger.state.put_unobtainable(operation.node, tried)

    def _job(self, operation: Write, content: Content, suspect: Suspect | None) -> DownloadJob | None:
        try:
            like = self._target_path(operation) if operation.replaces else None
            mode = self._files.mode(executable=content.executable, like=like)
        except OSError as error:
            self._ledger.failed_here(operation.node, error)
            return None
        destination = self._files.root / self._files.incoming(_token(operation.node))
        known = self._blocks_here(operation, content)
        return DownloadJob(operation.node, content, destination, mode, known, self._files.root, suspect)

    def _blocks_here(self, operation: Write, content: Content) -> dict[Digest, LocalBlock]:
        """Return the blocks of the new content that are in the file to be replaced, by digest, each with its position
        in that file. These blocks need not be downloaded.
        """
        path = self.path(operation.node)
        if not operation.replaces or path is None or len(content.manifest) < 2:
            return {}
        wanted = {ref.digest for ref in content.manifest.refs()}
        known = {}
        offset = 0
        for ref in self._ledger.state.base_manifest(operation.node).refs():
            if ref.digest in wanted:
                known[ref.digest] = LocalBlock(self._files.root / path, offset, self._files.root)
            offset += ref.length
        return known

    def _target_path(self, operation: Write) -> str | None:
        return self.path(operation.node) if operation.replaces else self._path_at(self._plan.names[operation.node])

    def _place(self, ready: list[tuple[Write, Content, Signature]]) -> None:
        """Rename downloaded contents from their temporary files to the target paths of their nodes."""
        for operation, content, _ in ready:
            self._dress(operation, content)
        if not self._on_the_disk([operation.node for operation, _, _ in ready]):
            ready = []
        for operation, content, signature in ready:
            try:
                self._put(operation, content, self._files.incoming(_token(operation.node)), signature)
            except OSError as error:
                self._ledger.failed_here(operation.node, error)
                if error.errno in NAME_REFUSED:
                    whole = self._ledger.state.contents([operation.node])[operation.node]  # including the manifest
                    self._remember(operation, whole, NAME_REFUSED_REASON, None)
            else:
                if operation.node in self._tried:
                    self._ledger.state.forget_unobtainable(operation.node)
        self.checkpoint()

    def _dress(self, operation: Write, content: Content) -> None:
        """Copy the attributes other than the bytes to a downloaded file: from the file that it replaces, or else from
        its directory.
        """
        temporary, path = self._files.incoming(_token(operation.node)), self._target_path(operation)
        if path is None:
            return  # The file has no place here. The operation that moves it reports the reason.
        # The local content of a file that was edited on both sides has become a conflict copy.
        like = path if operation.replaces else self.path(copy_id(operation.node))
        try:
            if like is not None:
                lost = self._files.carry_over(like, temporary, executable=content.executable)
            else:
                lost = self._files.inherit(temporary, path.rpartition("/")[0], executable=content.executable)
        except OSError:
            return  # The file is gone or was replaced; its replacement operation detects this.
        for what in lost:
            self._lost.setdefault(what, []).append(path)

    def _say_what_is_lost(self) -> None:
        for what, paths in sorted(self._lost.items()):
            others = f" and {len(paths) - 1} others" if len(paths) > 1 else ""
            self._ledger.report.notices.append(f"{printable(paths[0])}{others}: {what} could not be kept")
        self._lost.clear()
        if self._leading_out:
            others = f" and {len(self._leading_out) - 1} others" if len(self._leading_out) > 1 else ""
            self._ledger.report.notices.append(
                f"{printable(self._leading_out[0])}{others}: a link that leads out of the folder; it is kept as it is, "
                "and never followed by a sync (--outside-links leave keeps such links out)"
            )
            self._leading_out.clear()

    def _on_the_disk(self, nodes: list[NodeId]) -> bool:
        """Flush the downloaded contents of these nodes to the disk, before they are renamed into place, and return
        True. If the filesystem refuses that, for example because it is full, discard all of them, record the operations
        as failed, and return False.
        """
        temporaries = [self._files.incoming(_token(node)) for node in nodes]
        try:
            if temporaries:
                self._files.flush(temporaries, [])
        except OSError as error:
            for node, temporary in zip(nodes, temporaries, strict=True):
                self._files.discard(temporary)
                self._ledger.failed_here(node, error)
            return False
        return True

    def _place_link(self, operation: Write, content: Content) -> None:
        if "\0" in content.target or target_digest(content.target) != content.digest:
            self._ledger.problem(operation.node, "is a link whose target is not what its version says")
            return
        temporary = self._files.incoming(_token(operation.node))
        try:
            self._files.discard(temporary)
            self._files.make_symlink(temporary, content.target)
            self._dress(operation, content)
            self._put(operation, content, temporary, Signature.of(self._files.stat(temporary)))
            path = self.path(operation.node)
            if path is not None and leads_out(path, content.target):
                self._leading_out.append(path)
        except OSError as error:
            self._ledger.failed_here(operation.node, error)
        except ValueError:
            self._ledger.problem(operation.node, "the target of the link is not possible here; change it in the space")
        self._progress.advance(files=1)

    def _put(self, operation: Write, content: Content, temporary: str, placed: Signature) -> None:
        node, ledger = operation.node, self._ledger
        path = self._target_path(operation)
        if path is None:
            ledger.blocked(node)
            return
        there = ledger.mirror.nodes[node]
        if operation.replaces:
            here = ledger.here[node]
            self._files.replace(temporary, path, here.signature, token=_token(node))
            place = self._at[node]
        else:
            self._files.move(temporary, path)
            place = self._at[node] = self._plan.names[node]
        self._touched(path)
        found = self._files.stat(path)
        if not same_file(found, placed):
            raise FileChanged
        ledger.here[node] = LocalNode(
            id=node,
            parent=place[0],
            name=there.name,
            kind=there.kind,
            digest=content.digest,
            executable=content.executable,
            signature=Signature.of(found),
            local_name=place[1],
        )
        ledger.report.downloaded += 1
        ledger.done(node)

    def set_modes(self) -> None:
        for operation in self._plan.modes:
            node, ledger = operation.node, self._ledger
            path = self.path(node)
            if path is None or ledger.is_failed(node):
                ledger.blocked(node)
                continue
            try:
                executable = ledger.mirror.nodes[node].executable
                self._expect(path, ledger.here[node])
                self._files.set_executable(path, executable=executable)
                signature = self._expect(path, ledger.here[node])
                ledger.update_here(node, executable=executable, signature=signature)
                ledger.done(node)
            except OSError as error:
                ledger.failed_here(node, error)


Known = Callable[[NodeId], Container[Digest | None]]
"""Function that takes a node and returns the digests of those of its contents that the space has."""


def rescue(files: Files, known: Known, path_for: Callable[[NodeId], str], *, discard: bool) -> list[str]:
    """Put files back into the folder that an interrupted run had moved to the private directory, unless the space has
    their content. Return the paths of the files that were put back. A file that cannot be put back stays in the private
    directory.

    - `known` returns the digests of the contents of a node that the space has.
    - `path_for` returns the path at which to put the file of a node.
    - With `discard`, files whose content the space has are removed; otherwise these files stay in the private
      directory.
    """
    rescued = []
    _, outgoing = files.temporaries()
    for token in outgoing:
        path = files.outgoing(token)
        try:
            found = files.stat(path)
            node = original_id(NodeId(bytes.fromhex(token)))
            if stat.S_ISLNK(found.st_mode):
                digest: Digest | None = target_digest(files.read_link(path))
            else:
                hashed = hash_file(files, path)
                digest = hashed.digest if hashed else None
            if digest is not None and digest in known(node):
                if discard:
                    files.discard(path)
            else:
                to = path_for(node)
                files.move(path, to)
                rescued.append(to)
        except (OSError, ValueError):
            continue
    return rescued


def _token(node: NodeId) -> str:
    return node.hex()
