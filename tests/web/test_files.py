"""Folders and files: make, rename, move, copy, delete, restore, find."""

from __future__ import annotations

import re
from io import BytesIO
from zipfile import ZipFile

from playwright.sync_api import expect

from tests.web.people import Person

TEXTS = {"a.txt": b"first", "b.txt": b"second", "c.txt": b"third"}


def test_rename_keeps_the_ending_and_can_be_undone(ann: Person):
    ann.upload({"draft.txt": b"text"})
    ann.row("draft.txt").click()
    ann.page.keyboard.press("F2")
    ann.page.keyboard.type("final")  # the ending is not marked
    ann.page.keyboard.press("Enter")
    ann.see(ann.row("final.txt"))
    ann.toast.get_by_role("button", name="Undo").click()
    ann.see(ann.row("draft.txt"))


def test_what_cannot_be_seen_in_a_name_is_shown(ann: Person):
    """The name would otherwise look like another one; the change is in the name itself."""
    name, shown = "photo\u202egpj\u200b.exe", "photo\\u202egpj\\u200b.exe"
    ann.make_folder("می\u200cخواهم 👩\u200d🚀")
    ann.upload({name: b"text"})
    ann.row(shown).click()
    expect(ann.page.get_by_text(shown, exact=True).first).to_be_visible()
    assert name not in ann.page.locator("body").inner_text()
    ann.page.keyboard.press("F2")
    expect(ann.dialog.get_by_label("Name")).to_have_value(name)
    ann.page.keyboard.press("Escape")
    ann.row("می\u200cخواهم 👩\u200d🚀").dblclick()
    expect(ann.page).to_have_title("می\u200cخواهم 👩\u200d🚀 – Syncline")


def test_a_name_that_is_taken_is_told_in_the_dialog(ann: Person):
    ann.make_folder("Plans")
    ann.expect(r"409 POST .*/folders$")
    ann.button("New folder").click()
    ann.dialog.get_by_label("Name").fill("Plans")
    ann.dialog.get_by_role("button", name="Create").click()
    ann.see(ann.dialog.get_by_role("alert").get_by_text("There is something of that name already."))
    ann.dialog.get_by_label("Name").fill("Other plans")
    ann.dialog.get_by_role("button", name="Create").click()
    ann.see(ann.row("Other plans"))


def test_move_by_the_dialog_and_by_dragging(ann: Person):
    ann.make_folder("Plans")
    ann.upload(TEXTS)
    ann.dismiss_uploads()

    ann.row("a.txt").click()
    ann.row("b.txt").click(modifiers=["Control"])
    ann.button("Move to…").click()
    ann.shot("dialog-move")
    ann.dialog.get_by_role("treeitem", name="Plans").click()
    ann.dialog.get_by_role("button", name="Move here").click()
    ann.see_no(ann.row("a.txt"))
    ann.see_no(ann.row("b.txt"))

    ann.row("c.txt").drag_to(ann.row("Plans"))
    ann.see(ann.toast.get_by_text("“c.txt” moved to “Plans”"))
    ann.see_no(ann.row("c.txt"))

    ann.row("Plans").get_by_role("link").click()
    ann.see_path("My files", "Plans")
    for name in TEXTS:
        ann.see(ann.row(name))
    ann.row("b.txt").drag_to(ann.page.get_by_role("navigation", name="Path").get_by_role("link", name="My files"))
    ann.see_no(ann.row("b.txt"))
    ann.toast.get_by_role("button", name="Undo").last.click()
    ann.see(ann.row("b.txt"))


def test_what_is_there_already_is_asked_about(ann: Person):
    ann.make_folder("Plans")
    ann.upload({"a.txt": b"one"})
    ann.do("a.txt", "Copy to…")
    ann.dialog.get_by_role("treeitem", name="Plans").click()
    ann.dialog.get_by_role("button", name="Copy here").click()
    ann.see(ann.toast.get_by_text("copied to “Plans”"))

    ann.expect(r"409 PATCH ")
    ann.row("a.txt").drag_to(ann.row("Plans"))
    ann.dialog.get_by_role("button", name="Keep both").click()
    ann.see_no(ann.row("a.txt"))
    ann.row("Plans").get_by_role("link").click()
    ann.see(ann.row("a.txt"))
    ann.see(ann.row("a (2).txt"))


def test_delete_undo_and_restore_from_the_trash(ann: Person):
    ann.upload(TEXTS)
    ann.dismiss_uploads()
    ann.row("a.txt").click()
    ann.row("c.txt").click(modifiers=["Shift"])
    ann.see(ann.page.get_by_text("3 selected"))
    ann.page.keyboard.press("Delete")
    ann.see(ann.page.get_by_role("heading", name="Put your first files here"))
    ann.shot("undo")
    ann.toast.get_by_role("button", name="Undo").click()
    ann.see(ann.row("b.txt"))

    ann.do("b.txt", "Delete")
    ann.see_no(ann.row("b.txt"))
    ann.link("Trash").click()
    ann.see(ann.row("b.txt")).click()
    ann.shot("trash")
    ann.button("Restore").click()
    ann.see(ann.page.get_by_role("heading", name="The trash is empty"))
    ann.link("My files").click()
    ann.see(ann.row("b.txt"))


def test_several_are_downloaded_as_one_archive(ann: Person):
    ann.make_folder("Plans")
    ann.upload(TEXTS)
    ann.page.get_by_label("Select all").check()
    with ann.page.expect_download() as download:
        ann.button("Download").click()
    with ZipFile(BytesIO(download.value.path().read_bytes())) as archive:
        assert archive.read("b.txt") == b"second"
        assert sorted(archive.namelist()) == ["Plans/", "a.txt", "b.txt", "c.txt"]

    ann.row("a.txt").click()
    with ann.page.expect_download() as download:
        ann.button("Download").click()
    assert download.value.suggested_filename == "a.txt"
    assert download.value.path().read_bytes() == b"first"


def test_sorting(ann: Person):
    ann.upload({"big.txt": b"x" * 3000, "small.txt": b"x", "middle.txt": b"x" * 200})
    order = re.compile(r"(big|middle|small)\.txt")

    def names() -> list[str]:
        return order.findall(" ".join(ann.page.get_by_role("rowheader").all_inner_texts()))

    assert names() == ["big", "middle", "small"]
    ann.page.get_by_role("columnheader", name="Size").get_by_role("button").click()
    assert names() == ["big", "middle", "small"]
    ann.page.get_by_role("columnheader", name="Size").get_by_role("button").click()
    assert names() == ["small", "middle", "big"]
    ann.page.get_by_role("columnheader", name="Name").get_by_role("button").click()
    ann.page.get_by_role("columnheader", name="Name").get_by_role("button").click()
    assert names() == ["small", "middle", "big"]


def test_search_finds_by_name_and_leads_there(ann: Person):
    ann.make_folder("Plans")
    ann.row("Plans").get_by_role("link").click()
    ann.see_path("My files", "Plans")
    ann.upload({"Meeting notes.txt": b"text", "other.txt": b"text"})
    ann.dismiss_uploads()
    ann.link("My files").first.click()
    ann.page.keyboard.press("/")
    ann.page.keyboard.type("notes meet")
    ann.see(ann.row("Meeting notes.txt"))
    ann.see(ann.page.get_by_text("1 result", exact=True))
    ann.shot("search")
    ann.page.get_by_role("gridcell").get_by_role("link", name="Plans").click()
    ann.see_path("My files", "Plans")
    ann.see(ann.page.get_by_text("1 selected"))


def test_ten_thousand_entries_stay_few_in_the_page(ann: Person):
    space = ann.space
    for batch in range(5):
        changes = [
            {"create": {"parent": "root", "name": f"entry {batch * 2000 + i:05}", "kind": "directory"}}
            for i in range(2000)
        ]
        assert len(ann.api("POST", f"/v1/spaces/{space}/changes", {"changes": changes})["results"]) == 2000
    ann.page.reload()
    ann.see(ann.row("entry 00000")).click()
    grid = ann.page.get_by_role("grid", name="Files")
    expect(grid).to_have_attribute("aria-rowcount", "10001")

    ann.page.keyboard.press("End")
    ann.see(ann.row("entry 09999"))
    ann.page.keyboard.press("PageUp")
    ann.page.keyboard.type("entry 05")
    ann.see(ann.row("entry 05000"))
    assert grid.get_by_role("row").count() < 80

    most = ann.page.evaluate(
        """async () => {
            const scroller = document.querySelector("main");
            const isRow = (node) => node instanceof HTMLElement && node.matches("[role=row]");
            const frame = () => new Promise(requestAnimationFrame);
            let made = 0, most = 0;
            const watch = new MutationObserver((records) => {
                for (const { addedNodes } of records) made += [...addedNodes].filter(isRow).length;
            });
            watch.observe(scroller, { childList: true, subtree: true });
            scroller.scrollTop = 0;
            for (let i = 0; i < 40; i++) {
                await frame().then(frame).then(frame);
                most = Math.max(most, made);
                made = 0;
                scroller.scrollTop += 3000;
            }
            return most;
        }"""
    )
    assert 0 < most < 80, "a step of scrolling makes the rows that are seen, however many there are"
