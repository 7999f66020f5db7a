"""Downloads from storage in memory: what arrives, what it takes, and what goes wrong."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncline.model.blocks import EMPTY_MANIFEST, KIB, MAX_FINE_BLOCKS, MIB, MIN_BLOCK_BYTES, BlockRef, Digest, Manifest
from syncline.model.errors import PermissionDenied, Unavailable
from syncline.model.tree import Content
from syncline.transfer import download, holes, upload
from syncline.transfer.download import Downloader
from syncline.transfer.jobs import Downloaded, DownloadJob, Failed, LocalBlock, Signature, Trouble
from syncline.wire.tree import manifest_to_wire
from tests.clients.transfer.fakes import (
    MemorySpace,
    MemoryStore,
    Total,
    download_jobs,
    files,
    noise,
    outcomes,
    sha256,
    uploaded,
)

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The directory of the uploaded files."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The directory that contents are downloaded to."""
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


def downloaded(store: MemoryStore, jobs: list[DownloadJob], **options: object) -> None:
    """Download; each must succeed and be what it was."""
    results = outcomes(Downloader(store, **options).download(jobs))  # type: ignore[arg-type]
    assert len(results) == len(jobs)
    for job in jobs:
        assert isinstance(results[job.key], Downloaded), results[job.key]
        assert isinstance(job.key, Path)
        assert job.destination.read_bytes() == job.key.read_bytes()


def failure(store: MemoryStore, job: DownloadJob) -> Failed:
    (result,) = Downloader(store).download([job])
    assert isinstance(result, Failed)
    return result


SIZES = [0, 1, 4 * KIB, MIN_BLOCK_BYTES - 1, MIN_BLOCK_BYTES, MIN_BLOCK_BYTES + 1, 3 * MIB, 9 * MIB, 30 * MIB]


def test_contents_of_all_sizes_arrive_whole(space: MemorySpace, here: Path, there: Path) -> None:
    contents = uploaded(space, files(here, [noise(size, size) for size in SIZES]))
    downloaded(space.store, download_jobs(contents, there))


def test_an_empty_file_needs_no_request(store: MemoryStore, there: Path) -> None:
    content = Content(sha256(b""), 0)
    (result,) = Downloader(store).download([DownloadJob(1, content, there / "empty", 0o600)])
    assert isinstance(result, Downloaded)
    assert (there / "empty").read_bytes() == b""
    assert not store.gets


def test_no_jobs_ask_for_nothing(store: MemoryStore) -> None:
    assert list(Downloader(store).download([])) == []


def test_ten_thousand_small_files_are_a_handful_of_requests(space: MemorySpace, here: Path, there: Path) -> None:
    contents = uploaded(space, files(here, (noise(4 * KIB, i) for i in range(10_000))))
    downloaded(space.store, download_jobs(contents, there))
    assert len(space.store.gets) <= 2 * len(space.store.objects)


def test_of_a_pack_only_what_is_wanted_is_fetched(space: MemorySpace, here: Path, there: Path) -> None:
    """Blocks near each other in one range, those far apart in several, and nothing around them."""
    paths = files(here, (noise(4 * KIB, i) for i in range(2000)))
    contents = uploaded(space, paths)
    place = {path: next(content.manifest.refs()).offset for path, content in contents.items()}
    in_order = sorted(paths, key=place.__getitem__)
    wanted = [*in_order[10:20:2], *in_order[1500:1510]]
    downloaded(space.store, download_jobs({path: contents[path] for path in wanted}, there))
    assert sorted((offset, length) for _, offset, length in space.store.gets) == [
        (10 * 4 * KIB, 9 * 4 * KIB),
        (1500 * 4 * KIB, 10 * 4 * KIB),
    ]


def test_tails_of_large_files_are_fetched_together(space: MemorySpace, here: Path, there: Path) -> None:
    contents = uploaded(space, files(here, [noise(5 * MIB, seed) for seed in range(6)]))
    downloaded(space.store, download_jobs(contents, there))
    assert len(space.store.gets) == len(space.store.objects)


def test_the_same_block_for_many_files_is_fetched_once(space: MemorySpace, here: Path, there: Path) -> None:
    paths = files(here, [noise(6 * MIB)] * 3 + [b"small"] * 3 + [b"a" * (20 * MIB)])
    contents = uploaded(space, paths)
    downloaded(space.store, download_jobs(contents, there))
    assert len(space.store.gets) == len(space.store.objects)


def test_large_blocks_are_fetched_at_the_same_time(space: MemorySpace, here: Path, there: Path) -> None:
    contents = uploaded(space, files(here, [noise(40 * MIB)]))
    meeting = threading.Barrier(4, timeout=60)
    met = threading.Event()

    def on_get(digest: Digest, data: bytes) -> bytes:
        if not met.is_set():
            meeting.wait()
            met.set()
        return data

    space.store.on_get = on_get
    downloaded(space.store, download_jobs(contents, there), workers=4)
    assert met.is_set()


def test_a_manifest_in_an_object_is_fetched_first(
    space: MemorySpace, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "MAX_INLINE_BLOCKS", 3)
    contents = uploaded(space, files(here, [noise(20 * MIB)]))
    (job,) = download_jobs(contents, there)
    assert job.content.manifest_object
    downloaded(space.store, [job])


def test_jobs_are_read_as_there_is_room(
    space: MemorySpace, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_MAX_WINDOW_FILES", 100)
    contents = uploaded(space, files(here, [b"content"]))
    (content,) = contents.values()
    read = 0

    def jobs() -> Iterator[DownloadJob]:
        nonlocal read
        for i in range(1000):
            read += 1
            yield DownloadJob(i, content, there / str(i), 0o600)

    results = Downloader(space.store).download(jobs())
    next(results)
    assert read <= 200
    assert len(list(results)) == 999


# ---- what is on this device already ----


def test_blocks_of_local_files_are_not_fetched(space: MemorySpace, here: Path, there: Path) -> None:
    old = noise(30 * MIB)
    paths = files(here, [old, old[: 15 * MIB] + b"!" + old[15 * MIB :], b"small"])
    contents = uploaded(space, paths)
    known = {}
    at = 0
    for ref in contents[paths[0]].manifest.refs():
        known[ref.digest] = LocalBlock(paths[0], at)
        at += ref.length
    known[sha256(b"small")] = LocalBlock(paths[2], 0)
    jobs = [dataclasses.replace(job, known=known) for job in download_jobs(contents, there)]
    downloaded(space.store, jobs)
    assert len(space.store.gets) <= 3


def test_what_local_files_hold_is_verified(space: MemorySpace, here: Path, there: Path) -> None:
    paths = files(here, [noise(9 * MIB), b"small"])
    contents = uploaded(space, paths)
    other = there / "other"
    other.write_bytes(noise(9 * MIB, 5))
    link = there / "link"
    link.symlink_to(paths[1])
    refs = [ref for content in contents.values() for ref in content.manifest.refs()]
    known = {ref.digest: LocalBlock(other, 0) for ref in refs[1:]}
    known[refs[0].digest] = LocalBlock(there / "gone", 0)
    known[sha256(b"small")] = LocalBlock(link, 0)
    jobs = [dataclasses.replace(job, known=known) for job in download_jobs(contents, there)]
    downloaded(space.store, jobs)
    assert sum(length for _, _, length in space.store.gets) == 9 * MIB + len(b"small")


def test_an_interrupted_download_goes_on_where_it_was(space: MemorySpace, here: Path, there: Path) -> None:
    contents = uploaded(space, files(here, [noise(40 * MIB)]))
    jobs = download_jobs(contents, there)
    (job,) = jobs

    def on_get(digest: Digest, data: bytes) -> bytes:
        if len(space.store.gets) > 6:
            raise Unavailable("storage does not answer")
        return data

    space.store.on_get = on_get
    with pytest.raises(Unavailable, match="storage does not answer"):
        list(Downloader(space.store, workers=2).download(jobs))
    assert job.destination.exists()
    space.store.on_get = lambda digest, data: data
    space.store.gets.clear()
    downloaded(space.store, jobs)
    assert len(space.store.gets) == len(job.content.manifest) - 6


def test_what_was_left_wrong_is_fetched_again(space: MemorySpace, here: Path, there: Path) -> None:
    contents = uploaded(space, files(here, [noise(9 * MIB), b"small"]))
    jobs = download_jobs(contents, there)
    for job in jobs:
        job.destination.write_bytes(noise(20 * MIB, 9))
    downloaded(space.store, jobs)


def test_a_whole_file_that_is_there_already_needs_no_request(space: MemorySpace, here: Path, there: Path) -> None:
    contents = uploaded(space, files(here, [noise(9 * MIB)]))
    jobs = download_jobs(contents, there)
    jobs[0].destination.write_bytes(noise(9 * MIB))
    downloaded(space.store, jobs)
    assert not space.store.gets


# ---- what goes wrong ----


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit": flipped,
    "cut short": lambda data: data[:-1],
    "nothing": lambda data: b"",
    "too much": lambda data: b"x" + data,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_on_the_way_is_mended_by_fetching_again(
    space: MemorySpace, here: Path, there: Path, damage: str
) -> None:
    contents = uploaded(space, files(here, [noise(9 * MIB), b"small", noise(4 * KIB)]))
    seen: set[Digest] = set()

    def once(digest: Digest, data: bytes) -> bytes:
        if digest in seen:
            return data
        seen.add(digest)
        return DAMAGE[damage](data)

    space.store.on_get = once
    downloaded(space.store, download_jobs(contents, there))


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_in_storage_fails_the_files_that_need_it(
    space: MemorySpace, here: Path, there: Path, damage: str
) -> None:
    paths = files(here, [noise(9 * MIB), noise(9 * MIB, 2), noise(9 * MIB)])
    contents = uploaded(space, paths)
    bad = list(contents[paths[0]].manifest.refs())[1].object
    space.store.on_get = lambda digest, data: DAMAGE[damage](data) if digest == bad else data
    results = outcomes(Downloader(space.store).download(download_jobs(contents, there)))
    assert isinstance(results[paths[1]], Downloaded)
    for path in (paths[0], paths[2]):
        failed = results[path]
        assert isinstance(failed, Failed)
        assert (failed.trouble, failed.reason) == (
            Trouble.CORRUPT,
            "is damaged in storage; it cannot be downloaded",
        )
        assert not (there / path.name).exists()


def test_one_damaged_block_of_a_pack_fails_its_file_only(space: MemorySpace, here: Path, there: Path) -> None:
    paths = files(here, [noise(4 * KIB, i) for i in range(100)])
    contents = uploaded(space, paths)
    bad = next(contents[paths[50]].manifest.refs())

    def damaged(digest: Digest, data: bytes) -> bytes:
        start = space.store.gets[-1][1]
        at = bad.offset - start
        return data[:at] + flipped(data[at:]) if 0 <= at < len(data) else data

    space.store.on_get = damaged
    results = outcomes(Downloader(space.store, workers=1).download(download_jobs(contents, there)))
    assert [path for path in paths if isinstance(results[path], Failed)] == [paths[50]]


def test_a_missing_object_fails_the_files_that_need_it(space: MemorySpace, here: Path, there: Path) -> None:
    paths = files(here, [noise(9 * MIB), b"small"])
    contents = uploaded(space, paths)
    del space.store.objects[list(contents[paths[0]].manifest.refs())[1].object]
    results = outcomes(Downloader(space.store).download(download_jobs(contents, there)))
    failed = results[paths[0]]
    assert isinstance(failed, Failed)
    assert failed.trouble is Trouble.MISSING
    assert isinstance(results[paths[1]], Downloaded)


def wrong(content: Content, **changes: object) -> Content:
    return dataclasses.replace(content, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [4 * KIB, 9 * MIB], ids=["small", "large"])
def test_a_content_that_contradicts_itself_is_refused(space: MemorySpace, here: Path, there: Path, size: int) -> None:
    (path,) = files(here, [noise(size)])
    content = uploaded(space, [path])[path]
    manifest = content.manifest
    for contradiction in (
        wrong(content, digest=sha256(b"something else")),
        wrong(content, size=size + 1),
        wrong(content, manifest=dataclasses.replace(manifest, lengths=(*manifest.lengths, 1))),
        wrong(content, manifest=dataclasses.replace(manifest, objects=b"x")),
        wrong(content, manifest=EMPTY_MANIFEST),
        wrong(content, manifest=Manifest(manifest.blocks, (0, *manifest.lengths[1:]))),
    ):
        failed = failure(space.store, DownloadJob(1, contradiction, there / "x", 0o600))
        assert failed.trouble is Trouble.CORRUPT
        assert not (there / "x").exists()


@pytest.mark.parametrize("is_inline", [True, False], ids=["inline", "an object"])
@pytest.mark.parametrize(("blocks", "is_fetched"), [(MAX_FINE_BLOCKS, True), (MAX_FINE_BLOCKS + 1, False)])
def test_a_content_of_finer_blocks_than_a_service_accepts_is_not_fetched(
    store: MemoryStore, there: Path, blocks: int, is_fetched: bool, is_inline: bool
) -> None:
    """Each block is an object of its own, so that each byte would take a request."""
    parts = [bytes([number]) for number in range(blocks)]
    for part in parts:
        store.put(sha256(part), part)
    manifest = Manifest.of([BlockRef(sha256(part), 1, sha256(part), 0) for part in parts])
    content = Content(sha256(b"".join(parts)), blocks, manifest=manifest)
    if not is_inline:
        raw = manifest_to_wire(manifest).SerializeToString()
        store.put(sha256(raw), raw)
        content = dataclasses.replace(content, manifest=EMPTY_MANIFEST, manifest_object=sha256(raw))
    job = DownloadJob(there / "x", content, there / "x", 0o600)
    if is_fetched:
        downloaded(store, [job])
        assert (there / "x").read_bytes() == b"".join(parts)
        return
    assert failure(store, job).trouble is Trouble.CORRUPT
    assert len(store.gets) == (0 if is_inline else 1)


@pytest.mark.parametrize("data", [b"no manifest", b"\xff" * 100, b""])
def test_a_manifest_object_that_is_none_is_refused(store: MemoryStore, there: Path, data: bytes) -> None:
    store.put(sha256(data), data)
    content = Content(sha256(b"x"), 1, manifest_object=sha256(data))
    assert failure(store, DownloadJob(1, content, there / "x", 0o600)).trouble is Trouble.CORRUPT


def test_a_missing_manifest_object_fails_the_file(store: MemoryStore, there: Path) -> None:
    content = Content(sha256(b"x"), 1, manifest_object=sha256(b"gone"))
    assert failure(store, DownloadJob(1, content, there / "x", 0o600)).trouble is Trouble.MISSING


@pytest.mark.parametrize("error", [Unavailable("storage does not answer"), PermissionDenied("no")])
def test_unusable_storage_ends_the_download_with_its_reason(
    space: MemorySpace, here: Path, there: Path, error: Exception
) -> None:
    contents = uploaded(space, files(here, [noise(600 * KIB, i) for i in range(50)]))

    def on_get(digest: Digest, data: bytes) -> bytes:
        if len(space.store.gets) > 20:
            raise error
        return data

    space.store.on_get = on_get
    done: list[object] = []
    with pytest.raises(type(error)) as raised:
        done.extend(Downloader(space.store, workers=2).download(download_jobs(contents, there)))
    assert raised.value is error
    assert all(isinstance(result, Downloaded) for result in done)


def test_a_download_that_is_abandoned_ends_its_threads(space: MemorySpace, here: Path, there: Path) -> None:
    contents = uploaded(space, files(here, [noise(600 * KIB, i) for i in range(100)]))
    results = Downloader(space.store, workers=1).download(download_jobs(contents, there))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(space.store.gets) < 100


@pytest.mark.parametrize("call", ["pwrite", "posix_fallocate", "utime"])
def test_a_full_disk_fails_the_file_and_leaves_nothing(
    space: MemorySpace, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    contents = uploaded(space, files(here, [noise(9 * MIB), b"small"]))
    numbers = itertools.cycle([errno.ENOSPC, errno.EDQUOT])

    def full(*_: object, **__: object) -> int:
        number = next(numbers)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, full)
    results = outcomes(Downloader(space.store).download(download_jobs(contents, there)))
    monkeypatch.undo()
    failed = [result for result in results.values() if isinstance(result, Failed)]
    assert len(failed) == (1 if call == "posix_fallocate" else 2)
    assert {(one.trouble, one.reason) for one in failed} == {
        (Trouble.NO_ROOM, "does not fit on the disk; free some space and sync again")
    }
    assert len(list(there.iterdir())) == 2 - len(failed)


def test_a_filesystem_that_cannot_promise_room_will_do(
    space: MemorySpace, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    contents = uploaded(space, files(here, [noise(9 * MIB)]))
    downloaded(space.store, download_jobs(contents, there))


def test_a_disk_that_takes_little_at_a_time_gets_it_all(
    space: MemorySpace, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: pwrite(descriptor, data[:100_000], at))
    contents = uploaded(space, files(here, [noise(9 * MIB), noise(400 * KIB)]))
    downloaded(space.store, download_jobs(contents, there))


def sparse(path: Path, size: int, pieces: dict[int, bytes]) -> Path:
    """A file that is a hole but for these pieces."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)
    return path


def taken(path: Path) -> int:
    """The room that a file takes on the disk, in bytes."""
    return path.stat().st_blocks * 512


def test_a_sparse_file_takes_no_more_room_than_it_did(space: MemorySpace, here: Path, there: Path) -> None:
    pieces = {n * 5 * MIB + n * 4321: noise(40 * KIB, n) for n in range(1, 20)}
    path = sparse(here / "disk", 200 * MIB + 1234, pieces)
    downloaded(space.store, (jobs := download_jobs(uploaded(space, [path]), there)))
    assert taken(jobs[0].destination) <= taken(path) + MIB
    assert {digest for digest, _, _ in space.store.gets}.isdisjoint({sha256(bytes(8 * MIB))}), "zeros are not fetched"


@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (300 * KIB, {0: b"head", 299 * KIB: b"tail"}),
        (400 * KIB, {}),
        (6 * MIB, {100: b"x"}),
        (8 * MIB, {}),
        (16 * MIB + 5, {0: noise(MIB), 15 * MIB: noise(MIB)}),
        (30 * MIB, {n * MIB: noise(600 * KIB, n) for n in range(30)}),
        (3 * MIB, {n * 68 * KIB: noise(4 * KIB, n) for n in range(45)}),
    ],
    ids=["one small block", "zeros, small", "no long hole", "one block of zeros", "ends", "holes in blocks", "many"],
)
@pytest.mark.parametrize("left", ["nothing", "other bytes", "half of it"])
def test_holes_of_any_size_stay_holes(
    space: MemorySpace, tmp_path: Path, size: int, pieces: dict[int, bytes], left: str
) -> None:
    """An interrupted run may have left anything at the destination."""
    path = sparse(tmp_path / "sparse", size, pieces)
    jobs = download_jobs(uploaded(space, [path]), tmp_path)
    if left != "nothing":
        jobs[0].destination.write_bytes(noise(size, 7) if left == "other bytes" else path.read_bytes()[: size // 2])
    downloaded(space.store, jobs)
    assert taken(jobs[0].destination) <= taken(path) + 64 * KIB


def test_where_no_hole_can_be_made_the_zeros_are_written(
    space: MemorySpace, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holes, "_fallocate", None)
    paths = [sparse(here / str(n), 20 * MIB, {9 * MIB: noise(MIB, n)}) for n in range(2)]
    jobs = download_jobs(uploaded(space, paths), there)
    jobs[0].destination.write_bytes(noise(20 * MIB))
    downloaded(space.store, jobs)


def test_short_runs_of_zeros_in_data_are_written(space: MemorySpace, here: Path, there: Path) -> None:
    """A program or a database is not cut into hundreds of pieces."""
    data = b"".join(noise(28 * KIB, n) + bytes(4 * KIB) for n in range(20))
    downloaded(space.store, (jobs := download_jobs(uploaded(space, files(here, [b"x" + data + b"x"])), there)))
    assert taken(jobs[0].destination) >= len(data)


@pytest.mark.parametrize("size", [4 * KIB, 9 * MIB], ids=["small", "large"])
def test_a_link_at_the_destination_is_not_followed(
    space: MemorySpace, here: Path, there: Path, tmp_path: Path, size: int
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (there / "00000").symlink_to(victim)
    contents = uploaded(space, files(here, [noise(size)]))
    (job,) = download_jobs(contents, there)
    assert failure(space.store, job).trouble is Trouble.UNREADABLE
    assert victim.read_bytes() == b"precious"


def test_a_destination_that_cannot_be_made_fails_the_file(space: MemorySpace, here: Path, there: Path) -> None:
    contents = uploaded(space, files(here, [b"small", noise(9 * MIB), b""]))
    jobs = [dataclasses.replace(job, destination=there / "no" / "x") for job in download_jobs(contents, there)]
    results = outcomes(Downloader(space.store).download(jobs))
    assert {result.reason for result in results.values() if isinstance(result, Failed)} == {
        "cannot be written (No such file or directory); fix that and sync again"
    }
    assert len(results) == 3


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
@pytest.mark.parametrize("left_over", [False, True])
def test_a_file_has_its_mode_and_its_time_when_it_is_reported(
    space: MemorySpace, here: Path, there: Path, mode: int, left_over: bool
) -> None:
    """An interrupted run may have left any part of the file, which comes in one block, in several, or in none."""
    paths = files(here, [noise(9 * MIB), b"small", b""])
    for number, path in enumerate(paths):
        os.utime(path, ns=(1, 10**18 + number))
    jobs = download_jobs(uploaded(space, paths), there, mode)
    if left_over:
        for job in jobs:
            job.destination.write_bytes(b"left")
            job.destination.chmod(0o640)
    for result in Downloader(space.store).download(jobs):
        assert isinstance(result, Downloaded)
        found = result.job.destination.stat()
        assert stat.S_IMODE(found.st_mode) == mode
        assert found.st_mtime_ns == result.job.content.mtime_ns
        assert result.signature == Signature.of(found)


@pytest.mark.parametrize("size", [4 * KIB, 9 * MIB], ids=["one block", "several"])
def test_a_read_only_file_that_a_killed_run_had_finished_is_no_obstacle(
    space: MemorySpace, here: Path, there: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    jobs = download_jobs(uploaded(space, files(here, [noise(size)])), there, 0o444)
    downloaded(space.store, jobs)
    opened = os.open

    def refusing(path: Path, flags: int, mode: int = 0o777) -> int:
        """Refuse to open the file, as for anybody but root, whom no mode refuses."""
        if flags & (os.O_WRONLY | os.O_RDWR) and path.exists() and not path.stat().st_mode & stat.S_IWUSR:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    downloaded(space.store, jobs)


def test_progress_adds_up(space: MemorySpace, here: Path, there: Path) -> None:
    paths = files(here, [noise(6 * MIB), noise(6 * MIB), b"small", b"small", b"", noise(9 * MIB, 2)])
    contents = uploaded(space, paths)
    (there / paths[5].name).write_bytes(noise(9 * MIB, 2))
    progress = Total()
    downloaded(space.store, download_jobs(contents, there), progress=progress)
    assert (progress.files, progress.size) == (len(paths), sum(path.stat().st_size for path in paths))
