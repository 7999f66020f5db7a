"""The gateway and storage in memory, as strict as the real ones, with faults on demand, over loopback HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from syncline.metadata.v1 import journal_pb2
from syncline.model.blocks import MAX_BLOCK_BYTES, MAX_INLINE_BLOCKS, MAX_OBJECT_BYTES, MAX_PACK_ENTRIES
from syncline.model.names import name_problem
from syncline.model.tree import MAX_MUTATIONS
from syncline.wire.tree import manifest_from_wire

WEB = Path(__file__).parents[3] / "gateway" / "web"
PAGE = b"""<!doctype html><meta charset=utf-8><title>uploads</title>
<input id=files type=file multiple><input id=folder type=file webkitdirectory>"""
CSP = "default-src 'self'; script-src 'self'; worker-src 'self'; connect-src *"
TOKEN = "a token"
TYPES = {".js": "text/javascript", ".html": "text/html", ".css": "text/css"}

ROOT = "root"


@dataclass(frozen=True, slots=True)
class Fault:
    """The fault of one request. Without a status the connection ends in the middle."""

    status: int = 0
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Node:
    id: str
    parent: str
    name: str
    kind: str
    version: int = 0
    content: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        content = self.content or {}
        shown = {key: content[key] for key in ("digest", "size", "mtime_ms") if key in content}
        return {
            "id": self.id,
            "parent": self.parent,
            "name": self.name,
            "kind": self.kind,
            "version": self.version,
        } | shown


def hexed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def none(*_: object) -> None:
    return None


class Cloud:
    """One space, and the requests that were made."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.objects: dict[str, bytes] = {}
        self.sealed: set[str] = set()
        """Proven as single blocks; what is in here may be in the next two as well."""
        self.packed: dict[str, set[tuple[int, int]]] = {}
        """The proven blocks within objects, by offset and length."""
        self.manifests: set[str] = set()
        self.nodes: dict[str, Node] = {}
        self.puts: list[tuple[str, int]] = []
        """Digest and size of each object that was received completely."""
        self.asked: list[int] = []
        self.seals: list[list[dict[str, Any]]] = []
        self.commits: list[tuple[str, list[dict[str, Any]]]] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self.on_put: Callable[[str], Fault | None] = none
        self.on_api: Callable[[str], Fault | None] = none
        self.after_api: Callable[[str], Fault | None] = none
        """The same when the request has been carried out, but the answer does not arrive."""
        self.put_seconds = 0.0
        self.running = 0
        self.most_running = 0
        self.open = threading.Event()
        """PUTs wait for this before they are answered."""
        self.open.set()
        self.storage = ""
        self.url_lifetime = 3600.0
        self.refused: list[str] = []
        """Requests that a correct client does not make."""
        self._ids = 0

    # ---- what tests look at ----

    def at(self, path: str) -> Node:
        node = None
        parent = ROOT
        for name in path.split("/"):
            node = self._child(parent, name)
            assert node, f"{path} is not there"
            parent = node.id
        assert node
        return node

    def files(self) -> dict[str, bytes]:
        return {self._path(node): self.bytes_of(node.content) for node in self.nodes.values() if node.content}

    def put_bytes(self) -> int:
        return sum(size for _, size in self.puts)

    def make(self, path: str, data: bytes | None = None, parent: str = ROOT) -> Node:
        """Put a node there as another client would; without data it is a directory."""
        content = None
        if data is not None:
            self.objects[hexed(data)] = data
            self.sealed.add(hexed(data))
            blocks = [[hexed(data), len(data)]] if data else []
            content = {"digest": hexed(data), "size": len(data), "mtime_ms": 0, "blocks": blocks}
        return self._add(parent, path, content)

    def change(self, node: Node, data: bytes) -> None:
        with self.lock:
            other = self.make(f"{node.name} other", data)
            del self.nodes[other.id]
            node.content, node.version = other.content, node.version + 1

    def bytes_of(self, content: dict[str, Any]) -> bytes:
        if "manifest_object" in content:
            manifest = manifest_from_wire(journal_pb2.Manifest.FromString(self.objects[content["manifest_object"]]))
            refs = [(ref.digest.hex(), ref.length, ref.object.hex(), ref.offset) for ref in manifest.refs()]
        else:
            refs = [(*ref, ref[0], 0) if len(ref) == 2 else tuple(ref) for ref in content["blocks"]]
        parts = []
        for digest, length, name, offset in refs:
            data = self.objects[name][offset : offset + length]
            assert hexed(data) == digest
            assert len(data) == length
            parts.append(data)
        return b"".join(parts)

    # ---- the gateway ----

    def uploads(self, body: dict[str, Any]) -> dict[str, Any]:
        assert len(body["objects"]) <= 100
        self.asked.append(len(body["objects"]))
        answers = []
        for wanted in body["objects"]:
            digest = wanted["sha256"]
            if digest in self.sealed:
                answers.append({"sha256": digest, "stored": True})
                continue
            expires = time.time() + self.url_lifetime
            answers.append(
                {
                    "sha256": digest,
                    "stored": False,
                    "method": "PUT",
                    "url": f"{self.storage}/spaces/s/objects/{digest}?expires={expires}",
                    "headers": {
                        "x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(digest)).decode(),
                        "if-none-match": "*",
                    },
                    "expires_at_ms": int(expires * 1000),
                }
            )
        return {"uploads": answers}

    def seal(self, body: dict[str, Any]) -> dict[str, Any]:
        assert len(body["objects"]) <= 100
        self.seals.append(body["objects"])
        return {"verdicts": [self._seal(one) for one in body["objects"]]}

    def _seal(self, one: dict[str, Any]) -> str:
        data = self.objects.get(one["sha256"])
        if data is None:
            return "OBJECT_MISSING"
        if hexed(data) != one["sha256"]:
            del self.objects[one["sha256"]]
            return "CHECKSUM_MISMATCH" if len(data) == one["size"] else "SIZE_MISMATCH"
        if len(data) != one["size"]:
            return "SIZE_MISMATCH"
        if pack := one.get("pack"):
            assert 1 < len(pack["blocks"]) <= MAX_PACK_ENTRIES
            at = 0
            for digest, offset, length in zip(pack["blocks"], pack["offsets"], pack["lengths"], strict=True):
                if offset != at or hexed(data[offset : offset + length]) != digest:
                    return "ENTRY_DIGEST_MISMATCH"
                at += length
            assert at == len(data)
            places = zip(pack["offsets"], pack["lengths"], strict=True)
            self.packed.setdefault(one["sha256"], set()).update(places)
        elif one.get("manifest"):
            manifest = manifest_from_wire(journal_pb2.Manifest.FromString(data))
            manifest.check()
            assert len(manifest) > MAX_INLINE_BLOCKS
            if not all(digest.hex() in self.sealed for digest in manifest.object_digests()):
                return "MANIFEST_INVALID"
            self.manifests.add(one["sha256"])
        else:
            assert len(data) <= MAX_BLOCK_BYTES
        self.sealed.add(one["sha256"])
        return "SEALED"

    def commit(self, body: dict[str, Any], key: str) -> dict[str, Any]:
        assert 0 < len(body["changes"]) <= MAX_MUTATIONS
        if key in self.answers:
            return self.answers[key]
        self.commits.append((key, body["changes"]))
        results: list[dict[str, Any]] = []
        for change in body["changes"]:
            if "create" in change:
                verdict, node = self._create(change["create"], results)
            else:
                verdict, node = self._update(change["update"])
            results.append({"verdict": verdict, "node": node.to_json() if node else None})
        self.answers[key] = {"seq": len(self.commits), "results": results}
        return self.answers[key]

    def _create(self, create: dict[str, Any], results: list[dict[str, Any]]) -> tuple[str, Node | None]:
        parent = create["parent"]
        if isinstance(parent, dict):
            result = results[parent["change"]]
            if result["verdict"] != "ACCEPTED":
                return "PARENT_NOT_FOUND", None
            parent = result["node"]["id"]
        if parent != ROOT and parent not in self.nodes:
            return "PARENT_NOT_FOUND", None
        if name_problem(create["name"]):
            return "NAME_INVALID", None
        if taken := self._child(parent, create["name"]):
            return "NAME_TAKEN", taken
        content = create.get("content")
        assert (create["kind"] == "file") == (content is not None)
        if content and (problem := self._problem(content)):
            return problem, None
        return "ACCEPTED", self._add(parent, create["name"], content)

    def _update(self, update: dict[str, Any]) -> tuple[str, Node | None]:
        node = self.nodes.get(update["node"])
        if node is None:
            return "NODE_NOT_FOUND", None
        if node.version != update["base_version"]:
            return "VERSION_CONFLICT", node
        if problem := self._problem(update["content"]):
            return problem, None
        node.content, node.version = update["content"], node.version + 1
        return "ACCEPTED", node

    def _problem(self, content: dict[str, Any]) -> str | None:
        blocks = content.get("blocks", [])
        assert len(blocks) <= MAX_INLINE_BLOCKS
        if not all(ref[0 if len(ref) == 2 else 2] in self.sealed for ref in blocks):
            return "OBJECT_NOT_SEALED"
        if "manifest_object" in content and content["manifest_object"] not in self.manifests & self.sealed:
            return "OBJECT_NOT_SEALED"
        for _, length, name, offset in (ref for ref in blocks if len(ref) == 4):
            if (offset, length) not in self.packed.get(name, ()) and (offset, length) != (0, len(self.objects[name])):
                return "BLOCK_NOT_IN_PACK"
        data = self.bytes_of(content)
        assert hexed(data) == content["digest"]
        assert len(data) == content["size"]
        assert isinstance(content["mtime_ms"], int)
        return None

    def _add(self, parent: str, name: str, content: dict[str, Any] | None) -> Node:
        self._ids += 1
        kind = "directory" if content is None else "file"
        node = Node(f"{self._ids:032x}", parent, name, kind, int(content is not None), content)
        self.nodes[node.id] = node
        return node

    def _child(self, parent: str, name: str) -> Node | None:
        return next((node for node in self.nodes.values() if (node.parent, node.name) == (parent, name)), None)

    def _path(self, node: Node) -> str:
        return node.name if node.parent == ROOT else f"{self._path(self.nodes[node.parent])}/{node.name}"

    # ---- storage ----

    def put(self, digest: str, data: bytes, checksum: str | None, condition: str | None, expires: float) -> Fault:
        if time.time() > expires:
            return Fault(403, "AccessDenied")
        if checksum is None or condition != "*":
            return Fault(403, "AccessDenied")
        if base64.b64encode(bytes.fromhex(hexed(data))).decode() != checksum:
            return Fault(400, "BadDigest")
        assert bytes.fromhex(digest) == base64.b64decode(checksum)
        with self.lock:
            self.puts.append((digest, len(data)))
            if digest in self.objects:
                return Fault(412, "PreconditionFailed")
            self.objects[digest] = data
        return Fault(200)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, cloud: Cloud, *args: Any) -> None:
        self.cloud = cloud
        super().__init__(*args)

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)


class _Gateway(_Handler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/":
            self.answer(200, PAGE, {"content-type": "text/html", "content-security-policy": CSP})
            return
        file = WEB / path.lstrip("/")
        if not file.is_file():
            self.answer(404)
            return
        headers = {"content-type": TYPES[file.suffix], "content-security-policy": CSP, "cache-control": "no-store"}
        self.answer(200, file.read_bytes(), headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        what = self.path.rpartition("/")[2]
        if self.headers["x-csrf-token"] != TOKEN:
            self.cloud.refused.append("no token")
        fault = self.cloud.on_api(what)
        if fault is None:
            try:
                with self.cloud.lock:
                    answer = self._call(what, json.loads(body))
            except Exception as error:
                self.cloud.refused.append(f"{what}: {error!r}")
                raise
            fault = self.cloud.after_api(what)
        if fault is None:
            self.answer(200, json.dumps(answer).encode(), {"content-type": "application/json"})
        elif not fault.status:
            self.drop()
        else:
            problem = {"status": fault.status, "reason": fault.code, "detail": f"no: {fault.code}"}
            self.answer(fault.status, json.dumps(problem).encode(), fault.headers)

    def _call(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        match what:
            case "uploads":
                return self.cloud.uploads(body)
            case "objects":
                return self.cloud.seal(body)
            case "changes":
                return self.cloud.commit(body, self.headers["idempotency-key"])
        raise AssertionError(what)


CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "PUT",
    "access-control-allow-headers": "x-amz-checksum-sha256, if-none-match, content-type",
    "access-control-expose-headers": "etag, retry-after",
    "access-control-max-age": "600",
}


class _Storage(_Handler):
    def do_OPTIONS(self) -> None:
        self.answer(200, headers=CORS)

    def do_PUT(self) -> None:
        cloud = self.cloud
        path, _, query = self.path.partition("?expires=")
        digest = path.rpartition("/")[2]
        size = int(self.headers["content-length"])
        assert size <= MAX_OBJECT_BYTES
        with cloud.lock:
            cloud.running += 1
            cloud.most_running = max(cloud.most_running, cloud.running)
        try:
            fault = cloud.on_put(digest)
            if fault is not None and not fault.status:
                self.rfile.read(min(size, 100_000))
                self.drop()
                return
            data = self.rfile.read(size)
            if len(data) < size:
                self.close_connection = True
                return
            if cloud.put_seconds:
                time.sleep(cloud.put_seconds)
            cloud.open.wait(60)
            answer = fault or cloud.put(
                digest, data, self.headers["x-amz-checksum-sha256"], self.headers["if-none-match"], float(query)
            )
        finally:
            with cloud.lock:
                cloud.running -= 1
        body = f"<Error><Code>{answer.code}</Code></Error>".encode() if answer.code else b""
        self.answer(answer.status, body, CORS | answer.headers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error; what matters is in `refused`."""


@contextmanager
def serving(cloud: Cloud) -> Iterator[str]:
    """Serve the gateway and storage; the address of the gateway."""
    servers = [_Server(("127.0.0.1", 0), partial(handler, cloud)) for handler in (_Gateway, _Storage)]
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}) for server in servers]
    for thread in threads:
        thread.start()
    gateway, storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    cloud.storage = storage
    try:
        yield gateway
    finally:
        cloud.open.set()
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


def find_chromium() -> str | None:
    """Return the path of the browser; None if there is none."""
    path = os.environ.get("SYNCLINE_TEST_CHROMIUM", "/usr/bin/chromium")
    return path if Path(path).is_file() else None
