"""Files from this machine into a space."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from playwright.sync_api import expect

from tests.web.people import Person

MIB = 1 << 20


def test_a_folder_of_many_small_files_is_dropped(ann: Person, tmp_path: Path):
    folder = tmp_path / "Fieldwork"
    for i in range(300):
        path = folder / f"day {i % 6}" / f"sample {i:03}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(200 + i))
    (folder / "nothing yet").mkdir()

    ann.drop_from_outside([folder], ann.page.get_by_role("main"))
    ann.see(ann.uploads)
    ann.shot("uploads")
    ann.see_uploaded(300)
    ann.see(ann.row("Fieldwork")).get_by_role("link").click()
    ann.see(ann.row("nothing yet"))
    ann.see(ann.row("day 5")).get_by_role("link").click()
    ann.see(ann.row("sample 005.txt"))
    assert ann.page.get_by_role("grid", name="Files").get_attribute("aria-rowcount") == "51"


def test_what_is_used_of_the_space_is_told_anew(ann: Person):
    used = ann.page.get_by_role("meter", name="Space used")
    expect(used).to_have_text(re.compile(r"^0 bytes of "))
    ann.upload({"one.bin": os.urandom(3 * MIB)})
    expect(used).to_have_text(re.compile(r"^3 MB of "))
    ann.upload({"two.bin": os.urandom(2 * MIB)})
    expect(used).to_have_text(re.compile(r"^5 MB of "))


def test_a_folder_is_chosen(ann: Person, tmp_path: Path):
    (tmp_path / "Plans").mkdir()
    (tmp_path / "Plans" / "one.txt").write_text("one")
    ann.choose(tmp_path / "Plans", "Folder")
    ann.see_uploaded(1)
    ann.see(ann.row("Plans")).get_by_role("link").click()
    ann.see(ann.row("one.txt"))


def test_files_are_dropped_onto_a_folder(ann: Person, tmp_path: Path):
    ann.make_folder("Plans")
    (tmp_path / "one.txt").write_text("one")
    ann.drop_from_outside([tmp_path / "one.txt"], ann.row("Plans"))
    ann.see_uploaded(1)
    ann.row("Plans").get_by_role("link").click()
    ann.see(ann.row("one.txt"))


def test_a_name_that_is_taken_waits_for_a_decision(ann: Person):
    ann.upload({"a.txt": b"first", "b.txt": b"first"})
    ann.dismiss_uploads()
    ann.choose({"a.txt": b"second", "b.txt": b"second"})
    ann.see(ann.uploads.get_by_role("heading", name="2 files need you"))
    ann.shot("uploads-conflict")
    ann.uploads.get_by_role("listitem").filter(has_text="a.txt").get_by_role("button", name="Keep both").click()
    ann.see(ann.row("a (2).txt"))
    ann.uploads.get_by_role("listitem").filter(has_text="b.txt").get_by_role("button", name="Replace").click()
    ann.see_uploaded(2)
    ann.do("b.txt", "Version history")
    ann.see(ann.dialog.get_by_text("Version 2"))


def test_a_large_file_goes_on_after_a_reload(ann: Person, tmp_path: Path):
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(100 * MIB))
    ann.expect(r"^412 PUT ")  # an object that was stored already, before a pause or a reload, is not stored again
    ann.choose(large)
    expect(ann.uploads).to_contain_text(re.compile(r"[1-9]\d(\.\d)? MB of 100 MB"))
    ann.uploads.get_by_role("button", name="Pause all").click()
    ann.shot("uploads-large")
    expect(ann.uploads.get_by_role("heading", name="Paused: 0 of 1 file")).to_be_visible()
    ann.uploads.get_by_role("button", name="Resume all").click()

    ann.page.on("dialog", lambda dialog: dialog.accept())
    ann.page.reload()
    ann.see_uploaded(1)
    ann.see(ann.row("large.bin"))
    found = ann.api("GET", f"/v1/spaces/{ann.space}/nodes?path=large.bin")
    assert found["size"] == 100 * MIB
    assert found["digest"] == _digest(large)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
