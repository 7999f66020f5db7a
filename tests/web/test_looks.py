"""For everybody: by keyboard alone, on a phone, in the dark, and by axe's rules."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.web.accessibility import severe
from tests.web.conftest import NewPerson
from tests.web.people import Person
from tests.web.samples import png

FILES = {
    "Annual plan.docx": b"x" * 48_211,
    "Budget.xlsx": b"x" * 120_321,
    "Coast.png": png(),
    "Harbour at dusk.png": png(hue=90),
    "interview.mp3": b"ID3",
    "main.py": b"print('hello')\n",
    "notes.md": b"# Notes\n\nCall the printer.\n",
    "photos.zip": b"PK",
}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def furnish(person: Person) -> None:
    for name in ("Archive", "Clients", "Photos"):
        person.make_folder(name)
    person.upload(FILES)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(new_person: NewPerson, scheme: str):
    ann = new_person("ann", color_scheme=scheme, reduced_motion="reduce")

    def look(name: str) -> None:
        ann.shot(f"{name}-{scheme}")
        found = severe(ann, *(("color-contrast",) if scheme == "dark" else ()))  # nothing else differs
        assert found == [], name

    ann.open()
    ann.see(ann.page.get_by_role("heading", name="Sign in"))
    look("sign-in")
    for path, heading in (("/reset", "Forgot your password?"), (f"/reset#{'x' * 43}", "Choose a new password")):
        ann.open(path)
        ann.see(ann.page.get_by_role("heading", name=heading))
        look(heading.split()[0].lower())
    ann.sign_up()
    look("empty")
    furnish(ann)
    look("files-uploaded")
    ann.dismiss_uploads()
    ann.row("notes.md").click()
    ann.row("Coast.png").click(modifiers=["Control"])
    look("files-selected")
    ann.row("notes.md").click(button="right")
    look("menu")
    ann.page.keyboard.press("Escape")
    ann.button("Clear selection").click()
    ann.do("notes.md", "Rename…")
    look("dialog-rename")
    ann.page.keyboard.press("Escape")
    ann.do("notes.md", "Move to…")
    ann.see(ann.dialog.get_by_role("treeitem", name="Photos"))
    look("dialog-move")
    ann.page.keyboard.press("Escape")
    ann.do("notes.md", "Version history")
    ann.see(ann.dialog.get_by_text("1 version,"))
    look("dialog-details")
    ann.page.keyboard.press("Escape")
    ann.do("Photos", "Share…")
    ann.button("Create link").click()
    ann.see(ann.page.get_by_label("Address of the new link"))
    look("dialog-share")
    ann.page.keyboard.press("Escape")
    ann.row("notes.md").get_by_role("link").click()
    ann.see(ann.dialog.get_by_text("Call the printer."))
    look("preview")
    ann.page.keyboard.press("Escape")
    ann.page.keyboard.press("?")
    look("dialog-keys")
    ann.page.keyboard.press("Escape")
    ann.button("Show as tiles").click()
    ann.see(ann.row("Coast.png"))
    look("tiles")
    ann.row("main.py").click()
    ann.page.keyboard.press("Delete")
    ann.see(ann.toast.get_by_role("button", name="Undo"))
    look("undo")
    ann.link("Trash").click()
    ann.see(ann.row("main.py"))
    look("trash")
    ann.link("Activity").click()
    ann.see(ann.page.get_by_text("You added"))
    look("activity")
    for section in ("", "/notifications", "/devices", "/keys"):
        ann.open(f"/settings{section}")
        ann.see(ann.page.get_by_role("heading", level=2).nth(2))
        look(f"settings{section.replace('/', '-')}")
    ann.open("/docs")
    ann.see(ann.page.get_by_role("heading", name="Interface for programs"))
    ann.shot("reference-" + scheme)
    ann.page.get_by_role("searchbox").fill("versions")  # axe takes long for all of it, and it is of a kind
    ann.see_no(ann.page.get_by_role("heading", name="Sign Up"))
    look("reference-searched")


def test_on_a_phone(new_person: NewPerson):
    ann = new_person(
        "ann", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    ann.sign_up()
    furnish(ann)
    ann.shot("phone-uploads")
    ann.dismiss_uploads()
    assert severe(ann) == []
    assert ann.page.evaluate("document.documentElement.scrollWidth") == 390
    ann.shot("phone-files")
    ann.row("notes.md").tap()
    ann.see(ann.dialog.get_by_text("Call the printer."))
    ann.shot("phone-preview")
    ann.button("Close preview").tap()
    ann.see_no(ann.dialog)
    ann.page.get_by_label("Select Budget.xlsx").tap()
    ann.row("Coast.png").tap()
    ann.see(ann.page.get_by_text("2 selected"))
    ann.shot("phone-selected")
    ann.row("Photos").get_by_role("button", name="Actions for").tap()
    ann.shot("phone-menu")
    ann.page.get_by_role("menuitem", name="Share…").tap()
    ann.see(ann.dialog)
    ann.shot("phone-share")
    ann.dialog.get_by_role("button", name="Close").tap()
    ann.button("Spaces").tap()
    ann.shot("phone-spaces")
    ann.link("Trash").tap()
    ann.see(ann.page.get_by_role("heading", name="The trash is empty"))


def test_by_keyboard_alone(ann: Person):
    press, write = ann.page.keyboard.press, ann.page.keyboard.type
    furnish(ann)
    ann.dismiss_uploads()
    ann.page.reload()
    ann.see(ann.row("Archive"))
    expect(ann.row("Archive")).to_be_focused()

    press("ArrowDown")
    expect(ann.row("Clients")).to_be_focused()
    press("Shift+ArrowDown")
    press("Shift+ArrowDown")
    ann.see(ann.page.get_by_text("3 selected"))
    press("Escape")
    ann.see_no(ann.page.get_by_text("3 selected"))
    press("Control+a")
    ann.see(ann.page.get_by_text("11 selected"))
    press("Escape")

    write("notes")
    expect(ann.row("notes.md")).to_be_focused()
    press("F2")
    write("minutes")
    press("Enter")
    expect(ann.row("minutes.md")).to_be_focused()
    press("Shift+F10")
    ann.see(ann.page.get_by_role("menu"))
    press("Escape")
    expect(ann.row("minutes.md")).to_be_focused()
    press("Enter")
    ann.see(ann.dialog.get_by_text("Call the printer."))
    press("Escape")
    ann.see_no(ann.dialog)
    expect(ann.row("minutes.md")).to_be_focused()
    press("Delete")
    ann.see_no(ann.row("minutes.md"))
    expect(ann.row("photos.zip")).to_be_focused()
    press("Control+z")
    ann.see(ann.row("minutes.md"))

    press("Home")
    press("Enter")
    ann.see_path("My files", "Archive")
    press("Backspace")
    ann.see_path("My files")
    press("/")
    write("coast")
    ann.see(ann.page.get_by_role("grid", name="Results"))
    press("ArrowDown")
    press("Enter")
    ann.see(ann.dialog.get_by_role("img", name="Coast.png"))
    press("Escape")
    press("?")
    ann.see(ann.dialog.get_by_role("heading", name="Keyboard shortcuts"))
    press("Escape")
    ann.see_no(ann.dialog)


def test_the_reference_is_searched(new_person: NewPerson):
    reader = new_person("reader")
    reader.open("/docs")
    reader.page.get_by_role("searchbox").fill("copy")
    reader.see(reader.page.get_by_role("heading", name="Copy Node"))
    reader.see_no(reader.page.get_by_role("heading", name="Sign Up"))
    reader.page.get_by_text("Members of the body").locator("visible=true").first.click()
    reader.see(reader.page.get_by_role("article").get_by_role("rowheader", name="parent required").first)
