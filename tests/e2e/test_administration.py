"""An administrator's day over a running system: inviting, suspending who is at work, resuming, signing out."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stack.running import running_stack
from stack.up import Stack
from syncline.model.identifiers import new_text_id
from syncline.model.limits import REVOCATION_SECONDS
from tests.e2e.command_line import CommandLine
from tests.gateway.administrators import invite, join, sign_in
from tests.gateway.client import Api, Person

REAL = {"SYNCLINE_SIGN_UP_POLICY": "invited", "SYNCLINE_PROVE_ADDRESSES": "true"}
ANN, BEN = "ann@example.com", "ben@example.com"
LATE_SECONDS = 60.0
"""Seconds by which a busy machine may be late."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system for invited people, without any account."""
    with running_stack(variables=REAL) as stack:
        yield stack


class Computer(CommandLine):
    """A device with its own home, and a folder to keep."""

    def __init__(self, stack: Stack, root: Path, email: str) -> None:
        super().__init__(stack, root / "home", email)
        self.folder = root / "folder"
        self.folder.mkdir(parents=True)


class Events(threading.Thread):
    """A stream of events that somebody keeps open, and the reason with which it ends."""

    def __init__(self, person: Person) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection(urlsplit(person.endpoint).netloc, timeout=LATE_SECONDS * 2)
        self._connection.request("GET", "/v1/events", headers=person.headers)
        self._answer = self._connection.getresponse()
        assert self._answer.readline() == b"event: heartbeat\n"
        self.ended_at = 0.0
        self.reason = ""

    def close(self) -> None:
        self._answer.close()
        self._connection.close()

    def run(self) -> None:
        told = self._answer.read().strip().splitlines()
        self.close()
        self.ended_at = time.monotonic()
        self.reason = json.loads(told[-1].removeprefix(b"data: "))["reason"]


def test_an_administrator_invites_suspends_resumes_and_signs_out(stack: Stack, tmp_path: Path) -> None:
    console, laptop = Computer(stack, tmp_path / "console", ANN), Computer(stack, tmp_path / "laptop", BEN)
    console.enter("signup", "--invitation", stack.first_account)

    # The first account invites the second one.
    made = console.json("admin", "users", "invite", BEN)
    assert made["link"] == f"{stack.endpoint}/join#{made['token']}"
    laptop.enter("signup", "--invitation", made["link"])
    assert "only an administrator of this system can do this" in laptop.run("admin", "users", "list", status=3)
    assert "There is an account" in console.run("admin", "users", "invite", BEN, status=1)
    (laptop.folder / "report.txt").write_text("figures")
    laptop.run("sync", str(laptop.folder))
    listed = console.json("admin", "users", "list")["users"]
    assert [(user["email"], user["admin"], user["suspension"]) for user in listed] == [
        (ANN, True, None),
        (BEN, False, None),
    ]
    shown = console.json("admin", "users", "show", BEN)
    assert [(one["kind"], one["revoked_at_ms"]) for one in shown["devices"]] == [("client", 0)]
    assert [(one["name"], one["role"]) for one in shown["spaces"]] == [("personal", "owner")]
    space = laptop.json("spaces", "create", "Project")["space"]

    # Ben's device and browser are at work when ben is suspended.
    ben = sign_in(stack, BEN)
    key = ben.done("POST", "/v1/keys", {"name": "k", "expires_at_ms": int(time.time() * 1000) + 3_600_000}, status=201)[
        "key"
    ]
    program = Api(stack.endpoint, {"authorization": f"Bearer {key}"})
    program.done("GET", "/v1/spaces")
    link = ben.done("POST", f"{ben.top}/links", {"node": "root"}, status=201)["token"]
    visitor = Api(stack.endpoint)
    opened = visitor.done("POST", "/v1/links/open", {"token": link})
    reader = Api(stack.endpoint, {"authorization": f"Bearer {opened['access_token']}"})
    linked = f"/v1/links/{opened['link_id']}/nodes/root/children"
    reader.done("GET", linked)
    events = Events(ben)
    events.start()
    assert "--yes" in console.run("admin", "users", "suspend", BEN, status=2)
    suspended = console.json("admin", "users", "suspend", BEN, "--reason", "left the company", "--yes")
    began = time.monotonic()
    assert suspended["suspension"]["reason"] == "left the company"
    folder = {"parent": "root", "name": "new"}
    ben.ask("POST", f"{ben.top}/folders", folder).refused(401, "DEVICE_REVOKED")
    ben.ask("GET", "/v1/session").refused(401, "ACCOUNT_SUSPENDED")
    program.ask("GET", "/v1/spaces").refused(401, "ACCOUNT_SUSPENDED")
    visitor.ask("POST", "/v1/links/open", {"token": link}).refused(404, "NO_SUCH_LINK")
    while (answer := ben.ask("GET", f"{ben.top}/nodes/root/children")).status == 200:
        assert time.monotonic() < began + REVOCATION_SECONDS + LATE_SECONDS, "metadata is read for ever"
        threading.Event().wait(0.2)
    answer.refused(401, "DEVICE_REVOKED")
    events.join(REVOCATION_SECONDS + LATE_SECONDS)
    assert events.reason == "DEVICE_REVOKED"
    while reader.ask("GET", linked).status == 200:
        assert time.monotonic() < began + REVOCATION_SECONDS + LATE_SECONDS, "a link is read for ever"
        threading.Event().wait(0.2)
    told = laptop.run("sync", str(laptop.folder), status=3)
    assert "revoked" in told or "suspended" in told
    assert "account is suspended; ask an administrator" in Computer(stack, tmp_path / "other", BEN).enter(
        "login", status=3
    )
    assert "the password is wrong" in Computer(stack, tmp_path / "guess", BEN).enter(
        "login", password="a wrong one", status=3
    )
    assert console.json("admin", "users", "list", "--state", "suspended")["users"] == [suspended]

    # Somebody else takes over the space, of which the administrator sees no contents.
    (found,) = console.json("admin", "spaces", "list")["spaces"]
    assert (found["space"], found["name"], found["owners"]) == (space, "Project", 1)
    members = console.json("admin", "spaces", "show", space)["members"]
    assert [(member["email"], member["role"]) for member in members] == [(BEN, "owner")]
    console.run("ls", f"{space}:", status=1)
    assert console.json("admin", "spaces", "owner", space, ANN, "--yes")["role"] == "owner"
    console.run("ls", f"{space}:")

    # Everything is there again.
    assert console.json("admin", "users", "resume", BEN)["suspension"] is None
    laptop.run("sync", str(laptop.folder))
    ben.done("POST", f"{ben.top}/folders", folder, status=201)
    program.done("GET", "/v1/spaces")
    visitor.done("POST", "/v1/links/open", {"token": link})
    Events(ben).close()

    # Signing out ends all devices, and keys if that is asked for.
    assert console.json("admin", "users", "sign-out", BEN, "--yes")["keys"] == 0
    ben.ask("GET", "/v1/session").refused(401, "DEVICE_REVOKED")
    program.done("GET", "/v1/spaces")
    assert console.json("admin", "users", "sign-out", BEN, "--end-keys", "--yes")["keys"] == 1
    laptop.run("sync", str(laptop.folder), status=3)
    sign_in(stack, BEN).done("GET", "/v1/session")

    policy = console.json("admin", "policy")
    assert (policy["sign_up_policy"], policy["prove_addresses"]) == ("invited", True)
    assert "only people who are invited make accounts" in console.run("admin", "policy")


def test_administrators_are_made_and_unmade_and_one_is_left(stack: Stack, tmp_path: Path) -> None:
    console = Computer(stack, tmp_path / "console", ANN)
    console.enter("login")
    email = f"eve-{new_text_id()[:6]}@example.com"
    join(stack, email, invite(stack, email))
    eve = sign_in(stack, email)
    eve.ask("GET", "/v1/admin/users").refused(403, "PERMISSION_DENIED")
    told = console.run("admin", "users", "revoke-admin", ANN, "--yes", status=1)
    assert "at least one administrator" in told
    assert "at least one administrator" in console.run("admin", "users", "suspend", ANN, "--yes", status=1)
    assert f"{email} is an administrator" in console.run("admin", "users", "make-admin", email, "--yes")
    assert eve.done("GET", "/v1/admin/users", query={"email_prefix": "eve"})["users"][0]["admin"]
    console.run("admin", "users", "revoke-admin", email, "--yes")
    eve.ask("GET", "/v1/admin/users").refused(403, "PERMISSION_DENIED")
    assert "no user has proven that address" in console.run("admin", "users", "show", "nobody@example.com", status=1)
    assert "not a valid e-mail address" in console.run("admin", "users", "show", "nonsense", status=1)


def test_the_audit_log_is_read_on_the_command_line(stack: Stack, tmp_path: Path) -> None:
    console = Computer(stack, tmp_path / "console", ANN)
    console.enter("login")
    email = f"dora-{new_text_id()[:6]}@example.com"
    join(stack, email, invite(stack, email))
    lines = [json.loads(line) for line in console.run("admin", "audit", "--user", email, "--json").splitlines()]
    assert [line["kind"] for line in lines] == ["account.created", "invitation.created"]
    assert lines[0]["details"]["by"] == "invitation"
    assert {"kind": "address", "id": email} in lines[0]["subjects"]
    text = console.run("admin", "audit", "--user", email, "--kind", "account.created", "--limit", "1")
    assert "account.created" in text
    assert f"address={email}" in text
    assert "there is no such kind" in console.run("admin", "audit", "--kind", "nonsense", status=1)
