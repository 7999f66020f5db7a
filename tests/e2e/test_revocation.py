"""Work begun with a right ends with it: everything that lasts is opened at once, the right is taken away, and each
must have ended within the seconds that are promised, and say why where there is a way to."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from copy import copy
from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

import grpc
import pytest

from stack.up import Stack
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.metadata.v1 import metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.blocks import KIB, MIB
from syncline.model.errors import SynclineError
from syncline.model.limits import CREDENTIALS_SECONDS, REVOCATION_SECONDS
from syncline.notify.v1 import notify_pb2
from syncline.notify.v1.notify_pb2_grpc import NotifyServiceStub
from syncline.rpc.channel import sync_channel
from syncline.rpc.errors import error_from_rpc
from tests.gateway.client import Api, Person, sign_up

SIZE = 64 * MIB
"""Far more than what the kernel holds for a reader that is slow."""
SLOWLY = 256 * KIB
"""Return the bytes that are read of a download in a tenth of a second."""


Ended = tuple[float, str]
"""When something had ended, by the monotonic clock, and why."""


class Room:
    """A space of ann's with a large file, in which ben is an editor."""

    def __init__(self, stack: Stack) -> None:
        self.ann, self.ben = sign_up(stack.endpoint, "ann"), sign_up(stack.endpoint, "ben")
        self.personal = self.ben.space
        made = self.ann.done("POST", "/v1/spaces", {"name": "room"}, status=201)
        self.space = self.ann.space = self.ben.space = made["space_id"]
        self.ann.done("PUT", f"{self.top}/members/{self.ben.email}", {"role": "editor"})
        assert self.ann.ask("PUT", "/dav/room/large", raw=os.urandom(SIZE)).status == 201
        assert self.ann.ask("PUT", "/dav/room/locked", raw=b"before").status == 201
        self.large = self.ann.done("GET", f"{self.top}/nodes", query={"path": "large"})["id"]
        self._log = stack.data / "logs" / "gateway.log"
        self.targets = {name: one["target"] for name, one in self.discovery().items()}

    def discovery(self) -> dict[str, dict[str, str]]:
        found = self.ann.done("GET", "/.well-known/syncline")
        return {name: found[name] for name in ("auth", "metadata", "notify")}

    def cut(self, request: str) -> Ended:
        """When and why the gateway has cut the response with this request id, as its log says."""
        deadline = time.monotonic() + 30
        while not (found := self._ended(request)):  # a line reaches the file a little later than what it tells
            assert time.monotonic() < deadline, f"nothing is logged of {request}"
            time.sleep(0.1)
        (line,) = found
        ago = time.time() - datetime.fromisoformat(line.split()[0]).timestamp()
        (why,) = re.findall(r"\breason=(\w+)", line)
        return time.monotonic() - ago, why

    def _ended(self, request: str) -> list[str]:
        lines = self._log.read_text().splitlines(keepends=True)
        return [line for line in lines if "response ended" in line and request in line and line.endswith("\n")]

    @property
    def top(self) -> str:
        return f"/v1/spaces/{self.space}"

    @contextmanager
    def channel(self, service: str, person: Person | None = None) -> Iterator[grpc.Channel]:
        """A channel in the name of this person, or else of ben."""
        token = (person or self.ben).headers["authorization"].removeprefix("Bearer ")
        with sync_channel(self.targets[service], authorization=lambda: token) as channel:
            yield channel


@pytest.fixture
def room(stack: Stack) -> Room:
    return Room(stack)


def reason_of(error: grpc.RpcError) -> str:
    known = error_from_rpc(error)
    assert isinstance(known, SynclineError)
    return known.reason


def version_check(room: Room, opened: Callable[[], None]) -> Ended:
    """A version check whose sender says nothing more."""

    def messages() -> Iterator[metadata_pb2.CheckVersionsRequest]:
        yield metadata_pb2.CheckVersionsRequest(open=metadata_pb2.CheckVersionsOpen(space_id=room.space))
        yield metadata_pb2.CheckVersionsRequest(
            batch=metadata_pb2.CheckVersionsBatch(paths=["large"], digests=bytes(32))
        )
        time.sleep(2 * REVOCATION_SECONDS)  # keeps what is sent open

    with room.channel("metadata") as channel:
        answers = MetadataServiceStub(channel).CheckVersions(messages())
        assert list(next(answers).indexes) == [0]
        opened()
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        return time.monotonic(), reason_of(caught.value)


def watch(room: Room, opened: Callable[[], None]) -> Ended:
    """A watch of two spaces, one of which stays."""
    with room.channel("notify") as channel:
        asked = notify_pb2.WatchRequest(space_ids=[room.personal, room.space])
        answers = NotifyServiceStub(channel).Watch(asked)
        assert next(answers).HasField("heartbeat")
        opened()
        with pytest.raises(grpc.RpcError) as caught:
            for _ in answers:
                pass
        return time.monotonic(), reason_of(caught.value)


def events(room: Room, opened: Callable[[], None]) -> Ended:
    """Open a stream of server-sent events, call `opened`, and return how the stream ended."""
    connection = http.client.HTTPConnection(urlsplit(room.ben.endpoint).netloc, timeout=3 * REVOCATION_SECONDS)
    connection.request("GET", "/v1/events", headers=room.ben.headers)
    answer = connection.getresponse()
    assert answer.readline() == b"event: heartbeat\n"
    opened()
    told = answer.read()
    connection.close()
    name, data = told.strip().splitlines()[-2:]
    assert name == b"event: problem"
    return time.monotonic(), json.loads(data.removeprefix(b"data: "))["reason"]


def reading(room: Room, api: Api, path: str, opened: Callable[[], None], *, right: float = 0) -> Ended:
    """A download by who reads slowly for as long as is promised, and then as fast as it goes.

    `right` is for how many seconds the right stands.

    The kernel holds some of it for who reads slowly, so the gateway's log says when, and why, no more was sent.
    """
    connection = http.client.HTTPConnection(urlsplit(api.endpoint).netloc, timeout=3 * REVOCATION_SECONDS)
    connection.request("GET", path, headers=api.headers)
    answer = connection.getresponse()
    assert answer.status == 200
    request = answer.headers["x-request-id"]
    opened()
    read, began, broken = 0, time.monotonic(), False
    slowly = right + REVOCATION_SECONDS + 1
    try:
        while part := answer.read(SLOWLY):
            read += len(part)
            if time.monotonic() < began + slowly:
                time.sleep(0.1 * slowly / (REVOCATION_SECONDS + 1))  # a step takes the same part of it in any case
    except (http.client.IncompleteRead, ConnectionError):
        broken = True
    connection.close()
    assert broken or read < SIZE, "it was given whole"
    assert read < SIZE - 8 * MIB
    return room.cut(request)


def upload(room: Room, opened: Callable[[], None]) -> Ended:
    """An upload by WebDAV that comes slowly."""
    parts = urlsplit(room.ben.endpoint)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=3 * REVOCATION_SECONDS) as connection:
        head = f"PUT /dav/room/new HTTP/1.1\r\nhost: x\r\nauthorization: {room.ben.headers['authorization']}\r\n"
        connection.sendall(f"{head}content-length: {SIZE}\r\n\r\n".encode() + bytes(MIB))
        opened()
        connection.settimeout(0.1)
        answer = b""
        deadline = time.monotonic() + 3 * REVOCATION_SECONDS
        while b"</s:exception>" not in answer:
            assert time.monotonic() < deadline
            try:
                answer += connection.recv(64 * KIB)
            except TimeoutError:
                connection.sendall(bytes(64 * KIB))
        return time.monotonic(), answer.partition(b"<s:exception>")[2].partition(b"<")[0].decode()


def lock(room: Room, opened: Callable[[], None]) -> Ended:
    """A lock, which keeps others out as long as it stands."""
    body = (
        b'<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
        b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
    )
    assert room.ben.ask("LOCK", "/dav/room/locked", raw=body, content_type="application/xml").status == 200
    assert room.ann.ask("PUT", "/dav/room/locked", raw=b"after").status == 423
    opened()
    deadline = time.monotonic() + 3 * REVOCATION_SECONDS
    while room.ann.ask("PUT", "/dav/room/locked", raw=b"after").status == 423:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return time.monotonic(), "unlocked"


def test_what_lasts_ends_with_the_right(room: Room):
    top = room.top
    link = room.ann.done("POST", f"{top}/links", {"node": room.large}, status=201)
    told = Api(room.ann.endpoint).done("POST", "/v1/links/open", {"token": link["token"]})
    visitor = Api(room.ann.endpoint, {"authorization": f"Bearer {told['access_token']}"})
    linked = f"/v1/links/{link['link_id']}/nodes/{room.large}"
    kinds: dict[str, tuple[str, Callable[[Callable[[], None]], Ended]]] = {
        "version check": ("NO_SUCH_SPACE", lambda opened: version_check(room, opened)),
        "watch": ("NO_SUCH_SPACE", lambda opened: watch(room, opened)),
        "events": ("NO_SUCH_SPACE", lambda opened: events(room, opened)),
        "upload": ("NO_SUCH_SPACE", lambda opened: upload(room, opened)),
        "lock": ("unlocked", lambda opened: lock(room, opened)),
        "content": (
            "NO_SUCH_SPACE",
            lambda opened: reading(room, room.ben, f"{top}/nodes/{room.large}/content", opened),
        ),
        "webdav": ("NO_SUCH_SPACE", lambda opened: reading(room, room.ben, "/dav/room/large", opened)),
        "archive": ("NO_SUCH_SPACE", lambda opened: reading(room, room.ben, f"{top}/nodes/root/archive", opened)),
        "link": ("NO_SUCH_SPACE", lambda opened: reading(room, visitor, f"{linked}/content", opened)),
        "archive of a link": ("NO_SUCH_SPACE", lambda opened: reading(room, visitor, f"{linked}/archive", opened)),
    }
    open_ones: set[str] = set()
    with ThreadPoolExecutor(len(kinds)) as threads:
        running = {name: threads.submit(begin, partial(open_ones.add, name)) for name, (_, begin) in kinds.items()}
        deadline = time.monotonic() + 120
        while open_ones < set(kinds) and time.monotonic() < deadline:
            time.sleep(0.05)
            for one in running.values():
                assert not one.done(), one.result()
        assert open_ones == set(kinds)
        time.sleep(0.5)
        assert not any(one.done() for one in running.values())
        taken = time.monotonic()
        room.ann.done("DELETE", f"{top}/members/{room.ben.email}", status=204)
        room.ann.done("DELETE", f"{top}/links/{link['link_id']}", status=204)
        ended = {name: one.result() for name, one in running.items()}
    windows = {name: round(at - taken, 1) for name, (at, _) in ended.items()}
    print("seconds from the end of the right to the end of what was begun with it:", windows)
    assert {name: why for name, (_, why) in ended.items()} == {name: why for name, (why, _) in kinds.items()}
    assert {name: seconds for name, seconds in windows.items() if seconds > REVOCATION_SECONDS} == {}


def test_what_a_key_opened_ends_with_its_date(room: Room):
    for seconds in (20, 90):  # the second for a machine that is too busy to open all of it before the first date
        ended = _by_a_key(room, seconds)
        if ended is not None:
            break
    assert ended is not None
    windows = {name: round(after, 1) for name, (after, _) in ended.items()}
    print("seconds from the date of a key to the end of what was begun with it:", windows)
    assert {why for name, (_, why) in ended.items() if name != "lock"} == {"TOKEN_EXPIRED"}
    assert {name: after for name, after in windows.items() if not -0.5 < after <= REVOCATION_SECONDS} == {}


def _by_a_key(room: Room, seconds: int) -> dict[str, Ended] | None:
    """Return when each thing ended after the end of the key that opened it, and why; None if that took too long."""
    expires_at = int(time.time()) + seconds  # tokens count whole seconds
    made = room.ben.done("POST", "/v1/keys", {"name": "k", "expires_at_ms": expires_at * 1000}, status=201)
    with room.channel("auth") as channel:
        traded = AuthServiceStub(channel).ExchangeKey(auth_pb2.ExchangeKeyRequest(key=made["key"])).tokens.access_token
    by_key, by_token = copy(room), copy(room)
    by_key.ben, by_token.ben = copy(room.ben), copy(room.ben)
    by_key.ben.headers = {"authorization": f"Bearer {made['key']}"}
    by_token.ben.headers = {"authorization": f"Bearer {traded}"}
    content = f"{room.top}/nodes/{room.large}/content"
    kinds: dict[str, Callable[[Callable[[], None]], Ended]] = {
        "version check": partial(version_check, by_token),
        "watch": partial(watch, by_token),
        "events by the key": partial(events, by_key),
        "events by its token": partial(events, by_token),
        "upload": partial(upload, by_key),
        "lock": partial(lock, by_key),
        "content by the key": partial(reading, by_key, by_key.ben, content, right=seconds),
        "content by its token": partial(reading, by_token, by_token.ben, content, right=seconds),
        "archive": partial(reading, by_key, by_key.ben, f"{room.top}/nodes/root/archive", right=seconds),
    }
    opened: set[str] = set()
    with ThreadPoolExecutor(len(kinds)) as threads:
        running = {name: threads.submit(begin, partial(opened.add, name)) for name, begin in kinds.items()}
        while time.time() < expires_at and opened < set(kinds):
            time.sleep(0.05)
        in_time = opened == set(kinds)
        over = time.monotonic() + expires_at - time.time()
        wait(running.values())
    if not in_time:
        return None
    return {name: (at - over, why) for name, (at, why) in ((name, one.result()) for name, one in running.items())}


def test_what_a_remembered_right_opens_ends_in_time_too(room: Room):
    """Metadata remembers a right that it was told of the moment before it was taken away. Each of these members opens a
    version check so many seconds later, and has it refused, or ended by the time that is promised.
    """
    members = {after: sign_up(room.ann.endpoint) for after in (0.0, 2.5, 4.5, 6.0, 8.0, 9.5)}
    with ThreadPoolExecutor(len(members)) as threads:
        running = [threads.submit(_opened_after, room, member, after) for after, member in members.items()]
        seconds = [one.result() for one in running]
    deadline = time.monotonic() + 120
    while not seconds[0]:  # a busy machine took longer to open it than the right is remembered
        assert time.monotonic() < deadline, "the right was never remembered"
        seconds[0] = _opened_after(room, sign_up(room.ann.endpoint), 0.0)
    print("seconds from the end of the right to the end of what was opened after it:", seconds)
    assert max(seconds) <= REVOCATION_SECONDS


def _opened_after(room: Room, member: Person, after: float) -> float:
    """Seconds from the removal of a member to the end of the check opened `after` seconds; 0 if it was refused."""
    over = threading.Event()

    def messages() -> Iterator[metadata_pb2.CheckVersionsRequest]:
        yield metadata_pb2.CheckVersionsRequest(open=metadata_pb2.CheckVersionsOpen(space_id=room.space))
        yield metadata_pb2.CheckVersionsRequest(
            batch=metadata_pb2.CheckVersionsBatch(paths=["large"], digests=bytes(32))
        )
        over.wait()  # says nothing more, and the call stays open

    room.ann.done("PUT", f"{room.top}/members/{member.email}", {"role": "viewer"})
    with room.channel("metadata", member) as channel:
        stub = MetadataServiceStub(channel)
        list(stub.ListChanges(metadata_pb2.ListChangesRequest(space_id=room.space, fresh_right=True)))
        room.ann.done("DELETE", f"{room.top}/members/{member.email}", status=204)
        taken = time.monotonic()
        time.sleep(after)
        answers, answered = stub.CheckVersions(messages()), False
        try:
            for _ in answers:
                answered = True
        except grpc.RpcError as error:
            ended, why = time.monotonic(), reason_of(error)
        else:
            ended, why = time.monotonic(), "done"
        finally:
            over.set()
        assert why == "NO_SUCH_SPACE"
        return round(ended - taken, 1) if answered else 0.0


def test_credentials_last_no_longer_than_they_must(room: Room):
    """Issued credentials stay until they expire: STS gives nothing for less than this, and takes nothing back."""
    with room.channel("auth") as channel:
        asked = auth_pb2.IssueCredentialsRequest(space_id=room.space, access=auth_pb2.ACCESS_WRITE)
        issued = AuthServiceStub(channel).IssueCredentials(asked)
        assert 0 < issued.expires_in_ms <= CREDENTIALS_SECONDS * 1000 == 900_000
        room.ann.done("DELETE", f"{room.top}/members/{room.ben.email}", status=204)
        with pytest.raises(grpc.RpcError) as caught:
            AuthServiceStub(channel).IssueCredentials(asked)
    assert reason_of(caught.value) == "NO_SUCH_SPACE"
    wanted = {"objects": [{"sha256": "0" * 64, "size": 1}]}
    deadline = time.monotonic() + REVOCATION_SECONDS
    while (answer := room.ben.ask("POST", f"{room.top}/uploads", wanted)).status == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    answer.refused(404, "NO_SUCH_SPACE")
