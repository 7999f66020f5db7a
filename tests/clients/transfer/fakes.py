"""Storage and service in memory, as strict as the real ones, with faults on demand."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from syncline.metadata.v1 import journal_pb2
from syncline.model.blocks import DIGEST_BYTES, MAX_PACK_ENTRIES, MIB, MIN_BLOCK_BYTES, PACK_BYTES, Digest
from syncline.model.tree import Content
from syncline.model.verdicts import SealVerdict
from syncline.sdk.space import Declaration, Form, PackEntries
from syncline.transfer.jobs import Downloaded, DownloadJob, Failed, Uploaded, UploadJob
from syncline.transfer.objects import ObjectMissing
from syncline.transfer.upload import Uploader
from syncline.wire.tree import manifest_from_wire

SEED = 20261124


def noise(size: int, seed: int = SEED) -> bytes:
    """The same bytes each time, which do not compress and do not repeat."""
    return random.Random(seed).randbytes(size)


def sha256(data: bytes | memoryview) -> Digest:
    return Digest(hashlib.sha256(data).digest())


class Total:
    """TransferProgress that adds up."""

    def __init__(self) -> None:
        self.files = self.size = 0
        self._lock = threading.Lock()

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        with self._lock:
            self.files += files
            self.size += size


class MemoryStore:
    """ObjectStore in memory. `on_put` and `on_get` may raise, wait, or change what goes by."""

    def __init__(self) -> None:
        self.objects: dict[Digest, bytes] = {}
        self.puts: list[Digest] = []
        self.gets: list[tuple[Digest, int, int]] = []
        self.tags: list[Digest] = []
        self.on_put: Callable[[Digest, bytes], None] = lambda digest, data: None
        self.on_get: Callable[[Digest, bytes], bytes] = lambda digest, data: data
        self._lock = threading.Lock()

    def put(self, digest: Digest, data: bytes) -> None:
        assert type(data) is bytes, "nobody can change what is immutable"
        assert sha256(data) == digest, "an object is named by its bytes"
        self.on_put(digest, data)
        with self._lock:
            self.puts.append(digest)
            self.objects.setdefault(digest, data)

    def get(self, digest: Digest) -> memoryview:
        return self.get_range(digest, 0, len(self.objects.get(digest, b"")))

    def get_range(self, digest: Digest, offset: int, length: int) -> memoryview:
        with self._lock:
            self.gets.append((digest, offset, length))
        if digest not in self.objects:
            raise ObjectMissing
        return memoryview(self.on_get(digest, self.objects[digest][offset : offset + length]))

    def tag(self, digest: Digest) -> str:
        with self._lock:
            self.tags.append(digest)
        if digest not in self.objects:
            raise ObjectMissing
        return hashlib.md5(self.on_get(digest, self.objects[digest]), usedforsecurity=False).hexdigest()


class MemorySpace:
    """Sealing in memory: it believes nothing. `on_seal` may raise or overrule a verdict."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.sealed: dict[Digest, Declaration] = {}
        self.calls: Counter[str] = Counter()
        self.on_find: Callable[[], None] = lambda: None
        self.on_seal: Callable[[Declaration], SealVerdict | None] = lambda declaration: None
        self._lock = threading.Lock()

    def find_missing(self, objects: Sequence[Digest]) -> set[Digest]:
        self.on_find()
        with self._lock:
            self.calls["find_missing"] += 1
            return {digest for digest in objects if digest not in self.sealed}

    def seal(self, objects: Sequence[Declaration]) -> list[SealVerdict]:
        with self._lock:
            self.calls["seal"] += 1
            verdicts = [self.on_seal(one) or self._verdict(one) for one in objects]
            for one, verdict in zip(objects, verdicts, strict=True):
                if verdict is SealVerdict.SEALED:
                    self.sealed[one.digest] = one
            return verdicts

    def _verdict(self, one: Declaration) -> SealVerdict:
        data = self.store.objects.get(one.digest)
        if data is None:
            return SealVerdict.OBJECT_MISSING
        if sha256(data) != one.digest:
            del self.store.objects[one.digest]
            return SealVerdict.CHECKSUM_MISMATCH if len(data) == one.size else SealVerdict.SIZE_MISMATCH
        if len(data) != one.size:
            return SealVerdict.SIZE_MISMATCH
        match one.form:
            case PackEntries(blocks, offsets, lengths):
                assert len(data) <= PACK_BYTES + MIN_BLOCK_BYTES
                assert 0 < len(offsets) == len(lengths) <= MAX_PACK_ENTRIES
                end = 0
                for i, (offset, length) in enumerate(zip(offsets, lengths, strict=True)):
                    if offset < end:
                        return SealVerdict.ENTRIES_OVERLAP
                    end = offset + length
                    if sha256(data[offset:end]) != blocks[i * DIGEST_BYTES : (i + 1) * DIGEST_BYTES]:
                        return SealVerdict.ENTRY_DIGEST_MISMATCH
            case Form.MANIFEST:
                manifest = manifest_from_wire(journal_pb2.Manifest.FromString(data))
                manifest.check()
                if any(digest not in self.sealed for digest in manifest.object_digests()):
                    return SealVerdict.MANIFEST_INVALID
        return SealVerdict.SEALED

    def content(self, content: Content) -> bytes:
        """Return the bytes of a content, from sealed objects only."""
        manifest = content.manifest
        if content.manifest_object:
            assert self.sealed[Digest(content.manifest_object)].form is Form.MANIFEST
            data = self.store.objects[Digest(content.manifest_object)]
            manifest = manifest_from_wire(journal_pb2.Manifest.FromString(data))
        manifest.check()
        parts = []
        for ref in manifest.refs():
            assert ref.object in self.sealed
            part = self.store.objects[ref.object][ref.offset : ref.offset + ref.length]
            assert sha256(part) == ref.digest
            parts.append(part)
        whole = b"".join(parts)
        assert sha256(whole) == content.digest
        assert len(whole) == content.size
        return whole


def uploaded(space: MemorySpace, paths: Iterable[Path], **options: object) -> dict[Path, Content]:
    """Upload these files; each must succeed."""
    contents = {}
    uploader = Uploader(space, space.store, **options)  # type: ignore[arg-type]
    for result in uploader.upload(UploadJob(path, path) for path in paths):
        assert isinstance(result, Uploaded), result
        contents[result.job.path] = result.content
    return contents


def outcomes(results: Iterable[Uploaded | Downloaded | Failed]) -> dict[object, Uploaded | Downloaded | Failed]:
    """Results by the key of their job, of which each must come once."""
    found: dict[object, Uploaded | Downloaded | Failed] = {}
    for result in results:
        assert result.job.key not in found
        found[result.job.key] = result
    return found


def files(directory: Path, contents: Iterable[bytes]) -> list[Path]:
    """Files with these contents."""
    paths = []
    for i, data in enumerate(contents):
        path = directory / f"{i:05}"
        path.write_bytes(data)
        paths.append(path)
    return paths


def download_jobs(contents: dict[Path, Content], directory: Path, mode: int = 0o600) -> list[DownloadJob]:
    """Jobs whose key is where the content came from."""
    return [DownloadJob(path, content, directory / path.name, mode) for path, content in contents.items()]


__all__ = [
    "MIB",
    "MemorySpace",
    "MemoryStore",
    "download_jobs",
    "files",
    "noise",
    "outcomes",
    "sha256",
    "uploaded",
]
