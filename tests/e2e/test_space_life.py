"""The life of a space by the command line: renamed, deleted, taken back, handed over and left, while devices sync."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from stack.demo import REPOSITORY, DemoDevice, contents
from stack.up import Stack
from syncline.model.limits import REVOCATION_SECONDS
from tests.e2e.test_watch import SECONDS, watching
from tests.gateway.client import PASSWORD, Api, Person

NewDevice = Callable[..., DemoDevice]


def refused(device: DemoDevice, *arguments: str, status: int = 1) -> str:
    """Run a command that is refused, and return what it says."""
    child = device.start(*arguments)
    output, errors = child.communicate("")
    assert child.returncode == status, (output, errors)
    assert "Traceback" not in errors
    return errors


def listed(device: DemoDevice, *command: str) -> dict[str, dict[str, Any]]:
    """Return the shared spaces of a person by their aliases."""
    found = json.loads(device.run("spaces", *command, "--json"))["spaces"]
    return {one["alias"]: one for one in found if not one["personal"]}


def over_http(device: DemoDevice, stack: Stack) -> Person:
    """The person of a device, over HTTP."""
    body = {"email": device.email, "password": PASSWORD, "device_name": "http"}
    answer = Api(stack.endpoint).done("POST", "/v1/sessions", body, status=201)
    headers = {"authorization": f"Bearer {answer['tokens']['access_token']}"}
    return Person(stack.endpoint, headers, device.email, answer["account"]["personal_space_id"], answer)


@pytest.fixture
def ann(new_device: NewDevice) -> DemoDevice:
    device = new_device("ann")
    device.run("spaces", "create", "Project")
    return device


@pytest.fixture
def ben(new_device: NewDevice, ann: DemoDevice) -> DemoDevice:
    device = new_device("ben")
    ann.run("share", "Project", device.email, "--role", "editor")
    return device


def test_a_syncing_device_waits_for_a_deleted_space_and_goes_on(ann: DemoDevice, ben: DemoDevice, stack: Stack) -> None:
    for number in range(5):
        (ann.folder / f"{number}.txt").write_text(f"text {number}")
    with watching(ann, "--space", "Project") as watch:
        ben.sync("--space", "Project")
        assert contents(ben.folder) == contents(ann.folder)
        http = over_http(ben, stack)
        link = http.done("POST", f"{space_of(ann)}/links", {"node": "root"}, status=201)
        ann.run("spaces", "delete", "Project", "--yes")
        deleted = time.monotonic()
        watch.until(lambda: watch.says("was deleted", "The files of this folder stay", "undelete"))
        kept = contents(ben.folder)
        said = refused(ben, "sync", str(ben.folder))
        assert "was deleted" in said
        assert "The files of this folder stay as they are" in said
        assert "was deleted" in refused(ben, "status", str(ben.folder))
        assert contents(ben.folder) == kept
        assert listed(ben) == {}
        assert listed(ann, "deleted").keys() == {"Project"}
        assert listed(ben, "deleted") == {}
        Api(stack.endpoint).ask("POST", "/v1/links/open", {"token": link["token"]}).refused(404, "NO_SUCH_LINK")
        while time.monotonic() < deleted + REVOCATION_SECONDS:  # WebDAV remembers spaces for less
            time.sleep(0.2)
        gone = over_http(ann, stack).ask("PROPFIND", "/dav/Project/", depth="0")
        assert (gone.status, b"SPACE_DELETED" in gone.body) == (404, True)
        assert over_http(ben, stack).ask("PROPFIND", "/dav/Project/", depth="0").status == 404

        # Changes of the folders meanwhile get into the space afterwards, once.
        (ann.folder / "new.txt").write_text("new")
        (ann.folder / "0.txt").unlink()
        (ann.folder / "1.txt").write_text("changed")
        (ben.folder / "of ben.txt").write_text("of ben")
        ann.run("spaces", "undelete", "Project")
        watch.until(lambda: watch.has_in("Project", "new.txt"))
        Api(stack.endpoint).done("POST", "/v1/links/open", {"token": link["token"]})
        figures = ben.sync()
        assert (figures["uploaded"], figures["conflicts"], figures["deleted_remote"]) == (1, 0, 0)
        watch.until((ann.folder / "of ben.txt").exists)
        assert contents(ann.folder) == contents(ben.folder)
        assert sorted(path.name for path in ann.folder.iterdir() if path.name != ".syncline") == [
            *(f"{number}.txt" for number in range(1, 5)),
            "new.txt",
            "of ben.txt",
        ]
        assert (ben.folder / "1.txt").read_text() == "changed"
        trash = json.loads(ann.run("trash", "--space", "Project", "--json"))["nodes"]
        assert [node["name"] for node in trash] == ["0.txt"]


def space_of(device: DemoDevice) -> str:
    return f"/v1/spaces/{listed(device)['Project']['space']}"


def test_a_space_is_renamed_and_its_address_stays(ann: DemoDevice, ben: DemoDevice) -> None:
    assert "your own name for it is still Project" in ann.run("spaces", "rename", "Project", "Project 2027")
    for one in (ann, ben):
        assert listed(one)["Project"]["name"] == "Project 2027"
        assert "called Project 2027" in one.run("spaces")
    ben.run("mkdir", "Project:made")
    assert "there is no space 'Project 2027'" in refused(ben, "mkdir", "Project 2027:made")
    assert "owners" in refused(ben, "spaces", "rename", "Project", "Mine", status=3)
    assert "1 to 100" in refused(ann, "spaces", "rename", "Project", " ")


def test_a_space_is_handed_over_and_left(ann: DemoDevice, ben: DemoDevice) -> None:
    assert "make somebody else owner first" in refused(ann, "spaces", "leave", "Project")
    assert "state the role" in refused(ann, "spaces", "transfer", "Project", ben.email, status=2)
    assert "state the role" in refused(
        ann, "spaces", "transfer", "Project", ben.email, "--leave", "--keep", "viewer", status=2
    )
    assert "no account" in refused(ann, "spaces", "transfer", "Project", "nobody@example.com", "--leave")
    assert "personal" in refused(ann, "spaces", "transfer", "personal", ben.email, "--leave", status=3)
    told = json.loads(ann.run("spaces", "transfer", "Project", ben.email, "--keep", "editor", "--json"))
    assert told == {"owner": ben.email, "role": "editor"}
    members = {one["email"]: one["role"] for one in json.loads(ben.run("members", "Project", "--json"))["members"]}
    assert members == {ann.email: "editor", ben.email: "owner"}
    ann.run("spaces", "leave", "Project")
    assert listed(ann) == {}
    ben.run("spaces", "transfer", "Project", ann.email, "--leave")
    assert listed(ben) == {}
    assert listed(ann)["Project"]["role"] == "owner"


def test_a_deletion_is_confirmed_by_the_name(ann: DemoDevice) -> None:
    assert "give --yes" in refused(ann, "spaces", "delete", "Project", status=2)
    assert "cannot be deleted" in refused(ann, "spaces", "delete", "personal", "--yes", status=3)
    assert _on_a_terminal(ann, "Projekt")[0] == 1
    assert listed(ann).keys() == {"Project"}
    status, said = _on_a_terminal(ann, "Project")
    assert status == 0, said
    assert "spaces undelete" in said
    assert listed(ann) == {}
    (gone,) = listed(ann, "deleted").values()
    assert gone["restorable_until_ms"] - gone["deleted_at_ms"] == 30 * 86_400_000
    assert "you own no deleted space 'Projekt'" in refused(ann, "spaces", "undelete", "Projekt")
    assert "is back" in ann.run("spaces", "undelete", gone["space"])
    assert listed(ann).keys() == {"Project"}


def _on_a_terminal(device: DemoDevice, answer: str) -> tuple[int, str]:
    """Delete Project at a terminal, and answer the question; the exit status, and what the terminal shows."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "syncline.cli", "spaces", "delete", "Project"],
        env={**os.environ, "SYNCLINE_HOME": str(device.root / "home")},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=REPOSITORY,
    ) as child:
        os.close(follower)
        shown = b""
        while b"to delete it" not in shown:
            shown += os.read(leader, 1000)
        os.write(leader, f"{answer}\n".encode())
        status = child.wait(SECONDS)
        try:
            while more := os.read(leader, 1000):
                shown += more
        except OSError:  # the other end is closed
            pass
        os.close(leader)
    return status, shown.decode()
