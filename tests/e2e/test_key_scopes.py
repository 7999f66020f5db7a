"""A key does what its scopes say, in the spaces that it names, whichever way it is used."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from stack.demo import DemoDevice
from stack.up import Stack
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.metadata.v1 import metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.identifiers import new_text_id
from syncline.model.limits import REVOCATION_SECONDS
from syncline.notify.v1 import notify_pb2
from syncline.notify.v1.notify_pb2_grpc import NotifyServiceStub
from syncline.rpc.channel import sync_channel
from syncline.rpc.errors import error_from_rpc
from tests.gateway.client import Answer, Api, sign_up


class Home:
    """A person with two spaces of hers, and programs."""

    def __init__(self, stack: Stack) -> None:
        self.ann, self.ben = sign_up(stack.endpoint, "ann"), sign_up(stack.endpoint, "ben")
        self.team, self.other = (self._space(name) for name in ("team", "other"))
        self.ann.space = self.team["space_id"]
        self.file = self.ann.file("file.txt", b"content")

    def _space(self, name: str) -> dict[str, Any]:
        made: dict[str, Any] = self.ann.done("POST", "/v1/spaces", {"name": name}, status=201)
        return made

    def key(self, *scopes: str, **more: Any) -> str:
        """A new key of ann's."""
        until = int(time.time() * 1000) + 3_600_000
        body = {"name": "program", "expires_at_ms": until, "scopes": scopes, **more}
        return str(self.ann.done("POST", "/v1/keys", body, status=201)["key"])

    def program(self, *scopes: str, **more: Any) -> Api:
        """A program with such a key at the API."""
        return Api(self.ann.endpoint, {"authorization": f"Bearer {self.key(*scopes, **more)}"})

    def target(self, service: str) -> str:
        """The address at which a service listens."""
        found: str = self.ann.done("GET", "/.well-known/syncline")[service]["target"]
        return found


@pytest.fixture(scope="module")
def home(stack: Stack) -> Home:
    return Home(stack)


def reads(home: Home, program: Api) -> Answer:
    return program.ask("GET", f"{home.ann.top}/nodes/{home.file['id']}/content")


def writes(home: Home, program: Api) -> Answer:
    return program.ask("POST", f"{home.ann.top}/folders", {"parent": "root", "name": new_text_id()})


def asks_to_upload(home: Home, program: Api) -> Answer:
    return program.ask("POST", f"{home.ann.top}/uploads", {"objects": [{"sha256": "0" * 64, "size": 1}]})


def shares(home: Home, program: Api) -> Answer:
    return program.ask("PUT", f"{home.ann.top}/members/{home.ben.email}", {"role": "viewer"})


def links(home: Home, program: Api) -> Answer:
    return program.ask("POST", f"{home.ann.top}/links", {"node": home.file["id"]})


def puts(home: Home, program: Api) -> Answer:
    return program.ask("PUT", f"/dav/{home.team['alias']}/{new_text_id()}.txt", raw=b"saved")


def gets(home: Home, program: Api) -> Answer:
    return program.ask("GET", f"/dav/{home.team['alias']}/file.txt")


@pytest.mark.parametrize(
    ("scopes", "may"),
    [
        (["read"], [reads, gets]),
        (["write"], [reads, gets, writes, asks_to_upload, puts]),
        (["share"], [reads, gets, shares, links]),
        (["read", "write", "share"], [reads, gets, writes, asks_to_upload, puts, shares, links]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value[0], str) else "",
)
def test_a_key_does_what_its_scopes_say(home: Home, scopes: list[str], may: list[Callable[..., Answer]]) -> None:
    program = home.program(*scopes)
    for act in (reads, gets, writes, asks_to_upload, puts, shares, links):
        answer = act(home, program)
        if act in may:
            assert answer.status in (200, 201), (act.__name__, answer.status, answer.body)
        else:
            assert answer.status == 403, (act.__name__, answer.status, answer.body)


def test_no_scope_changes_devices_or_keys(home: Home) -> None:
    program = home.program("read", "write", "share")
    here = home.ann.done("GET", "/v1/session")["device"]["device_id"]
    until = int(time.time() * 1000) + 60_000
    program.ask("POST", "/v1/keys", {"name": "more", "expires_at_ms": until}).refused(403, "PERMISSION_DENIED")
    told = program.ask("DELETE", f"/v1/devices/{here}").refused(403, "PERMISSION_DENIED")
    assert "sign in" in told["detail"]


def test_a_key_that_shares_changes_no_owners(home: Home) -> None:
    """Otherwise a thief could make somebody else owner, and then remove the owner of the key."""
    program, team = home.program("share"), f"{home.ann.top}/members"
    home.ann.done("PUT", f"{team}/{home.ben.email}", {"role": "viewer"})
    program.done("PUT", f"{team}/{home.ben.email}", {"role": "editor"})
    for method, email, body in (
        ("PUT", home.ben.email, {"role": "owner"}),
        ("PUT", home.ann.email, {"role": "viewer"}),
        ("DELETE", home.ann.email, None),
    ):
        told = program.ask(method, f"{team}/{email}", body).refused(403, "PERMISSION_DENIED")
        assert "owners" in told["detail"]
    home.ann.done("PUT", f"{team}/{home.ben.email}", {"role": "owner"})
    program.ask("DELETE", f"{team}/{home.ben.email}").refused(403, "PERMISSION_DENIED")
    home.ann.done("DELETE", f"{team}/{home.ben.email}", status=204)


def test_a_key_says_which_scope_is_missing(home: Home) -> None:
    told = writes(home, home.program("read")).refused(403, "PERMISSION_DENIED")
    assert "'write'" in told["detail"]


def test_a_key_opens_the_spaces_that_it_names_alone(home: Home) -> None:
    team, other = home.team["space_id"], home.other["space_id"]
    key = home.key("read", "write", "share", spaces=[other])
    program = Api(home.ann.endpoint, {"authorization": f"Bearer {key}"})
    assert [one["space_id"] for one in program.done("GET", "/v1/spaces")["spaces"]] == [other]
    for act in (reads, writes, asks_to_upload, shares, links):
        act(home, program).refused(404, "NO_SUCH_SPACE")
    assert puts(home, program).status in (403, 404, 409)
    assert gets(home, program).status == 404
    program.done("POST", f"/v1/spaces/{other}/folders", {"parent": "root", "name": new_text_id()}, status=201)
    program.ask("GET", f"/v1/spaces/{team}/members").refused(404, "NO_SUCH_SPACE")
    program.ask("POST", "/v1/spaces", {"name": "new"}).refused(403, "PERMISSION_DENIED")
    program.ask("GET", "/v1/events", query={"space": team}).refused(404, "NO_SUCH_SPACE")
    _over_grpc(home, key, opened=other, closed=team)


def _over_grpc(home: Home, key: str, *, opened: str, closed: str) -> None:
    """The same at the services themselves, with a person's own watch of the closed space in the cache of notify."""
    with sync_channel(home.target("auth")) as auth, sync_channel(home.target("metadata")) as metadata:
        stub = AuthServiceStub(auth)
        token = stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=key)).tokens.access_token
        program = (("authorization", f"Bearer {token}"),)
        write = auth_pb2.ACCESS_WRITE
        assert stub.IssueCredentials(
            auth_pb2.IssueCredentialsRequest(space_id=opened, access=write), metadata=program
        ).key_prefix
        for ask in (
            lambda: stub.IssueCredentials(auth_pb2.IssueCredentialsRequest(space_id=closed), metadata=program),
            lambda: stub.IssueCredentials(
                auth_pb2.IssueCredentialsRequest(space_id=closed, access=write), metadata=program
            ),
            lambda: MetadataServiceStub(metadata).GetSpace(
                metadata_pb2.GetSpaceRequest(space_id=closed), metadata=program
            ),
        ):
            assert _reason(ask) in {"NO_SUCH_SPACE", "INVALID_ARGUMENT"}
        checked = stub.CheckAccess(auth_pb2.CheckAccessRequest(space_id=closed), metadata=program)
        assert checked.role == auth_pb2.ROLE_UNSPECIFIED
    with sync_channel(home.target("notify")) as notify:
        watch = NotifyServiceStub(notify).Watch
        own = (("authorization", home.ann.headers["authorization"]),)
        both = watch(notify_pb2.WatchRequest(space_ids=[opened, closed]), metadata=own, timeout=60)
        next(both)
        mine = watch(notify_pb2.WatchRequest(space_ids=[opened]), metadata=program, timeout=60)
        next(mine)
        for _ in range(2):  # the device is remembered by then
            assert (
                _reason(lambda: next(watch(notify_pb2.WatchRequest(space_ids=[closed]), metadata=program, timeout=60)))
                == "NO_SUCH_SPACE"
            )
        both.cancel()
        mine.cancel()


def _reason(ask: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        ask()
    error = error_from_rpc(caught.value)
    assert error is not None
    return error.reason


def test_a_key_for_a_space_that_one_is_not_in_is_not_made(home: Home) -> None:
    until = int(time.time() * 1000) + 60_000
    body = {"name": "program", "expires_at_ms": until, "spaces": [home.ben.space]}
    home.ann.ask("POST", "/v1/keys", body).refused(404, "NO_SUCH_SPACE")
    for spaces in ([], ["not an id"], [home.ann.space] * 51):
        home.ann.ask("POST", "/v1/keys", body | {"spaces": spaces}).refused(400, "INVALID_ARGUMENT")
    for scopes in ([], ["admin"], ["read"] * 4):
        home.ann.ask("POST", "/v1/keys", body | {"spaces": None, "scopes": scopes}).refused(400, "INVALID_ARGUMENT")


def test_a_key_lists_its_limits(home: Home) -> None:
    home.key("write", spaces=[home.team["space_id"]])
    newest = home.ann.done("GET", "/v1/keys")["devices"][0]
    assert (newest["scopes"], newest["spaces"]) == (["read", "write"], [home.team["space_id"]])
    assert home.ann.done("GET", "/v1/session")["device"]["scopes"] is None


def test_the_command_line_makes_keys(stack: Stack, new_device: Callable[..., DemoDevice]) -> None:
    device = new_device("laptop")
    device.run("spaces", "create", "Project")
    made = json.loads(
        device.run("keys", "create", "backup", "--scope", "read", "--space", "Project", "--days", "30", "--json")
    )
    assert made["key"].startswith("syk_")
    assert made["scopes"] == ["read"]
    shown = device.run("keys")
    assert "backup" in shown
    assert "Project" in shown
    assert made["key"] not in shown
    user = base64.b64encode(f"{device.email}:{made['key']}".encode()).decode()
    drive = Api(stack.endpoint, {"authorization": f"Basic {user}"})
    assert drive.ask("PROPFIND", "/dav/Project/", depth="0").status == 207
    assert drive.ask("PUT", "/dav/Project/new.txt", raw=b"no").status == 403
    device.run("keys", "revoke", made["id"])
    deadline = time.monotonic() + REVOCATION_SECONDS + 20
    while drive.ask("PROPFIND", "/dav/Project/", depth="0").status != 401:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert json.loads(device.run("keys", "--json")) == {"keys": []}
