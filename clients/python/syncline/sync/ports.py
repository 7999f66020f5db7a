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
    """States of nodes, to be applied in order; of two states of a node, the one with the higher seq is valid."""

    @property
    def nodes(self) -> Sequence[Node]: ...
    @property
    def cursor(self) -> bytes:
        """The cursor from which the next listing continues; empty until a listing is complete."""

    @property
    def reset(self) -> bool:
        """True if all states of nodes that were known before this page are invalid."""

    @property
    def seq(self) -> int:
        """The sequence number of the journal that the cursor stands for."""

    @property
    def right(self) -> Right:
        """The right of this device in the space."""


class CommitAnswer(Protocol):
    """The answer to a commit: the entry that holds the accepted mutations, and one result for each mutation."""

    @property
    def seq(self) -> int: ...
    @property
    def results(self) -> Sequence[Result]: ...


class SpacePort(Protocol):
    """A space's tree and journal. Errors are `syncline.model.errors.SynclineError`."""

    def changes(self, cursor: bytes, *, fresh_right: bool = False) -> Iterator[ChangesAnswer]:
        """Yield the changes after `cursor` up to the head, in at least one page. Raise InvalidCursor if the journal has
        no such position. The right of this device that each page states may be some seconds old, unless `fresh_right`
        is set.
        """

    def commit(self, mutations: Sequence[Mutation], request_id: RequestId, *, right: Right | None) -> CommitAnswer:
        """Apply mutations in order, each with its own verdict; return the results. A call may be repeated with the same
        `request_id` and `right`.

        `right` is the right of this device on which the mutations are based, as `changes` has stated it. None means
        that the service has stated none; then any right to write suffices. Raise RightChanged, and apply nothing, if
        the right to write was granted anew after `right` was stated.
        """


class UploaderPort(Protocol):
    """Uploads files to storage."""

    def upload(self, jobs: Iterable[UploadJob]) -> Iterator[Uploaded | Failed]:
        """Upload each job. Yield one result for each, in any order: Uploaded as soon as the content may be committed,
        and Failed if the job has failed. `jobs` is consumed as capacity allows.
        """


class DownloaderPort(Protocol):
    """Downloads contents from storage."""

    def download(self, jobs: Iterable[DownloadJob]) -> Iterator[Downloaded | Failed]:
        """Download each job. Yield one result for each, in any order: Downloaded once the destination of the job holds
        the content, and Failed if the job has failed. `jobs` is consumed as capacity allows.
        """


class CheckedFile(Protocol):
    """One file of a check that differs from the current version in the space."""

    @property
    def asked(self) -> str | NodeId: ...
    @property
    def difference(self) -> object:
        """An enum: CONTENT (the current version has another content), UNKNOWN (no live node has that path) or DELETED
        (that node is deleted).
        """


class CheckAnswer(Protocol):
    """The answer to one batch of a check: of its `count` files, all are current except those in `differing`."""

    @property
    def count(self) -> int: ...
    @property
    def differing(self) -> Sequence[CheckedFile]: ...


class Checking(Protocol):
    """Port to the operation of a space that a comparison by checksums needs."""

    def check_versions(self, files: Iterable[tuple[str | NodeId, Digest]]) -> Iterator[CheckAnswer]:
        """Compare local digests with the current versions, and yield one answer for each batch of files. Each of
        `files` is given by its path or its node id, with the digest of the local file.
        """


class SyncProgress(Protocol):
    """Observer of the progress of a sync."""

    def expect(self, activity: str, *, files: int, size: int) -> None:
        """Report the start of an activity, with its total numbers of files and bytes."""

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """Report that `files` more files and `size` more bytes are done."""


class NoSyncProgress:
    """Progress observer that does nothing."""

    def expect(self, activity: str, *, files: int, size: int) -> None:
        pass

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        pass


KnownBlocks = Callable[[Digest], BlockRef | None]


def _no_counts() -> Counts:
    return Counts()


@dataclass(frozen=True, slots=True)
class Transfers:
    """The functions that make the uploader and the downloader of a sync. Each is called when there is something to
    transfer. `uploader` is called with a function that returns where in storage a block is, if that is known.
    """

    uploader: Callable[[KnownBlocks], UploaderPort]
    downloader: Callable[[], DownloaderPort]
    counts: Callable[[], Counts] = field(default=_no_counts)
    """Function that returns the counts of requests to services and storage so far."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of one sync, as a person gives them.

    - `exclude` and `include` are paths from the folder's root that this device stops, or resumes, syncing.
    - With `verify`, every file is read, even if its signature is unchanged.
    - `outside_links` says whether symlinks that lead out of the folder are made on this device from now on; None keeps
      the present setting.
    """

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    verify: bool = False
    outside_links: bool | None = None


AS_BEFORE = Wanted()


class MassDelete(Enum):
    """The treatment of a sync that would delete most files of a side, which may be an accident."""

    REFUSE = "do nothing at all, and say so"
    HOLD = "do all the rest, and leave them for a sync that is told to do them"
    DO = "do them: somebody has confirmed it"
