"""Contents that cannot be had are not tried again at each sync: a small commit may name gigabytes that are a lie."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from syncline.model.blocks import KIB, BlockRef, Digest, Manifest
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.tree import Content, CreateNode, NodeKind, UpdateContent
from syncline.sync.ports import Wanted
from syncline.sync.report import Report
from syncline.transfer.download import Downloader
from syncline.transfer.jobs import Downloaded, DownloadJob, Failed
from syncline.transfer.objects import ObjectWithheld
from tests.clients.sync.fakes import NOW, Device, MemorySpace, PointedFiles, sha256
from tests.clients.transfer.fakes import MemoryStore, noise

BLOCK = noise(64 * KIB, 7)
TIMES = 64
DAY = timedelta(days=1)


class Downloads:
    """The real downloader over the objects of a space, and what it was asked for."""

    def __init__(self, space: MemorySpace) -> None:
        self.store = MemoryStore()
        self.store.objects = space.objects
        self.jobs: list[DownloadJob] = []

    def download(self, jobs: Iterable[DownloadJob]) -> Iterator[Downloaded | Failed]:
        return Downloader(self.store).download(self._counted(jobs))

    def _counted(self, jobs: Iterable[DownloadJob]) -> Iterator[DownloadJob]:
        for job in jobs:
            self.jobs.append(job)
            yield job

    def forget(self) -> None:
        for seen in (self.jobs, self.store.gets, self.store.tags):
            seen.clear()


@pytest.fixture
def downloads(space: MemorySpace) -> Downloads:
    return Downloads(space)


@pytest.fixture
def sync(one: Device, downloads: Downloads) -> Callable[..., Report]:
    """Syncs the one device by the real downloader, which counts anew."""

    def sync(**changes: Any) -> Report:
        downloads.forget()
        return one.sync(downloads=downloads, **changes)

    return sync


def repeated(space: MemorySpace, digest: Digest | None = None, **changes: Any) -> Content:
    """A content of one block many times, and of the right digest unless another is given."""
    space.objects[sha256(BLOCK)] = BLOCK
    manifest = Manifest.of([BlockRef(sha256(BLOCK), len(BLOCK), sha256(BLOCK), 0)] * TIMES)
    content = Content(digest or sha256(BLOCK * TIMES), TIMES * len(BLOCK), 10**18, manifest=manifest)
    return dataclasses.replace(content, **changes)


def lie(space: MemorySpace, name: str = "film.bin") -> NodeId:
    (result,) = space.do(CreateNode(ROOT, name, NodeKind.FILE, repeated(space, sha256(b"lie"))))
    assert result.node
    return result.node.id


def update(space: MemorySpace, node: NodeId, content: Content) -> None:
    space.do(UpdateContent(node, space.nodes[node].version, content))


def said(report: Report) -> list[tuple[str, str]]:
    return [(problem.path, problem.reason) for problem in report.problems]


LIE = (
    "film.bin",
    "is not what its blocks add up to; it cannot be downloaded until it has another version (`syncline restore` brings "
    "back an earlier one)",
)


def test_a_lie_is_found_once_and_said_at_each_sync(
    space: MemorySpace, one: Device, downloads: Downloads, sync: Callable[..., Report]
) -> None:
    node = lie(space)
    assert said(sync()) == [LIE]
    assert downloads.store.gets
    for number in range(3):
        space.put(f"other {number}", b"%d" % number)
        assert said(sync()) == [LIE]
        assert [job.content.size for job in downloads.jobs] == [1]
        assert one.tree() == {f"other {n}": b"%d" % n for n in range(number + 1)}
    # Another name, place or time of the same lie is the same lie; a device reads nothing of it.
    update(space, node, repeated(space, sha256(b"lie"), mtime_ns=5))
    assert said(sync()) == [LIE]
    assert downloads.jobs == []
    # A version that an editor makes good comes at once.
    update(space, node, repeated(space))
    assert said(sync()) == []
    assert one.tree()["film.bin"] == BLOCK * TIMES
    assert said(sync()) == []


def test_another_lie_is_another_content(
    space: MemorySpace, downloads: Downloads, sync: Callable[..., Report], one: Device
) -> None:
    node = lie(space)
    head = len(space.journal)
    sync()
    update(space, node, repeated(space, sha256(b"another lie")))
    assert said(sync()) == [LIE]
    assert len(downloads.jobs) == 1
    assert said(sync()) == [LIE]
    assert downloads.jobs == []
    # The same number of a version is not the same content: a space may be restored from a backup.
    space.go_back_to(head)
    update(space, node, repeated(space))
    assert said(sync()) == []
    assert one.tree()["film.bin"] == BLOCK * TIMES


def test_a_lie_over_a_good_file_leaves_that_as_it_is(
    space: MemorySpace, one: Device, downloads: Downloads, sync: Callable[..., Report]
) -> None:
    node = space.put("film.bin", b"good")
    assert said(sync()) == []
    update(space, node, repeated(space, sha256(b"lie")))
    for _ in range(2):
        assert said(sync()) == [LIE]
        assert one.tree() == {"film.bin": b"good"}
    assert downloads.jobs == []
    one.write("film.bin", b"edited here")
    sync()
    assert b"edited here" in one.tree().values()


def test_what_is_remembered_is_tried_again_after_a_day_then_after_two(
    space: MemorySpace, downloads: Downloads, sync: Callable[..., Report]
) -> None:
    lie(space)
    tried = []
    for hours in range(0, 24 * 8, 12):
        sync(now=lambda at=NOW + timedelta(hours=hours): at)
        if downloads.jobs:
            tried.append(hours // 24)
    assert tried == [0, 1, 3, 7]
    # A clock that was set back makes nothing wait longer.
    sync(now=lambda: NOW - 30 * DAY)
    assert downloads.jobs


def test_verify_tries_all_at_once(space: MemorySpace, downloads: Downloads, sync: Callable[..., Report]) -> None:
    lie(space)
    sync()
    assert said(sync(wanted=Wanted(verify=True))) == [LIE]
    assert len(downloads.jobs) == 1


def test_what_is_remembered_of_a_node_goes_with_it(
    space: MemorySpace, one: Device, sync: Callable[..., Report]
) -> None:
    first, second = lie(space, "first"), lie(space, "second")
    sync()
    space.delete("first")
    update(space, second, repeated(space, sha256(b"another lie")))
    sync()
    with one.engine()._open_state(one.folder.database) as state:
        assert set(state.unobtainable([first, second])) == {second}
        assert state.unobtainable([second])[second].content != b""


def changed(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:] if data else data


@pytest.mark.parametrize("trouble", ["damaged", "missing", "withheld"])
def test_an_object_that_cannot_be_had_is_looked_at_before_anything_is_fetched(
    space: MemorySpace, one: Device, downloads: Downloads, sync: Callable[..., Report], trouble: str
) -> None:
    blocks = [noise(64 * KIB, seed) for seed in range(8)]
    for block in blocks:
        space.objects[sha256(block)] = block
    refs = [BlockRef(sha256(block), len(block), sha256(block), 0) for block in blocks]
    content = Content(sha256(b"".join(blocks)), sum(map(len, blocks)), 10**18, manifest=Manifest.of(refs))
    space.do(CreateNode(ROOT, "film.bin", NodeKind.FILE, content))
    bad = sha256(blocks[5])

    def on_get(digest: Digest, data: bytes) -> bytes:
        if digest == bad and trouble == "withheld":
            raise ObjectWithheld
        return changed(data) if digest == bad and trouble == "damaged" else data

    downloads.store.on_get = on_get
    if trouble == "missing":
        del space.objects[bad]
    first = said(sync())
    assert [path for path, _ in first] == ["film.bin"]
    assert len({digest for digest, _, _ in downloads.store.gets}) > 1
    for _ in range(2):
        assert said(sync()) == first
        assert downloads.store.gets == []
        assert set(downloads.store.tags) == {bad}
    # Repaired under the same key, without another version.
    downloads.store.on_get = lambda digest, data: data
    space.objects[bad] = blocks[5]
    assert said(sync()) == []
    assert one.tree() == {"film.bin": b"".join(blocks)}


class Picky(PointedFiles):
    """A filesystem that takes no name with a colon, which it says only when something gets it."""

    def move(self, path: str, to: str, *, directory: bool = False, back: bool = False) -> None:
        if ":" in to:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        super().move(path, to, directory=directory, back=back)


def test_a_content_whose_name_the_filesystem_refuses_is_fetched_once(
    space: MemorySpace, one: Device, downloads: Downloads, sync: Callable[..., Report]
) -> None:
    space.do(CreateNode(ROOT, "a:b", NodeKind.FILE, repeated(space)))

    def picky(folder: Any) -> Picky:
        return Picky(folder.root, lambda _: None)

    first = said(sync(files=picky))
    assert first == [("a:b", "the filesystem of this folder does not accept the name; rename it in the space")]
    assert len(downloads.jobs) == 1
    assert said(sync(files=picky)) == first
    assert downloads.jobs == []
    space.move("a:b", "a-b")
    assert said(sync(files=picky)) == []
    assert one.tree() == {"a-b": BLOCK * TIMES}
