"""A password is changed in the settings, and a lost one is replaced by the link in a mail, also on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.support.mails import mailed_link
from tests.support.passwords import OTHER_STRONG, WEAK
from tests.web.people import PASSWORD, WINDOWS, Person

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def stack(executable: str) -> Iterator[Stack]:
    """A system of its own, since mails are read."""
    with running_stack() as stack:
        yield stack


@pytest.fixture(params=WINDOWS)
def ann(chromium: Browser, stack: Stack, request: pytest.FixtureRequest) -> Iterator[Person]:
    """Somebody with a browser who has just signed up."""
    ann = Person("ann", chromium.new_context(**WINDOWS[request.param]), stack.endpoint)
    ann.sign_up()
    yield ann
    ann.context.close()
    assert ann.troubles == []


@pytest.fixture
def elsewhere(chromium: Browser, stack: Stack, ann: Person) -> Iterator[Person]:
    """The same person at another browser."""
    other = Person("other", chromium.new_context(**WINDOWS["desktop"]), stack.endpoint)
    other.email = ann.email
    other.sign_in()
    yield other
    other.context.close()
    assert other.troubles == []


def change(person: Person, current: str, new: str) -> None:
    person.dialog.get_by_label("Current password").fill(current)
    person.dialog.get_by_label("New password").fill(new)
    person.dialog.get_by_role("button", name="Change password").click()


def test_a_password_is_changed_in_the_settings_and_other_browsers_are_signed_out(
    ann: Person, elsewhere: Person, request: pytest.FixtureRequest
) -> None:
    ann.expect(r"40[03] POST .*/v1/account/password")
    elsewhere.expect(r"401 ")
    ann.open("/settings")
    ann.button("Change password").click()
    change(ann, "not the password", OTHER_STRONG)
    ann.see(ann.dialog.get_by_text("The current password is wrong."))
    change(ann, PASSWORD, WEAK)
    ann.see(ann.dialog.get_by_text("This password is easily guessed."))
    ann.shot(f"password-weak-{request.node.callspec.id}")
    change(ann, PASSWORD, OTHER_STRONG)
    ann.see(ann.toast.get_by_text("Your password is changed. 1 other device signed out"))
    ann.see_no(ann.dialog)
    ann.open("/settings/devices")
    ann.see(ann.page.get_by_text("This browser", exact=True))

    elsewhere.page.reload()
    elsewhere.see(elsewhere.page.get_by_role("heading", name="Sign in"))
    elsewhere.fill_credentials(OTHER_STRONG)
    elsewhere.button("Sign in").click()
    elsewhere.see(elsewhere.button("Account of", exact=False))


def test_a_lost_password_is_replaced_by_the_link_in_a_mail(
    ann: Person, stack: Stack, elsewhere: Person, request: pytest.FixtureRequest
) -> None:
    elsewhere.expect(r"401 ")
    ann.expect(r"400 POST .*/v1/resets/password")
    ann.sign_out()
    ann.link("Forgot password?").click()
    ann.see(ann.page.get_by_role("heading", name="Forgot your password?"))
    ann.page.get_by_label("E-mail address").fill("nonsense")
    ann.button("Send the mail").click()
    ann.see(ann.page.get_by_text("Enter your e-mail address"))
    ann.page.get_by_label("E-mail address").fill(ann.email)
    ann.button("Send the mail").click()
    ann.see(ann.page.get_by_text(f"If {ann.email} has an account, a mail is on its way."))
    ann.shot(f"reset-asked-{request.node.callspec.id}")
    link = mailed_link(stack, ann.email, "reset")

    ann.open(link)  # the page is the same but for what is behind the #
    ann.see(ann.page.get_by_role("heading", name="Choose a new password"))
    ann.page.get_by_label("New password").fill("short")
    ann.button("Change password").click()
    ann.see(ann.page.get_by_text("The password needs at least 8 characters."))
    ann.page.get_by_label("New password").fill(WEAK)
    ann.button("Change password").click()
    ann.see(ann.page.get_by_role("alert").get_by_text("This password is easily guessed."))
    ann.shot(f"reset-{request.node.callspec.id}")
    ann.page.get_by_label("New password").fill(OTHER_STRONG)
    ann.button("Change password").click()
    ann.see(ann.page.get_by_text("Your password is changed. Sign in with the new one."))
    assert "#" not in ann.page.url
    ann.fill_credentials(OTHER_STRONG)
    ann.button("Sign in").click()
    ann.see(ann.button("Account of", exact=False))

    elsewhere.page.reload()
    elsewhere.see(elsewhere.page.get_by_role("heading", name="Sign in"))

    ann.open(link)  # also while somebody is signed in here
    ann.page.get_by_label("New password").fill(PASSWORD)
    ann.button("Change password").click()
    ann.see(ann.page.get_by_role("alert").get_by_text("This link was used, has expired"))


def test_a_weak_password_is_refused_at_the_sign_up(chromium: Browser, stack: Stack) -> None:
    ben = Person("ben", chromium.new_context(**WINDOWS["desktop"]), stack.endpoint)
    ben.expect(r"400 POST .*/v1/accounts$")
    ben.open()
    ben.button("Create an account").click()
    ben.fill_credentials(WEAK)
    ben.button("Create account").click()
    ben.see(ben.page.get_by_role("alert").get_by_text("This password is easily guessed."))
    ben.fill_credentials()
    ben.button("Create account").click()
    ben.see(ben.page.get_by_role("heading", name="My files", exact=True))
    ben.context.close()
    assert ben.troubles == []
