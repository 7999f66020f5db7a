"""Downloading contents: check existing files -> group requested blocks by object -> get ranges -> verify -> write.

Every block is verified by its SHA-256 when it arrives, and every file by its own before it is reported. The bytes in
memory are bounded by the number of workers, each of which holds one range.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from syncline.model.blocks import KIB, MIB, PACK_BYTES, BlockRef, Digest, MalformedManifest, Manifest
from syncline.model.chunking import digest_of
from syncline.model.tree import Content
from syncline.transfer.jobs import Downloaded, DownloadJob, Failed, Signature, Suspect, Trouble
from syncline.transfer.objects import ObjectMissing, ObjectStore, ObjectWithheld
from syncline.transfer.pipeline import GivenUp, Run
from syncline.transfer.progress import NoTransferProgress, TransferProgress
from syncline.transfer.safe_open import unlink_below
from syncline.transfer.write import DownloadTarget, NotWritten, contradiction, write_small
from syncline.wire.tree import manifest_from_bytes

WORKERS: Final = 8
"""Number of concurrent GET requests."""

_MAX_WINDOW_FILES: Final = 8192
_MAX_WINDOW_BYTES: Final = 512 * MIB
"""Size in bytes of the files that are planned together, so that all blocks from one pack are fetched with one request.
"""
_MAX_GAP_BYTES: Final = 256 * KIB
"""Maximum size in bytes of a gap between two requested blocks of an object, up to which one request fetches both blocks
and the gap. A larger gap takes longer to transfer than a second request.
"""
_MAX_RANGE_BYTES: Final = PACK_BYTES + MIB
_ABSENT: Final = "absent"
"""The tag that stands for an object which storage does not have."""
_KEPT_BACK: Final = "kept back"
"""The tag that stands for an object which storage has and does not return (ObjectWithheld)."""
_UNAVAILABLE: Final = {
    _ABSENT: (Trouble.MISSING, "is not in storage any more, or storage denies it; it cannot be downloaded"),
    _KEPT_BACK: (
        Trouble.WITHHELD,
        "is archived or encrypted in storage; it cannot be downloaded",
    ),
}


class Downloader:
    """Downloads contents of one space. Each call of `download` has its own threads, which end with the call."""

    def __init__(self, store: ObjectStore, workers: int = WORKERS, progress: TransferProgress | None = None) -> None:
        self._store = store
        self._workers = workers
        self._progress = progress or NoTransferProgress()

    def download(self, jobs: Iterable[DownloadJob]) -> Iterator[Downloaded | Failed]:
        """Download each job. Yield one result for each, in any order: Downloaded or Failed.

        `jobs` is consumed in the caller's thread, somewhat ahead of the results. If storage is unavailable, the
        SynclineError with the reason is raised after all available results. Partially written files then stay, so that
        a later call with the same destinations resumes them.
        """
        return _Download(self._store, self._workers, self._progress).results(jobs)


@dataclass(slots=True)
class _Window:
    """A group of files for which the ranges of objects to request are determined together, once the last file of the
    group is prepared. `unprepared` is the number of files that are not prepared yet. `wants` has the blocks to fetch,
    by object.
    """

    unprepared: int = 0
    wants: defaultdict[Digest, list[_Want]] = field(default_factory=lambda: defaultdict(list))

    def add(self, want: _Want) -> None:
        self.wants[want.ref.object].append(want)


@dataclass(frozen=True, slots=True)
class _Want:
    """One block that one file needs: a `DownloadTarget` and the index of the block, or a job whose whole content is the
    block.
    """

    ref: BlockRef
    file: DownloadTarget | DownloadJob
    index: int = 0


class _Download(Run[Downloaded | Failed]):
    """Carries out one call of `Downloader.download`: plans the ranges, and fetches, verifies and writes the blocks."""

    def __init__(self, store: ObjectStore, workers: int, progress: TransferProgress) -> None:
        super().__init__()
        self._store = store
        self._progress = progress
        self._workers = self.executor(workers, "get")
        self._unreported_bytes = 0
        self._tags: dict[Digest, str] = {}
        """The present tag of each object that was checked because it caused a failure before, by digest."""

    # ---- the caller's thread ----

    def results(self, jobs: Iterable[DownloadJob]) -> Iterator[Downloaded | Failed]:
        try:
            for jobs_together in _windows(jobs):
                self._begin(jobs_together)
                while self.ready() or self._enough_under_way():
                    yield self._report()
            while self.unreported:
                yield self._report()
        except GivenUp:
            raise self.error() from None
        finally:
            self.stop()

    def _enough_under_way(self) -> bool:
        return self.unreported > _MAX_WINDOW_FILES // 2 or self._unreported_bytes > _MAX_WINDOW_BYTES // 2

    def _report(self) -> Downloaded | Failed:
        result = self.next()
        assert isinstance(result.job, DownloadJob)
        self._unreported_bytes -= result.job.content.size
        return result

    def _begin(self, jobs: list[DownloadJob]) -> None:
        window = _Window()
        empty: list[DownloadJob] = []
        others: list[DownloadJob] = []
        for job in jobs:
            self.expect()
            content = job.content
            self._unreported_bytes += content.size
            if not content.size:
                empty.append(job)
            elif len(content.manifest) != 1 or job.known or job.suspect:
                others.append(job)
            else:
                # Most files need no check of existing data: they are downloaded as a whole.
                try:
                    (ref,) = _checked(content.manifest, content)
                    window.add(_Want(ref, job))
                except NotWritten as error:
                    self._fail(job, error)
        if empty:
            self.start(self._workers, partial(self._write_empty, empty))
        window.unprepared = len(others)
        if not others:
            self._plan(window)
        for job in others:
            self.start(self._workers, partial(self._prepare, window, job))

    # ---- looking at what is here ----

    def _prepare(self, window: _Window, job: DownloadJob) -> None:
        try:
            self._look_again(job)
            target = DownloadTarget(job, self._refs(job))
            wanted, written = target.prepare()
            wants = [_Want(target.refs[index], target, index) for index in wanted]
            self._progress.advance(size=job.content.size - sum(want.ref.length for want in wants))
            if written is not None:
                self._succeed(job, written)
        except NotWritten as error:
            wants = []
            self._fail(job, error)
        with self.lock:
            for want in wants:
                window.add(want)
            window.unprepared -= 1
            ready = not window.unprepared
        if ready:
            self._plan(window)

    def _look_again(self, job: DownloadJob) -> None:
        """Raise NotWritten, without a download, if the job failed before because of an object, and that object has not
        been replaced since.
        """
        suspect = job.suspect
        if suspect is None:
            return
        if suspect.object not in self._tags:
            self._tags[suspect.object] = self._tag(suspect.object)
        if self._tags[suspect.object] == suspect.tag:
            raise _unavailable(suspect)

    def _tag(self, digest: Digest) -> str:
        """Return the tag of the object with this digest, which changes if the object is replaced; a fixed text if the
        object does not exist or storage does not return it.
        """
        try:
            return self._store.tag(digest)
        except ObjectMissing:
            return _ABSENT
        except ObjectWithheld:
            return _KEPT_BACK

    def _refs(self, job: DownloadJob) -> list[BlockRef]:
        content = job.content
        if not content.manifest_object:
            return _checked(content.manifest, content)
        digest, tag = Digest(content.manifest_object), ""
        try:
            data = self._store.get(digest)
            if digest_of(data) != digest:
                tag = self._tag(digest)
                data = self._store.get(digest)
        except (ObjectMissing, ObjectWithheld) as error:
            raise _unavailable(_suspect(digest, error)) from None
        if digest_of(data) != digest:
            raise _unavailable(Suspect(digest, tag))
        try:
            return _checked(manifest_from_bytes(bytes(data)), content)
        except MalformedManifest:
            raise contradiction() from None

    # ---- fetching ----

    def _plan(self, window: _Window) -> None:
        for digest, wants in window.wants.items():
            for together in _ranges(wants):
                self.start(self._workers, partial(self._fetch, digest, together))

    def _fetch(self, digest: Digest, wants: list[_Want]) -> None:
        """Get one range of an object that contains all of `wants`, and repeat the request once if some of the blocks
        are damaged.
        """
        wants = [want for want in wants if isinstance(want.file, DownloadJob) or not want.file.failed]
        suspect = Suspect(digest, "")
        for attempt in range(2):
            if not wants:
                return
            if attempt:  # the tag is read before the object: a later replacement then has a different tag
                suspect = Suspect(digest, self._tag(digest))
            start = wants[0].ref.offset
            length = max(want.ref.offset + want.ref.length for want in wants) - start
            try:
                data = self._store.get_range(digest, start, length)
            except (ObjectMissing, ObjectWithheld) as error:
                suspect = _suspect(digest, error)
                break
            wants = self._take(wants, data, start)
        for want in wants:
            self._fail(want.file, _unavailable(suspect))

    def _take(self, wants: list[_Want], data: memoryview, start: int) -> list[_Want]:
        """Verify the blocks in the bytes `data`, which begin at offset `start` of the object, and write each to its
        file; return those that are damaged.
        """
        wrong = []
        verified: BlockRef | None = None
        for want in wants:
            ref = want.ref
            block = data[ref.offset - start : ref.offset - start + ref.length]
            if ref != verified:  # several files may need the same block
                if digest_of(block) != ref.digest:
                    wrong.append(want)
                    continue
                verified = ref
            self._put(want, block)
        return wrong

    def _put(self, want: _Want, block: memoryview) -> None:
        written: Signature | None
        try:
            if isinstance(want.file, DownloadJob):
                written = write_small(want.file, block)
            else:
                written = None if want.file.failed else want.file.put(want.index, block)
        except NotWritten as error:
            self._fail(want.file, error)
            return
        self._progress.advance(size=len(block))
        if written is not None:
            self._succeed(want.file if isinstance(want.file, DownloadJob) else want.file.job, written)

    def _write_empty(self, jobs: list[DownloadJob]) -> None:
        for job in jobs:
            try:
                self._succeed(job, write_small(job, b""))
            except NotWritten as error:
                self._fail(job, error)

    # ---- results ----

    def _succeed(self, job: DownloadJob, written: Signature) -> None:
        self._progress.advance(files=1)
        self.finish(Downloaded(job, written))

    def _fail(self, file: DownloadTarget | DownloadJob, error: NotWritten) -> None:
        """Report the failure of a file that cannot be downloaded, unless a result for it was reported before, and
        remove its temporary file.
        """
        if isinstance(file, DownloadTarget):
            with self.lock:
                if file.failed:
                    return
                file.failed = True
            file = file.job
        with suppress(OSError):
            unlink_below(file.root, file.destination)
        self.finish(Failed(file, error.reason, error.trouble, error.suspect))


def _windows(jobs: Iterable[DownloadJob]) -> Iterator[list[DownloadJob]]:
    window: list[DownloadJob] = []
    size = 0
    for job in jobs:
        window.append(job)
        size += job.content.size
        if len(window) >= _MAX_WINDOW_FILES or size >= _MAX_WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def _ranges(wants: list[_Want]) -> Iterator[list[_Want]]:
    """Yield groups of blocks of one object, by offset; each group is fetched with one request."""
    together: list[_Want] = []
    start = end = 0
    for want in sorted(wants, key=lambda want: want.ref.offset):
        offset, length = want.ref.offset, want.ref.length
        if together and (offset > end + _MAX_GAP_BYTES or offset + length > start + _MAX_RANGE_BYTES):
            yield together
            together = []
        if not together:
            start = end = offset
        together.append(want)
        end = max(end, offset + length)
    yield together


def _checked(manifest: Manifest, content: Content) -> list[BlockRef]:
    try:
        manifest.check()
    except MalformedManifest:
        raise contradiction() from None
    if manifest.size != content.size or (len(manifest) == 1 and manifest.blocks != content.digest):
        raise contradiction()
    if manifest.is_too_fine:  # no service accepts it, and each of its blocks may take a request
        raise contradiction()
    return list(manifest.refs())


def _suspect(digest: Digest, error: ObjectMissing | ObjectWithheld) -> Suspect:
    return Suspect(digest, _ABSENT if isinstance(error, ObjectMissing) else _KEPT_BACK)


def _unavailable(suspect: Suspect) -> NotWritten:
    trouble, text = _UNAVAILABLE.get(suspect.tag, (Trouble.CORRUPT, "is damaged in storage; it cannot be downloaded"))
    return NotWritten(trouble, text, suspect)
