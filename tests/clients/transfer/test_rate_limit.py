"""A limit holds for all threads together; the clock is the test's own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from syncline.model.accounts import Access
from syncline.model.blocks import KIB, MIB, PACK_BYTES, Digest
from syncline.sdk.requests import RequestCounts
from syncline.transfer.download import Downloader
from syncline.transfer.jobs import Downloaded, DownloadJob, Uploaded, UploadJob
from syncline.transfer.objects import S3Objects
from syncline.transfer.rate_limit import LIMITED_WORKERS, Limit
from syncline.transfer.upload import Uploader
from tests.clients.transfer.bucket import Bucket, HeldCredentials
from tests.clients.transfer.fakes import MemorySpace, MemoryStore, files, noise, sha256


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0
        self.lock = threading.Lock()
        self.naps: list[float] = []

    def now(self) -> float:
        with self.lock:
            return self.time

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.naps.append(seconds)
            self.time += seconds

    def limit(self, rate: int) -> Limit:
        return Limit(rate, now=self.now, sleep=self.sleep)


def test_bytes_pass_at_the_rate() -> None:
    clock = Clock()
    limit = clock.limit(1000 * KIB)
    for _ in range(50):
        limit.take(100 * KIB)
    assert clock.time == pytest.approx(4.9)
    assert max(clock.naps) == pytest.approx(0.1), "in small steps"


def test_what_is_larger_than_a_second_is_paid_by_the_next() -> None:
    clock = Clock()
    limit = clock.limit(MIB)
    limit.take(8 * MIB)
    assert clock.time == 0
    limit.take(1)
    assert clock.time == pytest.approx(8)


def test_what_was_not_used_is_not_saved_up() -> None:
    clock = Clock()
    limit = clock.limit(MIB)
    clock.sleep(3600)
    for _ in range(4):
        limit.take(MIB)
    assert clock.time == pytest.approx(3603)


def test_all_threads_share_one_rate() -> None:
    """Each thread is told to wait for its own turn, and no two turns are the same."""
    turns: list[float] = []
    limit = Limit(MIB, now=lambda: 0.0, sleep=turns.append)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(64):
            threads.submit(limit.take, MIB // 4)
    assert sorted(turns) == [pytest.approx(n / 4) for n in range(1, 64)]


@pytest.mark.parametrize("rate", [0, -1, 10, 1 << 50])
def test_a_rate_must_make_sense(rate: int) -> None:
    with pytest.raises(ValueError, match="a rate is"):
        Limit(rate)


def limited(bucket: Bucket, access: Access, limit: Limit) -> S3Objects:
    held = HeldCredentials(lambda: bucket.credentials(access))
    return S3Objects(bucket.storage(), held, RequestCounts(), limit)  # type: ignore[arg-type]


def test_a_limited_get_reads_in_small_steps_and_a_put_is_charged_before_it_is_sent(bucket: Bucket) -> None:
    data = noise(3 * MIB)
    clock = Clock()
    up = limited(bucket, Access.WRITE, clock.limit(MIB))
    up.put(sha256(data), data)
    assert clock.time == 0
    up.put(sha256(b"next"), b"next")
    assert clock.time == pytest.approx(3)

    clock = Clock()
    down = limited(bucket, Access.READ, clock.limit(MIB))
    assert bytes(down.get(sha256(data))) == data
    assert 2 < clock.time < 3
    assert max(clock.naps) < 1, "never a whole object at once"
    before = clock.time
    assert bytes(down.get_range(sha256(data), 1000, 5000)) == data[1000:6000]
    assert bytes(down.get_range(sha256(data), len(data) - 10, 100)) == data[-10:]
    assert bytes(down.get_range(sha256(data), len(data) + 10, 100)) == b""
    assert clock.time - before < 1.1
    assert down.requests.counts().bytes_down == len(data) + 5010


def test_whole_transfers_keep_to_the_limit(tmp_path: Path, bucket: Bucket) -> None:
    contents = [noise(5 * MIB), *(noise(20 * KIB, n) for n in range(50))]
    size = sum(map(len, contents))
    clock = Clock()
    store = limited(bucket, Access.WRITE, clock.limit(MIB))
    proofs = MemoryStore()

    class Proven(MemoryStore):
        """Objects that are put here are told to a space that proves them."""

        def put(self, digest: Digest, data: bytes) -> None:
            store.put(digest, data)
            proofs.put(digest, data)

    jobs = [UploadJob(path.name, path) for path in files(tmp_path, contents)]
    uploaded = list(Uploader(MemorySpace(proofs), Proven(), workers=LIMITED_WORKERS).upload(jobs))
    assert clock.time >= (size - PACK_BYTES) / MIB, "all but the last object has been paid for"

    clock = Clock()
    store = limited(bucket, Access.READ, clock.limit(MIB))
    down = [
        DownloadJob(one.job.key, one.content, tmp_path / f"{one.job.key}.new", 0o600)
        for one in uploaded
        if isinstance(one, Uploaded)
    ]
    assert len(down) == len(contents)
    assert all(isinstance(one, Downloaded) for one in Downloader(store, LIMITED_WORKERS).download(down))
    # Nobody pays for the last part: with each worker as much as the network gave at once.
    assert clock.time >= (size - LIMITED_WORKERS * MIB) / MIB
    for number, data in enumerate(contents):
        assert (tmp_path / f"{number:05}.new").read_bytes() == data
