"""An address is proven in the browser, by the link in the mail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.support.mails import mailed_link, mails
from tests.web.people import Person

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BANNER = "to prove your address. Until then nobody can share with you."


@pytest.fixture(scope="module")
def stack(executable: str) -> Iterator[Stack]:
    """A system in which addresses have to be proven."""
    with running_stack(variables={"SYNCLINE_PROVE_ADDRESSES": "true"}) as stack:
        yield stack


@pytest.fixture
def ann(chromium: Browser, stack: Stack) -> Iterator[Person]:
    """Somebody with a browser who has just signed up."""
    ann = Person("ann", chromium.new_context(viewport={"width": 1280, "height": 800}), stack.endpoint)
    ann.sign_up()
    yield ann
    ann.context.close()
    assert ann.troubles == []


def test_the_link_in_the_mail_proves_the_address_and_the_banner_goes(ann: Person, stack: Stack) -> None:
    ann.see(ann.page.get_by_text(BANNER))
    ann.shot("unproven")
    ann.button("Send again").click()
    ann.see(ann.toast.get_by_text(f"Another mail was sent to {ann.email}."))
    mails(stack, ann.email, count=2)
    link = mailed_link(stack, ann.email, "prove")

    ann.open(link)
    ann.see(ann.page.get_by_text(f"You are signed in as {ann.email}."))
    ann.shot("prove")
    ann.button("Prove this address").click()
    ann.see(ann.toast.get_by_text(f"{ann.email} is proven."))
    ann.see_no(ann.page.get_by_text(BANNER))
    ann.make_space("Holidays")

    ann.open(link)
    ann.see(ann.page.get_by_text(f"{ann.email} is proven. There is nothing more to do."))


def test_whoever_is_signed_out_signs_in_first_and_comes_out_at_the_proof(ann: Person, stack: Stack) -> None:
    link = mailed_link(stack, ann.email, "prove")
    ann.sign_out()
    ann.open(link)
    ann.fill_credentials()
    ann.button("Sign in").click()
    ann.button("Prove this address").click()
    ann.see(ann.toast.get_by_text(f"{ann.email} is proven."))


def test_a_link_that_proves_nothing_says_so_and_a_space_needs_a_proof(ann: Person) -> None:
    ann.expect(r"40[03] POST ")
    ann.button("New space").click()
    ann.dialog.get_by_label("Name").fill("Holidays")
    ann.dialog.get_by_role("button", name="Create").click()
    ann.see(ann.dialog.get_by_text("Prove your e-mail address first"))
    ann.open("/prove#" + "x" * 43)
    ann.button("Prove this address").click()
    ann.see(
        ann.page.get_by_role("alert").get_by_text("This link was used, has expired, or belongs to another account.")
    )
