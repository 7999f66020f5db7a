"""The ports that the engine needs from the rest of the client. `syncline.sdk.space.Space` and `syncline.transfer`
provide them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from syncline.model.blocks import BlockRef, Digest
from syncline.model.identifiers import NodeId, RequestId
from syncline.model.tree import Mutation, Node, Result
from syncline.sdk.requests import Counts
from syncline.sdk.right import Right
from syncline.transfer.jobs import Downloaded, DownloadJob, Failed, Uploaded, UploadJob


class ChangesAnswer(Protocol):
    """States of nodes, to be taken over in order; of two states of a node the one with the higher seq holds."""

    @property
    def nodes(self) -> Sequence[Node]: ...
    @property
    def cursor(self) -> bytes:
        """The cursor from which the next page goes on; empty while a listing is not complete."""

    @property
    def reset(self) -> bool:
        """True if everything known before this page is void."""

    @property
    def seq(self) -> int:
        """The sequence number of the journal that the cursor stands for."""

    @property
    def right(self) -> Right:
        """The right of this device in the space."""


class CommitAnswer(Protocol):
    """The answer to a commit: the entry that holds what was accepted, and one result for each mutation."""

    @property
    def seq(self) -> int: ...
    @property
    def results(self) -> Sequence[Result]: ...


class SpacePort(Protocol):
    """A space's tree and journal. Errors are `syncline.model.errors.SynclineError`."""

    def changes(self, cursor: bytes, *, fresh_right: bool = False) -> Iterator[ChangesAnswer]:
        """The changes after `cursor` up to the head; one page at least. Raise InvalidCursor.

        The right that comes with them may be seconds old unless it is to be fresh.
        """

    def commit(self, mutations: Sequence[Mutation], request_id: RequestId, *, right: Right | None) -> CommitAnswer:
        """Apply mutations in order, each with its own verdict. Safe to repeat with the same id and right.

        RightChanged, and nothing is applied, if the device's right is not this one any more.
        """


class UploaderPort(Protocol):
    """Gets files into storage."""

    def upload(self, jobs: Iterable[UploadJob]) -> Iterator[Uploaded | Failed]:
        """Results in any order, each as soon as its content may be committed. `jobs` is read as there is room."""


class DownloaderPort(Protocol):
    """Gets contents out of storage."""

    def download(self, jobs: Iterable[DownloadJob]) -> Iterator[Downloaded | Failed]:
        """Results in any order, each when its destination holds the content. `jobs` is read as there is room."""


class CheckedFile(Protocol):
    """One file that differs from the space."""

    @property
    def asked(self) -> str | NodeId: ...
    @property
    def difference(self) -> object:
        """An enum: CONTENT, UNKNOWN (no live node has that path) or DELETED (that node is deleted)."""


class CheckAnswer(Protocol):
    """The answer to a batch of a check: all of the `count` files asked about are current but `differing`."""

    @property
    def count(self) -> int: ...
    @property
    def differing(self) -> Sequence[CheckedFile]: ...


class Checking(Protocol):
    """The part of a space that a check needs."""

    def check_versions(self, files: Iterable[tuple[str | NodeId, Digest]]) -> Iterator[CheckAnswer]:
        """Compare local digests with the current versions, files named by path or by id."""


class SyncProgress(Protocol):
    """Somebody who wants to know how far a sync has got."""

    def expect(self, activity: str, *, files: int, size: int) -> None:
        """From now on this is done, for so many files of so many bytes in all."""

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """Note that `files` more files and `size` more bytes of them are done."""


class NoSyncProgress:
    """Nobody wants to know."""

    def expect(self, activity: str, *, files: int, size: int) -> None:
        pass

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        pass


KnownBlocks = Callable[[Digest], BlockRef | None]


def _no_counts() -> Counts:
    return Counts()


@dataclass(frozen=True, slots=True)
class Transfers:
    """The makers of uploads and downloads. Both are called when a sync has something to do; an uploader is told which
    blocks are known.
    """

    uploader: Callable[[KnownBlocks], UploaderPort]
    downloader: Callable[[], DownloaderPort]
    counts: Callable[[], Counts] = field(default=_no_counts)
    """Function that returns the number of requests to services and storage so far."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of one sync.

    `exclude` and `include` are paths from the folder's root that this device syncs no more, or again. With `verify`
    every file is read, however much it looks like what it was. `outside_links` says whether symlinks that lead out of
    the folder come here from now on; None leaves that as it was.
    """

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    verify: bool = False
    outside_links: bool | None = None


AS_BEFORE = Wanted()


class MassDelete(Enum):
    """The treatment of deletions that look like an accident, since most files would be deleted."""

    REFUSE = "do nothing at all, and say so"
    HOLD = "do all the rest, and leave them for a sync that is told to do them"
    DO = "do them: somebody has confirmed it"
