"""The life of a space in the web app: renamed, handed over, left, deleted and taken back."""

from __future__ import annotations

from tests.web.conftest import NewPerson
from tests.web.people import Person


def make_shared_space(ann: Person, ben: Person, name: str) -> None:
    """Ann makes a space with this name and adds ben, who opens it."""
    ann.make_space(name)
    ann.button("Share").click()
    ann.page.get_by_label("E-mail address of the person to add").fill(ben.email)
    ann.button("Add").click()
    ann.see(ann.dialog.get_by_text(ben.email, exact=True))
    ann.page.keyboard.press("Escape")
    ben.page.reload()
    ben.link(name).click()
    ben.see_path(name)


def test_a_space_is_renamed_deleted_and_taken_back(ann: Person, new_person: NewPerson):
    ben = new_person("ben")
    ben.sign_up()
    make_shared_space(ann, ben, "Harbour")
    ann.upload({"plan.txt": b"a plan"})
    ann.link("Space settings").click()
    ann.see(ann.page.get_by_role("heading", name="Space settings"))
    ann.shot("space-settings")
    ann.page.get_by_label("Name of the space").fill("Pier")
    ann.button("Rename").click()
    ann.see(ann.toast.get_by_text("The space is called “Pier” now"))
    ann.see(ann.link("Pier (Harbour)"))
    ben.page.reload()
    ben.see_path("Pier (Harbour)")

    ben.expect(r"404 .*/v1/spaces/")
    ben.expect(r"404 GET .*/v1/events")
    ann.expect(r"404 .*/v1/spaces/")
    ann.expect(r"404 GET .*/v1/events")
    ann.button("Delete this space…").click()
    delete = ann.dialog.get_by_role("button", name="Delete the space")
    assert delete.is_disabled()
    ann.dialog.get_by_label("Write Pier to delete it").fill("Harbour")
    assert delete.is_disabled()
    ann.dialog.get_by_label("Write Pier to delete it").fill("Pier")
    ann.shot("space-delete")
    delete.click()
    ann.see(ann.page.get_by_role("heading", name="Deleted spaces"))
    ann.see(ann.page.get_by_text("can be undeleted until"))
    ann.see_no(ann.link("Pier (Harbour)"))
    ann.shot("deleted-spaces")
    ben.page.reload()
    ben.see(ben.page.get_by_text("the space that it is in was deleted"))
    ben.open("/settings/deleted")
    ben.see(ben.page.get_by_text("There are none."))

    ann.button("Undelete: Pier (Harbour)").click()
    ann.see(ann.toast.get_by_text("“Pier (Harbour)” is back"))
    ann.see(ann.page.get_by_text("There are none."))
    ann.link("Pier (Harbour)").click()
    ann.see(ann.row("plan.txt"))
    ben.page.reload()
    ben.link("Pier (Harbour)").click()
    ben.see(ben.row("plan.txt"))


def test_a_space_is_left_and_handed_over(ann: Person, new_person: NewPerson):
    ben = new_person("ben")
    ben.sign_up()
    make_shared_space(ann, ben, "Quay")
    ben.link("Space settings").click()
    assert ben.page.get_by_label("Name of the space").is_disabled()
    assert ben.button("Delete this space…").count() == 0
    ann.link("Space settings").click()
    ann.expect(r"412 DELETE .*/members/")
    ann.button("Leave this space…").click()
    ann.dialog.get_by_role("button", name="Leave").click()
    ann.see(ann.dialog.get_by_text("A space needs at least one owner."))
    ann.dialog.get_by_role("button", name="Cancel").click()

    ann.button("Transfer…").click()
    ann.see(ann.page.get_by_text("Enter an e-mail address, such as"))
    ann.page.get_by_label("E-mail address of the new owner").fill(ben.email)
    ann.page.get_by_label("And I").select_option("viewer")
    ann.button("Transfer…").click()
    ann.dialog.get_by_role("button", name="Transfer").click()
    ann.see(ann.toast.get_by_text(f"{ben.email} is an owner of “Quay” now"))
    ann.see_no(ann.button("Delete this space…"))
    ben.page.reload()
    ben.see(ben.button("Delete this space…"))
    ann.button("Leave this space…").click()
    ann.dialog.get_by_role("button", name="Leave").click()
    ann.see_path("My files")
    ann.see_no(ann.link("Quay"))
