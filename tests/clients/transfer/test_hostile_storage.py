"""Storage may be hostile: it costs a device a bounded number of bytes and memory, and ends with an error."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from syncline.model.blocks import MAX_BLOCK_BYTES, MAX_OBJECT_BYTES, MIB, BlockRef, Digest, MalformedManifest, Manifest
from syncline.model.chunking import digest_of
from syncline.model.tree import Content
from syncline.sdk.credentials import S3Credentials
from syncline.sdk.discovery import StorageAddress
from syncline.sdk.requests import RequestCounts
from syncline.transfer.download import Downloader
from syncline.transfer.jobs import DownloadJob, Failed, Trouble
from syncline.transfer.objects import S3Objects
from syncline.wire.tree import manifest_from_bytes, manifest_to_wire
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


@pytest.mark.parametrize("corrected", [False, True], ids=["obstore", "signed here"])
def test_storage_that_does_not_stop_is_not_listened_to(corrected: bool) -> None:
    held = HeldCredentials(
        lambda: S3Credentials(
            "AKIA", "secret", "token", int((time.time() + 3600) * 1000), "bucket", "spaces/x/objects/"
        )
    )
    with endless() as server:
        storage = StorageAddress(f"http://127.0.0.1:{server.server_port}", "us-east-1", "bucket", path_style=True)
        store = S3Objects(storage, held, RequestCounts(), None)  # type: ignore[arg-type]
        if corrected:
            assert store._clock.hear("Sat, 28 Nov 2020 00:00:00 GMT")
        part = store.get_range(digest(1), 0, MIB)
        assert len(part) > MIB, "which no digest fits"
        assert server.sent < 64 * MIB
        server.sent = 0
        assert MAX_OBJECT_BYTES < len(store.get(digest(1))) < 2 * MAX_OBJECT_BYTES
        assert server.sent < 128 * MIB
