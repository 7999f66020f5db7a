"""Uploading files: read and cut -> find missing objects -> pack -> put -> seal.

Two threads read, a few put objects, two call the service. The bytes in memory are bounded: blocks count from when they
are cut until they are stored, and an open pack counts as a full one.

A method whose name ends in `_locked` is called with the lock of the run held.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Final, NamedTuple, Protocol

from syncline.model.blocks import (
    EMPTY_MANIFEST,
    MAX_INLINE_BLOCKS,
    MAX_OBJECT_BYTES,
    MIB,
    MIN_BLOCK_BYTES,
    PACK_BYTES,
    BlockRef,
    Digest,
    Manifest,
)
from syncline.model.chunking import Block, digest_of
from syncline.model.tree import Content
from syncline.model.verdicts import SealVerdict
from syncline.sdk.space import Declaration, Form
from syncline.transfer.jobs import Failed, Trouble, Uploaded, UploadJob
from syncline.transfer.memory_budget import Budget
from syncline.transfer.objects import ObjectStore
from syncline.transfer.pack import PackBuilder
from syncline.transfer.pipeline import GivenUp, Run
from syncline.transfer.progress import NoTransferProgress, TransferProgress
from syncline.transfer.read import FileReader, NotRead, Read
from syncline.wire.tree import manifest_to_wire

WORKERS: Final = 8
"""Number of concurrent PUT requests. More were slower in measurements."""
MEMORY_BYTES: Final = 64 * MIB
MIN_MEMORY_BYTES: Final = 32 * MIB
"""Minimum memory in bytes of an upload: an open pack, blocks that are waiting to be looked up together, and the largest
block have to fit.
"""
MAX_ATTEMPTS: Final = 3
"""Maximum number of attempts to upload a file if storage had other bytes under the keys of its objects."""
_READERS: Final = 2
_CALLERS: Final = 2

_MAX_UNREAD_JOBS: Final = 1024
_MAX_WAITING_FILES: Final = 16_384
"""Maximum number of files that wait for one pack before it is closed: many small files may share the same few blocks.
"""
_OPEN_PACK_BYTES: Final = PACK_BYTES + MIN_BLOCK_BYTES
_MIN_SEAL_BLOCKS: Final = 32
_MAX_UNSEALED_SECONDS: Final = 0.5
_MAX_REMEMBERED_BLOCKS: Final = 65_536

KnownBlocks = Callable[[Digest], BlockRef | None]
"""Function that returns the object and the offset of a block in this space, or None if they are not known. It is called
from several threads, but never from two at once.
"""


class Sealing(Protocol):
    """The methods of a Space that an upload needs."""

    def find_missing(self, objects: Sequence[Digest]) -> set[Digest]:
        """Return those of `objects` that are not sealed in this space."""

    def seal(self, objects: Sequence[Declaration]) -> list[SealVerdict]:
        """Have the service check that uploaded objects hold what their declarations say, and record the objects as
        sealed; return one verdict for each, in order.
        """


def nothing_known(digest: Digest) -> BlockRef | None:  # noqa: ARG001 - a KnownBlocks
    """Return None for every block: no block is known."""
    return None


class Uploader:
    """Uploads files to one space. Each call of `upload` has its own threads, which end with the call."""

    def __init__(
        self,
        space: Sealing,
        store: ObjectStore,
        known_blocks: KnownBlocks = nothing_known,
        workers: int = WORKERS,
        progress: TransferProgress | None = None,
        *,
        memory: int = MEMORY_BYTES,
    ) -> None:
        if memory < MIN_MEMORY_BYTES:
            raise ValueError(f"an upload needs {MIN_MEMORY_BYTES} bytes")
        self._space = space
        self._store = store
        self._known_blocks = known_blocks
        self._workers = workers
        self._progress = progress or NoTransferProgress()
        self._memory = memory

    def upload(self, jobs: Iterable[UploadJob]) -> Iterator[Uploaded | Failed]:
        """Upload each job. Yield one result for each, in any order: Uploaded as soon as all objects of the content are
        sealed, and Failed if the job has failed.

        `jobs` is consumed in the caller's thread, somewhat ahead of the results. If the service or storage is
        unavailable, the SynclineError with the reason is raised after all available results.
        """
        run = _Upload(
            space=self._space,
            store=self._store,
            known_blocks=self._known_blocks,
            workers=self._workers,
            progress=self._progress,
            memory=self._memory,
        )
        return run.results(jobs)


class _Object:
    """An object that is being uploaded: a pack, a single block or a manifest.

    - `builder` collects the blocks of a pack while it is open, and `declaration` is None until it is closed.
    - `kept` is the number of bytes that the object holds in memory until it is stored.
    - `refused` is the verdict of the service if it has not sealed the object.
    """

    __slots__ = ("builder", "data", "declaration", "done", "kept", "refused", "waiting")

    def __init__(
        self,
        *,
        kept: int,
        declaration: Declaration | None = None,
        data: bytes = b"",
        builder: PackBuilder | None = None,
    ) -> None:
        self.kept = kept
        self.declaration = declaration
        self.data = data
        self.builder = builder
        self.done = False
        self.refused: SealVerdict | None = None
        self.waiting: list[_File] = []

    @property
    def declared(self) -> Declaration:
        assert self.declaration is not None, "a pack is declared when it is closed"
        return self.declaration

    def full(self) -> bool:
        """Return True if the object is an open pack that has to be closed, because it has as many bytes or blocks as a
        pack may have.
        """
        return self.builder is not None and self.builder.full


class _Placed(NamedTuple):
    """The object of this run that contains a block, and the block's offset in it, in bytes."""

    object: _Object
    offset: int


class _PlacedBlock(NamedTuple):
    """A block that this run stores: its digest, its length in bytes, and its place."""

    digest: Digest
    length: int
    placed: _Placed

    def ref(self) -> BlockRef:
        """Return the reference to the block: its object, offset and length. A pack that contains it must be closed,
        because only then the name of the pack is known.
        """
        return BlockRef(self.digest, self.length, self.placed.object.declared.digest, self.placed.offset)


class _File:
    """A file in progress. `waits` counts the pending steps: reading, and the sealing of each object.

    `again` is True if the file failed because storage had other bytes under the key of an object, so that it has to be
    read again.
    """

    __slots__ = ("again", "attempt", "failed", "job", "manifest_object", "read", "refs", "waits")

    def __init__(self, job: UploadJob, attempt: int = 1) -> None:
        self.job = job
        self.attempt = attempt
        self.again = False
        self.read: Read | None = None
        self.refs: list[BlockRef | _PlacedBlock] = []
        self.waits = 1
        self.failed: Failed | None = None
        self.manifest_object: _Object | None = None

    def manifest(self) -> Manifest:
        """Return the manifest of a file without pending steps, whose packs are all closed."""
        return Manifest.of([ref if isinstance(ref, BlockRef) else ref.ref() for ref in self.refs])


class _Upload(Run[Uploaded | Failed]):
    """Carries out one call of `Uploader.upload`: reads and cuts the files, and packs, stores and seals their blocks."""

    def __init__(
        self,
        *,
        space: Sealing,
        store: ObjectStore,
        known_blocks: KnownBlocks,
        workers: int,
        progress: TransferProgress,
        memory: int,
    ) -> None:
        super().__init__()
        self._space = space
        self._store = store
        self._known_blocks = known_blocks
        self._progress = progress
        self._budget = Budget(memory)
        self._ask_limit = memory // 4
        self._puts = self.executor(workers, "put")
        self._calls = self.executor(_CALLERS, "call")
        self._unread: SimpleQueue[_File | None] = SimpleQueue()
        self._known_lock = threading.Lock()
        self._room = threading.Condition(self.lock)
        self._input_ended = False
        self._reading = 0
        """Number of files that are not read yet."""
        self._storing = 0
        """Number of objects that are being looked up or stored."""
        self._pack: _Object | None = None
        self._to_ask: list[_Object] = []
        self._ask_bytes = 0
        self._to_seal: list[_Object] = []
        self._oldest_to_seal = 0.0
        self._remembered: OrderedDict[Digest, _Placed] = OrderedDict()

    def results(self, jobs: Iterable[UploadJob]) -> Iterator[Uploaded | Failed]:
        try:
            for i in range(_READERS):
                self.thread(self._read_files, f"read-{i}")
            for job in jobs:
                self._offer(job)
                while self.ready():
                    yield self.next()
            with self.lock:
                self._input_ended = True
            self._go_on()
            while self.unreported:
                yield self.next()
        finally:
            self.stop()

    def _offer(self, job: UploadJob) -> None:
        with self._room:
            while self._reading >= _MAX_UNREAD_JOBS and not self.stopping:
                self._room.wait()
            self._reading += 1
        self.expect()
        self._unread.put(_File(job))

    def wake(self) -> None:
        with self._room:
            self._room.notify_all()
        self._budget.close()
        for _ in range(_READERS):
            self._unread.put(None)

    # ---- reading ----

    def _read_files(self) -> None:
        reader = FileReader()
        while (file := self._unread.get()) is not None:
            self._read_file(reader, file)

    def _read_file(self, reader: FileReader, file: _File) -> None:
        try:
            file.read = reader.read(file.job, partial(self._place, file))
        except NotRead as error:
            file.failed, file.again = Failed(file.job, error.reason, error.trouble), False
        with self._room:
            self._reading -= 1
            self._room.notify()
            file.waits -= 1
            ready = not file.waits
        if ready:
            self._complete(file)
        if not self._reading:
            self._go_on()

    def _place(self, file: _File, block: Block) -> None:
        """Let the file have the block: refer to a copy in the space or in this run if there is one, and otherwise put
        the block into an object to be stored.
        """
        known = self._known(block)
        if known is not None:
            file.refs.append(known)
        elif not self._place_again(file, block):
            if len(block.data) < MIN_BLOCK_BYTES:
                self._place_in_pack(file, block)
            else:
                self._place_alone(file, block)
            return
        self._progress.advance(size=len(block.data))

    def _known(self, block: Block) -> BlockRef | None:
        with self._known_lock:
            ref = self._known_blocks(block.digest)
        return ref if ref is not None and ref.length == len(block.data) else None

    def _place_again(self, file: _File, block: Block) -> bool:
        """If this run has already stored the same block, use that copy for `file` and return True. Return False if this
        run has not stored the block, or if the service refused the copy. Raise GivenUp if the run has ended.
        """
        with self.lock:
            if self.stopping:
                raise GivenUp
            placed = self._remembered.get(block.digest)
            if placed is None or placed.object.refused is not None:
                return False
            self._refer_locked(file, block, placed)
            self._close_full_pack_locked()
            return True

    def _place_in_pack(self, file: _File, block: Block) -> None:
        while True:
            with self.lock:
                pack = self._pack
                if pack is not None:
                    assert pack.builder is not None
                    placed = _Placed(pack, pack.builder.add(block))
                    self._remember_locked(block, placed)
                    self._refer_locked(file, block, placed)
                    self._close_full_pack_locked()
                    return
            self._budget.take(_OPEN_PACK_BYTES)
            with self.lock:
                surplus = self._pack is not None
                if not surplus:
                    self._pack = _Object(kept=_OPEN_PACK_BYTES, builder=PackBuilder())
            if surplus:
                self._budget.give_back(_OPEN_PACK_BYTES)

    def _close_full_pack_locked(self) -> None:
        pack = self._pack
        if pack is not None and (pack.full() or len(pack.waiting) >= _MAX_WAITING_FILES):
            self._pack = None
            self._start_storing_locked(pack)

    def _place_alone(self, file: _File, block: Block) -> None:
        size = len(block.data)
        self._budget.take(size)
        one = _Object(kept=size, declaration=Declaration(block.digest, size), data=block.data)
        with self.lock:
            # If the other reader has placed it at the same moment, it is stored twice, which does no harm.
            placed = _Placed(one, 0)
            self._remember_locked(block, placed)
            self._refer_locked(file, block, placed)
            self._to_ask.append(one)
            self._ask_bytes += size
            if self._ask_bytes >= self._ask_limit:
                self._start_asking_locked()

    def _remember_locked(self, block: Block, placed: _Placed) -> None:
        self._remembered[block.digest] = placed
        if len(self._remembered) > _MAX_REMEMBERED_BLOCKS:
            self._remembered.popitem(last=False)

    def _refer_locked(self, file: _File, block: Block, placed: _Placed) -> None:
        file.refs.append(_PlacedBlock(block.digest, len(block.data), placed))
        one = placed.object
        if not one.done:
            one.waiting.append(file)
            file.waits += 1

    # ---- storing ----

    def _ask(self, objects: list[_Object]) -> None:
        missing = self._space.find_missing([one.declared.digest for one in objects])
        for one in objects:
            if one.declared.digest in missing:
                with self.lock:
                    self._start_storing_locked(one)
            else:
                self._stored(one)
                self._settle(one, None)

    def _put(self, one: _Object) -> None:
        if one.builder is not None:
            pack = one.builder.close()
            one.builder, one.data, one.declaration = None, pack.data, pack.declaration
        self._store.put(one.declared.digest, one.data)
        self._stored(one)
        with self.lock:
            if not self._to_seal:
                self._oldest_to_seal = time.monotonic()
            self._to_seal.append(one)

    def _stored(self, one: _Object) -> None:
        one.data = b""
        self._budget.give_back(one.kept)
        self._progress.advance(size=one.declared.size if one.kept else 0)

    def _seal(self, objects: list[_Object]) -> None:
        verdicts = self._space.seal([one.declared for one in objects])
        for one, verdict in zip(objects, verdicts, strict=True):
            self._settle(one, None if verdict is SealVerdict.SEALED else verdict)

    def _settle(self, one: _Object, refused: SealVerdict | None) -> None:
        """Record the service's verdict on the object `one`, and continue with the files that wait for it. `refused` is
        None if the object is sealed, otherwise the verdict that refuses it for good.
        """
        with self.lock:
            one.done, one.refused = True, refused
            waiting, one.waiting = one.waiting, []
            ready = []
            for file in waiting:
                if refused is not None and file.failed is None:
                    file.failed, file.again = _refused(file.job, refused), refused.put_again
                file.waits -= 1
                if not file.waits:
                    ready.append(file)
        for file in ready:
            self._complete(file)

    def _complete(self, file: _File) -> None:
        """Continue with a file without pending steps, which no other thread uses any more. Read it again if it failed
        because of other bytes in storage, or store its manifest as an object if the manifest is long; otherwise report
        its result.
        """
        if file.failed is not None:
            if file.again and file.attempt < MAX_ATTEMPTS:
                self._read_again(file)
            else:
                self.finish(file.failed)
            return
        assert file.read is not None
        manifest, manifest_object = EMPTY_MANIFEST, b""
        if file.manifest_object is not None:
            manifest_object = file.manifest_object.declared.digest
        elif len(file.refs) <= MAX_INLINE_BLOCKS:
            manifest = file.manifest()
        else:
            self._store_manifest(file)
            return
        content = Content(
            digest=file.read.digest,
            size=file.read.signature.size,
            mtime_ns=file.read.signature.mtime_ns,
            executable=file.read.executable,
            manifest=manifest,
            manifest_object=manifest_object,
        )
        self._progress.advance(files=1)
        self.finish(Uploaded(file.job, content, file.read.signature))

    def _read_again(self, file: _File) -> None:
        """Read a file again: other bytes, now removed, were stored under the key of one of its objects, and its own
        bytes are no longer in memory.
        """
        assert file.read is not None, "what is refused has been read"
        self._progress.advance(size=-file.read.signature.size)
        with self._room:
            self._reading += 1
        self._unread.put(_File(file.job, file.attempt + 1))

    def _store_manifest(self, file: _File) -> None:
        """Store the manifest as a separate object, now that all blocks are sealed."""
        data = manifest_to_wire(file.manifest()).SerializeToString(deterministic=True)
        if len(data) > MAX_OBJECT_BYTES:
            self.finish(Failed(file.job, "is too large; it cannot be synced", Trouble.REFUSED))
            return
        one = _Object(kept=0, declaration=Declaration(digest_of(data), len(data), Form.MANIFEST), data=data)
        one.waiting.append(file)
        file.manifest_object, file.waits = one, 1
        with self.lock:
            self._start_storing_locked(one)

    # ---- tasks ----

    def _go_on(self) -> None:
        """Start the work that is ready: at the end of the input, also batches of look-ups and packs that are not
        full.
        """
        with self.lock:
            if self.stopping:
                return
            read = self._input_ended and not self._reading
            if read and self._to_ask:
                self._start_asking_locked()
            if read and self._pack is not None:
                pack, self._pack = self._pack, None
                self._start_storing_locked(pack)
            if self._to_seal and (self._seal_is_due_locked() or (read and not self._storing)):
                batch, self._to_seal = self._to_seal, []
                self.start(self._calls, partial(self._seal, batch))

    def _seal_is_due_locked(self) -> bool:
        # A pack blocks many files, and the service has to read it, so it is sealed at once.
        return (
            len(self._to_seal) >= _MIN_SEAL_BLOCKS
            or any(one.declared.form is not Form.BLOCK for one in self._to_seal)
            or time.monotonic() - self._oldest_to_seal >= _MAX_UNSEALED_SECONDS
        )

    def _start_storing_locked(self, one: _Object) -> None:
        self._storing += 1
        self.start(self._puts, partial(self._storing_task, partial(self._put, one)))

    def _start_asking_locked(self) -> None:
        batch, self._to_ask, self._ask_bytes = self._to_ask, [], 0
        self._storing += 1
        self.start(self._calls, partial(self._storing_task, partial(self._ask, batch)))

    def _storing_task(self, work: Callable[[], None]) -> None:
        work()
        with self.lock:
            self._storing -= 1
        self._go_on()


def _refused(job: UploadJob, verdict: SealVerdict) -> Failed:
    return Failed(
        job, f"the service did not accept what was uploaded ({verdict.name}); will be tried again", Trouble.REFUSED
    )
