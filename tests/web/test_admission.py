"""The sign-in page says who may make an account."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from stack.running import running_stack
from tests.web.people import Person

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class Visitor(Person):
    """Somebody without an account."""

    invitation = ""
    """The link by which the first account is made."""


@pytest.fixture
def visitor(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Somebody at a system whose policy of sign-up the test states."""
    with running_stack(variables=request.param) as stack:
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        visitor = Visitor("visitor", context, stack.endpoint)
        visitor.invitation = stack.first_account
        yield visitor
        visitor.context.close()
        assert visitor.troubles == []


@pytest.mark.parametrize("visitor", [{"SYNCLINE_SIGN_UP_POLICY": "invited"}], ids=["invited"], indirect=True)
def test_where_nobody_makes_an_account_unasked_none_is_offered(visitor: Visitor) -> None:
    visitor.open()
    visitor.see(visitor.page.get_by_text("New here? Ask whoever runs this Syncline to let you in."))
    assert visitor.button("Create an account").count() == 0
    visitor.shot("signin-invited")


@pytest.mark.parametrize(
    "visitor",
    [{"SYNCLINE_SIGN_UP_POLICY": "domains", "SYNCLINE_SIGN_UP_DOMAINS": "example.org"}],
    ids=["domains"],
    indirect=True,
)
def test_whoever_has_no_address_of_a_listed_domain_is_told_which(visitor: Visitor) -> None:
    visitor.open()
    visitor.button("Create an account").click()
    visitor.see(visitor.page.get_by_label("E-mail address"))
    visitor.fill_credentials()
    visitor.button("Create account").click()
    visitor.see(visitor.page.get_by_role("alert").get_by_text("Accounts here are for e-mail addresses of example.org."))
    visitor.email = visitor.email.replace("example.com", "example.org")
    visitor.fill_credentials()
    visitor.button("Create account").click()
    visitor.see(visitor.button("New folder"))


@pytest.mark.parametrize("visitor", [{"SYNCLINE_SIGN_UP_POLICY": "invited"}], ids=["invited"], indirect=True)
def test_whoever_is_invited_makes_an_account_by_the_link(visitor: Visitor) -> None:
    visitor.expect(r"400 POST .*/v1/(invitations/open|accounts)$")
    visitor.open("/join#" + "x" * 43)
    visitor.fill_credentials()
    visitor.button("Create account").click()
    visitor.see(visitor.page.get_by_role("alert").get_by_text("This invitation was used, has expired"))
    assert visitor.invitation
    visitor.page.goto("about:blank")
    visitor.page.goto(visitor.invitation)
    visitor.see(visitor.page.get_by_text("The address that was invited."))
    visitor.shot("join")
    visitor.fill_credentials()
    visitor.button("Create account").click()
    visitor.see(visitor.page.get_by_role("heading", name="My files", exact=True))
    assert "#" not in visitor.page.url
    visitor.page.goto(visitor.invitation)
    visitor.see(visitor.page.get_by_text(f"You are signed in as {visitor.email}."))
