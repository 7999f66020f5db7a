"""Storage may be hostile: it costs a device a bounded number of bytes and memory, and ends with an error."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from syncline.model.blocks import MAX_BLOCK_BYTES, MAX_OBJECT_BYTES, MIB, BlockRef, Digest, MalformedManifest, Manifest
from syncline.model.chunking import digest_of
from syncline.model.errors import PermissionDenied, Unavailable
from syncline.model.tree import Content
from syncline.sdk.credentials import S3Credentials
from syncline.sdk.discovery import StorageAddress
from syncline.sdk.errors import UnexpectedAnswer
from syncline.sdk.requests import RequestCounts
from syncline.transfer import objects, signed_requests
from syncline.transfer.download import Downloader
from syncline.transfer.jobs import DownloadJob, Failed, Trouble
from syncline.transfer.objects import RETRIES, ObjectMissing, S3Objects, StorageRedirects
from syncline.wire.tree import manifest_from_bytes, manifest_to_wire
from tests.clients.hostile_server import MAX_TAKEN_BYTES, HostileConnection, hostile
from tests.clients.transfer.bucket import HeldCredentials
from tests.clients.transfer.fakes import MemoryStore


def digest(n: int) -> Digest:
    return digest_of(str(n).encode())


# ---- manifests that say more than they have


def test_a_manifest_of_numbers_alone_is_not_unpacked() -> None:
    """Eight megabytes can be eight million lengths, three hundred megabytes of Python."""
    raw = b"\x12\x80\x80\x80\x04" + b"\x01" * (8 * MIB)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedManifest):
            manifest_from_bytes(raw)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


PETABYTE = 1 << 50


@pytest.mark.parametrize(
    "manifest",
    [
        Manifest.of([BlockRef(digest(1), MAX_BLOCK_BYTES, digest(1), 0)]),
        Manifest(blocks=digest(1), lengths=((1 << 32) - 1,)),
        Manifest(),
        Manifest(blocks=digest(1), lengths=()),
    ],
    ids=["short of it", "a block of four gigabytes", "empty", "columns that do not fit"],
)
@pytest.mark.parametrize("inline", [True, False], ids=["inline", "object"])
def test_a_content_of_a_petabyte_that_its_manifest_does_not_add_up_to_takes_no_disk(
    tmp_path: Path, manifest: Manifest, inline: bool
) -> None:
    store = MemoryStore()
    raw = manifest_to_wire(manifest).SerializeToString()
    manifest_object = b""
    if not inline:
        manifest_object = digest_of(raw)
        store.put(Digest(manifest_object), raw)
    content = Content(
        digest(9), PETABYTE, 0, manifest=manifest if inline else Manifest(), manifest_object=manifest_object
    )
    job = DownloadJob(1, content, tmp_path / "new", 0o600)
    (result,) = Downloader(store).download([job])
    assert isinstance(result, Failed)
    assert result.trouble is Trouble.CORRUPT
    assert list(tmp_path.iterdir()) == []


# ---- storage that answers more than it is asked for


class _Endless(BaseHTTPRequestHandler):
    """Answers every range and object with a gigabyte, and says that this is what was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = self.headers.get("range")
        size = 1024 * MIB
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("content-range", f"bytes {asked.removeprefix('bytes=')}/{size}")
        self.send_header("content-length", str(size))
        self.send_header("last-modified", "Sat, 28 Nov 2026 00:00:00 GMT")
        self.send_header("etag", '"x"')
        self.end_headers()
        server = self.server
        assert isinstance(server, _Server)
        try:
            for _ in range(1024):
                self.wfile.write(bytes(MIB))
                server.sent += MIB
        except OSError:
            self.close_connection = True

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    sent = 0


@contextmanager
def endless() -> Iterator[_Server]:
    server = _Server(("127.0.0.1", 0), _Endless)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def credentials() -> HeldCredentials:
    return HeldCredentials(
        lambda: S3Credentials(
            "AKIA", "secret", "token", int((time.time() + 3600) * 1000), "bucket", "spaces/x/objects/"
        )
    )


def objects_of(endpoint: str) -> S3Objects:
    storage = StorageAddress(endpoint, "us-east-1", "bucket", path_style=True)
    return S3Objects(storage, credentials(), RequestCounts(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("corrected", [False, True], ids=["", "with a wrong clock"])
def test_storage_that_does_not_stop_is_not_listened_to(corrected: bool) -> None:
    with endless() as server:
        store = objects_of(f"http://127.0.0.1:{server.server_port}")
        if corrected:
            assert store._clock.hear("Sat, 28 Nov 2020 00:00:00 GMT")
        part = store.get_range(digest(1), 0, MIB)
        assert len(part) > MIB, "which no digest fits"
        assert server.sent < 64 * MIB
        server.sent = 0
        assert MAX_OBJECT_BYTES < len(store.get(digest(1))) < 2 * MAX_OBJECT_BYTES
        assert server.sent < 128 * MIB


# ---- storage that answers what nobody should follow, or wait for

REQUESTS: dict[str, Callable[[S3Objects], object]] = {
    "get": lambda store: store.get(digest(1)),
    "range": lambda store: store.get_range(digest(1), 0, MIB),
    "tag": lambda store: store.tag(digest(1)),
    "put": lambda store: store.put(digest_of(b"content"), b"content"),
}
each_request = pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS.keys())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "RETRIES", replace(RETRIES, max_attempts=2, first_pause_seconds=0.01))


@each_request
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "Nonsense"), (503, "SlowDown")])
@pytest.mark.parametrize("framing", [b"content-length: 1000000000000", b"connection: close"], ids=["length", "close"])
def test_an_error_without_an_end_is_cut(
    hasty: None, request_of: Callable[[S3Objects], object], status: int, code: str, framing: bytes
) -> None:
    """An error of 400 MB cost a device more than a gigabyte of memory."""

    def send(to: HostileConnection) -> None:
        to.send(b"HTTP/1.1 %d Error\r\n%s\r\n\r\n<Error><Code>%s</Code>" % (status, framing, code.encode()))
        to.flood(b" ")

    with hostile(send) as server:
        with pytest.raises((ObjectMissing, PermissionDenied, UnexpectedAnswer, Unavailable), match=r"denies|\(.*\)"):
            request_of(objects_of(server.endpoint))
        assert server.sent < len(server.requests) * MAX_TAKEN_BYTES


@each_request
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_storage_is_not_followed(request_of: Callable[[S3Objects], object], status: int) -> None:
    """Another address would see the session token of the credentials."""
    with hostile(lambda to: to.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\netag: x\r\n\r\nx")) as other:

        def redirect(to: HostileConnection) -> None:
            body = b"<Error><Code>PermanentRedirect</Code></Error>"
            to.send(
                b"HTTP/1.1 %d Moved\r\nlocation: %s/\r\nx-amz-bucket-region: eu-west-1\r\ncontent-length: %d\r\n\r\n%s"
                % (status, other.endpoint.encode(), len(body), body)
            )

        with hostile(redirect) as server:
            with pytest.raises(StorageRedirects, match="the bucket is in the region eu-west-1"):
                request_of(objects_of(server.endpoint))
            assert len(server.requests) == 1
        assert other.requests == []


@each_request
def test_storage_that_sends_one_byte_after_the_other_is_not_waited_for(
    hasty: None, monkeypatch: pytest.MonkeyPatch, request_of: Callable[[S3Objects], object]
) -> None:
    monkeypatch.setattr(signed_requests, "MAX_GET_SECONDS", 0.5)
    monkeypatch.setattr(objects, "PUT_SECONDS", 0.5)
    monkeypatch.setattr(objects, "MAX_PUT_SECONDS", 0.5)
    slow = b"HTTP/1.1 200 OK\r\nx-slow: " + b"x" * 1500
    with (
        hostile(lambda to: to.drip(slow)) as server,
        pytest.raises(Unavailable, match=r"storage does not answer \(timed out\)"),
    ):
        request_of(objects_of(server.endpoint))


@each_request
def test_headers_of_storage_have_an_end(hasty: None, request_of: Callable[[S3Objects], object]) -> None:
    def send(to: HostileConnection) -> None:
        to.send(b"HTTP/1.1 200 OK\r\nx-long: ")
        to.flood(b"x")

    with hostile(send) as server:
        with pytest.raises(Unavailable, match="has no end"):
            request_of(objects_of(server.endpoint))
        assert server.sent < len(server.requests) * MAX_TAKEN_BYTES


def test_a_text_of_storage_is_shown_in_part() -> None:
    code = b"X" * 10_000
    refusal = b"<Error><Code>%s</Code></Error>" % code
    answer = b"HTTP/1.1 400 Error\r\ncontent-length: %d\r\n\r\n%s" % (len(refusal), refusal)
    with (
        hostile(lambda to: to.send(answer)) as server,
        pytest.raises(UnexpectedAnswer, match=r"^storage failed \(400\); report it if it persists$"),
    ):
        objects_of(server.endpoint).get(digest(1))
