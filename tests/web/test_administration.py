"""The console of administrators: everything that they do, in the browser, also on a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.gateway.administrators import administrator
from tests.web.accessibility import severe
from tests.web.conftest import NewPerson
from tests.web.people import WINDOWS, Person

if TYPE_CHECKING:
    pass


@pytest.fixture(params=WINDOWS)
def admin(new_person: NewPerson, stack: Stack, request: pytest.FixtureRequest) -> Person:
    """The administrator at a browser."""
    admin = new_person("admin", **WINDOWS[request.param])
    admin.email = administrator(stack).email
    admin.sign_in()
    return admin


def look_up(admin: Person, person: Person) -> None:
    """Open the page of a user by way of the list."""
    admin.open("/admin")
    admin.page.get_by_label("Beginning of the address").fill(person.email)
    admin.link(person.email).click()
    admin.see(admin.page.get_by_role("heading", name=person.email))


def agree(admin: Person, name: str) -> None:
    admin.dialog.get_by_role("button", name=name, exact=True).click()


def test_a_user_is_found_suspended_and_resumed(
    admin: Person, new_person: NewPerson, request: pytest.FixtureRequest
) -> None:
    ben = new_person("ben")
    ben.sign_up()
    ben.expect(r"401 ")
    admin.open("/admin")
    admin.see(admin.page.get_by_role("heading", name="Users"))
    admin.shot(f"admin-users-{request.node.callspec.id}")
    assert severe(admin) == []
    look_up(admin, ben)
    admin.see(admin.page.get_by_text("Personal space"))
    admin.shot(f"admin-user-{request.node.callspec.id}")
    assert severe(admin) == []
    admin.button("Suspend").click()
    admin.dialog.get_by_label("Reason, for administrators").fill("left the company")
    agree(admin, "Suspend")
    admin.see(admin.page.get_by_text("left the company"))
    ben.page.reload()
    ben.see(ben.page.get_by_text("This account is suspended.", exact=False).or_(ben.button("Sign in")))

    admin.open("/admin")
    admin.page.get_by_label("State of the users").select_option("Suspended")
    admin.link(ben.email).click()
    admin.button("Resume").click()
    admin.see(admin.toast.get_by_text(f"{ben.email} is not suspended any more"))
    admin.see(admin.button("Suspend"))
    admin.link("What the audit log has about this user").click()
    admin.see(admin.page.get_by_text("account.resumed"))
    admin.see(admin.page.get_by_text("reason: left the company"))
    admin.shot(f"admin-audit-{request.node.callspec.id}")
    assert severe(admin) == []
    kind = admin.page.get_by_label("Kind, such as sign_in.failed")
    kind.fill("account.suspended")
    kind.press("Enter")
    admin.see_no(admin.page.get_by_text("account.resumed"))


def test_a_user_is_signed_out_everywhere_and_becomes_an_administrator(admin: Person, new_person: NewPerson) -> None:
    ben = new_person("ben")
    ben.sign_up()
    ben.expect(r"401 ")
    look_up(admin, ben)
    admin.button("Remove second factor").click()
    agree(admin, "Remove")
    admin.see(admin.toast.get_by_text(f"{ben.email} has no second factor"))
    admin.button("Sign out everywhere").click()
    agree(admin, "Sign out")
    admin.see(admin.toast.get_by_text("1 device signed out, 0 keys ended"))
    admin.see(admin.page.get_by_text("Signed out", exact=True))
    ben.page.reload()
    ben.see(ben.button("Sign in"))

    admin.button("Make administrator").click()
    agree(admin, "Make administrator")
    admin.see(admin.toast.get_by_text(f"{ben.email} is an administrator now"))
    ben.sign_in()
    ben.open("/admin/policy")
    ben.see(ben.page.get_by_text("Everybody makes an account."))
    admin.button("Make ordinary user").click()
    agree(admin, "Make ordinary user")
    admin.see(admin.button("Make administrator"))
    ben.page.reload()
    ben.see(ben.page.get_by_text("Only an administrator of this Syncline can see this."))


def test_quotas_are_set_in_the_console_and_seen_by_the_user(
    admin: Person, new_person: NewPerson, request: pytest.FixtureRequest
) -> None:
    ben = new_person("ben")
    ben.sign_up()
    name = f"Plans {new_text_id()[:6]}"
    ben.make_space(name)
    look_up(admin, ben)
    admin.see(admin.page.get_by_text("used, without a limit in the spaces that count for this user"))
    admin.button("Set quota").click()
    admin.dialog.get_by_label("Quota, such as 50 GB", exact=False).fill("much")
    agree(admin, "Set quota")
    admin.see(admin.dialog.get_by_role("alert").get_by_text("Enter a size such as 50 GB"))
    admin.dialog.get_by_label("Quota, such as 50 GB", exact=False).fill("2 GB")
    admin.shot(f"admin-quota-{request.node.callspec.id}")
    assert severe(admin) == []
    agree(admin, "Set quota")
    admin.see(admin.page.get_by_text("of 2 GB used in the spaces that count for this user (a quota of its own)"))
    ben.open("/settings")
    ben.see(ben.page.get_by_text("of 2 GB used in the spaces that you have made or taken over"))
    admin.button("Set quota").click()
    admin.dialog.get_by_label("Quota, such as 50 GB", exact=False).fill("")
    agree(admin, "Set quota")
    admin.see(admin.page.get_by_text("used, without a limit in the spaces that count for this user"))

    admin.link(name).click()
    admin.button("Set quota").click()
    admin.dialog.get_by_label("Quota, such as 50 GB", exact=False).fill("1.5T")
    agree(admin, "Set quota")
    admin.see(admin.page.get_by_text("of 1.5 TB used (a quota of its own)"))
    admin.shot(f"admin-space-{request.node.callspec.id}")
    assert severe(admin) == []


def test_somebody_is_invited_by_a_link_to_pass_on(admin: Person) -> None:
    admin.expect(r"409 POST .*/v1/admin/invitations")
    admin.open("/admin/users")
    admin.button("Invite").click()
    agree(admin, "Invite")
    admin.see(admin.dialog.get_by_text("Enter an e-mail address"))
    admin.dialog.get_by_label("E-mail address").fill(admin.email)
    agree(admin, "Invite")
    admin.see(admin.dialog.get_by_role("alert").get_by_text("There is an account with that e-mail address already."))
    admin.dialog.get_by_label("E-mail address").fill(f"cleo-{new_text_id()[:8]}@example.com")
    admin.dialog.get_by_label("Mail it.", exact=False).uncheck()
    agree(admin, "Invite")
    link = admin.see(admin.dialog.get_by_label("Link of the invitation")).input_value()
    assert "/join#" in link


def test_a_space_whose_owner_is_gone_gets_another_one(
    admin: Person, new_person: NewPerson, request: pytest.FixtureRequest
) -> None:
    ben = new_person("ben")
    ben.sign_up()
    name = f"Plans {new_text_id()[:6]}"
    ben.make_space(name)
    admin.open("/admin/spaces")
    admin.link(name).click()
    admin.see(admin.page.get_by_role("heading", name=name))
    admin.see(admin.link(ben.email))
    admin.button("Make somebody owner").click()
    admin.dialog.get_by_label("E-mail address").fill("nobody@example.com")
    agree(admin, "Make owner")
    admin.see(admin.dialog.get_by_text("No user has proven that address."))
    admin.dialog.get_by_label("E-mail address").fill(admin.email.upper())
    agree(admin, "Make owner")
    admin.see(admin.toast.get_by_text(f"{admin.email} is an owner"))
    admin.see(admin.page.get_by_text("2 owners, since", exact=False))
    admin.shot(f"admin-space-{request.node.callspec.id}")
    assert severe(admin) == []


def test_nobody_else_sees_the_console(new_person: NewPerson) -> None:
    ben = new_person("ben")
    ben.sign_up()
    assert not ben.link("Administration").is_visible()
    for path in ("/admin", "/admin/users/x", "/admin/spaces/x", "/admin/audit"):
        ben.open(path)
        ben.see(ben.page.get_by_text("Only an administrator of this Syncline can see this."))
