"""A right is asked for when a request has come, however slowly, and not only when it began. Requests that come after
the end of a right are refused within the seconds that are promised."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from stack.up import Stack
from syncline.model.limits import REVOCATION_SECONDS
from tests.gateway.client import PASSWORD, Api, Person, sign_up

REFUSED = frozenset({401, 403, 404})
PROPFIND = (
    b'<?xml version="1.0"?><D:propfind xmlns:D="DAV:"><D:prop><D:lockdiscovery/><x:tag xmlns:x="x"/></D:prop>'
    b"</D:propfind>"
)
PROPPATCH = (
    b'<?xml version="1.0"?><D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><x:tag xmlns:x="x">mine</x:tag></D:prop>'
    b"</D:set></D:propertyupdate>"
)
LOCK = (
    b'<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
    b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
)


@dataclass
class Slowly:
    """A request of which all but the last byte has been sent."""

    connection: socket.socket
    last: bytes

    def finish(self) -> tuple[int, bytes]:
        """Send the last byte, and return the status and the body of the answer."""
        self.connection.sendall(self.last)
        answer = b""
        while part := self.connection.recv(65_536):
            answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body


@contextmanager
def slowly(person: Api, method: str, path: str, body: bytes, **headers: str) -> Iterator[Slowly]:
    """Send a request but for its last byte."""
    parts = urlsplit(person.endpoint)
    assert parts.hostname is not None
    sent = person.headers | headers | {"host": "x", "connection": "close", "content-length": str(len(body))}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in sent.items())
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=60) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body[:-1])
        yield Slowly(connection, body[-1:])


@dataclass
class Team:
    """A space of ann's with a few files, which ben owns as well."""

    ann: Person
    ben: Person
    space: str
    file: str
    nodes: list[str] = field(default_factory=list)

    @property
    def top(self) -> str:
        return f"/v1/spaces/{self.space}"

    def remove_ben(self) -> None:
        self.ann.done("DELETE", f"{self.top}/members/{self.ben.email}", status=204)


@pytest.fixture
def team(stack: Stack) -> Team:
    ann, ben = sign_up(stack.endpoint, "ann"), sign_up(stack.endpoint, "ben")
    space = ann.done("POST", "/v1/spaces", {"name": "team"}, status=201)["space_id"]
    ann.space = ben.space = space
    ann.done("PUT", f"/v1/spaces/{space}/members/{ben.email}", {"role": "owner"})
    for name in ("file", "moved", "deleted", "patched", "locked"):
        assert ann.ask("PUT", f"/dav/team/{name}", raw=b"content").status == 201
    file = ann.done("GET", f"/v1/spaces/{space}/nodes", query={"path": "file"})["id"]
    return Team(ann, ben, space, file)


def until_refused(asks: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Ask each again and again until it is refused; return for each the seconds after which it was."""
    began, left, windows = time.monotonic(), dict(asks), dict[str, float]()
    while left:
        for name, ask in list(left.items()):
            if ask() in REFUSED:
                windows[name] = round(time.monotonic() - began, 1)
                del left[name]
        assert time.monotonic() < began + 3 * REVOCATION_SECONDS, f"still answered: {sorted(left)}"
        time.sleep(0.1)
    return windows


def as_json(body: Any) -> bytes:
    return json.dumps(body).encode()


def test_who_is_removed_while_a_body_comes_is_refused_when_it_has_come(team: Team) -> None:
    ben, top, typed = team.ben, team.top, {"content_type": "application/json"}
    xml = {"content_type": "application/xml"}
    here = f"{urlsplit(ben.endpoint).scheme}://x/dav/team"
    before = team.ann.ask("PROPFIND", "/dav/team/", raw=PROPFIND, depth="1", content_type="application/xml").body
    requests: dict[str, tuple[str, str, bytes, dict[str, str]]] = {
        "PROPFIND": ("PROPFIND", "/dav/team/locked", PROPFIND, xml | {"depth": "0"}),
        "PROPFIND of the top": ("PROPFIND", "/dav/team/", PROPFIND, xml | {"depth": "0"}),
        "PROPPATCH": ("PROPPATCH", "/dav/team/patched", PROPPATCH, xml),
        "PROPPATCH of the top": ("PROPPATCH", "/dav/team/", PROPPATCH, xml),
        "LOCK": ("LOCK", "/dav/team/locked", LOCK, xml),
        "LOCK of the top": ("LOCK", "/dav/team/", LOCK, xml | {"depth": "0"}),
        "LOCK of a free name": ("LOCK", "/dav/team/free", LOCK, xml),
        "PUT": ("PUT", "/dav/team/put", b"content", {}),
        "PUT over a file": ("PUT", "/dav/team/file", b"changed", {}),
        "DELETE": ("DELETE", "/dav/team/deleted", b" ", {}),
        "MOVE": ("MOVE", "/dav/team/moved", b" ", {"destination": f"{here}/elsewhere"}),
        "COPY": ("COPY", "/dav/team/moved", b" ", {"destination": f"{here}/copied"}),
        "folder": ("POST", f"{top}/folders", as_json({"parent": "root", "name": "folder"}), typed),
        "move": ("PATCH", f"{top}/nodes/{team.file}", as_json({"name": "renamed"}), typed | {"if_match": "*"}),
        "link": ("POST", f"{top}/links", as_json({"node": "root"}), typed),
        "member": ("PUT", f"{top}/members/{ben.email}", as_json({"role": "owner"}), typed),
        "uploads": ("POST", f"{top}/uploads", as_json({"objects": [{"sha256": "0" * 64, "size": 1}]}), typed),
        "seal": ("POST", f"{top}/objects", as_json({"objects": [{"sha256": "0" * 64, "size": 1}]}), typed),
        "changes": (
            "POST",
            f"{top}/changes",
            as_json({"changes": [{"create": {"parent": "root", "name": "made", "kind": "directory"}}]}),
            typed,
        ),
        "notifications": ("PUT", f"{top}/notifications", as_json({"mode": "off"}), typed),
    }
    with ExitStack() as opened:
        begun = {
            name: opened.enter_context(slowly(ben, method, path, body, **headers))
            for name, (method, path, body, headers) in requests.items()
        }
        mount = opened.enter_context(slowly(ben, "PROPFIND", "/dav/", PROPFIND, content_type="text/xml", depth="1"))
        assert ben.ask("PROPFIND", "/dav/team/", depth="0").status == 207  # the gateway remembers ben from here on
        team.remove_ben()
        until_refused(
            {
                "webdav": lambda: ben.ask("PROPFIND", "/dav/team/", depth="0").status,
                "api": lambda: ben.ask("GET", f"{top}/nodes/{team.file}").status,
            }
        )
        answers = {name: one.finish()[0] for name, one in begun.items()}
        status, listed = mount.finish()
    # A lock is refused by 409, for want of the directory, which is not there for who is no member.
    assert {name: told for name, told in answers.items() if told not in REFUSED | {409}} == {}
    assert status == 207
    assert b"/dav/team" not in listed
    after = team.ann.ask("PROPFIND", "/dav/team/", raw=PROPFIND, depth="1", content_type="application/xml").body
    assert after == before


def test_whatever_is_asked_for_after_the_right_has_ended_is_refused_in_time(team: Team) -> None:
    """Also if it goes on from an earlier answer, repeats a request that was answered, or comes by a key, cookie or link
    of who was removed.
    """
    ann, ben, top = team.ann, team.ben, team.top
    folder = {"parent": "root", "name": "by ben"}
    made = ben.done("POST", f"{top}/folders", folder, status=201, idempotency_key="folder")
    copy = {"parent": "root", "name": "a copy"}
    ben.done("POST", f"{top}/nodes/{team.file}/copy", copy, status=201, idempotency_key="copy")
    page = ben.done("GET", f"{top}/nodes/root/children", query={"page_size": 1})["next_page_token"]
    assert page
    key = ben.done("POST", "/v1/keys", {"name": "k", "expires_at_ms": int(time.time() * 1000) + 86_400_000}, status=201)
    by_key = Api(ben.endpoint, {"authorization": f"Bearer {key['key']}"})
    link = ben.done("POST", f"{top}/links", {"node": team.file}, status=201)
    signing_in = {"email": ben.email, "password": PASSWORD, "device_name": "browser", "browser": True}
    answer = Api(ben.endpoint).ask("POST", "/v1/sessions", signing_in)
    by_cookie = Api(ben.endpoint, {"cookie": answer.headers["set-cookie"].partition(";")[0]})
    answer = Api(ben.endpoint).ask("POST", "/v1/links/open", {"token": link["token"]})
    visitor = Api(ben.endpoint, {"cookie": answer.headers["set-cookie"].partition(";")[0]})

    def asking(by: Api, method: str, path: str, body: Any = None, **more: Any) -> Callable[[], int]:
        return lambda: by.ask(method, path, body, **more).status

    linked = f"/v1/links/{link['link_id']}/nodes/{team.file}"
    asks = {
        "stored answer of a change": asking(ben, "POST", f"{top}/folders", folder, idempotency_key="folder"),
        "stored answer of a copy": asking(ben, "POST", f"{top}/nodes/{team.file}/copy", copy, idempotency_key="copy"),
        "next page": asking(ben, "GET", f"{top}/nodes/root/children", query={"page_size": 1, "page_token": page}),
        "node": asking(ben, "GET", f"{top}/nodes/{made['id']}"),
        "search": asking(ben, "GET", f"{top}/search", query={"q": "file"}),
        "activity": asking(ben, "GET", f"{top}/activity"),
        "trash": asking(ben, "GET", f"{top}/trash"),
        "versions": asking(ben, "GET", f"{top}/nodes/{team.file}/versions"),
        "usage": asking(ben, "GET", f"{top}/usage"),
        "members": asking(ben, "GET", f"{top}/members"),
        "links": asking(ben, "GET", f"{top}/links"),
        "notifications": asking(ben, "GET", f"{top}/notifications"),
        "content": asking(ben, "GET", f"{top}/nodes/{team.file}/content"),
        "archive": asking(ben, "GET", f"{top}/nodes/root/archive"),
        "upload addresses": asking(ben, "POST", f"{top}/uploads", {"objects": [{"sha256": "0" * 64, "size": 1}]}),
        "sealing": asking(ben, "POST", f"{top}/objects", {"objects": [{"sha256": "0" * 64, "size": 1}]}),
        "webdav": asking(ben, "PROPFIND", "/dav/team/", depth="1"),
        "webdav by a key": asking(by_key, "GET", "/dav/team/file"),
        "content by a key": asking(by_key, "GET", f"{top}/nodes/{team.file}/content"),
        "content by a cookie": asking(by_cookie, "GET", f"{top}/nodes/{team.file}/content"),
        "content by a link": asking(visitor, "GET", f"{linked}/content"),
        "node by a link": asking(visitor, "GET", linked),
    }
    open_ones = {name: ask() for name, ask in asks.items()}
    assert {name: status for name, status in open_ones.items() if status >= 300} == {}
    team.remove_ben()
    windows = until_refused(asks)
    print("seconds from the end of the right to the last answer:", windows)
    assert {name: seconds for name, seconds in windows.items() if seconds > REVOCATION_SECONDS} == {}
    assert ann.ask("GET", f"{top}/nodes/{made['id']}").status == 200


def test_what_the_key_of_a_revoked_device_opens_ends_in_time(team: Team) -> None:
    ben, top = team.ben, team.top
    key = ben.done("POST", "/v1/keys", {"name": "k", "expires_at_ms": int(time.time() * 1000) + 86_400_000}, status=201)
    by_key = Api(ben.endpoint, {"authorization": f"Bearer {key['key']}"})
    assert by_key.ask("LOCK", "/dav/team/locked", raw=LOCK, content_type="application/xml").status == 200
    assert team.ann.ask("PUT", "/dav/team/locked", raw=b"mine").status == 423
    signing_in = {"email": ben.email, "password": PASSWORD, "device_name": "other"}
    tokens = Api(ben.endpoint).done("POST", "/v1/sessions", signing_in, status=201)["tokens"]
    owner = Api(ben.endpoint, {"authorization": f"Bearer {tokens['access_token']}"})
    assert by_key.ask("GET", f"{top}/nodes/{team.file}/content").status == 200
    end = owner.done("DELETE", f"/v1/devices/{ben.account['device']['device_id']}")
    assert [one["device_id"] for one in end["ended_keys"]] == [key["device"]["device_id"]]

    def unlocked() -> int:
        return 404 if team.ann.ask("PUT", "/dav/team/locked", raw=b"mine").status != 423 else 423

    windows = until_refused(
        {
            "session": lambda: by_key.ask("GET", "/v1/session").status,
            "content": lambda: by_key.ask("GET", f"{top}/nodes/{team.file}/content").status,
            "webdav": lambda: by_key.ask("PROPFIND", "/dav/team/", depth="0").status,
            "uploads": lambda: (
                by_key.ask("POST", f"{top}/uploads", {"objects": [{"sha256": "0" * 64, "size": 1}]}).status
            ),
            "lock": unlocked,
            "the device itself": lambda: ben.ask("GET", f"{top}/nodes/{team.file}").status,
        }
    )
    print("seconds from the end of a device to the end of what its key opened:", windows)
    assert {name: seconds for name, seconds in windows.items() if seconds > REVOCATION_SECONDS} == {}
