"""People without an account are shared with, by the command line and the mails of a running system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.running import running_stack
from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.e2e.command_line import CommandLine
from tests.support.mails import mails

HOSTILE = "Pay at https://evil.example/now"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system for invited people, in which addresses have to be proven."""
    with running_stack(variables={"SYNCLINE_SIGN_UP_POLICY": "invited", "SYNCLINE_PROVE_ADDRESSES": "true"}) as stack:
        yield stack


class Home(CommandLine):
    """A person at the command line of one device."""

    def sign_up(self, invitation: str, status: int = 0) -> str:
        return self.enter("signup", "--invitation", invitation, status=status)


@pytest.fixture(scope="module")
def ann(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The person who runs the system."""
    ann = Home(stack, tmp_path_factory.mktemp("ann"), "ann@example.com")
    ann.sign_up(stack.first_account)
    return ann


def address(name: str) -> str:
    return f"{name}-{new_text_id()[:8]}@example.org"


def link_in(mail: dict[str, Any]) -> str:
    found = re.search(r"^  (\S+/join#[A-Za-z0-9_-]{43})$", mail["BodyText"], re.MULTILINE)
    assert found, mail
    return found[1]


def test_a_guest_is_invited_joins_by_the_mail_and_syncs_the_space(stack: Stack, ann: Home, tmp_path: Path) -> None:
    ben = Home(stack, tmp_path / "ben", address("ben"))
    ann.run("spaces", "create", "Harbour")
    assert f"{ben.email} is invited to Harbour: a mail was sent" in ann.run(
        "share", "Harbour", ben.email, "--role", "editor"
    )
    (listed,) = ann.json("invitations", "list", "Harbour")["invitations"]
    assert (listed["email"], listed["role"], listed["invited_by"]) == (ben.email, "editor", ann.email)
    assert ben.email in ann.run("invitations", "list", "Harbour")
    (mail,) = mails(stack, ben.email)
    assert mail["Subject"] == f"{ann.email} invites you to Harbour"
    assert mail["BodyText"].count("http") == 3  # the system, the link to the page, and the command
    token = link_in(mail)
    for log in (stack.data / "logs").iterdir():
        assert token.partition("#")[2] not in log.read_text(), log

    assert "you are a guest here" in ben.sign_up(token)
    account = ben.json("account", "show")
    assert (account["proven"], account["guest"], account["admin"]) == (True, True, False)
    assert "you are a guest here" in ben.run("account")
    assert "Harbour" in ben.run("spaces")
    assert "Guests are members of the spaces of others" in ben.run("spaces", "create", "mine", status=3)
    assert ann.json("invitations", "list", "Harbour") == {"invitations": []}
    assert {one["email"] for one in ann.json("members", "Harbour")["members"]} == {ann.email, ben.email}
    folder = tmp_path / "harbour"
    folder.mkdir()
    (folder / "from ben.txt").write_text("hello")
    ben.run("sync", str(folder), "--space", "Harbour")
    assert "from ben.txt" in ann.run("ls", "Harbour:")
    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.txt").write_text("mine")
    told = ben.run("sync", str(own), status=4)
    assert (own / "mine.txt").read_text() == "mine", "what cannot be uploaded stays where it is"
    assert "role" in told or "read" in told, told
    assert "This invitation was used" in Home(stack, tmp_path / "eve", ben.email).sign_up(token, status=1)


def test_an_invitation_is_revoked_and_a_guest_owns_nothing(stack: Stack, ann: Home, tmp_path: Path) -> None:
    cat = Home(stack, tmp_path / "cat", address("cat"))
    ann.run("spaces", "create", "Lake")
    assert "can only be a guest here" in ann.run("share", "Lake", cat.email, "--role", "owner", status=3)
    offer = ann.json("share", "Lake", cat.email, "--role", "viewer")
    assert offer["member"] is None
    assert offer["invitation"]["email"] == cat.email
    token = link_in(mails(stack, cat.email)[0])
    assert f"{cat.email} is no longer invited to Lake" in ann.run("invitations", "revoke", "Lake", cat.email)
    assert "There is no such invitation" in ann.run("invitations", "revoke", "Lake", cat.email, status=1)
    assert "has expired, or is for another address" in cat.sign_up(token, status=1)
    assert "There is no account" in ann.run("unshare", "Lake", cat.email, status=1)
    assert ann.json("invitations") == {"invitations": []}
    assert "you are not invited to a space 'Sea'" in ann.run("invitations", "accept", "Sea", status=2)
    assert "you are not invited to a space 'Sea'" in ann.run("invitations", "decline", "Sea", status=2)
    assert "There is no such invitation" in ann.run("invitations", "accept", new_text_id(), status=1)


def test_a_hostile_name_of_a_space_makes_no_link_in_the_mail(stack: Stack, ann: Home) -> None:
    email = address("dan")
    space = ann.json("spaces", "create", HOSTILE)["space"]
    ann.run("share", space, email, "--role", "viewer")
    (mail,) = mails(stack, email)
    assert "Pay at https : //evil . example/now" in mail["Subject"]
    assert "evil.example" not in mail["BodyText"] + mail["BodyHtml"]
