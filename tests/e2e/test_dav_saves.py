"""Files that programs save safely over WebDAV: they stay the files that they were."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from stack.up import Stack
from tests.e2e.dav import Person, address, send

LOCK = (
    b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
    b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
)


WINDOWS = "urn:schemas-microsoft-com:"


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

    def copy(self, source: str, target: str) -> None:
        destination = self.ann.endpoint + address(f"Docs/{target}")
        assert self.ann.dav("COPY", f"Docs/{source}", destination=destination).status in {201, 204}

    def read(self, name: str) -> bytes:
        answer = self.ann.dav("GET", f"Docs/{name}")
        assert answer.status == 200
        return answer.body

    def located(self, path: str) -> dict[str, Any]:
        """The node at a path."""
        return dict(self.api("GET", f"/nodes?path={quote(path)}"))

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
        node = self.located(name)["id"]
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
    """Save as Finder and Explorer do, which make a file before they fill it."""
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
    folder.delete("(A Document Being Saved)")


def with_its_folder(folder: Folder, data: bytes) -> None:
    folder.mkcol("aside")
    folder.put("aside/f.txt", data)
    folder.move("f.txt", "aside/old")
    folder.move("aside/f.txt", "f.txt")
    folder.delete("aside")


def like_finder(folder: Folder, data: bytes) -> None:
    """With a folder that is made for each save, and goes with what is in it."""
    temporary = f"f.txt.sb-{data.hex()}"
    folder.mkcol(temporary)
    folder.put(f"{temporary}/f.txt", data)
    folder.move("f.txt", f"{temporary}/f.txt.old")
    folder.move(f"{temporary}/f.txt", "f.txt")
    folder.delete(temporary)


def like_vim_that_copies(folder: Folder, data: bytes) -> None:
    folder.put("f.txt~", folder.read("f.txt"))
    folder.put("f.txt", data)
    folder.delete("f.txt~")


def copy_backup_and_put(folder: Folder, data: bytes) -> None:
    folder.copy("f.txt", "f.txt~")
    folder.put("f.txt", data)
    folder.delete("f.txt~")


def copy_and_delete(folder: Folder, data: bytes) -> None:
    folder.put("f.txt.tmp", data)
    folder.copy("f.txt.tmp", "f.txt")
    folder.delete("f.txt.tmp")


def put_twice_and_delete(folder: Folder, data: bytes) -> None:
    """Save as programs do that copy over file systems without COPY."""
    folder.put("f.txt.tmp", data)
    folder.put("f.txt", data)
    folder.delete("f.txt.tmp")


def delete_copy_delete(folder: Folder, data: bytes) -> None:
    folder.put("f.txt.tmp", data)
    folder.delete("f.txt")
    folder.copy("f.txt.tmp", "f.txt")
    folder.delete("f.txt.tmp")


def delete_lock_and_put(folder: Folder, data: bytes) -> None:
    folder.delete("f.txt")
    locked = folder.ann.dav("LOCK", "Docs/f.txt", LOCK, depth="0")
    assert locked.status == 201
    token = locked.headers["lock-token"]
    assert folder.read("f.txt") == b""
    assert folder.ann.put("Docs/f.txt", data, **{"if": f"({token})"}).status == 204
    assert folder.ann.dav("UNLOCK", "Docs/f.txt", lock_token=token).status == 204


WAYS = [
    put_and_move,
    put_empty_first,
    put_delete_move,
    delete_and_put,
    like_vim,
    like_office,
    like_textedit,
    with_its_folder,
    like_finder,
    like_vim_that_copies,
    copy_backup_and_put,
    copy_and_delete,
    put_twice_and_delete,
    delete_copy_delete,
    delete_lock_and_put,
]


@pytest.mark.parametrize("save", WAYS)
def test_a_safe_save_is_a_new_version(folder: Folder, save: Callable[[Folder, bytes], None]) -> None:
    folder.put("f.txt", b"0")
    before = folder.node("f.txt")
    link = folder.api("POST", "/links", {"node": before["id"]})
    for number in (1, 2):
        save(folder, b"%d" % number)
        assert folder.node("f.txt")["id"] == before["id"]
        assert folder.names() == ["f.txt"]
    contents = folder.contents("f.txt")
    assert [one for one in contents if one] == [b"0", b"1", b"2"]
    assert len(contents) == 3 or save is delete_lock_and_put  # delete_lock_and_put makes the file empty first
    assert folder.ann.dav("GET", "Docs/f.txt").body == b"2"
    assert [one["link_id"] for one in folder.api("GET", "/links")["links"]] == [link["link_id"]]
    assert folder.trash() == []


def rename_and_put(folder: Folder, data: bytes, backup: str) -> None:
    folder.move("f.txt", backup)
    folder.put("f.txt", data)


def rename_and_move(folder: Folder, data: bytes, backup: str) -> None:
    folder.put("f.txt.tmp", data)
    folder.move("f.txt", backup)
    folder.move("f.txt.tmp", "f.txt")


def move_and_rename(folder: Folder, data: bytes, backup: str) -> None:
    folder.move("f.txt", backup)
    folder.put("f.txt.tmp", data)
    folder.move("f.txt.tmp", "f.txt")


def rename_twice_and_put(folder: Folder, data: bytes, backup: str) -> None:
    folder.move("f.txt", "aside.txt")
    folder.move("aside.txt", backup)
    folder.put("f.txt", data)


def rename_and_copy(folder: Folder, data: bytes, backup: str) -> None:
    folder.put("f.txt.tmp", data)
    folder.move("f.txt", backup)
    folder.copy("f.txt.tmp", "f.txt")
    folder.delete("f.txt.tmp")


def copy_and_put(folder: Folder, data: bytes, backup: str) -> None:
    folder.copy("f.txt", backup)
    folder.put("f.txt", data)


def rename_lock_and_put(folder: Folder, data: bytes, backup: str) -> None:
    folder.move("f.txt", backup)
    locked = folder.ann.dav("LOCK", "Docs/f.txt", LOCK, depth="0")
    token = locked.headers["lock-token"]
    assert folder.ann.put("Docs/f.txt", data, **{"if": f"({token})"}).status == 204
    assert folder.ann.dav("UNLOCK", "Docs/f.txt", lock_token=token).status == 204


@pytest.mark.parametrize("backup", ["f.txt~", "f.bak", "backup/f.txt"])
@pytest.mark.parametrize("versions", [1, 2])
@pytest.mark.parametrize(
    "save",
    [
        rename_and_put,
        rename_and_move,
        move_and_rename,
        rename_twice_and_put,
        rename_and_copy,
        copy_and_put,
        rename_lock_and_put,
    ],
)
def test_a_backup_is_a_new_file_and_the_document_goes_on(
    folder: Folder, save: Callable[[Folder, bytes, str], None], versions: int, backup: str
) -> None:
    if "/" in backup:
        folder.mkcol("backup")
    for number in range(versions):
        folder.put("f.txt", b"%d" % number)
    before = folder.node("f.txt")
    link = folder.api("POST", "/links", {"node": before["id"]})
    expected = [b"%d" % number for number in range(versions)]
    for number in (7, 8):  # the second one replaces the backup
        old, new = expected[-1], b"%d" % number
        save(folder, new, backup)
        expected.append(new)
        assert folder.node("f.txt")["id"] == before["id"]
        assert [one for one in folder.contents("f.txt") if one] == expected
        assert folder.located(backup)["id"] != before["id"]
        assert folder.read(backup) == old
        assert folder.read("f.txt") == new
    assert [one["link_id"] for one in folder.api("GET", "/links")["links"]] == [link["link_id"]]
    assert folder.trash() == []
    # A backup is a file like others, too.
    folder.move(backup, "f.txt")
    assert folder.read("f.txt") == expected[-2]
    assert folder.node("f.txt")["id"] == before["id"]


def put_as_windows_does(folder: Folder, path: str, data: bytes) -> None:
    """Explorer's way: an empty file, which it locks, fills, and gives the time of the other."""
    folder.put(path, b"")
    token = folder.ann.dav("LOCK", f"Docs/{path}", LOCK, depth="0").headers["lock-token"]
    held = {"if": f"({token})"}
    assert folder.ann.put(f"Docs/{path}", data, **held).status == 204
    time = "<Z:Win32LastModifiedTime>Fri, 13 Feb 2009 23:31:30 GMT</Z:Win32LastModifiedTime>"
    what = f"<D:set><D:prop>{time}</D:prop></D:set>"
    body = f'<D:propertyupdate xmlns:D="DAV:" xmlns:Z="{WINDOWS}">{what}</D:propertyupdate>'
    assert folder.ann.dav("PROPPATCH", f"Docs/{path}", body.encode(), **held).status == 207
    assert folder.ann.dav("UNLOCK", f"Docs/{path}", lock_token=token).status == 204


def test_word_saves_in_a_folder_that_windows_has_mounted(folder: Folder) -> None:
    put_as_windows_does(folder, "doc.docx", b"0")
    before = folder.node("doc.docx")["id"]
    for number in (1, 2, 3):
        put_as_windows_does(folder, "~WRD0001.tmp", b"%d" % number)
        folder.move("doc.docx", "~WRL0002.tmp")
        folder.move("~WRD0001.tmp", "doc.docx")
        folder.delete("~WRL0002.tmp")
        assert folder.node("doc.docx")["id"] == before
    assert folder.contents("doc.docx") == [b"", b"0", b"0", b"1", b"2", b"3"]
    assert folder.names() == ["doc.docx"]
    assert folder.trash() == []


@pytest.mark.parametrize("kept", [("--backup-dir", "dav:Docs/backup"), ("--suffix", ".bak")], ids=lambda kept: kept[0])
def test_rclone_keeps_backups_of_many_files_at_once(folder: Folder, tmp_path: Path, kept: tuple[str, str]) -> None:
    names = [f"f{number}" for number in range(12)]

    def write(text: str, seconds: int) -> None:
        for name in names:
            (tmp_path / name).write_text(text)
            os.utime(tmp_path / name, (seconds, seconds))

    write("old", 1_600_000_000)
    folder.ann.rclone("sync", "--transfers", "8", str(tmp_path), "dav:Docs/t")
    before = {name: folder.located(f"t/{name}")["id"] for name in names}
    write("newer", 1_700_000_000)
    folder.ann.rclone("sync", "--transfers", "8", *kept, str(tmp_path), "dav:Docs/t")
    assert {name: folder.located(f"t/{name}")["id"] for name in names} == before
    for name in names:
        assert folder.read(f"t/{name}") == b"newer"
        assert folder.read(f"backup/{name}" if "backup" in kept[1] else f"t/{name}.bak") == b"old"
    assert folder.trash() == []


def test_numbered_backups(folder: Folder) -> None:
    folder.put("f.txt", b"0")
    before = folder.node("f.txt")
    for number in (1, 2, 3):
        folder.move("f.txt", f"f.txt.~{number}~")
        folder.put("f.txt", b"%d" % number)
    assert folder.node("f.txt")["id"] == before["id"]
    assert folder.contents("f.txt") == [b"0", b"1", b"2", b"3"]
    assert [folder.contents(f"f.txt.~{number}~") for number in (1, 2, 3)] == [[b"0"], [b"1"], [b"2"]]


def test_files_by_one_temporary_name_are_files_of_their_own(folder: Folder) -> None:
    for number in (1, 2, 3):
        folder.put("upload", b"%d" % number)
        folder.move("upload", f"photo {number}.jpg")
    found = [folder.node(f"photo {number}.jpg") for number in (1, 2, 3)]
    assert len({one["id"] for one in found}) == 3
    assert [folder.contents(one["name"]) for one in found] == [[b"1"], [b"2"], [b"3"]]
    # A new document's first saves as well, with a name that has its name in it.
    for number in (1, 2, 3):
        folder.put("g.txt.part", b"%d" % number)
        folder.move("g.txt.part", "g.txt")
    assert folder.contents("g.txt") == [b"1", b"2", b"3"]
    assert folder.trash() == []


def test_a_file_that_was_renamed_and_written_to_is_a_document_of_its_own(folder: Folder) -> None:
    for data in (b"0", b"1"):
        folder.put("f.txt", data)
    before = folder.node("f.txt")
    folder.move("f.txt", "g.txt")
    folder.put("g.txt", b"2")
    folder.put("f.txt", b"3")
    assert folder.node("g.txt")["id"] == before["id"]
    assert folder.contents("g.txt") == [b"0", b"1", b"2"]
    assert folder.contents("f.txt") == [b"3"]
    # A file that is back at its name is not taken from there.
    folder.move("g.txt", "h.txt")
    folder.move("h.txt", "g.txt")
    folder.put("h.txt", b"4")
    assert folder.node("g.txt")["id"] == before["id"]
    assert folder.contents("h.txt") == [b"4"]


def test_what_only_this_file_holds_is_in_the_trash(folder: Folder) -> None:
    folder.put("f.txt", b"old")
    folder.put("other", b"other")
    folder.copy("f.txt", "copy")
    folder.put("copy", b"changed")
    for name in ("other", "copy"):
        folder.delete(name)
    assert sorted(folder.trash()) == ["copy", "other"]


# -- directories


def tree(folder: Folder, top: str, number: int) -> None:
    folder.mkcol(top)
    folder.mkcol(f"{top}/sub")
    folder.put(f"{top}/a", b"a%d" % number)
    folder.put(f"{top}/sub/b", b"b%d" % number)
    folder.put(f"{top}/only {number}", b"only")


def move_over(folder: Folder, number: int) -> None:
    tree(folder, "new", number)
    folder.move("new", "d")


def delete_and_move(folder: Folder, number: int) -> None:
    tree(folder, "new", number)
    folder.delete("d")
    folder.move("new", "d")


def delete_and_make(folder: Folder, number: int) -> None:
    folder.delete("d")
    tree(folder, "d", number)


def move_away_and_delete(folder: Folder, number: int) -> None:
    tree(folder, "new", number)
    folder.move("d", "old")
    folder.move("new", "d")
    folder.delete("old")


def in_a_folder(folder: Folder, number: int) -> None:
    folder.mkcol("d.sb")
    tree(folder, "d.sb/new", number)
    folder.move("d", "d.sb/old")
    folder.move("d.sb/new", "d")
    folder.delete("d.sb")


@pytest.mark.parametrize("save", [move_over, delete_and_move, delete_and_make, move_away_and_delete, in_a_folder])
def test_a_directory_that_is_saved_goes_on_with_the_files_in_it(
    folder: Folder, save: Callable[[Folder, int], None]
) -> None:
    tree(folder, "d", 0)
    paths = ["d", "d/a", "d/sub", "d/sub/b"]
    before = {path: folder.located(path)["id"] for path in paths}
    link = folder.api("POST", "/links", {"node": before["d/sub/b"]})
    for number in (1, 2):
        save(folder, number)
        assert {path: folder.located(path)["id"] for path in paths} == before
        assert folder.names() == ["d"]
        assert folder.ann.listing("Docs/d") == ["/dav/Docs/d/a", f"/dav/Docs/d/only {number}", "/dav/Docs/d/sub/"]
    assert folder.contents("d/a") == [b"a0", b"a1", b"a2"]
    assert folder.contents("d/sub/b") == [b"b0", b"b1", b"b2"]
    assert [one["link_id"] for one in folder.api("GET", "/links")["links"]] == [link["link_id"]]
    # Files that the new directory lacks are in the trash, and nothing else.
    assert sorted(folder.trash()) == ["d/only 0", "d/only 1"]


def test_directories_that_have_no_file_in_common_are_not_merged(folder: Folder) -> None:
    for name, file in (("d", "x"), ("new", "y")):
        folder.mkcol(name)
        folder.put(f"{name}/{file}", b"data")
    new = folder.node("new")["id"]
    folder.move("new", "d")
    assert folder.node("d")["id"] == new
    assert folder.trash() == ["d"]
    assert folder.ann.listing("Docs/d") == ["/dav/Docs/d/y"]


def test_a_kind_that_replaces_another_does_not_take_its_place(folder: Folder) -> None:
    folder.mkcol("x")
    folder.put("x/f", b"1")
    folder.delete("x")
    folder.put("x", b"a file")
    assert folder.contents("x") == [b"a file"]
    folder.delete("x")
    folder.mkcol("x")
    assert folder.ann.listing("Docs/x") == []
    assert folder.located("x")["kind"] == "directory"


def test_an_empty_folder_of_others_is_in_the_trash(folder: Folder) -> None:
    folder.mkcol("mine")
    folder.mkcol("empty")
    folder.delete("mine")
    assert folder.trash() == []
    assert folder.ann.dav("DELETE", "Docs/empty", authorization=f"Bearer {folder.ann.token}").status == 204
    assert folder.trash() == ["empty"]


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
    folder.move("f.txt", "f.txt.bak")
    folder.delete("f.txt.bak")  # nothing has come in its place
    assert folder.trash() == ["f.txt.bak"]
    folder.put("g.txt", b"new")
    node = folder.node("g.txt")["id"]
    folder.move("g.txt", "g.txt.bak")
    assert folder.node("g.txt.bak")["id"] == node
    folder.put("g.txt", b"newer")
    assert folder.names() == ["g.txt", "g.txt.bak"]
    assert folder.contents("g.txt") == [b"new", b"newer"]
    assert folder.contents("g.txt.bak") == [b"new"]
    assert folder.node("g.txt")["id"] == node


def test_what_a_program_did_not_make_goes_into_the_trash_though_it_is_empty(folder: Folder) -> None:
    folder.put("f.txt", b"")
    node = folder.node("f.txt")
    assert folder.ann.dav("DELETE", "Docs/f.txt", authorization=f"Bearer {folder.ann.token}").status == 204
    assert folder.trash() == [node["name"]]
