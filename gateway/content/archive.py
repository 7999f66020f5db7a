"""A tree as a ZIP file, which is generated while it is sent. Memory for contents is bounded, whatever their size. A ZIP
file ends with a list of its entries, the central directory, which grows with each path. The memory for the central
directory is taken from a pool.

Each directory is listed when the archive reaches it. A tree that changes while its archive is sent still gives a valid
archive: a content stays readable once it was opened, because versions never change.

An archive can be extracted safely on every system: names are in a form that Windows can hold as well, and no two
entries have names that a system takes for the same.
"""

from __future__ import annotations

import asyncio
import contextvars
import stat
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from anyio import CancelScope

from gateway.content.assemble import Contents
from gateway.threads import LoopStopped, outcome
from runtime.pool import Pool, Share
from syncline.model.blocks import KIB, MIB
from syncline.model.errors import Kind, SynclineError
from syncline.model.identifiers import SpaceId
from syncline.model.names import ARCHIVED_NUMBER_BYTES, MAX_NAME_BYTES, archived_name, clipped, folded, with_mark
from syncline.model.tree import Content, Node, NodeKind

T = TypeVar("T")

_CHUNK_BYTES: Final = 256 * KIB
_SMALL_FILE_BYTES: Final = 256 * KIB
_FIRST_GROUP_FILES: Final = 8
_MAX_GROUP_FILES: Final = 1024
_MAX_GROUP_BYTES: Final = MIB
"""Size in bytes of the first group of small files that are read together, while earlier ones are sent. Each further
group is twice as large, so that the first bytes are sent soon. Files of one directory are mostly adjacent in packs.
"""
_EARLIEST: Final = datetime(1980, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2038, 1, 19, tzinfo=UTC)
"""The latest time that the extended timestamp, with 32-bit seconds, can represent."""
DIRECTORY_BYTES: Final = 384 * MIB
"""Memory in bytes for the central directories of all archives in progress."""
_DIRECTORY_STEP_BYTES: Final = MIB
_ENTRY_BYTES: Final = 512
"""Memory in bytes of one item of the central directory besides its path, and of the hash of its name."""
_PATH_COPIES: Final = 2
"""Number of times that the path of one item of the central directory may be in memory."""

Children = Callable[[Node], AsyncIterator[Node]]
"""Function that takes a directory, and returns an asynchronous iterator over the nodes in it that are not in
the trash.
"""


class ArchiveTooLarge(SynclineError):
    """There are too many paths for one ZIP file. Ask for smaller directories one by one, or sync the space."""

    reason = "ARCHIVE_TOO_LARGE"
    kind = Kind.INVALID


@dataclass(frozen=True, slots=True)
class ArchiveSize:
    """The size of the central directory of a ZIP file, which is the list of all paths at its end: the number of paths,
    and the bytes of all paths together.
    """

    paths: int
    path_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Memory that the central directory of the ZIP file takes while the file is made, in bytes."""
        return _ENTRY_BYTES * self.paths + _PATH_COPIES * self.path_bytes


Measure = Callable[[ArchiveSize], Awaitable[ArchiveSize]]
"""Coroutine function that returns the size of the tree to be archived. The argument is the size at which counting may
stop: a result that exceeds it, in paths or in bytes, is a lower bound.
"""


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One file, symlink or directory in a ZIP file, and its path there."""

    path: str
    node: Node


_Group: TypeAlias = list[tuple[ArchiveEntry, bytes | AsyncGenerator[bytes, None]]]
"""Files, symlinks and directories of a ZIP file, each with its content: as bytes, or as an iterator over the bytes."""


async def walk(tops: AsyncIterator[Node], children: Children) -> AsyncGenerator[ArchiveEntry, None]:
    """Yield `tops` and everything below them, with their paths in the ZIP file. A directory comes before the nodes in
    it, which the function `children` returns.
    """
    open_directories = [("", tops, _Names())]
    while open_directories:
        prefix, nodes, names = open_directories[-1]
        node = await anext(nodes, None)
        if node is None:
            open_directories.pop()
            continue
        path = prefix + names.free(node.name)
        if node.kind is NodeKind.DIRECTORY:
            open_directories.append((f"{path}/", children(node), _Names()))
        yield ArchiveEntry(path, node)


class _Names:
    """Gives each entry of one directory a name that every system can hold and that no other entry has.

    Names that differ only in case are equal on many systems. A file would be replaced by another one, and a directory
    with the name of a symlink would be unpacked to the target of the symlink.
    """

    def __init__(self) -> None:
        # Hashes take less memory than the names. Two names with one hash would only make a number more.
        self._taken: set[int] = set()
        self._numbers: dict[int, int] = {}
        """The number that was last given, by the name that is numbered."""

    def free(self, name: str) -> str:
        """Return a free name: the archived form of `name`, with a number if the form is too long for a name or is
        taken.
        """
        form = archived_name(name)
        if len(form.encode()) <= MAX_NAME_BYTES and self._take(form):
            return form
        numbered = clipped(form, MAX_NAME_BYTES - ARCHIVED_NUMBER_BYTES)
        key = _hash(numbered)
        number = self._numbers.get(key, 1) + 1
        while not self._take(unique := with_mark(numbered, f"({number})")):
            number += 1
        self._numbers[key] = number
        return unique

    def _take(self, name: str) -> bool:
        """Take a name; return False if it is taken."""
        taken = len(self._taken)
        self._taken.add(_hash(name))
        return len(self._taken) > taken


def _hash(name: str) -> int:
    return hash(folded(name))


class _Directory:
    """Reserves memory from the pool for the central directory of one ZIP file, and returns it."""

    def __init__(self, pool: Pool, share: Share) -> None:
        self._pool = pool
        self._share = share
        self._taken = 0
        self._used = 0

    async def reserve(self, size: ArchiveSize) -> None:
        """Take the memory for a central directory of this size at once, if it is large. Raise TooMuchAtOnce if the pool
        has too little for a while.
        """
        if size.memory_bytes > _DIRECTORY_STEP_BYTES:
            await self._pool.take(size.memory_bytes, self._share)
            self._taken = size.memory_bytes

    async def paid(self, entries: AsyncGenerator[ArchiveEntry, None]) -> AsyncGenerator[ArchiveEntry, None]:
        """Yield `entries` unchanged, each after memory for its item of the central directory was taken. Raise
        TooMuchAtOnce if there are more of them than memory was reserved for, and the pool has no further memory for a
        while.
        """
        async with aclosing(entries):
            async for entry in entries:
                self._used += _ENTRY_BYTES + _PATH_COPIES * len(entry.path.encode())
                if self._used > self._taken:
                    await self._pool.take(_DIRECTORY_STEP_BYTES, self._share)
                    self._taken += _DIRECTORY_STEP_BYTES
                yield entry

    def close(self) -> None:
        """Return all memory to the pool."""
        if self._taken:
            self._pool.give(self._taken, self._share)
            self._taken = 0


class Archives:
    """Makes ZIP files of trees. The number of archives that are made at the same time is limited and shared fairly
    among callers.

    Each archive uses a thread while it computes and while it waits for contents, and none while it waits for its
    reader.
    """

    def __init__(
        self,
        contents: Contents,
        threads: ThreadPoolExecutor,
        under_way: Pool,
        *,
        directory_bytes: int = DIRECTORY_BYTES,
    ) -> None:
        """`contents` reads the contents of files. `under_way` is the pool that bounds the number of archives at the
        same time, and `directory_bytes` the memory for the central directories of all of them, in bytes.

        `threads` has as many threads as there can be archives, so that no archive waits for the thread of another.
        """
        self._contents = contents
        self._threads = threads
        self._under_way = under_way
        self._directories = Pool("archive_directories", directory_bytes)
        self._most_bytes = directory_bytes // 2
        """Maximum memory of the list of entries of one archive, in bytes: half of the pool, which is the most that one
        caller gets.
        """

    async def stream(
        self, space: SpaceId, entries: AsyncGenerator[ArchiveEntry, None], *, measure: Measure, share: Share
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the ZIP file of `entries`. The generator has to be closed if it is not exhausted.

        `measure` returns the size of the central directory, and `share` is charged for the memory.

        - Before the first bytes, raise TooMuchAtOnce if too many archives are being made, and ArchiveTooLarge if the
          central directory would be longer than one archive may have.
        - Between two parts, raise an error if a content cannot be read. The ZIP file is then incomplete.
        """
        async with self._under_way.lent(1, share):
            directory = _Directory(self._directories, share)
            try:
                await directory.reserve(await self._measured(measure))
                async with aclosing(self._made(space, directory.paid(entries), share)) as made:
                    async for chunk in made:
                        yield chunk
            finally:
                directory.close()

    async def _measured(self, measure: Measure) -> ArchiveSize:
        most = ArchiveSize(self._most_bytes // _ENTRY_BYTES, self._most_bytes // _PATH_COPIES)
        size = await measure(most)
        if size.memory_bytes > self._most_bytes:
            raise ArchiveTooLarge(
                f"there are too many files and directories for one ZIP file ({size.paths:,}, or long paths): ask "
                "for smaller directories one by one, or sync the space with `syncline sync` or over WebDAV"
            )
        return size

    async def _made(
        self, space: SpaceId, entries: AsyncGenerator[ArchiveEntry, None], share: Share
    ) -> AsyncGenerator[bytes, None]:
        # Imported here, because the library is slow to import and many gateways never make an archive.
        from stream_zip import stream_zip  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        bridge = _Bridge(loop)
        groups = self._read(space, entries, share)
        chunks = stream_zip(
            _zip_entries(bridge, groups),
            chunk_size=_CHUNK_BYTES,
            # Most files are compressed already; a deflate stream without compression costs no time.
            get_compressobj=lambda: zlib.compressobj(level=0, wbits=-zlib.MAX_WBITS),
        )
        context = contextvars.copy_context()  # the thread's work on the event loop belongs to the same request
        pending = None
        try:
            while True:
                pending = loop.run_in_executor(self._threads, partial(context.run, next, iter(chunks), None))
                chunk = await asyncio.shield(pending)
                if chunk is None:
                    return
                yield chunk
        finally:
            # Starlette cancels the task of a disconnected client again at each unshielded await.
            with CancelScope(shield=True):
                bridge.stop()
                if pending is not None:
                    await asyncio.gather(pending, return_exceptions=True)
                await bridge.idle()
                await groups.aclose()

    async def _read(
        self, space: SpaceId, entries: AsyncGenerator[ArchiveEntry, None], share: Share
    ) -> AsyncGenerator[_Group, None]:
        """Yield groups of `entries` with their contents. While a group is used, the next one is read."""
        async with aclosing(entries), aclosing(_groups(entries)) as groups:
            ahead = asyncio.create_task(self._next(space, groups, share))
            try:
                while (group := await ahead) is not None:
                    if isinstance(group, ArchiveEntry):
                        async with aclosing(self._stream(space, group.node, share)) as content:
                            yield [(group, content)]
                        ahead = asyncio.create_task(self._next(space, groups, share))
                    else:
                        ahead = asyncio.create_task(self._next(space, groups, share))
                        yield group
            finally:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)

    async def _next(
        self, space: SpaceId, groups: AsyncGenerator[list[ArchiveEntry], None], share: Share
    ) -> _Group | ArchiveEntry | None:
        """Return the next group of small files with their contents, or the next large file, without its content; None
        at the end.
        """
        group = await anext(groups, None)
        if group is None:
            return None
        if _is_large(group[0].node):
            return group[0]
        contents = [content for entry in group if (content := _file_content(entry.node)) is not None]
        read = iter(await self._contents.read_together(space, contents, share=share))
        return [(entry, next(read) if _file_content(entry.node) else _target(entry.node)) for entry in group]

    async def _stream(self, space: SpaceId, node: Node, share: Share) -> AsyncGenerator[bytes, None]:
        assert node.content is not None
        async with aclosing(self._contents.stream(space, node.content, 0, node.content.size, share=share)) as parts:
            async for part in parts:
                yield bytes(part)


async def _groups(entries: AsyncGenerator[ArchiveEntry, None]) -> AsyncGenerator[list[ArchiveEntry], None]:
    """Yield groups of small files, to be read together, and each large file as a group of its own."""
    group: list[ArchiveEntry] = []
    size, most = 0, _FIRST_GROUP_FILES
    async for entry in entries:
        if _is_large(entry.node):
            if group:
                yield group
            yield [entry]
            group, size = [], 0
            continue
        group.append(entry)
        size += _size(entry.node) + (len(entry.node.content.manifest.blocks) if entry.node.content is not None else 0)
        if len(group) >= most or size >= _MAX_GROUP_BYTES:
            yield group
            group, size, most = [], 0, min(2 * most, _MAX_GROUP_FILES)
    if group:
        yield group


def _is_large(node: Node) -> bool:
    """Return True for a file that is not read together with others: it is large, or its manifest is an object of its
    own and may be large.
    """
    content = _file_content(node)
    return content is not None and (content.size > _SMALL_FILE_BYTES or bool(content.manifest_object))


def _file_content(node: Node) -> Content | None:
    return node.content if node.kind is NodeKind.FILE else None


def _target(node: Node) -> bytes:
    """Return the content of a symlink's entry in an archive; empty for a directory."""
    return node.content.target.encode() if node.content is not None else b""


def _size(node: Node) -> int:
    content = _file_content(node)
    return content.size if content is not None else 0


class CutShort(Exception):
    """The archive was stopped before its contents were read to their end."""


class _Bridge:
    """Lets the thread that makes a ZIP file wait for coroutines on the event loop, until the archive is stopped."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: Future[object] | None = None
        self._working: set[asyncio.Task[Any]] = set()
        self._stopped = False

    def iterate(self, source: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield the items of `source` to the calling thread. Raise CutShort if `stop` is called before `source` ends.
        The iterator never ends silently then, because the archive would be completed and look whole.
        """
        end = object()

        async def following() -> T | object:
            task = asyncio.current_task()
            assert task is not None
            self._working.add(task)
            task.add_done_callback(self._working.discard)
            return await anext(source, end)

        while not self._stopped:
            self._waiting = asyncio.run_coroutine_threadsafe(following(), self._loop)
            try:
                item = outcome(self._waiting, self._loop)
            except (CancelledError, LoopStopped):
                raise CutShort from None
            if item is end:
                return
            yield item  # type: ignore[misc]  # it is a T, because it is not the end
        raise CutShort

    def stop(self) -> None:
        """Cancel the coroutine that the thread waits for, and let no further one start."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def idle(self) -> None:
        """Wait until no read is in progress."""
        if self._working:
            await asyncio.wait(self._working)


def _zip_entries(bridge: _Bridge, groups: AsyncGenerator[_Group, None]) -> Iterator[Any]:
    """Yield the files, symlinks and directories of `groups` in the form that stream_zip expects, with their
    contents.
    """
    from stream_zip import ZIP_AUTO  # noqa: PLC0415 # as above

    for group in bridge.iterate(groups):
        for entry, content in group:
            node = entry.node
            path = f"{entry.path}/" if node.kind is NodeKind.DIRECTORY else entry.path
            chunks = (content,) if isinstance(content, bytes) else bridge.iterate(content)
            yield path, _modified(node), _mode(node), ZIP_AUTO(_size(node), level=0), chunks


def _modified(node: Node) -> datetime:
    milliseconds = node.content.mtime_ns // 1_000_000 if node.content is not None else node.committed_at_ms
    try:
        modified = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return _EARLIEST
    return min(max(modified, _EARLIEST), _LATEST)


def _mode(node: Node) -> int:
    match node.kind:
        case NodeKind.DIRECTORY:
            return stat.S_IFDIR | 0o755
        case NodeKind.SYMLINK:
            return stat.S_IFLNK | 0o777
        case NodeKind.FILE:
            return stat.S_IFREG | (0o755 if node.content is not None and node.content.executable else 0o644)
