"""Addresses are proven by the mails of a running system, as people and programs do it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.running import running_stack
from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.e2e.command_line import CommandLine
from tests.gateway.client import PASSWORD, Api
from tests.support.mails import mailed_token, mails, token_in
from tests.support.passwords import OTHER_STRONG

SQUATTING = OTHER_STRONG


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system in which addresses have to be proven."""
    with running_stack(variables={"SYNCLINE_PROVE_ADDRESSES": "true"}) as stack:
        yield stack


class Account:
    """Somebody who has signed up by the API."""

    def __init__(self, stack: Stack, email: str, password: str = PASSWORD) -> None:
        body = {"email": email, "password": password, "device_name": "laptop"}
        answer = Api(stack.endpoint).done("POST", "/v1/accounts", body, status=201)
        self.email = email
        self.user: str = answer["account"]["user_id"]
        self.personal: str = answer["account"]["personal_space_id"]
        self.proven: bool = answer["account"]["proven"]
        self.api = Api(stack.endpoint, {"authorization": f"Bearer {answer['tokens']['access_token']}"})

    def new_space(self) -> str:
        """The id of a new shared space."""
        made = self.api.done("POST", "/v1/spaces", {"name": f"team {new_text_id()[:6]}"}, status=201)
        return str(made["space_id"])


def address(name: str) -> str:
    return f"{name}-{new_text_id()[:8]}@example.com"


def prove(account: Account, token: str) -> Any:
    return account.api.ask("POST", "/v1/session/proof", {"token": token})


def proven(stack: Stack, name: str) -> Account:
    account = Account(stack, address(name))
    assert not account.proven
    answer = prove(account, mailed_token(stack, account.email, "prove"))
    assert (answer.status, answer.json["proven"]) == (200, True)
    return account


def test_a_squatter_receives_nothing_and_loses_the_address_to_its_owner(stack: Stack) -> None:
    ben, email = proven(stack, "ben"), address("ann")
    space = ben.new_space()
    squatter = Account(stack, email, SQUATTING)
    grant = {"role": "editor"}
    members, member = f"/v1/spaces/{space}/members", f"/v1/spaces/{space}/members/{email}"

    planted = token_in(mails(stack, email, count=1)[0], "prove")
    assert ben.api.ask("PUT", member, grant).status == 202, "the owner of the address is invited by a mail"
    assert f"{ben.email} invites you" in mails(stack, email, count=2)[1]["BodyText"]
    squatter.api.ask("GET", members).refused(404, "NO_SUCH_SPACE")
    squatter.api.ask("GET", "/v1/invitations").refused(403, "ADDRESS_UNPROVEN")
    squatter.api.ask("POST", f"/v1/invitations/{space}/accept").refused(403, "ADDRESS_UNPROVEN")
    assert [one["user_id"] for one in ben.api.done("GET", members)["members"]] == [ben.user]
    for path, body in (
        ("/v1/spaces", {"name": "mine"}),
        ("/v1/keys", {"name": "program", "expires_at_ms": int(time.time() * 1000) + 3_600_000}),
        (f"/v1/spaces/{squatter.personal}/links", {"node": "root"}),
    ):
        squatter.api.ask("POST", path, body).refused(403, "ADDRESS_UNPROVEN")
    personal = f"/v1/spaces/{squatter.personal}/folders"
    squatter.api.done("POST", personal, {"parent": "root", "name": "of the squatter"}, status=201)

    ann = Account(stack, email)
    prove(ann, planted).refused(400, "PROOF_INVALID")  # the link in the mail that the squatter caused
    own = token_in(mails(stack, email, count=3)[2], "prove")
    prove(squatter, own).refused(400, "PROOF_INVALID")
    assert prove(ann, own).status == 200
    prove(squatter, planted).refused(409, "ADDRESS_TAKEN")

    assert space in {one["space_id"] for one in ann.api.done("GET", "/v1/spaces")["spaces"]}
    assert ben.api.done("GET", f"/v1/spaces/{space}/invitations")["invitations"] == []
    ben.api.done("POST", f"/v1/spaces/{space}/folders", {"parent": "root", "name": "Plans for Ann"}, status=201)
    assert "Plans for Ann" in mails(stack, email, count=4)[3]["BodyText"]
    listed = {one["user_id"] for one in ben.api.done("GET", members)["members"]}
    assert listed == {ben.user, ann.user}
    squatter.api.ask("GET", members).refused(404, "NO_SUCH_SPACE")
    assert len(squatter.api.done("GET", "/v1/spaces")["spaces"]) == 1
    for password, user in ((PASSWORD, ann.user), (SQUATTING, squatter.user)):
        body = {"email": email, "password": password, "device_name": "phone"}
        if password == SQUATTING:  # the claim is Ann's, who came last, and ended with her proof
            Api(stack.endpoint).ask("POST", "/v1/sessions", body).refused(401, "WRONG_PASSWORD")
        else:
            assert Api(stack.endpoint).done("POST", "/v1/sessions", body, status=201)["account"]["user_id"] == user


def test_a_sign_up_with_the_address_of_somebody_tells_only_the_owner(stack: Stack) -> None:
    ann = proven(stack, "ann")
    again = Account(stack, ann.email, SQUATTING)
    assert not again.proven
    text = mails(stack, ann.email, count=2)[1]["BodyText"]
    assert "which has one already" in text
    assert "/prove#" not in text


def test_a_proof_is_sent_again_and_works_once(stack: Stack) -> None:
    ann = Account(stack, address("ann"))
    (first,) = mails(stack, ann.email, count=1)
    assert ann.api.ask("POST", "/v1/session/proof/resend").status == 204
    second = mails(stack, ann.email, count=2)[1]
    assert prove(ann, token_in(second, "prove")).status == 200
    for mail in (first, second):
        prove(ann, token_in(mail, "prove")).refused(400, "PROOF_INVALID")
    assert ann.api.ask("POST", "/v1/session/proof/resend").status == 204
    assert ann.api.done("GET", "/v1/session")["account"]["proven"]
    assert len(mails(stack, ann.email, count=2)) == 2


def test_the_command_line_proves_an_address(stack: Stack, tmp_path: Path) -> None:
    email = address("ann")
    ann = CommandLine(stack, tmp_path / "ann", email)
    told = ann.enter("signup")
    assert f"a mail was sent to {email}" in told
    assert ann.json("account", "show")["proven"] is False
    assert "is not proven" in ann.run("account")
    assert "is not proven yet" in ann.run("spaces", "create", "team", status=3)
    assert "another mail was sent" in ann.run("account", "prove", "--resend")
    mail = mails(stack, email, count=2)[1]
    assert "used, has expired, or belongs" in ann.run("account", "prove", "x" * 43, status=1)
    link = f"{stack.endpoint}/prove#{token_in(mail, 'prove')}"
    assert link in mail["BodyText"]
    assert f"{email} is proven" in ann.run("account", "prove", link)
    assert ann.json("account")["proven"] is True
    assert "proven already" in ann.run("account", "prove", "--resend")
    ann.run("spaces", "create", "team")
    assert "state the CODE" in ann.run("account", "prove", status=2)
