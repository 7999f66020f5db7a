"""Signing up, in and out, devices and keys."""

from __future__ import annotations

from playwright.sync_api import Route, expect

from tests.web.conftest import NewPerson
from tests.web.people import PASSWORD, Person


def test_sign_up_out_and_in(new_person: NewPerson):
    ann = new_person("ann")
    ann.sign_up()
    ann.make_folder("Plans")
    ann.sign_out()

    ann.expect(r"401 POST .*/v1/sessions$")
    ann.fill_credentials("not the password")
    ann.button("Sign in").click()
    ann.see(
        ann.page.get_by_role("alert").get_by_text(
            "The e-mail address or the password is wrong. Correct it and try again."
        )
    )
    ann.fill_credentials()
    ann.button("Sign in").click()

    ann.see(ann.row("Plans"))


def test_what_is_under_way_is_given_up_by_signing_out(ann: Person):
    asked: list[Route] = []

    def hold(route: Route) -> None:
        asked.append(route)  # goes on when the session has ended

    ann.page.route("**/usage", hold)
    with ann.page.expect_request("**/usage"):
        ann.make_folder("Plans")
    ann.sign_out()

    for route in asked:
        route.continue_()
    ann.page.unroute("**/usage")
    ann.fill_credentials()
    ann.button("Sign in").click()
    ann.see(ann.row("Plans"))


def test_what_is_missing_is_asked_for(new_person: NewPerson):
    ann = new_person("ann")
    ann.open()
    ann.button("Create an account").click()
    ann.button("Create account").click()
    ann.see(ann.page.get_by_role("alert").get_by_text("Enter your e-mail address"))
    ann.page.get_by_label("E-mail address").fill(ann.email)
    ann.page.get_by_label("Password").fill("short")
    ann.button("Create account").click()
    ann.see(ann.page.get_by_role("alert").get_by_text("at least 8 characters"))


def test_public_links_of_a_device_end_with_it_if_that_is_wanted(ann: Person, new_person: NewPerson):
    elsewhere = new_person("elsewhere")
    elsewhere.email = ann.email
    elsewhere.sign_in("/settings/devices")
    space = ann.api("GET", "/v1/spaces")["spaces"][0]["space_id"]
    ann.api("POST", f"/v1/spaces/{space}/links", {"node": "root"})
    elsewhere.page.reload()
    elsewhere.button("Sign out: Chrome on Linux").click()
    elsewhere.see(elsewhere.dialog.get_by_text("Keys for programs that were made on it stop working"))
    elsewhere.dialog.get_by_label("End the public links that were made on it, too").check()
    elsewhere.dialog.get_by_role("button", name="Sign out").click()
    elsewhere.see(elsewhere.toast.get_by_text("1 public link ended with it"))


def test_who_is_signed_out_elsewhere_comes_back_to_the_same_place(ann: Person, new_person: NewPerson):
    ann.make_folder("Plans")
    ann.row("Plans").get_by_role("link").click()
    ann.see_path("My files", "Plans")
    elsewhere = new_person("elsewhere")
    elsewhere.email = ann.email
    elsewhere.sign_in("/settings/devices")

    elsewhere.see(elsewhere.page.get_by_text("This browser"))
    elsewhere.button("Sign out: Chrome on Linux").click()
    elsewhere.dialog.get_by_role("button", name="Sign out").click()
    elsewhere.see(elsewhere.toast.get_by_text("is signed out"))

    ann.expect(r"^401 ")
    # A token that was issued before is believed for a few seconds more.
    for _ in range(40):
        ann.page.reload()
        ann.see(ann.button("Sign in").or_(ann.button("New folder")))
        if ann.button("Sign in").is_visible():
            break
    ann.fill_credentials()
    ann.button("Sign in").click()
    ann.see_path("My files", "Plans")


def test_a_key_is_shown_once_and_opens_the_api(ann: Person):
    ann.open("/settings/keys")
    ann.page.get_by_label("What it is for").fill("backup")
    ann.button("Create key").click()
    key = ann.see(ann.page.get_by_label("The new key")).input_value()
    ann.see(ann.page.get_by_text("/dav/"))
    ann.shot("settings-keys")

    found = ann.page.request.get(f"{ann.endpoint}/v1/spaces", headers={"authorization": f"Bearer {key}", "cookie": ""})
    assert found.ok
    assert found.json()["spaces"][0]["personal"]

    ann.page.reload()
    ann.see(ann.button("Revoke: backup")).click()
    assert ann.page.get_by_label("The new key").count() == 0
    ann.dialog.get_by_role("button", name="Revoke").click()
    ann.see(ann.page.get_by_text("You have made no keys yet."))


def test_mail_is_turned_off_for_one_space(ann: Person):
    ann.open("/settings/notifications")
    switch = ann.page.get_by_role("switch", name="My files")
    expect(switch).to_be_enabled()
    before = switch.is_checked()
    switch.click()
    ann.see(ann.toast.get_by_text("Mail about “My files” is"))
    ann.page.reload()
    expect(switch).to_be_enabled()
    assert switch.is_checked() is not before


def test_a_tab_goes_on_after_another_one_signed_in_anew(ann: Person):
    other = ann.context.new_page()
    other.goto(ann.endpoint)
    other.get_by_role("button", name="Account of").click()
    other.get_by_role("menuitem", name="Sign out").click()
    other.get_by_label("E-mail address").fill(ann.email)
    other.get_by_label("Password").fill(PASSWORD)
    other.get_by_role("button", name="Sign in").click()
    other.get_by_role("button", name="Account of").wait_for()

    ann.expect(r"40[13] ")  # the old cookie, and the token that went with it
    ann.see(ann.button("New folder").or_(ann.button("Sign in")))
    ann.make_folder("Plans")
