"""Uploads against storage and service in memory: what comes up, what it takes, and what goes wrong."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncline.model.blocks import KIB, MIB, MIN_BLOCK_BYTES, PACK_BYTES, BlockRef, Digest
from syncline.model.chunking import Block
from syncline.model.errors import PermissionDenied, Unavailable
from syncline.model.verdicts import SealVerdict
from syncline.sdk.space import Form, PackEntries
from syncline.transfer import upload
from syncline.transfer.jobs import Failed, Signature, Trouble, Uploaded, UploadJob
from syncline.transfer.upload import MAX_ATTEMPTS, MIN_MEMORY_BYTES, Uploader
from tests.clients.transfer.fakes import MemorySpace, MemoryStore, Total, files, noise, outcomes, sha256, uploaded

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def run(space: MemorySpace, paths: list[Path], **options: object) -> dict[object, object]:
    uploader = Uploader(space, space.store, **options)  # type: ignore[arg-type]
    return dict(outcomes(uploader.upload(UploadJob(path.name, path) for path in paths)))


SIZES = [0, 1, 4 * KIB, MIN_BLOCK_BYTES - 1, MIN_BLOCK_BYTES, MIN_BLOCK_BYTES + 1, 3 * MIB, 9 * MIB, 30 * MIB]


def test_contents_of_all_sizes_come_up_whole(space: MemorySpace, tmp_path: Path) -> None:
    paths = files(tmp_path, [noise(size, size) for size in SIZES])
    paths[2].chmod(0o755)
    os.utime(paths[3], ns=(1, 1_234_567_890_123_456_789))
    contents = uploaded(space, paths)
    assert {path: space.content(content) for path, content in contents.items()} == {
        path: path.read_bytes() for path in paths
    }
    assert [contents[path].executable for path in paths] == [i == 2 for i in range(len(paths))]
    assert contents[paths[3]].mtime_ns == 1_234_567_890_123_456_789


def test_the_result_says_which_file_was_read(space: MemorySpace, tmp_path: Path) -> None:
    (path,) = files(tmp_path, [b"content"])
    signature = Signature.of(path.stat())
    (result,) = Uploader(space, space.store).upload([UploadJob(7, path, signature)])
    assert isinstance(result, Uploaded)
    assert (result.job.key, result.signature) == (7, signature)


def test_no_jobs_ask_for_nothing(space: MemorySpace) -> None:
    assert list(Uploader(space, space.store).upload([])) == []
    assert not space.calls


def test_ten_thousand_small_files_are_a_handful_of_objects(space: MemorySpace, tmp_path: Path) -> None:
    paths = files(tmp_path, (noise(4 * KIB, i) for i in range(10_000)))
    contents = uploaded(space, paths)
    assert len(contents) == 10_000
    assert len(space.store.puts) == 5
    assert space.calls["seal"] <= 5
    assert space.calls["find_missing"] == 0
    assert space.content(contents[paths[1234]]) == paths[1234].read_bytes()


def test_a_small_file_alone_is_an_object_of_its_own(space: MemorySpace, tmp_path: Path) -> None:
    (path,) = files(tmp_path, [b"small"])
    content = uploaded(space, [path])[path]
    assert not content.manifest.objects
    assert space.sealed[content.digest].form is Form.BLOCK


def test_tails_of_large_files_share_packs(space: MemorySpace, tmp_path: Path) -> None:
    paths = files(tmp_path, [noise(5 * MIB, seed) for seed in range(6)])
    contents = uploaded(space, paths)
    assert all(space.content(contents[path]) == path.read_bytes() for path in paths)
    blocks = {ref.digest for content in contents.values() for ref in content.manifest.refs()}
    small = {
        ref.digest for content in contents.values() for ref in content.manifest.refs() if ref.length < MIN_BLOCK_BYTES
    }
    assert len(space.store.objects) == len(blocks) - len(small) + bool(small)


def test_the_same_content_goes_up_once(space: MemorySpace, tmp_path: Path) -> None:
    paths = files(tmp_path, [noise(6 * MIB), b"small", noise(6 * MIB), b"small", b"other"])
    contents = uploaded(space, paths)
    assert contents[paths[0]].manifest == contents[paths[2]].manifest
    assert contents[paths[1]].manifest == contents[paths[3]].manifest
    assert len(space.store.puts) == len(space.store.objects)
    assert sum(map(len, space.store.objects.values())) == 6 * MIB + len(b"small") + len(b"other")


def test_many_files_of_the_same_block_do_not_wait_for_a_full_pack(
    space: MemorySpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_MAX_WAITING_FILES", 10)
    paths = files(tmp_path, [b"same"] * 30 + [b"other"] * 5)
    contents = uploaded(space, paths)
    assert all(space.content(contents[path]) == path.read_bytes() for path in paths)
    assert len(space.store.puts) == 2


def test_a_changed_file_uploads_what_changed(space: MemorySpace, tmp_path: Path) -> None:
    data = noise(40 * MIB)
    (path,) = files(tmp_path, [data])
    uploaded(space, [path])
    before = len(space.store.puts)
    path.write_bytes(data[: 20 * MIB] + b"!" + data[20 * MIB :])
    content = uploaded(space, [path])[path]
    assert space.content(content) == path.read_bytes()
    assert len(space.store.puts) - before <= 3


def test_known_blocks_are_neither_asked_for_nor_uploaded(space: MemorySpace, tmp_path: Path) -> None:
    paths = files(tmp_path, [noise(6 * MIB), b"small", b"smaller"])
    first = uploaded(space, paths)
    index = {ref.digest: ref for content in first.values() for ref in content.manifest.refs()}
    puts, calls = len(space.store.puts), dict(space.calls)
    again = uploaded(space, paths, known_blocks=index.get)
    assert again == first
    assert (len(space.store.puts), dict(space.calls)) == (puts, calls)


def test_what_is_known_wrongly_is_not_believed(space: MemorySpace, tmp_path: Path) -> None:
    (path,) = files(tmp_path, [b"small"])

    def known(digest: Digest) -> BlockRef:
        return BlockRef(digest, 99, digest, 0)

    content = uploaded(space, [path], known_blocks=known)[path]
    assert space.content(content) == b"small"


def test_the_index_is_asked_by_one_thread_at_a_time(space: MemorySpace, tmp_path: Path) -> None:
    busy = threading.Lock()

    def known(digest: Digest) -> None:
        assert busy.acquire(blocking=False)
        busy.release()

    uploaded(space, files(tmp_path, [noise(KIB, i) for i in range(500)]), known_blocks=known)


def test_a_content_of_very_many_blocks_has_its_manifest_in_an_object(
    space: MemorySpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "MAX_INLINE_BLOCKS", 3)
    paths = files(tmp_path, [noise(20 * MIB), noise(3 * MIB, 2)])
    contents = uploaded(space, paths)
    assert contents[paths[0]].manifest_object
    assert not contents[paths[0]].manifest.blocks
    assert not contents[paths[1]].manifest_object
    assert all(space.content(contents[path]) == path.read_bytes() for path in paths)
    assert uploaded(space, paths) == contents, "the same content has the same manifest"


def test_results_come_while_the_rest_goes_up(space: MemorySpace, tmp_path: Path) -> None:
    """The first pack is reported though a later one cannot be stored yet."""
    held = threading.Event()

    def on_put(digest: Digest, data: bytes) -> None:
        if len(space.store.puts) >= 1:
            assert held.wait(60)

    space.store.on_put = on_put
    paths = files(tmp_path, [noise(256 * KIB, i) for i in range(100)])
    results = Uploader(space, space.store).upload(UploadJob(path, path) for path in paths)
    assert isinstance(next(results), Uploaded)
    held.set()
    assert len(list(results)) == 99


def test_jobs_are_read_as_there_is_room(space: MemorySpace, tmp_path: Path) -> None:
    """A list of millions of files is not kept in memory."""
    (path,) = files(tmp_path, [b"content"])
    read = 0
    reading = threading.Event()

    def jobs() -> Iterator[UploadJob]:
        nonlocal read
        for i in range(20_000):
            read += 1
            yield UploadJob(i, path)

    def known(digest: Digest) -> None:
        reading.wait(60)

    results = Uploader(space, space.store, known).upload(jobs())
    threading.Timer(0.2, reading.set).start()
    first = next(results)
    assert isinstance(first, Uploaded)
    assert len(list(results)) == 19_999


def test_memory_is_bounded_however_slow_storage_is(space: MemorySpace, tmp_path: Path) -> None:
    """With nothing stored yet, no more is read than fits."""
    stalled = threading.Event()
    seen = 0

    class Counting:
        def advance(self, *, files: int = 0, size: int = 0) -> None:
            pass

    def known(digest: Digest) -> None:
        nonlocal seen
        seen += 1

    def on_put(digest: Digest, data: bytes) -> None:
        assert stalled.wait(60)

    space.store.on_put = on_put
    data = noise(200 * MIB)
    (path,) = files(tmp_path, [data])
    uploader = Uploader(space, space.store, known, progress=Counting(), memory=MIN_MEMORY_BYTES)
    results = uploader.upload([UploadJob(1, path)])
    threading.Timer(1.5, stalled.set).start()
    collected = threading.Thread(target=lambda: found.extend(results))
    found: list[object] = []
    collected.start()
    stalled.wait(1.2)
    stalled_at = seen
    collected.join(60)
    assert isinstance(found[0], Uploaded)
    assert stalled_at * 2.3 * MIB < MIN_MEMORY_BYTES + 30 * MIB
    assert seen > 60


# ---- what goes wrong with files ----


def test_each_trouble_with_a_file_fails_that_file_only(space: MemorySpace, tmp_path: Path) -> None:
    good, linked, vanished, changed = files(tmp_path, [b"good", b"linked", b"vanished", b"changed"])
    signature = Signature.of(changed.stat())
    os.utime(changed, ns=(1, 1))
    vanished.unlink()
    linked.unlink()
    linked.symlink_to(good)
    directory, pipe = tmp_path / "directory", tmp_path / "pipe"
    directory.mkdir()
    os.mkfifo(pipe)
    below_a_file = good / "x"
    jobs = [
        UploadJob("good", good),
        UploadJob("link", linked),
        UploadJob("vanished", vanished),
        UploadJob("below a file", below_a_file),
        UploadJob("changed", changed, signature),
        UploadJob("directory", directory),
        UploadJob("pipe", pipe),
    ]
    results = outcomes(Uploader(space, space.store).upload(jobs))
    assert isinstance(results.pop("good"), Uploaded)
    troubles = {key: result.trouble for key, result in results.items() if isinstance(result, Failed)}
    assert troubles == {
        "link": Trouble.NOT_A_FILE,
        "vanished": Trouble.VANISHED,
        "below a file": Trouble.VANISHED,
        "changed": Trouble.CHANGED,
        "directory": Trouble.NOT_A_FILE,
        "pipe": Trouble.NOT_A_FILE,
    }
    assert all("will be scanned again" in result.reason for result in results.values() if isinstance(result, Failed))


def test_an_unreadable_file_says_why(space: MemorySpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = files(tmp_path, [b"secret"])
    tried = []

    def refusing(path: Path, flags: int) -> int:
        tried.append(flags)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refusing)
    result = run(space, [path])[path.name]
    monkeypatch.undo()
    assert isinstance(result, Failed)
    assert (result.trouble, result.reason) == (
        Trouble.UNREADABLE,
        "cannot be read (Permission denied); fix that and sync again",
    )
    assert [bool(flags & os.O_NOATIME) for flags in tried] == [True, False]


def test_a_read_error_fails_the_file(space: MemorySpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int, size: int) -> bytes:
        raise OSError(5, "Input/output error")

    paths = files(tmp_path, [b"broken", noise(MIN_BLOCK_BYTES)])
    monkeypatch.setattr(os, "read", broken)
    monkeypatch.setattr(os, "readv", broken)
    results = run(space, paths)
    monkeypatch.undo()
    assert {result.trouble for result in results.values() if isinstance(result, Failed)} == {Trouble.UNREADABLE}


@pytest.mark.parametrize("size", [4 * KIB, 3 * MIB], ids=["small", "large"])
@pytest.mark.parametrize("how", ["grows", "shrinks", "is rewritten", "is replaced"])
def test_a_file_that_changes_while_it_is_read_fails(
    space: MemorySpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, how: str
) -> None:
    (path,) = files(tmp_path, [noise(size)])
    os.utime(path, ns=(1, 1))
    new = tmp_path / "new"
    new.write_bytes(noise(size, 2))
    read, readv = os.read, os.readv

    def change() -> None:
        monkeypatch.undo()
        match how:
            case "grows":
                with path.open("ab") as file:
                    file.write(b"more")
            case "shrinks":
                os.truncate(path, size // 2)
            case "is rewritten":
                path.write_bytes(noise(size, 3))
            case "is replaced":
                new.replace(path)

    def changing_read(descriptor: int, count: int) -> bytes:
        data = read(descriptor, count)
        change()
        return data

    def changing_readv(descriptor: int, buffers: list[memoryview]) -> int:
        count = readv(descriptor, [buffers[0][: size // 3]])
        change()
        return count

    monkeypatch.setattr(os, "read", changing_read)
    monkeypatch.setattr(os, "readv", changing_readv)
    result = run(space, [path])[path.name]
    assert isinstance(result, Failed)
    assert (result.trouble, result.reason) == (Trouble.CHANGED, "changed while uploading; will be scanned again")


def test_a_file_that_never_stops_growing_is_given_up(
    space: MemorySpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = files(tmp_path, [noise(MIB)])

    def endless(descriptor: int, buffers: list[memoryview]) -> int:
        return len(buffers[0])

    monkeypatch.setattr(os, "readv", endless)
    result = run(space, [path])[path.name]
    assert isinstance(result, Failed)
    assert result.trouble is Trouble.CHANGED


def test_short_reads_are_read_on(space: MemorySpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some filesystems hand out less than was asked for."""
    paths = files(tmp_path, [noise(4 * KIB), noise(3 * MIB)])
    read, readv = os.read, os.readv
    monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 1000)))
    monkeypatch.setattr(os, "readv", lambda descriptor, buffers: readv(descriptor, [buffers[0][:100_000]]))
    contents = uploaded(space, paths)
    monkeypatch.undo()
    assert all(space.content(contents[path]) == path.read_bytes() for path in paths)


# ---- what goes wrong with storage and service ----


def test_a_refused_object_fails_the_files_that_need_it(space: MemorySpace, tmp_path: Path) -> None:
    bad, good, mixed = noise(2 * MIB, 1), noise(2 * MIB, 2), b"small"
    paths = files(tmp_path, [bad, good, mixed])
    space.on_seal = lambda one: SealVerdict.CHECKSUM_MISMATCH if one.digest == sha256(bad) else None
    results = run(space, paths)
    assert isinstance(results[paths[1].name], Uploaded)
    assert isinstance(results[paths[2].name], Uploaded)
    failed = results[paths[0].name]
    assert isinstance(failed, Failed)
    assert failed.trouble is Trouble.REFUSED
    assert "CHECKSUM_MISMATCH" in failed.reason


def test_a_refused_pack_is_not_referred_to_again(space: MemorySpace, tmp_path: Path) -> None:
    paths = files(tmp_path, [noise(KIB, i) for i in range(5000)] + [noise(KIB, 0)])
    # A verdict after which uploading the same again would not help.
    space.on_seal = lambda one: SealVerdict.ENTRY_DIGEST_MISMATCH if space.calls["seal"] == 1 else None
    results = run(space, paths)
    failed = [result for result in results.values() if isinstance(result, Failed)]
    assert 0 < len(failed) < len(paths)
    for result in results.values():
        if isinstance(result, Uploaded):
            space.content(result.content)


@pytest.mark.parametrize("wrong", [b"wrong", b"w"], ids=["other bytes", "another size"])
def test_what_lay_there_with_wrong_bytes_is_replaced(space: MemorySpace, tmp_path: Path, wrong: bytes) -> None:
    """The service removes it when it is to be sealed; then the files that need it are uploaded again."""
    large, pack = noise(2 * MIB, 1), [b"small", b"smaller"]
    paths = files(tmp_path, [large, *pack, noise(3 * MIB, 2)])
    for data in (large, b"".join(pack)):
        space.store.objects[sha256(data)] = wrong.ljust(len(data)) if len(wrong) > 1 else wrong
    contents = uploaded(space, paths)
    assert all(space.content(contents[path]) == path.read_bytes() for path in paths)


def test_an_object_that_is_never_accepted_is_given_up(space: MemorySpace, tmp_path: Path) -> None:
    paths = files(tmp_path, [noise(2 * MIB, 1), b"small"])
    space.on_seal = lambda one: SealVerdict.OBJECT_MISSING if one.size == 2 * MIB else None
    results = run(space, paths)
    failed = results[paths[0].name]
    assert isinstance(failed, Failed)
    assert "OBJECT_MISSING" in failed.reason
    assert isinstance(results[paths[1].name], Uploaded)
    assert space.store.puts.count(sha256(noise(2 * MIB, 1))) == MAX_ATTEMPTS


def test_progress_adds_up_if_something_is_uploaded_again(space: MemorySpace, tmp_path: Path) -> None:
    shared = noise(2 * MIB, 1)
    paths = files(tmp_path, [shared + noise(MIB, 2), shared, b"small", b"smaller"])
    space.store.objects[sha256(b"smallsmaller")] = b"wrong"
    space.on_seal = lambda one: SealVerdict.OBJECT_MISSING if space.calls["seal"] == 1 else None
    progress = Total()
    uploaded(space, paths, progress=progress)
    assert progress.size == sum(path.stat().st_size for path in paths)


@pytest.mark.parametrize("error", [Unavailable("storage does not answer"), PermissionDenied("no")])
def test_unusable_storage_ends_the_upload_with_its_reason(space: MemorySpace, tmp_path: Path, error: Exception) -> None:
    def on_put(digest: Digest, data: bytes) -> None:
        if len(space.store.puts) >= 2:
            raise error

    space.store.on_put = on_put
    paths = files(tmp_path, [noise(256 * KIB, i) for i in range(200)])
    done: list[object] = []
    with pytest.raises(type(error)) as raised:
        done.extend(Uploader(space, space.store, workers=1).upload(UploadJob(path, path) for path in paths))
    assert raised.value is error
    for result in done:
        assert isinstance(result, Uploaded)
        space.content(result.content)


@pytest.mark.parametrize("method", ["find_missing", "seal"])
def test_an_unusable_service_ends_the_upload_with_its_reason(space: MemorySpace, tmp_path: Path, method: str) -> None:
    def fail(*_: object) -> None:
        raise Unavailable("the service does not answer")

    if method == "seal":
        space.on_seal = fail
    else:
        space.on_find = fail
    with pytest.raises(Unavailable, match="the service does not answer"):
        list(Uploader(space, space.store).upload([UploadJob(1, files(tmp_path, [noise(3 * MIB)])[0])]))


def test_an_upload_that_is_abandoned_ends_its_threads(space: MemorySpace, tmp_path: Path) -> None:
    paths = files(tmp_path, [noise(MIB, i) for i in range(100)])
    results = Uploader(space, space.store).upload(UploadJob(path, path) for path in paths)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(space.store.puts) < 100


def test_an_error_of_the_callers_jobs_is_the_callers(space: MemorySpace, tmp_path: Path) -> None:
    (path,) = files(tmp_path, [b"content"])

    def jobs() -> Iterator[UploadJob]:
        yield UploadJob(1, path)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(Uploader(space, space.store).upload(jobs()))


def test_objects_of_an_interrupted_upload_are_not_uploaded_again(space: MemorySpace, tmp_path: Path) -> None:
    (path,) = files(tmp_path, [noise(60 * MIB)])

    def on_put(digest: Digest, data: bytes) -> None:
        if len(space.store.puts) >= 12:
            raise Unavailable("gone")

    space.store.on_put = on_put
    with pytest.raises(Unavailable):
        list(Uploader(space, space.store, memory=MIN_MEMORY_BYTES).upload([UploadJob(1, path)]))
    space.store.on_put = lambda digest, data: None
    sealed, before = len(space.sealed), len(space.store.puts)
    content = uploaded(space, [path])[path]
    assert space.content(content) == path.read_bytes()
    assert len(space.store.puts) - before == len(space.sealed) - sealed


def test_progress_adds_up(space: MemorySpace, tmp_path: Path) -> None:
    paths = files(tmp_path, [noise(6 * MIB), noise(6 * MIB), b"small", b"small", b"", noise(MIN_BLOCK_BYTES)])
    progress = Total()
    uploaded(space, paths, progress=progress)
    assert (progress.files, progress.size) == (len(paths), sum(path.stat().st_size for path in paths))


def test_packs_declare_what_is_in_them(space: MemorySpace, tmp_path: Path) -> None:
    uploaded(space, files(tmp_path, [noise(100 * KIB, i) for i in range(200)]))
    forms = [one.form for one in space.sealed.values()]
    assert all(isinstance(form, PackEntries) for form in forms)
    assert all(one.size <= PACK_BYTES + MIN_BLOCK_BYTES for one in space.sealed.values())


def test_too_little_memory_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs"):
        Uploader(MemorySpace(MemoryStore()), MemoryStore(), memory=MIN_MEMORY_BYTES - 1)


def test_a_block_is_bytes_that_cannot_change() -> None:
    assert type(Block(sha256(b"x"), b"x").data) is bytes
