"""Commands and requests at work while servers stop: whatever ends well must be right, and miss nothing.

Each worker does one thing over and over. It may fail, with an error that says so; what it must never do is to end as if
all were well with less than there is. What did is in `Notes.faults`.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import random
import subprocess
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from stack.demo import DemoDevice, contents
from syncline.metadata.v1 import metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.blocks import NO_DIGEST
from syncline.model.doorbell import Doorbell
from syncline.model.errors import SynclineError
from syncline.model.identifiers import ROOT, NodeId, SpaceId, new_request_id, new_text_id
from syncline.model.tree import CreateNode, NodeKind
from syncline.rpc.channel import sync_channel
from syncline.sdk.account import sign_up
from syncline.sdk.space import Space
from syncline.sdk.watch import Listening, Watch
from tests.support.passwords import STRONG

PASSWORD = STRONG
COMMITS, DIRECTORIES = 12, 1000
"""The space of which changes are listed and versions checked: so many entries of so many directories."""
UNKNOWN_EVERY = 100
"""Every so many-th path of a check is not in the space."""
FILES = 150
LARGE_BYTES = 6 * 1024 * 1024
PIECE_BYTES = 256 * 1024
PATIENCE_SECONDS = 60.0
HEARD_SECONDS = 180.0
"""A watch that has failed a few times comes back after half a minute, as a doorbell does that was taken and lost."""
COMMAND_SECONDS = 300.0
"""A command that takes longer hangs: it gives up a silent service after 120 s."""

PASSING = (SynclineError, grpc.RpcError, OSError, http.client.HTTPException)
"""Texts that tell of an error."""


class Failed(Exception):
    """A command ended with an error, and said so."""


@dataclass
class Notes:
    """The observations of all workers together."""

    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    broken_off: Counter[str] = field(default_factory=Counter)
    """Numbers of requests, by kind, that failed after their answer had begun."""
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, counter: Counter[str], what: str) -> None:
        with self.lock:
            counter[what] += 1

    def fault(self, text: str) -> None:
        with self.lock:
            self.faults.append(text)


class Commands:
    """One person with several devices, and the workers."""

    def __init__(self, endpoint: str, scratch: Path) -> None:
        self.notes = Notes()
        self._endpoint = endpoint
        self._scratch = scratch
        self._random = random.Random(4)
        owner = f"drained-{new_text_id()}"
        self._writer = self._device(owner, "writer", "signup")
        self._reader = self._device(owner, "reader", "login")
        self._watcher = self._device(owner, "watcher", "login")
        self._large = self._random.randbytes(LARGE_BYTES)
        self._writer.folder.mkdir(parents=True)
        (self._writer.folder / "large.bin").write_bytes(self._large)
        (self._writer.folder / "many").mkdir()
        for number in range(FILES):
            (self._writer.folder / "many" / f"{number:04}.txt").write_bytes(b"%d\n" % number * (1 + number % 50))
        self._writer.sync()
        self._session = sign_up(
            scratch / "sdk",
            endpoint=endpoint,
            email=f"{new_text_id()}@example.com",
            password=PASSWORD,
            device_name="sdk",
        )
        self._space = Space(self._session, SpaceId(self._session.account.personal_space))
        self._paths, self._ids = self._many()
        self._rung = 0
        self._committed = COMMITS
        self._api = _Api(endpoint, owner)
        self._many_id = self._api.id_of("many")
        self._expected_zip = {
            f"many/{path.name}": path.read_bytes() for path in (self._writer.folder / "many").iterdir()
        }

    def _device(self, owner: str, name: str, enter: str) -> DemoDevice:
        device = DemoDevice(owner, name, self._scratch / name)
        device.run(
            *(enter, "--endpoint", self._endpoint, "--email", device.email, "--password-stdin", "--device", name),
            stdin=f"{PASSWORD}\n",
        )
        return device

    def _many(self) -> tuple[list[str], set[NodeId]]:
        paths, ids = [], set()
        for commit in range(COMMITS):
            names = [f"{commit:02}-{number:04}" for number in range(DIRECTORIES)]
            mutations = [CreateNode(ROOT, name, NodeKind.DIRECTORY) for name in names]
            answer = self._space.commit(mutations, new_request_id())
            ids |= {result.node.id for result in answer.results if result.node}
            paths += names
        assert len(ids) == len(paths) == COMMITS * DIRECTORIES
        return paths, ids

    # ---- the workers

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep all of them at work while the block lasts."""
        stop = threading.Event()
        workers = (
            self.pull,
            self.pull_by_hand,
            self.check,
            self.check_by_hand,
            self.check_slowly,
            self.sync,
            self.get,
            self.download,
            self.archive,
            self.put_by_dav,
            self.commit,
        )
        threads = [threading.Thread(target=self._repeat, args=(worker, stop), daemon=True) for worker in workers]
        threads += [
            threading.Thread(target=self._watch, args=(stop,), daemon=True),
            threading.Thread(target=self._listen_to_events, args=(stop,), daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(COMMAND_SECONDS + PATIENCE_SECONDS)
            assert not any(thread.is_alive() for thread in threads), "a worker hangs"

    def heard(self) -> None:
        """Return when the watch has pulled all that is committed by now."""
        committed = self._committed
        deadline = time.monotonic() + HEARD_SECONDS
        while self._rung < committed:
            assert time.monotonic() < deadline, f"the watch knows of {self._rung}, committed was {committed}"
            time.sleep(0.05)

    def each_succeeds(self) -> None:
        """When nothing is stopped any more, and nobody else at work."""
        for worker in (self.pull, self.check, self.sync, self.get, self.download, self.archive, self.put_by_dav):
            self._until_done(worker)

    def close(self) -> None:
        """Nobody works any more."""
        self._session.close()

    def _until_done(self, worker: Callable[[], None]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return worker()
            except (Failed, *PASSING):
                if time.monotonic() > deadline:
                    raise

    def _repeat(self, worker: Callable[[], None], stop: threading.Event) -> None:
        name = worker.__name__
        while not stop.wait(random.uniform(0, 0.5)):
            try:
                worker()
            except (Failed, *PASSING):
                self.notes.count(self.notes.failed, name)
            except Exception as error:
                self.notes.fault(f"{name}: {type(error).__name__}: {error}")
            else:
                self.notes.count(self.notes.done, name)

    # ---- metadata, by the SDK and by hand

    def pull(self) -> None:
        seen: set[NodeId] = set()
        seq = 0
        for page in self._space.changes():
            seen |= {node.id for node in page.nodes}
            seq = page.seq
        self._expect("pull", len(self._ids - seen), 0)
        self._expect("pull: at least to the head before", seq >= COMMITS, True)

    def check(self) -> None:
        asked = list(self._asked())
        answers = list(self._space.check_versions((path, NO_DIGEST) for path in asked))
        self._expect("check: files", sum(answer.count for answer in answers), len(asked))
        differing = {one.asked for answer in answers for one in answer.differing}
        self._expect("check: unknown", differing, {path for path in asked if path.startswith("unknown")})

    def _asked(self) -> Iterator[str]:
        for number, path in enumerate(self._paths):
            if number % UNKNOWN_EVERY == 0:
                yield f"unknown-{path}"
            yield path

    @contextmanager
    def _by_hand(self, name: str) -> Iterator[tuple[MetadataServiceStub, list[Any]]]:
        """A stub that repeats nothing, and a list for what came: was it there, the failure broke an answer off."""
        service = self._session.deployment.metadata
        came: list[Any] = []
        with sync_channel(service.target, tls=service.tls, authorization=self._session.token) as channel:
            try:
                yield MetadataServiceStub(channel), came
            except grpc.RpcError:
                if came:
                    self.notes.count(self.notes.broken_off, name)
                raise

    def pull_by_hand(self) -> None:
        with self._by_hand("pull_by_hand") as (stub, came):
            for page in stub.ListChanges(metadata_pb2.ListChangesRequest(space_id=self._space.id)):
                came.append(page)
        self._expect("pull by hand: ended with OK and complete", came[-1].complete, True)
        seen = {node.id for page in came for node in page.nodes}
        self._expect("pull by hand", len(self._ids - seen), 0)

    def check_by_hand(self) -> None:
        self._check_by_hand("check_by_hand", batches=100, size=200, pause=0.0)

    def check_slowly(self) -> None:
        """Check as somebody does who hashes the files meanwhile."""
        self._check_by_hand("check_slowly", batches=20, size=50, pause=0.3)

    def _check_by_hand(self, name: str, *, batches: int, size: int, pause: float) -> None:
        ended = threading.Event()

        def messages() -> Iterator[metadata_pb2.CheckVersionsRequest]:
            yield metadata_pb2.CheckVersionsRequest(open=metadata_pb2.CheckVersionsOpen(space_id=self._space.id))
            for number in range(batches):
                if pause and ended.wait(pause):
                    return
                paths = [f"unknown-{number}-{i}" for i in range(size)]
                batch = metadata_pb2.CheckVersionsBatch(paths=paths, digests=bytes(32 * size))
                yield metadata_pb2.CheckVersionsRequest(batch=batch)

        with self._by_hand(name) as (stub, came):
            try:
                for answer in stub.CheckVersions(messages()):
                    came.append(answer)
            finally:
                ended.set()
        self._expect(f"{name}: ended with OK and complete", came[-1].complete, True)
        self._expect(f"{name}: answers", [len(answer.indexes) for answer in came[:-1]], [size] * batches)

    def commit(self) -> None:
        name = f"later-{new_text_id()}"
        answer = self._space.commit([CreateNode(ROOT, name, NodeKind.DIRECTORY)], new_request_id())
        self._committed = max(self._committed, answer.seq)

    def _watch(self, stop: threading.Event) -> None:
        """Pulls whenever it is told to, as a device does, and so hears of all that is committed."""
        cursor = b""
        with Watch(self._session, [self._space.id]) as watch:
            threading.Thread(target=_close_after, args=(stop, watch), daemon=True).start()
            for event in watch:
                match event:
                    case Listening():
                        self.notes.count(self.notes.done, "listening")
                    case Doorbell():
                        self.notes.count(self.notes.done, "doorbell")
                while not stop.is_set():
                    try:
                        for page in self._space.changes(cursor):
                            cursor, self._rung = page.cursor or cursor, page.seq
                        break
                    except SynclineError:
                        stop.wait(0.2)

    # ---- commands

    def sync(self) -> None:
        """A change on one device, then another device: what the first has synced, the second has after its sync."""
        for number in range(5):
            (self._writer.folder / f"changed-{number}.txt").write_text(new_text_id() * 20)
        self._command(self._writer, "sync", str(self._writer.folder), "--json")
        self._reader.folder.mkdir(parents=True, exist_ok=True)
        self._command(self._reader, "sync", str(self._reader.folder), "--json")
        there, here = contents(self._writer.folder), contents(self._reader.folder)
        missing = {path for path, digest in there.items() if here.get(path) != digest}
        self._expect("sync: not on the other device", missing, set())
        changed = self._reader.folder / "changed-0.txt"
        before = changed.read_bytes()
        changed.write_text("changed here\n")
        try:
            verdicts = json.loads(self._command(self._reader, "check", str(self._reader.folder), "--json"))
        finally:
            changed.write_bytes(before)
        files = sum(digest != "directory" for digest in here.values())
        expected = {"current": files - 1, "stale": [], "modified": [changed.name], "unknown": [], "deleted": []}
        self._expect("check: verdicts", verdicts, expected)
        self.notes.count(self.notes.done, "check command")

    def get(self) -> None:
        target = self._scratch / "got.bin"
        self._command(self._watcher, "get", "large.bin", str(target), "--force")
        self._expect("get: bytes", _digest(target.read_bytes()), _digest(self._large))

    def _command(self, device: DemoDevice, *arguments: str) -> str:
        with device.start(*arguments) as child:
            try:
                output, errors = child.communicate(timeout=COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                raise
        if child.returncode == 0:
            return output
        if "Traceback" in errors or not errors.strip():
            self.notes.fault(f"{arguments[0]} ended with {child.returncode} and said {errors!r}")
        raise Failed(errors)

    # ---- HTTP

    def download(self) -> None:
        body = self._api.get("download", "content/large.bin", self.notes, slowly=True)
        self._expect("download: bytes", _digest(body), _digest(self._large))

    def archive(self) -> None:
        body = self._api.get("archive", f"nodes/{self._many_id}/archive", self.notes)
        try:
            with zipfile.ZipFile(io.BytesIO(body)) as made:
                found = {name: made.read(name) for name in made.namelist() if not name.endswith("/")}
        except zipfile.BadZipFile as error:
            self.notes.fault(f"archive: a complete body is {error}")
            return
        self._expect("archive: files", found == self._expected_zip, True)

    def put_by_dav(self) -> None:
        name = f"dav-{new_text_id()}.bin"
        data = self._random.randbytes(LARGE_BYTES // 2)
        chunked = self._random.random() < 0.5
        status = self._api.put(name, data, chunked=chunked)
        if status not in (201, 204):
            raise Failed(f"PUT was answered {status}")
        node = self._api.node(name)
        self._expect("put: digest", node["digest"], _digest(data))
        self._api.delete(name)

    def _listen_to_events(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                last = self._api.last_event(stop)
            except TimeoutError:
                continue  # a quiet hour
            except PASSING:
                self.notes.count(self.notes.broken_off, "events")
            else:
                if not stop.is_set():
                    self._expect("events: the last one of a body that is complete", last, "problem")
                    self.notes.count(self.notes.done, "events that ended with a problem")
            stop.wait(0.2)

    def _expect(self, what: str, found: Any, expected: Any) -> None:
        if found != expected:
            self.notes.fault(f"{what}: {str(found)[:200]} and not {str(expected)[:200]}")


class _Api:
    """HTTP as a program speaks it that repeats nothing."""

    def __init__(self, endpoint: str, owner: str) -> None:
        self._netloc = urlsplit(endpoint).netloc
        email = f"{owner}@example.com"
        signed_in = self._json(
            "POST", "/v1/sessions", {"email": email, "password": PASSWORD, "device_name": "api"}, headers={}
        )
        until = int((time.time() + 86_400) * 1000)
        headers = {"authorization": f"Bearer {signed_in['tokens']['access_token']}"}
        key = self._json("POST", "/v1/keys", {"name": "soak", "expires_at_ms": until}, headers=headers)["key"]
        self._bearer = {"authorization": f"Bearer {key}"}
        self._basic = {"authorization": "Basic " + base64.b64encode(f"{email}:{key}".encode()).decode()}
        self._space = signed_in["account"]["personal_space_id"]
        made = self._json("POST", "/v1/spaces", {"name": "mounted"}, headers=self._bearer)
        self._mounted = made["space_id"]

    def id_of(self, name: str) -> str:
        children = self._json("GET", f"/v1/spaces/{self._space}/nodes/root/children", None, headers=self._bearer)
        return next(str(node["id"]) for node in children["nodes"] if node["name"] == name)

    def node(self, name: str) -> dict[str, Any]:
        """The node of the mounted space that has this name, whatever is stopped meanwhile."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                token = ""
                children = []
                while True:
                    path = f"/v1/spaces/{self._mounted}/nodes/root/children?page_token={token}"
                    page = self._json("GET", path, None, headers=self._bearer)
                    children += page["nodes"]
                    token = page["next_page_token"] or ""
                    if not token:
                        break
            except (Failed, *PASSING):
                if time.monotonic() > deadline:
                    raise
            else:
                return next((node for node in children if node["name"] == name), {"digest": "not there"})

    def get(self, what: str, path: str, notes: Notes, *, slowly: bool = False) -> bytes:
        connection = http.client.HTTPConnection(self._netloc, timeout=PATIENCE_SECONDS)
        parts: list[bytes] = []
        try:
            connection.request("GET", f"/v1/spaces/{self._space}/{path}", headers=self._bearer)
            answer = connection.getresponse()
            if answer.status != 200:
                raise Failed(f"{path}: {answer.status} {answer.read()!r}")
            while part := answer.read(PIECE_BYTES):
                parts.append(part)
                if slowly:
                    threading.Event().wait(0.05)
            if answer.length:  # `read` of a size tells of missing bytes in this way only
                raise http.client.IncompleteRead(b"", answer.length)
        except PASSING:
            if parts:
                notes.count(notes.broken_off, what)
            raise
        finally:
            connection.close()
        return b"".join(parts)

    def put(self, name: str, data: bytes, *, chunked: bool) -> int:
        """By WebDAV, piece by piece; the status."""

        def pieces() -> Iterator[bytes]:
            for at in range(0, len(data), PIECE_BYTES):
                yield data[at : at + PIECE_BYTES]
                threading.Event().wait(0.05)

        length = {} if chunked else {"content-length": str(len(data))}
        connection = http.client.HTTPConnection(self._netloc, timeout=PATIENCE_SECONDS)
        try:
            connection.request(
                "PUT", f"/dav/mounted/{name}", pieces(), {**self._basic, **length}, encode_chunked=chunked
            )
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def delete(self, name: str) -> None:
        connection = http.client.HTTPConnection(self._netloc, timeout=PATIENCE_SECONDS)
        try:
            connection.request("DELETE", f"/dav/mounted/{name}", headers=self._basic)
            connection.getresponse().read()
        finally:
            connection.close()

    def last_event(self, stop: threading.Event) -> str:
        """The name of the last event, once the body has come to a proper end."""
        connection = http.client.HTTPConnection(self._netloc, timeout=5)
        last = ""
        try:
            connection.request("GET", f"/v1/events?space={self._space}", headers=self._bearer)
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"{answer.status}")
            while not stop.is_set():
                line = answer.readline()
                if not line:
                    break
                if line.startswith(b"event: "):
                    last = line.removeprefix(b"event: ").strip().decode()
        finally:
            connection.close()
        return last

    def _json(self, method: str, path: str, body: Any, *, headers: dict[str, str]) -> Any:
        connection = http.client.HTTPConnection(self._netloc, timeout=PATIENCE_SECONDS)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"content-type": "application/json", **headers})
            answer = connection.getresponse()
            told = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise Failed(f"{method} {path}: {answer.status} {told!r}")
        return json.loads(told)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _close_after(stop: threading.Event, watch: Watch) -> None:
    stop.wait()
    watch.close()
