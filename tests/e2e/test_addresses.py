"""An address of a space means the same space tomorrow, whatever others do: in WebDAV and on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stack.demo import DemoDevice
from stack.up import Stack
from tests.e2e.dav import PASSWORD, Person


@pytest.fixture
def ann(stack: Stack) -> Person:
    return Person(stack.endpoint)


@pytest.fixture
def ben(stack: Stack) -> Person:
    return Person(stack.endpoint)


@pytest.fixture
def device(stack: Stack, ann: Person, tmp_path: Path) -> DemoDevice:
    found = DemoDevice(ann.email.partition("@")[0], "laptop", tmp_path / "laptop")
    found.run(
        *("login", "--endpoint", stack.endpoint, "--email", ann.email, "--password-stdin", "--device", "laptop"),
        stdin=f"{PASSWORD}\n",
    )
    return found


def make(owner: Person, name: str) -> str:
    made = owner.call("POST", "/v1/spaces", {"name": name}, token=owner.token)
    return str(made["space_id"])


def share(owner: Person, space: str, member: Person, role: str = "editor") -> None:
    owner.call("PUT", f"/v1/spaces/{space}/members/{member.email}", {"role": role}, token=owner.token)


def leave(member: Person, space: str) -> None:
    member.call("DELETE", f"/v1/spaces/{space}/members/{member.email}", token=member.token)


def aliases(person: Person) -> dict[str, str]:
    spaces = person.call("GET", "/v1/spaces", token=person.token)["spaces"]
    return {space["space_id"]: space["alias"] for space in spaces if not space["personal"]}


def until_gone(person: Person, address: str) -> None:
    """WebDAV remembers for some seconds who is a member of what; then the address is nobody's."""
    deadline = time.monotonic() + 120
    while person.dav("PROPFIND", address, depth="0").status != 404:
        assert time.monotonic() < deadline, f"{address} is still there"
        time.sleep(0.2)


def refused(device: DemoDevice, *arguments: str, status: int = 1) -> str:
    """Return the error text of a command that fails."""
    with device.start(*arguments) as child:
        _, errors = child.communicate()
    assert child.returncode == status, errors
    return errors


def test_a_space_of_the_same_name_that_somebody_shares_has_another_address(
    ann: Person, ben: Person, device: DemoDevice
) -> None:
    hers = make(ann, "Project")
    assert ann.put("Project/f", b"hers").status == 201
    for name in ("Project", "PROJECT", "Ｐroject"):
        his = make(ben, name)
        assert ben.dav("PUT", f"{aliases(ben)[his]}/f", b"his").status == 201
        share(ben, his, ann)
        assert aliases(ann)[hers] == "Project"
        assert aliases(ann)[his] == f"{name} ({his[:6]})"
        assert ann.dav("GET", "Project/f").body == b"hers"
        assert ann.dav("GET", f"{name} ({his[:6]})/f").body == b"his"
        assert device.run("ls", "Project:") == device.run("ls", f"{hers}:")
        assert device.run("get", "Project:f", "-") == "hers"
        assert device.run("get", f"{name} ({his[:6]}):f", "-") == "his"
    told = json.loads(device.run("spaces", "--json"))["spaces"]
    assert {one["space"]: one["alias"] for one in told if not one["personal"]} == aliases(ann)
    assert f"called {name}" in device.run("spaces")


def test_the_address_of_a_space_that_was_left_is_nobodys_until_it_is_joined_again(
    ann: Person, ben: Person, device: DemoDevice
) -> None:
    his = make(ben, "Project")
    share(ben, his, ann)
    assert ann.put("Project/f", b"his").status == 201
    device.folder.mkdir(parents=True)
    device.run("sync", str(device.folder), "--space", "Project")
    leave(ann, his)
    hers, second = make(ann, "Project"), make(ben, "Project")
    share(ben, second, ann)
    until_gone(ann, "Project")
    assert ann.put("Project/f", b"for nobody").status == 404
    assert aliases(ann) == {hers: f"Project ({hers[:6]})", second: f"Project ({second[:6]})"}
    told = refused(device, "ls", "Project:")
    for part in (hers, second, ann.email, ben.email, f"Project ({hers[:6]})"):
        assert part in told
    # A folder is linked to the space, not to what it is called.
    (device.folder / "new").write_text("x")
    device.run("sync", str(device.folder), expect=1)
    share(ben, his, ann)
    assert ann.dav("GET", "Project/f").body == b"his"
    assert aliases(ann)[his] == "Project"
    device.run("sync", str(device.folder))
    assert ben.dav("GET", "Project/new").body == b"x"


def test_only_one_space_of_that_name_is_no_reason_to_take_it_for_another(
    ann: Person, ben: Person, device: DemoDevice
) -> None:
    first, second = make(ben, "Plan"), make(ben, "Plan")
    share(ben, first, ann)
    share(ben, second, ann)
    leave(ann, first)
    told = refused(device, "ls", "Plan:")
    assert f"'Plan ({second[:6]})' ({second}, owned by {ben.email})" in told
    assert device.run("ls", f"{second}:") == ""


@pytest.mark.parametrize("name", ["..", ".", "A/B", "C:\\x", "ｐersonal.", "b" * 26, "\N{GRINNING FACE}" * 100])
def test_names_that_cannot_stand_in_an_address(ann: Person, ben: Person, device: DemoDevice, name: str) -> None:
    his = make(ben, name)
    share(ben, his, ann)
    alias = aliases(ann)[his]
    assert ann.put(f"{alias}/f", b"his").status == 201
    assert f"/dav/{alias}/" in ann.listing("")
    assert ben.call("GET", f"/v1/spaces/{his}/nodes/root/children", token=ben.token)["nodes"][0]["name"] == "f"
    assert device.run("get", f"{alias}:f", "-") == "his"
    assert ann.dav("GET", "personal/f").status == 404


def test_a_place_is_not_taken_for_a_file_that_is_called_like_it(device: DemoDevice, tmp_path: Path) -> None:
    def log(place: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "syncline.cli", "log", place],
            env={**os.environ, "SYNCLINE_HOME": str(device.root / "home")},
            cwd=device.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    device.folder.mkdir(parents=True)
    for name in ("personal:f", "nowhere:f"):
        (device.folder / name).write_text(name)
    device.run("sync", str(device.folder))
    (device.folder / "f").write_text("longer than the other")
    device.run("put", str(device.folder / "f"), "personal:f")
    assert "21 B" in log("personal:f").stdout
    assert "10 B" in log("./personal:f").stdout
    assert "write ./nowhere:f" in log("nowhere:f").stderr
