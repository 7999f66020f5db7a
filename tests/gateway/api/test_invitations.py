"""Invitations to spaces over the API."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from stack.running import running_stack
from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.gateway.client import PASSWORD, Api, Person, sign_up
from tests.support.mails import mailed_token


@pytest.fixture(scope="module")
def narrow() -> Iterator[Stack]:
    """A system for one domain, in which one person may add another one to few spaces."""
    variables = {
        "SYNCLINE_SIGN_UP_POLICY": "domains",
        "SYNCLINE_SIGN_UP_DOMAINS": "example.com",
        "SYNCLINE_MEMBERSHIPS_PER_PERSON": "3",
    }
    with running_stack(variables=variables) as stack:
        yield stack


def new_space(owner: Person, name: str) -> str:
    return str(owner.done("POST", "/v1/spaces", {"name": name}, status=201)["space_id"])


def invite(owner: Person, space: str, email: str, role: str = "editor") -> None:
    told = owner.done("PUT", f"/v1/spaces/{space}/members/{email}", {"role": role}, status=202)
    assert (told["space_id"], told["email"], told["role"], told["invited_by"]) == (space, email, role, owner.email)


def join(stack: Stack, email: str) -> Person:
    """Make an account by the invitation that was mailed to the address."""
    body = {
        "email": email,
        "password": PASSWORD,
        "device_name": "laptop",
        "invitation": mailed_token(stack, email, "join"),
    }
    answer = Api(stack.endpoint).done("POST", "/v1/accounts", body, status=201)
    headers = {"authorization": f"Bearer {answer['tokens']['access_token']}"}
    return Person(stack.endpoint, headers, email, answer["account"]["personal_space_id"], answer)


def test_a_guest_joins_by_the_mail_and_works_in_the_space(narrow: Stack) -> None:
    ben = sign_up(narrow.endpoint, "ben")
    space, email = new_space(ben, "Harbour"), f"ann-{new_text_id()[:8]}@elsewhere.example"
    invite(ben, space, email)
    stranger, token = Api(narrow.endpoint), mailed_token(narrow, email, "join")
    told = stranger.done("POST", "/v1/invitations/open", {"token": token})
    (listed,) = ben.done("GET", f"/v1/spaces/{space}/invitations")["invitations"]
    assert told == {"email": email, "expires_at_ms": listed["expires_at_ms"], "space": listed, "guest": True}
    ann = join(narrow, email)
    assert (ann.account["space_id"], ann.account["account"]["guest"]) == (space, True)
    ann.done("POST", f"/v1/spaces/{space}/folders", {"parent": "root", "name": "of the guest"}, status=201)
    ann.ask("POST", f"{ann.top}/folders", {"parent": "root", "name": "mine"}).refused(403, "PERMISSION_DENIED")
    ann.ask("POST", "/v1/spaces", {"name": "mine"}).refused(403, "GUEST")
    until = int(time.time() * 1000) + 3_600_000
    ann.ask("POST", "/v1/keys", {"name": "program", "expires_at_ms": until}).refused(403, "GUEST")
    ann.ask("POST", f"/v1/spaces/{space}/links", {"node": "root"}).refused(403, "GUEST")
    ben.ask("PUT", f"/v1/spaces/{space}/members/{email}", {"role": "owner"}).refused(403, "GUEST")
    stranger.ask("POST", "/v1/invitations/open", {"token": token}).refused(400, "INVITATION_INVALID")


def test_what_waits_is_accepted_or_declined(narrow: Stack) -> None:
    ben, email = sign_up(narrow.endpoint, "ben"), f"ann-{new_text_id()[:8]}@example.com"
    spaces = [new_space(ben, name) for name in ("Harbour", "Lake", "Sea")]
    for space in spaces:
        invite(ben, space, email)
    ann = join(narrow, email)
    assert {one["space_name"] for one in ann.done("GET", "/v1/invitations")["invitations"]} == {"Lake", "Sea"}
    ann.ask("POST", f"/v1/invitations/{spaces[1]}/accept").refused(429, "LIMIT_REACHED")
    ann.done("DELETE", f"/v1/spaces/{spaces[0]}/members/{email}", status=204)
    assert ann.done("POST", f"/v1/invitations/{spaces[1]}/accept")["alias"] == "Lake"
    ann.done("POST", f"/v1/invitations/{spaces[2]}/decline", status=204)
    ann.ask("POST", f"/v1/invitations/{spaces[2]}/accept").refused(404, "NO_SUCH_INVITATION")
    assert ann.done("GET", "/v1/invitations")["invitations"] == []


def test_an_invitation_is_revoked_or_declined_without_an_account(ann: Person, ben: Person, stack: Stack) -> None:
    space, email = new_space(ann, "Harbour"), f"cat-{new_text_id()[:8]}@example.com"
    invite(ann, space, email)
    path = f"/v1/spaces/{space}/invitations"
    for method, where in (("GET", path), ("DELETE", f"{path}/{email}")):
        ben.ask(method, where).refused(404, "NO_SUCH_SPACE")
    ann.done("DELETE", f"{path}/{email}", status=204)
    ann.ask("DELETE", f"{path}/{email}").refused(404, "NO_SUCH_INVITATION")
    invite(ann, space, email)
    stranger = Api(stack.endpoint)
    deadline = time.monotonic() + 90
    while stranger.ask("POST", "/v1/invitations/open", {"token": mailed_token(stack, email, "join")}).status != 200:
        assert time.monotonic() < deadline, "the second mail did not come"
        time.sleep(0.1)
    body = {"token": mailed_token(stack, email, "join")}
    stranger.done("POST", "/v1/invitations/refuse", body, status=204)
    stranger.ask("POST", "/v1/invitations/refuse", body).refused(400, "INVITATION_INVALID")
    assert ann.done("GET", path)["invitations"] == []


def test_a_repeated_request_invites_once(ann: Person) -> None:
    path = f"/v1/spaces/{new_space(ann, 'Once')}/members/cat-{new_text_id()[:8]}@example.com"
    first, second = (ann.done("PUT", path, {"role": "viewer"}, status=202, idempotency_key="k") for _ in range(2))
    assert first == second


def test_a_program_lists_invitations_and_changes_none(ann: Person) -> None:
    until = int(time.time() * 1000) + 3_600_000
    key = ann.done("POST", "/v1/keys", {"name": "program", "expires_at_ms": until}, status=201)["key"]
    program = ann.signed_out()
    program.headers["authorization"] = f"Bearer {key}"
    space = new_space(ann, "Harbour")
    assert program.done("GET", f"/v1/spaces/{space}/invitations")["invitations"] == []
    assert program.done("GET", "/v1/invitations")["invitations"] == []
    for path in (f"/v1/invitations/{space}/accept", f"/v1/invitations/{space}/decline"):
        program.ask("POST", path).refused(403, "PERMISSION_DENIED")
