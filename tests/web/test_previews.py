"""Looking at files, and at what they were."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.web.people import Person
from tests.web.samples import pdf, png, wav


def test_images_texts_sound_and_pdf_are_shown_one_after_the_other(ann: Person):
    files = {
        "a coast.png": png(),
        "b contract.pdf": pdf("Hello"),
        "c notes.md": b"# Notes\n",
        "d tone.wav": wav(),
        "e.bin": b"\0\1" * 90,
    }
    ann.upload(files)
    ann.dismiss_uploads()
    ann.row("a coast.png").get_by_role("link").click()
    image = ann.see(ann.dialog.get_by_role("img", name="a coast.png"))
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 320
    ann.shot("preview-image")

    ann.page.keyboard.press("ArrowRight")
    ann.see(ann.dialog.get_by_role("heading", name="b contract.pdf"))
    viewer = ann.page.frame_locator("iframe[title='b contract.pdf']")
    expect(viewer.locator("embed, body")).not_to_have_count(0)
    ann.page.wait_for_timeout(600)  # only for the picture: the viewer tells nobody when it has drawn
    ann.shot("preview-pdf")

    ann.button("Next file").click()
    ann.see(ann.dialog.get_by_text("# Notes"))
    ann.shot("preview-text")
    ann.button("Next file").click()
    sound = ann.dialog.get_by_label("d tone.wav")
    expect(sound).to_have_js_property("duration", 1)
    ann.button("Next file").click()
    ann.see(ann.dialog.get_by_text("Files of this kind cannot be shown here."))
    assert ann.button("Next file").is_hidden()

    ann.page.keyboard.press("Escape")
    ann.see_no(ann.dialog)
    expect(ann.row("e.bin")).to_be_focused()


def test_a_preview_has_an_address_of_its_own(ann: Person):
    ann.upload({"notes.md": b"# Notes\n", "other.md": b"# Other\n"})
    ann.row("notes.md").get_by_role("link").click()
    ann.see(ann.dialog.get_by_text("# Notes"))
    ann.page.reload()
    ann.see(ann.dialog.get_by_text("# Notes"))
    ann.button("Close preview").click()
    ann.see_no(ann.dialog)
    expect(ann.page).not_to_have_url(re.compile("preview"))
    ann.row("other.md").get_by_role("link").click()
    ann.see(ann.dialog.get_by_text("# Other"))
    ann.page.go_back()
    ann.see_no(ann.dialog)


def test_the_first_of_two_versions_is_restored(ann: Person):
    ann.upload({"plan.txt": b"the first plan"})
    ann.dismiss_uploads()
    ann.choose({"plan.txt": b"the second plan"})
    ann.uploads.get_by_role("button", name="Replace").click()
    ann.see_uploaded(1)
    ann.dismiss_uploads()

    ann.do("plan.txt", "Version history")
    ann.see(ann.dialog.get_by_text("2 versions"))
    ann.shot("versions")
    with ann.page.expect_download() as download:
        ann.button("Download version 1").click()
    assert download.value.path().read_bytes() == b"the first plan"
    ann.button("Restore version 1").click()
    ann.see(ann.dialog.get_by_text("3 versions"))
    ann.page.keyboard.press("Escape")
    ann.row("plan.txt").get_by_role("link").click()
    ann.see(ann.dialog.get_by_text("the first plan"))
