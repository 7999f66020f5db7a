"""A second factor is added in the settings, needed at the sign-in, and removed, also on a phone."""

from __future__ import annotations

import re
import time

import pyotp
import pytest

from tests.web.accessibility import severe
from tests.web.conftest import NewPerson
from tests.web.people import PASSWORD, WINDOWS


@pytest.mark.parametrize("window", WINDOWS)
def test_an_app_is_added_needed_and_removed(new_person: NewPerson, window: str) -> None:
    ann = new_person("ann", **WINDOWS[window])
    ann.sign_up()
    ann.expect(r"403 POST .*/v1/factors")
    ann.expect(r"40[13] POST .*/v1/sessions")
    ann.open("/settings")
    ann.see(ann.page.get_by_text("Your password alone signs in."))
    ann.button("Add authenticator app").click()
    ann.dialog.get_by_label("Your password").fill("not the password")
    ann.dialog.get_by_role("button", name="Continue").click()
    ann.see(ann.dialog.get_by_text("The current password is wrong."))
    ann.dialog.get_by_label("Your password").fill(PASSWORD)
    ann.dialog.get_by_role("button", name="Continue").click()
    ann.see(ann.dialog.get_by_role("img", name="QR code of the secret"))
    picture = ann.dialog.get_by_role("img", name="QR code of the secret")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth > 50)")
    assert severe(ann) == []
    ann.shot(f"factor-app-{window}")
    secret = re.search(r"[A-Z2-7]{32}", ann.dialog.inner_text())
    assert secret
    app = pyotp.TOTP(secret[0])
    field = ann.dialog.get_by_role("textbox", name="Code that the app shows")
    field.fill("000000")
    ann.dialog.get_by_role("button", name="Continue").click()
    ann.see(ann.dialog.get_by_text("This code is wrong"))
    field.fill(app.now())
    ann.dialog.get_by_role("button", name="Continue").click()
    ann.see(ann.dialog.get_by_text("Keep these recovery codes"))
    assert severe(ann) == []
    ann.shot(f"factor-codes-{window}")
    codes = re.findall(r"[a-z2-7]{4}(?:-[a-z2-7]{4}){3}", ann.dialog.inner_text())
    assert len(codes) == 10
    ann.page.keyboard.press("Escape")
    assert ann.dialog.is_visible(), "codes that are shown once do not go by a wrong key"
    ann.dialog.get_by_role("button", name="I have kept them").click()
    ann.see_no(ann.dialog)
    ann.see(ann.page.get_by_text("10 recovery codes left."))

    ann.sign_out()
    ann.fill_credentials()
    assert not ann.page.get_by_label("Code of your authenticator app").is_visible()
    ann.button("Sign in").click()
    ann.see(ann.page.get_by_role("alert").get_by_text("Enter the code of your authenticator app"))
    assert severe(ann) == []
    ann.shot(f"factor-sign-in-{window}")
    code = ann.page.get_by_role("textbox", name="Code of your authenticator app")
    code.fill("123 456")
    ann.button("Sign in").click()
    ann.see(ann.page.get_by_role("alert").get_by_text("This code is wrong"))
    code.fill(app.at(int(time.time()) + 30))
    ann.button("Sign in").click()
    ann.see(ann.button("Account of", exact=False))

    ann.open("/settings")
    ann.button("Remove second factor").click()
    ann.dialog.get_by_label("Your password").fill(PASSWORD)
    ann.dialog.get_by_role("textbox", name="Code of the app, or a recovery code").fill(codes[7])
    ann.dialog.get_by_role("button", name="Remove").click()
    ann.see(ann.toast.get_by_text("Your second factor is removed"))
    ann.see(ann.page.get_by_text("Your password alone signs in."))
    ann.sign_out()
    ann.sign_in()
