"""The steps of a plan in the folder. Each looks again at what it relies on, just before it acts.

The base says what was done here only after that is on the disk: contents are flushed before they get their names,
directories before the state database is.
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
from syncline.sync.plan.steps import DeleteHere, Fetch, MakeHere, MoveHere, Plan
from syncline.sync.ports import DownloaderPort, SyncProgress
from syncline.sync.scan.digests import hash_file
from syncline.sync.scan.identify import target_digest
from syncline.sync.scan.walk import directory_signature
from syncline.sync.state.database import Unobtainable
from syncline.sync.trees import LocalNode, Place, copy_id, original_id, printable, transit_name
from syncline.transfer.jobs import Downloaded, DownloadJob, LocalBlock, Signature, Suspect, Trouble
from syncline.wire.tree import manifest_to_wire

_TOGETHER = 2048
"""Maximum number of files that are made durable and put in place together."""
_TOGETHER_BYTES = 256 * MIB
"""Maximum number of bytes of the files that are made durable together."""
_LOOKED_UP = 500
_LASTING = {Trouble.CORRUPT, Trouble.MISSING, Trouble.WITHHELD}
"""Troubles with a content that another try does not mend."""
_FIRST_PAUSE_SECONDS = 86_400
_LONGEST_PAUSE_SECONDS = 32 * 86_400
"""After so long it is tried nevertheless, since a device may err, too; twice as long after each time."""


class LocalApplier:
    """The folder's side of one round."""

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
        """`holding` are the directories that have something in them that is not synced and stays.

        `now` is in seconds since 1970.
        """
        self._now = now
        self._tried: dict[NodeId, Unobtainable] = {}
        """The memories of nodes whose contents are fetched now."""
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
        """Attributes of updated files that could not be kept, each with the paths of the files."""
        self._leading_out: list[str] = []
        """Paths of symlinks that came and lead out of the folder."""

    def path(self, node: NodeId) -> str | None:
        """Return the path of a node now; None if the node is not here, or not below the folder."""
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
        """Make everything that was done so far durable on the disk, and then in the state database."""
        if self._dirty:
            self._files.flush([], self._dirty)
            self._dirty.clear()
        self._ledger.state.commit()

    # ---- the shape ----

    def arrange(self) -> None:
        for step in self._plan.arrange_here:
            try:
                match step:
                    case MakeHere():
                        self._make(step)
                    case MoveHere():
                        self._move(step)
                    case DeleteHere():
                        self._delete(step)
            except OSError as error:
                self._ledger.failed_here(step.node, error)

    def _make(self, step: MakeHere) -> None:
        place = self._plan.names[step.node]
        path = self._path_at(place)
        if path is None:
            self._ledger.blocked(step.node)
            return
        self._files.make_directory(path)
        self._at[step.node] = place
        self._touched(path)
        self._ledger.here[step.node] = LocalNode(
            id=step.node,
            parent=place[0],
            name=self._plan.target[step.node][1],
            kind=NodeKind.DIRECTORY,
            digest=None,
            executable=False,
            signature=directory_signature(self._files.stat(path)),
            local_name=place[1],
        )
        self._ledger.done(step.node)

    def _move(self, step: MoveHere) -> None:
        node, ledger = step.node, self._ledger
        path, to = self.path(node), self._path_at(step.to)
        if path is None or to is None or ledger.is_failed(node):
            ledger.blocked(node)
            return
        here = ledger.here[node]
        self._expect(path, here)
        is_directory = here.kind is NodeKind.DIRECTORY
        if self._is_same_name(node, step.to):
            # For the filesystem it is there already; under its transit name it is found again after a crash.
            aside = self._path_at((step.to[0], transit_name(original_id(node)))) or ""
            self._files.move(path, aside, directory=is_directory)
            path = aside
        self._files.move(path, to, directory=is_directory)
        self._at[node] = step.to
        if is_directory:
            self._paths = {ROOT: ""}
        self._touched(path)
        self._touched(to)
        signature = self._expect(to, here)
        ledger.update_here(node, parent=step.to[0], local_name=step.to[1], signature=signature)
        if not step.aside and node not in self._plan.conflicts:
            ledger.report.moved += 1
        ledger.done(node)

    def _is_same_name(self, node: NodeId, to: Place) -> bool:
        """Return True if the filesystem takes another name in the same directory for the one that the node has."""
        (parent, name), key = self._at[node], self._files.naming.key
        return parent == to[0] and name != to[1] and key(name) == key(to[1])

    def _expect(self, path: str, here: LocalNode) -> Signature:
        """The signature of what is at `path`. Changed unless it is what was scanned, as far as a rename leaves that."""
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
        for step in self._plan.delete_here:
            try:
                self._delete(step)
            except OSError as error:
                self._ledger.failed_here(step.node, error)

    def _delete(self, step: DeleteHere) -> None:
        node, ledger = step.node, self._ledger
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
                # The directory stays with the entries in it that are left out, and is unknown to the space from now on.
                ledger.forget(node)
                ledger.done(node)
                return
        elif before is None or here.digest is None or here.digest != before.digest:
            raise FileChanged  # Only what the space has, or had, is ever deleted.
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
        """Bring contents. Raise SynclineError if storage cannot be used at all; what has come until then is in
        place.
        """
        steps = []
        for step in self._plan.fetches:
            if self._ledger.is_failed(step.node) or self._target_path(step) is None:
                self._ledger.blocked(step.node)
            else:
                steps.append(step)
        sizes = self._ledger.mirror.nodes
        self._progress.expect("downloading", files=len(steps), size=sum(sizes[step.node].size for step in steps))
        by_node = {step.node: step for step in steps}
        ready: list[tuple[Fetch, Content, Signature]] = []
        size = 0
        try:
            for result in self._downloader().download(self._jobs(steps)) if steps else ():
                step = by_node[result.job.key]  # type: ignore[index]
                if not isinstance(result, Downloaded):
                    assert isinstance(result.job, DownloadJob)
                    if result.trouble in _LASTING:
                        self._remember(step, result.job.content, result.reason, result.suspect)
                    if result.trouble is Trouble.MISSING:
                        self._ledger.retry(step.node, result.reason)
                    else:
                        self._ledger.problem(step.node, result.reason)
                    continue
                content = result.job.content
                ready.append((step, dataclasses.replace(content, manifest=EMPTY_MANIFEST), result.signature))
                size += content.size
                if len(ready) >= _TOGETHER or size >= _TOGETHER_BYTES:
                    self._place(ready)
                    ready, size = [], 0
        except SynclineError:
            self._place(ready)
            self._say_what_is_lost()
            raise
        self._place(ready)
        self._say_what_is_lost()

    def _jobs(self, steps: list[Fetch]) -> Iterator[DownloadJob]:
        """A job for each file; links are made at once."""
        remaining = iter(steps)
        while batch := list(islice(remaining, _LOOKED_UP)):
            nodes = [step.node for step in batch]
            contents, known = self._ledger.state.contents(nodes), self._ledger.state.unobtainable(nodes)
            self._tried.update(known)
            for step in batch:
                content = contents.get(step.node)
                before = known.get(step.node)
                if before is not None and content is not None and not self._is_to_be_tried(step, content, before):
                    if before.suspect is None:
                        self._ledger.problem(step.node, before.reason)
                        continue
                    suspect: Suspect | None = before.suspect
                else:
                    suspect = None
                if content is None:
                    self._ledger.retry(step.node, "changed in the space meanwhile; will be looked at again")
                elif self._ledger.mirror.nodes[step.node].kind is NodeKind.SYMLINK:
                    self._place_link(step, content)
                elif (job := self._job(step, content, suspect)) is not None:
                    yield job

    def _is_to_be_tried(self, step: Fetch, content: Content, before: Unobtainable) -> bool:
        """Return False if the content is known to be one that cannot be had."""
        return before.is_over(self._now) or before.content != self._identity(step, content)

    def _identity(self, step: Fetch, content: Content) -> bytes:
        """Return a hash that tells the content, under its name here, from all others of the node."""
        manifest = manifest_to_wire(content.manifest).SerializeToString(deterministic=True)
        name = self._plan.names[step.node][1].encode(errors="surrogateescape")
        parts = (content.digest, content.size.to_bytes(8, "big"), content.manifest_object, manifest, name)
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()

    def _remember(self, step: Fetch, content: Content, reason: str, suspect: Suspect | None) -> None:
        """Not to try at each sync what fails at each: that may be gigabytes, by a lie in one small commit."""
        identity, before = self._identity(step, content), self._tried.get(step.node)
        pause = _FIRST_PAUSE_SECONDS
        if before is not None and before.content == identity:
            if before.suspect == suspect and not before.is_over(self._now):
                return
            pause = min(2 * before.pause_seconds, _LONGEST_PAUSE_SECONDS)
        self._tried[step.node] = tried = Unobtainable(identity, reason, suspect, self._now, pause)
        self._ledger.state.put_unobtainable(step.node, tried)

    def _job(self, step: Fetch, content: Content, suspect: Suspect | None) -> DownloadJob | None:
        try:
            like = self._target_path(step) if step.replaces else None
            mode = self._files.mode(executable=content.executable, like=like)
        except OSError as error:
            self._ledger.failed_here(step.node, error)
            return None
        destination = self._files.root / self._files.incoming(_token(step.node))
        known = self._blocks_here(step, content)
        return DownloadJob(step.node, content, destination, mode, known, self._files.root, suspect)

    def _blocks_here(self, step: Fetch, content: Content) -> dict[Digest, LocalBlock]:
        """Return the places of those blocks of the new content that the file which is replaced has."""
        path = self.path(step.node)
        if not step.replaces or path is None or len(content.manifest) < 2:
            return {}
        wanted = {ref.digest for ref in content.manifest.refs()}
        known = {}
        offset = 0
        for ref in self._ledger.state.base_manifest(step.node).refs():
            if ref.digest in wanted:
                known[ref.digest] = LocalBlock(self._files.root / path, offset, self._files.root)
            offset += ref.length
        return known

    def _target_path(self, step: Fetch) -> str | None:
        return self.path(step.node) if step.replaces else self._path_at(self._plan.names[step.node])

    def _place(self, ready: list[tuple[Fetch, Content, Signature]]) -> None:
        """Put downloaded contents in place."""
        for step, content, _ in ready:
            self._dress(step, content)
        if not self._on_the_disk([step.node for step, _, _ in ready]):
            ready = []
        for step, content, signature in ready:
            try:
                self._put(step, content, self._files.incoming(_token(step.node)), signature)
            except OSError as error:
                self._ledger.failed_here(step.node, error)
                if error.errno in NAME_REFUSED:
                    whole = self._ledger.state.contents([step.node])[step.node]  # with its manifest
                    self._remember(step, whole, NAME_REFUSED_REASON, None)
            else:
                if step.node in self._tried:
                    self._ledger.state.forget_unobtainable(step.node)
        self.checkpoint()

    def _dress(self, step: Fetch, content: Content) -> None:
        """Give what came in what it has besides its bytes: of the file that it replaces, else of its directory."""
        temporary, path = self._files.incoming(_token(step.node)), self._target_path(step)
        if path is None:
            return  # The file has no place here. The step that moves it reports the reason.
        # What was here of a file that was edited on both sides has become a copy.
        like = path if step.replaces else self.path(copy_id(step.node))
        try:
            if like is not None:
                lost = self._files.carry_over(like, temporary, executable=content.executable)
            else:
                lost = self._files.inherit(temporary, path.rpartition("/")[0], executable=content.executable)
        except OSError:
            return  # The file is gone or another one now, which is found out when it is replaced.
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
        """Flush what came for these nodes, to be named then. A filesystem may say only now that it is full."""
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

    def _place_link(self, step: Fetch, content: Content) -> None:
        temporary = self._files.incoming(_token(step.node))
        try:
            self._files.discard(temporary)
            self._files.make_symlink(temporary, content.target)
            self._dress(step, content)
            self._put(step, content, temporary, Signature.of(self._files.stat(temporary)))
            path = self.path(step.node)
            if path is not None and leads_out(path, content.target):
                self._leading_out.append(path)
        except OSError as error:
            self._ledger.failed_here(step.node, error)
        except ValueError:
            self._ledger.problem(step.node, "the target of the link is not possible here; change it in the space")
        self._progress.advance(files=1)

    def _put(self, step: Fetch, content: Content, temporary: str, placed: Signature) -> None:
        node, ledger = step.node, self._ledger
        path = self._target_path(step)
        if path is None:
            ledger.blocked(node)
            return
        there = ledger.mirror.nodes[node]
        if step.replaces:
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
        for step in self._plan.modes:
            node, ledger = step.node, self._ledger
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
"""Function that returns the contents of a node that the space has."""


def rescue(files: Files, known: Known, path_for: Callable[[NodeId], str], *, discard: bool) -> list[str]:
    """Give back what an interrupted step had moved aside, unless the space has that content.

    What the space has goes, with `discard`, or stays aside. `path_for` is where the file of a node goes. Returns the
    paths of what was given back.
    """
    rescued = []
    for token in files.temporaries()[1]:
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
