"""Other people: public links, members, and what others change."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from stack.demo import DemoDevice
from tests.web.conftest import NewPerson
from tests.web.people import PASSWORD, Person
from tests.web.samples import png


def test_a_link_with_a_password_opens_a_folder_without_an_account(ann: Person, new_person: NewPerson):
    ann.make_folder("Photos")
    ann.row("Photos").get_by_role("link").click()
    ann.see_path("My files", "Photos")
    ann.upload({"coast.png": png(), "notes.txt": b"by the sea"})
    ann.make_folder("More")
    ann.button("Share").click()
    ann.dialog.get_by_label("Password").fill("a secret")
    ann.dialog.get_by_role("button", name="Create link").click()
    address = ann.see(ann.dialog.get_by_label("Address of the new link")).input_value()
    ann.shot("share")

    visitor = new_person("visitor")
    visitor.expect(r"401 POST .*/v1/links/open$")
    visitor.page.goto(address)
    visitor.see(visitor.page.get_by_role("heading", name="This link has a password"))
    visitor.shot("link-password")
    visitor.page.get_by_label("Password").fill("a guess")
    visitor.button("Open").click()
    visitor.see(visitor.page.get_by_text("That is not the password of this link."))
    visitor.page.get_by_label("Password").fill("a secret")
    visitor.button("Open").click()
    visitor.see_path("Photos")
    visitor.see(visitor.row("coast.png"))
    visitor.shot("link-folder")

    visitor.row("notes.txt").get_by_role("link").click()
    visitor.see(visitor.dialog.get_by_text("by the sea"))
    visitor.page.keyboard.press("Escape")
    visitor.see_no(visitor.dialog)
    visitor.row("More").get_by_role("link").click()
    visitor.see_path("Photos", "More")
    visitor.link("Photos").click()
    visitor.see_path("Photos")
    with visitor.page.expect_download() as download:
        visitor.button("Download all").click()
    assert download.value.suggested_filename == "Photos.zip"

    ann.dialog.get_by_role("button", name="Revoke").click()
    ann.dialog.last.get_by_role("button", name="Revoke").click()
    ann.see(ann.toast.get_by_text("The link is revoked"))
    visitor.expect(r"40[14] .*/v1/links/")
    visitor.page.reload()
    visitor.see(
        visitor.page.get_by_text(
            "This link does not exist, or is not valid any more. Ask the person who gave it to you for another one."
        )
    )


def test_a_link_to_a_file_counts_downloads(ann: Person, new_person: NewPerson):
    ann.upload({"coast.png": png()})
    ann.do("coast.png", "Share…")
    ann.dialog.get_by_label("Downloads").fill("1")
    ann.dialog.get_by_role("button", name="Create link").click()
    address = ann.see(ann.dialog.get_by_label("Address of the new link")).input_value()

    visitor = new_person("visitor")
    visitor.page.goto(address)
    visitor.see(visitor.page.get_by_text("1 download left"))
    visitor.shot("link-file")
    with visitor.page.expect_download() as download:
        visitor.button("Download").click()
    assert download.value.path().read_bytes() == png()
    visitor.expect(r"429 |404 ")
    visitor.page.reload()
    visitor.see(visitor.page.get_by_role("alert").or_(visitor.page.get_by_text("0 downloads left")))


def test_what_the_native_client_changes_shows_without_a_reload(ann: Person, tmp_path: Path):
    laptop = DemoDevice(ann.email.partition("@")[0], "laptop", tmp_path / "laptop")
    laptop.run(
        *("login", "--endpoint", ann.endpoint, "--email", ann.email, "--password-stdin", "--device", "laptop"),
        stdin=f"{PASSWORD}\n",
    )
    laptop.folder.mkdir(parents=True)
    (laptop.folder / "from the laptop.txt").write_text("hello")
    laptop.sync()
    ann.see(ann.row("from the laptop.txt"))

    ann.link("Activity").click()
    ann.see(ann.page.get_by_text("You added"))
    (laptop.folder / "from the laptop.txt").rename(laptop.folder / "renamed.txt")
    laptop.sync()
    ann.see(ann.page.get_by_text("was “from the laptop.txt”"))
    ann.shot("activity")


def test_what_happened_while_the_connection_was_gone_shows_when_it_is_back(ann: Person, new_person: NewPerson):
    elsewhere = new_person("elsewhere")
    elsewhere.email = ann.email
    elsewhere.sign_in()
    ann.expect("ERR_INTERNET_DISCONNECTED")
    ann.context.set_offline(True)
    ann.button("New folder").click()
    ann.dialog.get_by_role("button", name="Create").click()
    ann.see(ann.dialog.get_by_text("The server cannot be reached. Check your connection."))
    ann.page.keyboard.press("Escape")

    elsewhere.make_folder("Made meanwhile")
    ann.context.set_offline(False)
    ann.see(ann.row("Made meanwhile"))


def test_people_are_added_to_a_space_and_see_each_other_work(ann: Person, new_person: NewPerson):
    ben = new_person("ben")
    ben.sign_up()
    ann.make_space("Harbour")
    ann.button("Share").click()
    nobody = ben.email.replace("ben", "nobody")
    ann.page.get_by_label("E-mail address of the person to add").fill(nobody)
    ann.button("Add").click()
    ann.see(ann.toast.get_by_text(f"{nobody} is invited to “Harbour” by mail"))
    ann.page.get_by_label("E-mail address of the person to add").fill(ben.email)
    ann.button("Add").click()
    ann.see(ann.dialog.get_by_text(ben.email))
    ann.shot("share-space")
    ann.page.keyboard.press("Escape")

    ben.page.reload()
    ben.link("Harbour").click()
    ben.upload({"from ben.txt": b"hello"})
    row = ann.see(ann.row("from ben.txt"))
    expect(row).to_contain_text(ben.email)

    ann.button("Share").click()
    ann.page.get_by_label(f"Role of {ben.email}").select_option("viewer")
    ann.page.keyboard.press("Escape")
    ben.page.reload()
    ben.see(ben.row("from ben.txt"))
    ben.see_no(ben.button("Upload"))
