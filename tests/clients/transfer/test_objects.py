"""The S3 adapter against an AWS that checks signatures, policies, checksums and preconditions."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncline.model.accounts import Access
from syncline.model.blocks import KIB, MIB, Digest
from syncline.model.errors import NoSuchSpace, PermissionDenied, Unavailable
from syncline.sdk.credentials import S3Credentials
from syncline.sdk.discovery import StorageAddress
from syncline.sdk.errors import UnexpectedAnswer
from syncline.sdk.requests import Counts, RequestCounts
from syncline.transfer import objects, signed_requests
from syncline.transfer.download import Downloader
from syncline.transfer.jobs import Downloaded, DownloadJob, Failed, Trouble, Uploaded, UploadJob
from syncline.transfer.objects import (
    RETRIES,
    ClockWrong,
    ObjectMissing,
    ObjectStore,
    ObjectWithheld,
    S3Objects,
    StorageFull,
)
from syncline.transfer.rate_limit import Limit
from syncline.transfer.upload import Uploader
from tests.clients.hostile_server import hostile
from tests.clients.transfer.bucket import Bucket, HeldCredentials
from tests.clients.transfer.fakes import MemorySpace, MemoryStore, files, noise, sha256
from tests.clients.transfer.proxy import Fault, Proxy


def as_root(bucket: Bucket, method: str, digest: Digest, **arguments: Any) -> Any:
    """Ask S3 about an object, past all policies."""

    async def ask() -> Any:
        async with bucket.aws.client("s3") as s3:
            key = bucket.key(digest)
            return await getattr(s3, method)(Bucket=bucket.aws.resources.bucket_name, Key=key, **arguments)

    return asyncio.run(ask())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RETRIES", replace(RETRIES, first_pause_seconds=0.01, max_pause_seconds=0.02))


def test_what_was_put_can_be_got(bucket: Bucket) -> None:
    store: ObjectStore = bucket.objects()
    data = noise(3 * MIB)
    store.put(sha256(data), data)
    assert bytes(store.get(sha256(data))) == data
    assert bytes(store.get_range(sha256(data), 1000, 5000)) == data[1000:6000]
    assert bytes(store.get_range(sha256(data), len(data) - 10, 100)) == data[-10:]
    assert bytes(store.get_range(sha256(data), len(data) + 10, 100)) == b""


def test_requests_and_bytes_are_counted(bucket: Bucket) -> None:
    store = bucket.objects()
    store.put(sha256(b"content"), b"content")
    store.put(sha256(b"content"), b"content")
    store.get_range(sha256(b"content"), 0, 3)
    assert store.requests.counts() == Counts(s3_put=2, s3_get=1, bytes_up=len(b"content"), bytes_down=3)


def test_storage_knows_the_checksum_of_each_object(bucket: Bucket) -> None:
    data = noise(MIB)
    bucket.objects().put(sha256(data), data)
    head = as_root(bucket, "head_object", sha256(data), ChecksumMode="ENABLED")
    assert base64.b64decode(head["ChecksumSHA256"]) == sha256(data)


def test_an_object_is_never_written_twice(bucket: Bucket) -> None:
    digest = sha256(b"content")
    as_root(bucket, "put_object", digest, Body=b"something else")
    bucket.objects().put(digest, b"content")
    assert as_root(bucket, "head_object", digest)["ContentLength"] == len(b"something else")


def test_a_missing_object_is_missing(bucket: Bucket) -> None:
    store = bucket.objects()
    with pytest.raises(ObjectMissing):
        store.get(sha256(b"nothing"))
    with pytest.raises(ObjectMissing):
        store.get_range(sha256(b"nothing"), 0, 1)


def test_a_missing_object_is_the_trouble_of_that_object_although_storage_only_says_that_it_is_denied(
    bucket: Bucket,
) -> None:
    """No device may list the bucket, so S3 does not tell a missing object from one that is not the device's."""
    held = HeldCredentials(lambda: bucket.credentials(Access.READ))
    store = bucket.objects_with(held)
    bucket.objects().put(sha256(b"content"), b"content")
    for number in range(3):
        with pytest.raises(ObjectMissing):
            store.get(sha256(b"nothing %d" % number))
        with pytest.raises(ObjectMissing):
            store.tag(sha256(b"nothing %d" % number))
    assert held.issued == 2, "the right is asked for anew once, not for each object"
    assert bytes(store.get(sha256(b"content"))) == b"content"


def test_a_denial_that_older_credentials_met_says_nothing_of_the_object(bucket: Bucket, proxy: Proxy) -> None:
    """Two threads are denied with the first credentials. The denial of one thread, as of a role whose sessions
    have been ended, comes when the other thread has had new credentials issued.
    """
    bucket.objects().put(sha256(b"content"), b"content")
    held = HeldCredentials(lambda: bucket.credentials(Access.READ))
    store = bucket.objects_with(held, endpoint=proxy.endpoint)
    proxy.faults.append(Fault.DENIED)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(store.get, sha256(b"content"))
        deadline = time.monotonic() + 60
        while not proxy.requests and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(ObjectMissing):
            store.get(sha256(b"nothing"))
        proxy.denies.set()
        assert bytes(late.result()) == b"content"
    assert held.issued == 2, "those that the other thread has had issued are good for both"


def test_whoever_has_lost_the_right_is_told_so_and_not_that_objects_are_missing(bucket: Bucket) -> None:
    ended = HeldCredentials(lambda: bucket.credentials(Access.READ))
    store = bucket.objects_with(ended)
    ended.get()

    def refuse() -> S3Credentials:
        raise NoSuchSpace("you are not a member any more")

    ended.issue = refuse
    with pytest.raises(NoSuchSpace):
        store.get(sha256(b"nothing"))


@pytest.mark.parametrize("ahead", [0, 3600], ids=["", "with a wrong clock"])
def test_an_object_that_was_replaced_has_another_tag(bucket: Bucket, proxy: Proxy, ahead: int) -> None:
    proxy.ahead, proxy.root = ahead, bucket.aws.root
    store, digest = bucket.objects(endpoint=proxy.endpoint), sha256(b"content")
    with pytest.raises(ObjectMissing):
        store.tag(digest)
    tags = []
    for body in (b"damaged", b"content", b"", b"content"):
        as_root(bucket, "put_object", digest, Body=body)
        tags.append(store.tag(digest))
        assert store.tag(digest) == tags[-1]
    assert tags[1] == tags[3]
    assert len(set(tags)) == 3
    assert all(tags)


@pytest.mark.parametrize("fault", [Fault.ARCHIVED, Fault.ENCRYPTED])
def test_an_object_that_storage_does_not_give_is_the_trouble_of_that_object(
    bucket: Bucket, proxy: Proxy, fault: Fault
) -> None:
    store, digest = bucket.objects(endpoint=proxy.endpoint), sha256(b"content")
    store.put(digest, b"content")
    for ask in (store.get, store.tag, lambda digest: store.get_range(digest, 0, 1)):
        proxy.faults.append(fault)
        with pytest.raises(ObjectWithheld):
            ask(digest)
    assert bytes(store.get(digest)) == b"content"


def test_many_threads_share_one_store(bucket: Bucket) -> None:
    store = bucket.objects()
    blocks = [noise(64 * KIB, i) for i in range(32)]

    def put_and_get(data: bytes) -> None:
        store.put(sha256(data), data)
        assert bytes(store.get(sha256(data))) == data

    threads = [threading.Thread(target=put_and_get, args=(data,)) for data in blocks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.requests.counts() == Counts(0, 32, 32, 32 * 64 * KIB, 32 * 64 * KIB)


# ---- who may ----


def test_who_may_read_may_not_write(bucket: Bucket) -> None:
    bucket.objects(Access.WRITE).put(sha256(b"content"), b"content")
    reader = bucket.objects(Access.READ)
    assert bytes(reader.get(sha256(b"content"))) == b"content"
    with pytest.raises(PermissionDenied, match=r"storage refuses access to this space \(AccessDenied\)"):
        reader.put(sha256(b"more"), b"more")


def test_credentials_open_one_space_only(bucket: Bucket) -> None:
    other = Bucket(bucket.aws)
    other.objects().put(sha256(b"secret"), b"secret")
    held = HeldCredentials(lambda: bucket.credentials(Access.WRITE))
    trespasser = other.objects_with(held)
    inner = held.get()
    held.held = S3Credentials(
        inner.access_key_id,
        inner.secret_access_key,
        inner.session_token,
        inner.expires_at_ms,
        inner.bucket,
        f"spaces/{other.space}/objects/",
    )
    # Storage denies what is another space's and what is not there in the same words.
    with pytest.raises(ObjectMissing):
        trespasser.get(sha256(b"secret"))
    held.held = replace(held.get(), key_prefix=f"spaces/{other.space}/objects/")
    with pytest.raises(PermissionDenied):
        trespasser.put(sha256(b"more"), b"more")


def test_a_transfer_outlives_its_credentials(bucket: Bucket) -> None:
    """A transfer that is refused for stale credentials has others issued, once, and goes on."""
    lifetimes = iter([0, 3600, 3600])
    held = HeldCredentials(lambda: bucket.credentials(Access.WRITE, seconds=next(lifetimes)))
    store = bucket.objects_with(held)
    store.put(sha256(b"content"), b"content")
    assert held.issued == 2


def test_credentials_that_stay_refused_are_not_asked_for_without_end(bucket: Bucket, proxy: Proxy) -> None:
    proxy.always = Fault.EXPIRED
    held = HeldCredentials(lambda: bucket.credentials(Access.WRITE))
    with pytest.raises(UnexpectedAnswer, match="400 ExpiredToken"):
        bucket.objects_with(held, endpoint=proxy.endpoint).get(sha256(b"x"))
    assert held.issued == 2


def test_why_credentials_are_not_issued_reaches_the_caller(bucket: Bucket) -> None:
    def refuse() -> S3Credentials:
        raise NoSuchSpace

    with pytest.raises(NoSuchSpace):
        bucket.objects_with(HeldCredentials(refuse)).get(sha256(b"x"))


def test_the_users_own_aws_settings_do_not_matter(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAUSERSOWN",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_REGION": "eu-central-1",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_UNSIGNED_PAYLOAD": "true",
        "AWS_REQUEST_PAYER": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_S3_EXPRESS": "true",
        "AWS_CHECKSUM_ALGORITHM": "CRC64NVME",
        "AWS_CONDITIONAL_PUT": "disabled",
    }.items():
        monkeypatch.setenv(name, value)
    store = bucket.objects()
    store.put(sha256(b"content"), b"content")
    assert bytes(store.get(sha256(b"content"))) == b"content"


# ---- what goes wrong on the way ----

PASSING = [Fault.UNAVAILABLE, Fault.INTERNAL, Fault.RESET, Fault.CONFLICT, Fault.LOST_ANSWER]


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_passes(bucket: Bucket, proxy: Proxy, fault: Fault) -> None:
    store = bucket.objects(endpoint=proxy.endpoint)
    data = noise(MIB)
    proxy.faults.extend([fault, fault])
    store.put(sha256(data), data)
    assert proxy.requests == ["PUT"] * 3
    assert store.requests.counts().s3_put == 3
    proxy.faults.extend([fault, fault])
    assert bytes(store.get(sha256(data))) == data


def test_bytes_damaged_on_the_way_up_are_refused_and_sent_again(bucket: Bucket, proxy: Proxy) -> None:
    store = bucket.objects(endpoint=proxy.endpoint)
    data = noise(MIB)
    proxy.faults.extend([Fault.DAMAGED_REQUEST, Fault.DAMAGED_REQUEST])
    store.put(sha256(data), data)
    assert len(proxy.requests) == 3
    assert bytes(store.get(sha256(data))) == data


def test_bytes_that_are_always_damaged_are_given_up(bucket: Bucket, proxy: Proxy) -> None:
    proxy.always = Fault.DAMAGED_REQUEST
    with pytest.raises(Unavailable, match=r"storage does not answer \(400 "):
        bucket.objects(endpoint=proxy.endpoint).put(sha256(b"content"), b"content")
    with pytest.raises(ObjectMissing):
        bucket.objects().get(sha256(b"content"))


def test_an_answer_that_ends_early_is_asked_for_again(bucket: Bucket, proxy: Proxy) -> None:
    store = bucket.objects(endpoint=proxy.endpoint)
    data = noise(MIB)
    store.put(sha256(data), data)
    proxy.faults.append(Fault.SHORT_ANSWER)
    assert bytes(store.get_range(sha256(data), 0, len(data))) == data


def test_a_slow_line_is_given_more_time(bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PUT that takes long is tried with more patience, and so are those after it."""
    monkeypatch.setattr(objects, "PUT_SECONDS", 0.5)
    proxy.slowness = 1.2
    store = bucket.objects(endpoint=proxy.endpoint)
    proxy.always = Fault.SLOW
    store.put(sha256(b"content"), b"content")
    tries = len(proxy.requests)
    assert 1 < tries < RETRIES.max_attempts
    store.put(sha256(b"more"), b"more")
    assert len(proxy.requests) == tries + 1


def test_a_connection_that_nobody_accepts_says_nothing_about_the_line(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handshake of TLS is not answered."""
    monkeypatch.setattr(objects, "PUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = bucket.objects(endpoint=f"https://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Unavailable):
            store.put(sha256(b"content"), b"content")
    assert store._put_seconds == 0.2


def test_a_silent_line_is_not_waited_for(bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.objects().put(sha256(b"content"), b"content")
    monkeypatch.setattr(signed_requests, "SILENCE_SECONDS", 1.0)
    proxy.slowness = 10.0
    proxy.faults.append(Fault.SLOW)
    assert bytes(bucket.objects(endpoint=proxy.endpoint).get(sha256(b"content"))) == b"content"
    assert len(proxy.requests) == 2


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.RESET])
def test_a_fault_that_stays_is_given_up(bucket: Bucket, proxy: Proxy, fault: Fault) -> None:
    proxy.always = fault
    with pytest.raises(Unavailable, match=r"storage does not answer \(.+\); try again later"):
        bucket.objects(endpoint=proxy.endpoint).get(sha256(b"x"))
    assert len(proxy.requests) == RETRIES.max_attempts


def test_storage_that_is_not_there_is_unavailable(bucket: Bucket) -> None:
    with pytest.raises(Unavailable, match="storage does not answer"):
        bucket.objects(endpoint="http://127.0.0.1:9").get(sha256(b"x"))


@pytest.mark.parametrize("hours", [1, -1, 24 * 400])
@pytest.mark.parametrize("limited", [False, True])
def test_a_wrong_clock_is_corrected_by_what_storage_says(
    bucket: Bucket, proxy: Proxy, hours: float, limited: bool
) -> None:
    proxy.ahead, proxy.root = hours * 3600, bucket.aws.root
    held = HeldCredentials(lambda: bucket.credentials(Access.WRITE))
    limit = Limit(1 << 30) if limited else None
    store = S3Objects(bucket.storage(proxy.endpoint), held, RequestCounts(), limit)  # type: ignore[arg-type]
    data = noise(3 * MIB)
    store.put(sha256(data), data)
    store.put(sha256(data), data)
    assert bytes(store.get(sha256(data))) == data
    assert bytes(store.get_range(sha256(data), 1000, 5000)) == data[1000:6000]
    assert bytes(store.get_range(sha256(data), len(data) + 10, 100)) == b""
    with pytest.raises(ObjectMissing):
        store.get(sha256(b"nothing"))
    head = as_root(bucket, "head_object", sha256(data), ChecksumMode="ENABLED")
    assert base64.b64decode(head["ChecksumSHA256"]) == sha256(data)
    assert proxy.requests.count("HEAD") == 1, "it is asked for the time once"
    # The clock is set right meanwhile.
    proxy.ahead = 0.0
    assert bytes(store.get(sha256(data))) == data
    assert proxy.requests.count("HEAD") == 2


def test_faults_are_passed_over_while_the_clock_is_wrong(bucket: Bucket, proxy: Proxy) -> None:
    proxy.ahead, proxy.root = 3600, bucket.aws.root
    store = bucket.objects(endpoint=proxy.endpoint)
    data = noise(MIB)
    store.put(sha256(data), data)
    for fault in (Fault.UNAVAILABLE, Fault.RESET, Fault.SHORT_ANSWER, Fault.CONFLICT, Fault.EXPIRED):
        proxy.faults.append(fault)
        assert bytes(store.get(sha256(data))) == data, fault


def test_a_wrong_clock_is_named(bucket: Bucket, proxy: Proxy) -> None:
    proxy.always = Fault.CLOCK
    with pytest.raises(ClockWrong, match="clock"):
        bucket.objects(endpoint=proxy.endpoint).get(sha256(b"x"))
    assert proxy.requests == ["GET", "HEAD"], "it is asked for the time, and does not say it"


def test_storage_without_room_is_said_at_once(bucket: Bucket, proxy: Proxy) -> None:
    proxy.always = Fault.FULL
    with pytest.raises(StorageFull, match="is full"):
        bucket.objects(endpoint=proxy.endpoint).put(sha256(b"x"), b"x")
    assert len(proxy.requests) == 1


# ---- the whole way ----


def test_ten_thousand_small_files_take_five_requests_each_way(bucket: Bucket, tmp_path: Path) -> None:
    store = bucket.objects()
    space = Proven(bucket.objects())
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    paths = files(here, (noise(4 * KIB, i) for i in range(10_000)))
    contents = {}
    for uploaded in Uploader(space, store).upload(UploadJob(path, path) for path in paths):
        assert isinstance(uploaded, Uploaded)
        contents[uploaded.job.path] = uploaded.content
    assert store.requests.counts() == Counts(s3_put=5, bytes_up=10_000 * 4 * KIB)
    jobs = [DownloadJob(path, content, there / path.name, 0o600) for path, content in contents.items()]
    for downloaded in Downloader(store).download(jobs):
        assert isinstance(downloaded, Downloaded)
    assert store.requests.counts().s3_get <= 12
    assert all((there / path.name).read_bytes() == path.read_bytes() for path in paths)


def test_transfers_go_through_a_bad_line(bucket: Bucket, proxy: Proxy, tmp_path: Path) -> None:
    store = bucket.objects(endpoint=proxy.endpoint)
    space = Proven(bucket.objects())
    paths = files(tmp_path, [noise(40 * MIB), *(noise(100 * KIB, i) for i in range(100)), b""])
    proxy.faults.extend([*PASSING, Fault.DAMAGED_REQUEST, Fault.NONE] * 2)
    contents = {}
    for uploaded in Uploader(space, store).upload(UploadJob(path, path) for path in paths):
        assert isinstance(uploaded, Uploaded)
        contents[uploaded.job.path] = uploaded.content
    assert not proxy.faults
    down = [Fault.DAMAGED_ANSWER, Fault.SHORT_ANSWER, *PASSING]
    proxy.faults.extend(down)
    jobs = [DownloadJob(path, content, path.with_suffix(".new"), 0o600) for path, content in contents.items()]
    for downloaded in Downloader(store).download(jobs):
        assert isinstance(downloaded, Downloaded), downloaded
    assert not proxy.faults
    assert all(path.with_suffix(".new").read_bytes() == path.read_bytes() for path in paths)


def test_what_arrives_damaged_twice_fails_the_file(bucket: Bucket, proxy: Proxy, tmp_path: Path) -> None:
    store = bucket.objects(endpoint=proxy.endpoint)
    (path,) = files(tmp_path, [b"content"])
    (uploaded,) = Uploader(Proven(store), store).upload([UploadJob(1, path)])
    assert isinstance(uploaded, Uploaded)
    proxy.always = Fault.DAMAGED_ANSWER
    (failed,) = Downloader(store).download([DownloadJob(1, uploaded.content, tmp_path / "new", 0o600)])
    assert isinstance(failed, Failed)
    assert failed.trouble is Trouble.CORRUPT


class Proven(MemorySpace):
    """A service that reads from the bucket what it is to prove."""

    def __init__(self, store: S3Objects) -> None:
        class Reading(dict[Digest, bytes]):
            def get(self, digest: Digest, default: Any = None) -> Any:
                try:
                    return bytes(store.get(digest))
                except ObjectMissing:
                    return default

        memory = MemoryStore()
        memory.objects = Reading()
        super().__init__(memory)


@pytest.mark.parametrize(
    ("storage", "endpoint"),
    [
        (StorageAddress("http://127.0.0.1:9000", "us-east-1", "b", path_style=True), "http://127.0.0.1:9000"),
        (StorageAddress("https://s3.example.com", "us-east-1", "b", path_style=False), "https://b.s3.example.com"),
        (StorageAddress(None, "eu-central-1", "b", path_style=False), "https://b.s3.eu-central-1.amazonaws.com"),
        (StorageAddress(None, "eu-central-1", "b", path_style=True), "https://s3.eu-central-1.amazonaws.com"),
        (StorageAddress(None, "cn-north-1", "b", path_style=False), "https://b.s3.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_where_requests_go(storage: StorageAddress, endpoint: str) -> None:
    assert objects._endpoint(storage) == endpoint


def test_no_plain_http_to_an_endpoint_with_tls() -> None:
    """Requests to an https address do not fall back to http."""
    with hostile(lambda to: to.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")) as plain:
        storage = StorageAddress(f"https://{plain.address}", "us-east-1", "b", path_style=True)
        held = HeldCredentials(lambda: S3Credentials("AKIA", "secret", "token", 1 << 50, "b", "spaces/x/objects/"))
        store = S3Objects(storage, held, RequestCounts())  # type: ignore[arg-type]
        with pytest.raises(Unavailable, match="storage does not answer"):
            store.get(sha256(b"x"))
        assert plain.requests == []
