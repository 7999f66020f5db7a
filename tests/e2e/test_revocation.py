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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from copy import copy
from datetime import datetime
from functools import partial
from typing import Any
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
from syncline.model.identifiers import new_text_id
from syncline.model.limits import CREDENTIALS_SECONDS, REVOCATION_SECONDS
from syncline.notify.v1 import notify_pb2
from syncline.notify.v1.notify_pb2_grpc import NotifyServiceStub
from syncline.rpc.channel import sync_channel
from syncline.rpc.errors import error_from_rpc
from tests.gateway.client import PASSWORD, Answer, Api, Person, sign_up

SIZE = 64 * MIB
"""Far more than what the kernel holds for a reader that is slow."""
SLOWLY = 256 * KIB
"""Return the bytes that are read of a download in a tenth of a second."""


Ended = tuple[float, str]
"""When something had ended, by the monotonic clock, and why."""
Begin = Callable[["Room", Callable[[], None]], Ended]
"""Opens something in a room, calls its argument when that is open, and returns how it has ended."""


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
        deadline = time.monotonic() + 60
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
    assert answer.status in {200, 206}
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


def asked(room: Room, opened: Callable[[], None], ask: Callable[[], str]) -> Ended:
    """Something that is asked for again and again, until `ask` returns the reason of a refusal."""
    assert ask() == ""
    opened()
    deadline = time.monotonic() + 3 * REVOCATION_SECONDS
    while not (why := ask()):
        assert time.monotonic() < deadline, "still answered"
        time.sleep(0.3)
    return time.monotonic(), why


def problem_of(answer: Answer) -> str:
    """The reason of a refusal; empty for an answer."""
    return "" if answer.status < 400 else str(answer.json["reason"])


def problem_at(by: Api, path: str) -> str:
    return problem_of(by.ask("GET", path))


def dav_problem_of(answer: Answer) -> str:
    return "" if answer.status < 400 else answer.body.partition(b"<s:exception>")[2].partition(b"<")[0].decode()


def over_grpc(room: Room, service: str, call: Callable[[grpc.Channel], object]) -> str:
    """The reason of the refusal of a call; empty if there is none."""
    with room.channel(service) as channel:
        try:
            call(channel)
        except grpc.RpcError as error:
            return reason_of(error)
    return ""


def changes(room: Room, opened: Callable[[], None]) -> Ended:
    """The changes of a space, from the beginning each time, as a device that goes on with its next page."""
    request = metadata_pb2.ListChangesRequest(space_id=room.space)
    return asked(
        room,
        opened,
        lambda: over_grpc(room, "metadata", lambda channel: list(MetadataServiceStub(channel).ListChanges(request))),
    )


def seal(room: Room, opened: Callable[[], None]) -> Ended:
    declared = [metadata_pb2.ObjectDeclaration(sha256=bytes(32), size=1)]
    request = metadata_pb2.SealObjectsRequest(space_id=room.space, objects=declared)
    return asked(
        room,
        opened,
        lambda: over_grpc(room, "metadata", lambda channel: MetadataServiceStub(channel).SealObjects(request)),
    )


def credentials(access: auth_pb2.Access.ValueType) -> Begin:
    def begin(room: Room, opened: Callable[[], None]) -> Ended:
        request = auth_pb2.IssueCredentialsRequest(space_id=room.space, access=access)
        return asked(
            room,
            opened,
            lambda: over_grpc(room, "auth", lambda channel: AuthServiceStub(channel).IssueCredentials(request)),
        )

    return begin


def upload_session(room: Room, opened: Callable[[], None]) -> Ended:
    """An upload of a browser, which gets addresses for one object after the other."""
    wanted = {"objects": [{"sha256": "0" * 64, "size": 1}]}
    return asked(room, opened, lambda: problem_of(room.ben.ask("POST", f"{room.top}/uploads", wanted)))


def commit(room: Room, opened: Callable[[], None]) -> Ended:
    def ask() -> str:
        return problem_of(room.ben.ask("POST", f"{room.top}/folders", {"parent": "root", "name": new_text_id()}))

    return asked(room, opened, ask)


def webdav_listing(room: Room, opened: Callable[[], None]) -> Ended:
    return asked(room, opened, lambda: dav_problem_of(room.ben.ask("PROPFIND", "/dav/room/", depth="1")))


def download(path: str, *, first: int = 0) -> Begin:
    """A download of the large file, or of its end from `first` on, or of an archive."""
    headers = {"range": f"bytes={first}-"} if first else {}

    def begin(room: Room, opened: Callable[[], None]) -> Ended:
        by = Api(room.ben.endpoint, room.ben.headers | headers)
        return reading(room, by, path.format(top=room.top, large=room.large), opened)

    return begin


CONTENT = "{top}/nodes/{large}/content"
READS: Mapping[str, Begin] = {
    "version check": version_check,
    "changes": changes,
    "watch": watch,
    "events": events,
    "content": download(CONTENT),
    "range": download(CONTENT, first=MIB),
    "archive": download("{top}/nodes/root/archive"),
    "webdav content": download("/dav/room/large"),
    "webdav listing": webdav_listing,
    "credentials to read": credentials(auth_pb2.ACCESS_READ),
}
"""The things that last, or are asked for again and again, and that the right to read opens."""
WRITES: Mapping[str, Begin] = {
    "webdav upload": upload,
    "webdav lock": lock,
    "upload session": upload_session,
    "seal": seal,
    "commit": commit,
    "credentials to write": credentials(auth_pb2.ACCESS_WRITE),
}
"""The same of the right to write."""


class Ends:
    """The ends of the right of somebody in a room, by their names. Each is prepared, and then done."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def prepared(self, end: str) -> Callable[[], object]:
        """Have ben act by what is going to end; return what ends it."""
        by_name: Mapping[str, Callable[[], Callable[[], object]]] = {
            "the member is removed": self._member,
            "the role is lowered": self._role,
            "the space is deleted": self._deletion,
            "the device is ended": self._device,
            "the device signs out": self._signs_out,
            "its refresh token is copied": self._copied,
            "the key is ended": self._key,
            "the device that made the key is ended": self._maker,
        }
        return by_name[end]()

    @property
    def _membership(self) -> str:
        return f"{self._room.top}/members/{self._room.ben.email}"

    def _member(self) -> Callable[[], object]:
        return lambda: self._room.ann.done("DELETE", self._membership, status=204)

    def _deletion(self) -> Callable[[], object]:
        return lambda: self._room.ann.done("DELETE", self._room.top)

    def _role(self) -> Callable[[], object]:
        return lambda: self._room.ann.done("PUT", self._membership, {"role": "viewer"})

    def _signed_in(self) -> tuple[Api, dict[str, Any]]:
        """Another device of ben's."""
        body = {"email": self._room.ben.email, "password": PASSWORD, "device_name": "other"}
        answer = Api(self._room.ben.endpoint).done("POST", "/v1/sessions", body, status=201)
        return Api(self._room.ben.endpoint, {"authorization": f"Bearer {answer['tokens']['access_token']}"}), answer

    def _device(self) -> Callable[[], object]:
        owner, _ = self._signed_in()
        device = self._room.ben.account["device"]["device_id"]
        return lambda: owner.done("DELETE", f"/v1/devices/{device}")

    def _signs_out(self) -> Callable[[], object]:
        return lambda: self._room.ben.done("DELETE", "/v1/session", status=204)

    def _copied(self) -> Callable[[], object]:
        """The token that the device had first comes again, after the device has traded it twice."""
        first = token = self._room.ben.account["tokens"]["refresh_token"]
        for _ in range(2):
            token = self._room.ben.done("POST", "/v1/sessions/refresh", {"refresh_token": token})["refresh_token"]
        copy = Api(self._room.ben.endpoint)
        return lambda: copy.ask("POST", "/v1/sessions/refresh", {"refresh_token": first}).refused(
            401, "REFRESH_TOKEN_REUSED"
        )

    def _by_key(self, maker: Api) -> str:
        """Have ben act by the token of a new key; the device of the key."""
        until = int(time.time() * 1000) + 3_600_000
        made = maker.done("POST", "/v1/keys", {"name": "k", "expires_at_ms": until}, status=201)
        with self._room.channel("auth") as channel:
            tokens = AuthServiceStub(channel).ExchangeKey(auth_pb2.ExchangeKeyRequest(key=made["key"])).tokens
        self._room.ben = copy(self._room.ben)
        self._room.ben.headers = {"authorization": f"Bearer {tokens.access_token}"}
        return str(made["device"]["device_id"])

    def _key(self) -> Callable[[], object]:
        owner, _ = self._signed_in()
        key = self._by_key(owner)
        return lambda: owner.done("DELETE", f"/v1/devices/{key}")

    def _maker(self) -> Callable[[], object]:
        owner, _ = self._signed_in()
        maker, answer = self._signed_in()
        self._by_key(maker)
        return lambda: owner.done("DELETE", f"/v1/devices/{answer['device']['device_id']}")


ENDS: Mapping[str, tuple[str, str]] = {
    "the member is removed": ("NO_SUCH_SPACE", "NO_SUCH_SPACE"),
    "the role is lowered": ("", "PERMISSION_DENIED"),
    "the space is deleted": ("SPACE_DELETED", "SPACE_DELETED"),
    "the device is ended": ("DEVICE_REVOKED", "DEVICE_REVOKED"),
    "the device signs out": ("DEVICE_REVOKED", "DEVICE_REVOKED"),
    "its refresh token is copied": ("DEVICE_REVOKED", "DEVICE_REVOKED"),
    "the key is ended": ("DEVICE_REVOKED", "DEVICE_REVOKED"),
    "the device that made the key is ended": ("DEVICE_REVOKED", "DEVICE_REVOKED"),
}
"""The reasons with which what reads and what writes ends, by the end of the right; empty where it goes on."""


@pytest.mark.parametrize("end", ENDS)
def test_what_lasts_ends_with_the_right(room: Room, end: str):
    why_reads, why_writes = ENDS[end]
    expected = dict.fromkeys(READS, why_reads) if why_reads else {}
    expected |= dict.fromkeys(WRITES, why_writes) | {"webdav lock": "unlocked"}
    begins = {name: partial(begin, room) for name, begin in {**READS, **WRITES}.items() if name in expected}
    ended = windows_of(begins, Ends(room).prepared(end))
    print(f"seconds until it has ended, when {end}:", {name: seconds for name, (seconds, _) in ended.items()})
    assert {name: why for name, (_, why) in ended.items()} == expected
    assert {name: seconds for name, (seconds, _) in ended.items() if seconds > REVOCATION_SECONDS} == {}


def windows_of(
    begins: Mapping[str, Callable[[Callable[[], None]], Ended]], end: Callable[[], object]
) -> dict[str, Ended]:
    """Begin all of these, call `end` when all have begun, and return after how many seconds each has ended, and why."""
    open_ones: set[str] = set()
    with ThreadPoolExecutor(len(begins)) as threads:
        running = {name: threads.submit(begin, partial(open_ones.add, name)) for name, begin in begins.items()}
        deadline = time.monotonic() + 120
        while open_ones < set(begins) and time.monotonic() < deadline:
            time.sleep(0.05)
            for one in running.values():
                assert not one.done(), one.result()
        assert open_ones == set(begins)
        time.sleep(0.5)
        assert not any(one.done() for one in running.values())
        taken = time.monotonic()
        end()
        results = {name: one.result() for name, one in running.items()}
    return {name: (round(at - taken, 1), why) for name, (at, why) in results.items()}


LINK_ENDS: Mapping[str, str] = {
    "the link is ended": "NO_SUCH_SPACE",
    "the link expires": "TOKEN_EXPIRED",
    "its maker is made a viewer": "NO_SUCH_SPACE",
    "its maker is removed": "NO_SUCH_SPACE",
    "the device that made it is ended, with its links": "NO_SUCH_SPACE",
}


def test_what_a_link_opened_ends_with_it(room: Room):
    """All ends come at the same moment, that of the expiry, and each is that of another link."""
    for seconds in (20, 90):  # the second for a machine that is too busy to open all of it before that moment
        ended = _by_links(room, seconds)
        if ended is not None:
            break
    assert ended is not None
    print("seconds until it has ended:", {name: seconds for name, (seconds, _) in ended.items()})
    assert {name: why for name, (_, why) in ended.items()} == {
        name: LINK_ENDS[name.partition(": ")[0]] for name in ended
    }
    assert {name: after for name, (after, _) in ended.items() if not -0.5 < after <= REVOCATION_SECONDS} == {}


def _by_links(room: Room, seconds: int) -> dict[str, Ended] | None:
    """Return when what visitors opened has ended, and why; None if it took too long to open it."""
    ends: dict[str, Callable[[], object]] = {}
    begins: dict[str, Callable[..., Ended]] = {}
    expires_at = int(time.time()) + seconds
    for end in LINK_ENDS:
        maker = sign_up(room.ann.endpoint)
        member = f"{room.top}/members/{maker.email}"
        room.ann.done("PUT", member, {"role": "editor"})
        wanted = {"node": room.large} | ({"expires_at_ms": expires_at * 1000} if end == "the link expires" else {})
        link = maker.done("POST", f"{room.top}/links", wanted, status=201)
        told = Api(maker.endpoint).done("POST", "/v1/links/open", {"token": link["token"]})
        visitor = Api(maker.endpoint, {"authorization": f"Bearer {told['access_token']}"})
        linked = f"/v1/links/{link['link_id']}/nodes/{room.large}"
        one_link, device = f"{room.top}/links/{link['link_id']}", maker.account["device"]["device_id"]
        ways: dict[str, Callable[[], object]] = {
            "the link is ended": partial(room.ann.done, "DELETE", one_link, status=204),
            "the link expires": bool,  # nobody does anything
            "its maker is made a viewer": partial(room.ann.done, "PUT", member, {"role": "viewer"}),
            "its maker is removed": partial(room.ann.done, "DELETE", member, status=204),
            "the device that made it is ended, with its links": partial(
                maker.done, "DELETE", f"/v1/devices/{device}", query={"end_links": "true"}
            ),
        }
        ends[end] = ways[end]
        for what in ("content", "archive"):
            begins[f"{end}: {what}"] = partial(reading, room, visitor, f"{linked}/{what}", right=seconds)
        begins[f"{end}: a node"] = partial(asked, room, ask=partial(problem_at, visitor, linked))
    opened: set[str] = set()
    with ThreadPoolExecutor(len(begins)) as threads:
        running = {
            name: threads.submit(partial(begin, opened=partial(opened.add, name))) for name, begin in begins.items()
        }
        while time.time() < expires_at and opened < set(begins):
            time.sleep(0.05)
        in_time = opened == set(begins)
        while time.time() < expires_at:
            time.sleep(0.05)
        over = time.monotonic() + expires_at - time.time()
        for done in ends.values():
            done()
        wait(running.values())
    if not in_time:
        return None
    results = {name: one.result() for name, one in running.items()}
    return {name: (round(at - over, 1), why) for name, (at, why) in results.items()}


def test_what_a_visitor_opened_ends_with_the_space(room: Room):
    link = room.ben.done("POST", f"{room.top}/links", {"node": room.large}, status=201)
    told = Api(room.ben.endpoint).done("POST", "/v1/links/open", {"token": link["token"]})
    visitor = Api(room.ben.endpoint, {"authorization": f"Bearer {told['access_token']}"})
    linked = f"/v1/links/{link['link_id']}/nodes/{room.large}"
    begins: dict[str, Callable[[Callable[[], None]], Ended]] = {
        what: partial(reading, room, visitor, f"{linked}/{what}") for what in ("content", "archive")
    }
    begins["a node"] = partial(asked, room, ask=partial(problem_at, visitor, linked))
    ended = windows_of(begins, lambda: room.ann.done("DELETE", room.top))
    print("seconds from the deletion of a space to the end of what visitors opened:", ended)
    assert {why for _, why in ended.values()} == {"NO_SUCH_SPACE"}
    assert max(seconds for seconds, _ in ended.values()) <= REVOCATION_SECONDS
    Api(room.ben.endpoint).ask("POST", "/v1/links/open", {"token": link["token"]}).refused(404, "NO_SUCH_LINK")
    room.ann.done("POST", f"{room.top}/undelete")
    assert visitor.ask("GET", linked).status == 200
    assert room.ben.ask("PUT", "/dav/room/locked", raw=b"again").status == 204


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
