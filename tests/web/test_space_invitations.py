"""People without an account are invited in the browser, and come to the space by the link in the mail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.support.mails import mailed_link
from tests.web.people import Person

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def stack(executable: str) -> Iterator[Stack]:
    """A system for people of one domain, of whom others may add each to few spaces."""
    variables = {
        "SYNCLINE_SIGN_UP_POLICY": "domains",
        "SYNCLINE_SIGN_UP_DOMAINS": "example.com",
        "SYNCLINE_MEMBERSHIPS_PER_PERSON": "3",
    }
    with running_stack(variables=variables) as stack:
        yield stack


@pytest.fixture
def new_person(chromium: Browser, stack: Stack) -> Iterator[Callable[..., Person]]:
    people: list[Person] = []

    def make(name: str, window: dict[str, Any] = DESKTOP) -> Person:
        person = Person(name, chromium.new_context(**window), stack.endpoint)
        people.append(person)
        return person

    yield make
    for person in people:
        person.context.close()
    assert [trouble for person in people for trouble in person.troubles] == []


def invite(owner: Person, email: str) -> None:
    owner.page.get_by_label("E-mail address of the person to add").fill(email)
    owner.button("Add").click()
    owner.see(owner.toast.get_by_text(f"{email} is invited to"))


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_guest_is_invited_comes_by_the_mail_and_works_in_the_space(
    new_person: Callable[..., Person], stack: Stack, window: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    shot = request.node.callspec.id
    ben = new_person("ben")
    ben.sign_up()
    ben.make_space("Harbour")
    guest = new_person("guest", window)
    guest.email = guest.email.replace("example.com", "elsewhere.example")
    ben.button("Share").click()
    invite(ben, guest.email)
    ben.see(ben.dialog.get_by_role("heading", name="Invited"))
    ben.see(ben.button(f"Revoke the invitation of {guest.email}"))
    ben.shot(f"invited-{shot}")
    ben.page.keyboard.press("Escape")

    guest.open(mailed_link(stack, guest.email, "join"))
    guest.see(guest.page.get_by_text(f"{ben.email} invites you to edit “Harbour”."))
    guest.see(guest.page.get_by_text("You will be a guest here"))
    guest.shot(f"join-guest-{shot}")
    assert guest.page.get_by_label("E-mail address").input_value() == guest.email
    guest.page.get_by_label("Password").fill("a long password")
    guest.button("Create account").click()
    guest.see(guest.page.get_by_role("heading", name="Harbour", exact=True, level=1))
    assert "#" not in guest.page.url
    guest.see(guest.button("Upload"))
    guest.shot(f"guest-{shot}")
    guest.make_folder("From the guest")
    assert guest.button("New space").count() == 0

    ben.page.reload()
    ben.see(ben.row("From the guest"))
    ben.button("Share").click()
    ben.see(ben.page.get_by_label(f"Role of {guest.email}"))
    assert ben.dialog.get_by_role("heading", name="Invited").count() == 0


def test_an_invitation_is_revoked_and_declined(new_person: Callable[..., Person], stack: Stack) -> None:
    ben, visitor = new_person("ben"), new_person("visitor", PHONE)
    ben.sign_up()
    ben.make_space("Harbour")
    ben.button("Share").click()
    invite(ben, visitor.email)
    link = mailed_link(stack, visitor.email, "join")
    visitor.open(link)
    visitor.button("Decline this invitation").click()
    visitor.see(visitor.page.get_by_role("heading", name="Declined"))
    visitor.shot("declined")
    other = visitor.email.replace("visitor", "other")
    invite(ben, other)
    ben.see_no(ben.button(f"Revoke the invitation of {visitor.email}"))
    ben.button(f"Revoke the invitation of {other}").click()
    ben.see(ben.toast.get_by_text(f"{other} is not invited any more"))
    visitor.expect(r"400 POST .*/v1/(invitations/open|accounts)$")
    visitor.page.goto("about:blank")
    visitor.open(link)
    visitor.fill_credentials()
    visitor.button("Create account").click()
    visitor.see(visitor.page.get_by_role("alert").get_by_text("This invitation was used, has expired"))


def test_what_waits_is_accepted_or_declined(new_person: Callable[..., Person], stack: Stack) -> None:
    """The list of spaces of a person is full when the person comes."""
    ben, ann = new_person("ben"), new_person("ann")
    ben.sign_up()
    for name in ("Harbour", "Lake", "Sea"):
        ben.make_space(name)
        ben.button("Share").click()
        invite(ben, ann.email)
        ben.page.keyboard.press("Escape")
    ann.sign_up()
    ann.link("Invitations (2)").click()
    ann.see(ann.page.get_by_role("heading", name="Invitations"))
    ann.shot("invitations")
    ann.expect(r"429 POST .*/accept$")
    ann.button("Accept Lake").click()
    ann.see(ann.page.get_by_role("alert").get_by_text("There is no room for you in the space"))
    ann.button("Decline Sea").click()
    ann.see(ann.toast.get_by_text("You declined “Sea”"))
    harbour = next(one["space_id"] for one in ann.api("GET", "/v1/spaces")["spaces"] if one["name"] == "Harbour")
    ann.api("DELETE", f"/v1/spaces/{harbour}/members/{ann.email}")
    ann.button("Accept Lake").click()
    ann.see(ann.page.get_by_role("heading", name="Lake", exact=True, level=1))
    ann.see_no(ann.page.get_by_role("link", name="Invitations", exact=False))
