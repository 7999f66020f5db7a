"""Files that programs save safely over WebDAV: they stay the files that they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stack.up import Stack
from tests.e2e.dav import Person, address, send

LOCK = (
    b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
    b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
)


class Folder:
    """A directory of a new person, by WebDAV and by the API."""

    def __init__(self, stack: Stack) -> None:
        self.ann = Person(stack.endpoint)
        self.space = self.ann.call("POST", "/v1/spaces", {"name": "Docs"}, token=self.ann.token)["space_id"]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        return self.ann.call(method, f"/v1/spaces/{self.space}{path}", body, token=self.ann.token)

    def put(self, name: str, data: bytes) -> None:
        assert self.ann.put(f"Docs/{name}", data).status in {201, 204}

    def delete(self, name: str) -> None:
        assert self.ann.dav("DELETE", f"Docs/{name}").status == 204

    def mkcol(self, name: str) -> None:
        assert self.ann.dav("MKCOL", f"Docs/{name}").status == 201

    def move(self, source: str, target: str) -> None:
        destination = self.ann.endpoint + address(f"Docs/{target}")
        assert self.ann.dav("MOVE", f"Docs/{source}", destination=destination).status in {201, 204}

    def node(self, name: str) -> dict[str, Any]:
        found = [one for one in self.api("GET", "/nodes/root/children")["nodes"] if one["name"] == name]
        assert len(found) == 1, found
        return dict(found[0])

    def names(self) -> list[str]:
        return [one["name"] for one in self.api("GET", "/nodes/root/children")["nodes"]]

    def trash(self) -> list[str]:
        return [one["path"] for one in self.api("GET", "/trash")["nodes"]]

    def contents(self, name: str) -> list[bytes]:
        """All versions of a file, oldest first."""
        node = self.node(name)["id"]
        numbers = [one["version"] for one in self.api("GET", f"/nodes/{node}/versions")["versions"]]
        found = []
        for number in sorted(numbers):
            path = f"/v1/spaces/{self.space}/nodes/{node}/versions/{number}/content"

            answer = send(self.ann.endpoint, "GET", path, None, {"authorization": f"Bearer {self.ann.token}"})
            assert answer.status == 200
            found.append(answer.body)
        return found


@pytest.fixture
def folder(stack: Stack) -> Folder:
    return Folder(stack)


def put_and_move(folder: Folder, data: bytes) -> None:
    folder.put("f.txt.tmp", data)
    folder.move("f.txt.tmp", "f.txt")


def put_empty_first(folder: Folder, data: bytes) -> None:
    """As Finder and Explorer do, which make a file before they fill it."""
    locked = folder.ann.dav("LOCK", "Docs/new", LOCK, depth="0")
    assert locked.status == 201
    token = locked.headers["lock-token"]
    assert folder.ann.put("Docs/new", data, **{"if": f"({token})"}).status == 204
    assert folder.ann.dav("UNLOCK", "Docs/new", lock_token=token).status == 204
    folder.move("new", "f.txt")


def put_delete_move(folder: Folder, data: bytes) -> None:
    folder.put("f.txt.tmp", data)
    folder.delete("f.txt")
    folder.move("f.txt.tmp", "f.txt")


def delete_and_put(folder: Folder, data: bytes) -> None:
    folder.delete("f.txt")
    folder.put("f.txt", data)


def like_vim(folder: Folder, data: bytes) -> None:
    folder.put("4913", b"")
    folder.delete("4913")
    folder.move("f.txt", "f.txt~")
    folder.put("f.txt", data)
    folder.delete("f.txt~")


def like_office(folder: Folder, data: bytes) -> None:
    folder.put("5AB0C1D2.tmp", data)
    folder.move("f.txt", "E1F20000.tmp")
    folder.move("5AB0C1D2.tmp", "f.txt")
    folder.delete("E1F20000.tmp")


def like_textedit(folder: Folder, data: bytes) -> None:
    folder.mkcol("(A Document Being Saved)")
    folder.put("(A Document Being Saved)/f.txt", data)
    folder.move("f.txt", "(A Document Being Saved)/f.txt.sb")
    folder.move("(A Document Being Saved)/f.txt", "f.txt")
    folder.delete("(A Document Being Saved)/f.txt.sb")


def with_its_folder(folder: Folder, data: bytes) -> None:
    folder.mkcol("aside")
    folder.put("aside/f.txt", data)
    folder.move("f.txt", "aside/old")
    folder.move("aside/f.txt", "f.txt")
    folder.delete("aside")


WAYS = [put_and_move, put_empty_first, put_delete_move, delete_and_put, like_vim, like_office]


@pytest.mark.parametrize("save", [*WAYS, like_textedit, with_its_folder])
def test_a_safe_save_is_a_new_version(folder: Folder, save: Callable[[Folder, bytes], None]) -> None:
    folder.put("f.txt", b"0")
    before = folder.node("f.txt")
    link = folder.api("POST", "/links", {"node": before["id"]})
    for number in (1, 2):
        save(folder, b"%d" % number)
        if save in {like_textedit, with_its_folder} and "(A Document Being Saved)" in folder.names():
            folder.delete("(A Document Being Saved)")
        now = folder.node("f.txt")
        assert (now["id"], now["version"]) == (before["id"], number + 1)
        assert folder.names() == ["f.txt"]
    assert folder.contents("f.txt") == [b"0", b"1", b"2"]
    assert folder.ann.dav("GET", "Docs/f.txt").body == b"2"
    assert [one["link_id"] for one in folder.api("GET", "/links")["links"]] == [link["link_id"]]
    if save in WAYS:
        assert folder.trash() == []


def test_what_has_a_history_of_its_own_is_in_the_trash_when_it_is_moved_over_another(folder: Folder) -> None:
    folder.put("f.txt", b"old")
    for data in (b"a", b"b"):
        folder.put("other", data)
    target = folder.node("f.txt")["id"]
    folder.move("other", "f.txt")
    assert folder.node("f.txt")["id"] == target
    assert folder.contents("f.txt") == [b"old", b"b"]
    assert folder.trash() == ["other"]


def test_another_client_or_another_name_is_no_end_of_a_save(folder: Folder) -> None:
    folder.put("f.txt", b"old")
    old = folder.node("f.txt")["id"]
    folder.delete("f.txt")
    folder.put("g.txt", b"other")
    made = folder.ann.dav("PUT", "Docs/f.txt", b"by another device of hers", authorization=f"Bearer {folder.ann.token}")
    assert made.status == 201
    assert folder.node("f.txt")["id"] != old
    assert folder.trash() == ["f.txt"]


def test_a_backup_that_is_kept_is_kept(folder: Folder) -> None:
    folder.put("f.txt", b"old")
    old = folder.node("f.txt")["id"]
    folder.move("f.txt", "f.txt.bak")
    folder.delete("f.txt.bak")  # nothing has come in its place
    assert folder.trash() == ["f.txt.bak"]
    folder.put("g.txt", b"new")
    folder.move("g.txt", "g.txt.bak")
    folder.put("g.txt", b"newer")
    assert folder.names() == ["g.txt", "g.txt.bak"]
    assert folder.contents("g.txt") == [b"newer"]
    assert folder.contents("g.txt.bak") == [b"new"]
    assert folder.node("g.txt")["id"] != old


def test_what_a_program_did_not_make_goes_into_the_trash_though_it_is_empty(folder: Folder) -> None:
    folder.put("f.txt", b"")
    node = folder.node("f.txt")
    assert folder.ann.dav("DELETE", "Docs/f.txt", authorization=f"Bearer {folder.ann.token}").status == 204
    assert folder.trash() == [node["name"]]
