"""Files and directories over HTTP."""

import io
import zipfile
from typing import Any

import grpc
import pytest

from stack.up import Stack
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.identifiers import ROOT, new_request_id
from syncline.model.names import archived_name
from tests.gateway.client import Person, browser


def test_a_folder_and_a_file_are_made_looked_at_and_listed(ann: Person):
    docs = ann.folder("docs")
    node = ann.file("a.txt", b"hello", docs["id"])
    by_id = ann.ask("GET", f"{ann.top}/nodes/{node['id']}")
    by_path = ann.ask("GET", f"{ann.top}/nodes", query={"path": "docs/a.txt"})
    assert by_id.json == by_path.json == node | {"path": "docs/a.txt"}
    assert by_id.headers["etag"] == by_path.headers["etag"] == node["etag"]
    assert (node["size"], node["version"], node["media_type"]) == (5, 1, "text/plain")
    assert ann.children() == ["docs"]
    assert ann.children(docs["id"]) == ["a.txt"]
    assert ann.ask("GET", f"{ann.top}/nodes/{node['id']}/content").body == b"hello"
    assert ann.ask("GET", f"{ann.top}/content/docs/a.txt").body == b"hello"
    assert ann.ask("HEAD", f"{ann.top}/content/docs/a.txt").headers["content-length"] == "5"


def test_a_directory_is_listed_by_page(ann: Person):
    create = [{"create": {"parent": "root", "name": f"{i:03}", "kind": "directory"}} for i in range(25)]
    ann.done("POST", f"{ann.top}/changes", {"changes": create})
    names, query = [], {"page_size": 10}
    for expected in (10, 10, 5):
        page = ann.done("GET", f"{ann.top}/nodes/root/children", query=query)
        assert len(page["nodes"]) == expected
        names += [node["name"] for node in page["nodes"]]
        query["page_token"] = page["next_page_token"]
    assert names == [f"{i:03}" for i in range(25)]
    assert query["page_token"] is None
    ann.ask("GET", f"{ann.top}/nodes/root/children", query={"page_token": "nonsense"}).refused(
        400, "INVALID_PAGE_TOKEN"
    )


def test_a_node_is_renamed_and_moved(ann: Person):
    docs, node = ann.folder("docs"), ann.file("a", b"1")
    renamed = ann.done("PATCH", f"{ann.top}/nodes/{node['id']}", {"name": "b"}, if_match=node["etag"])
    assert (renamed["name"], renamed["parent"]) == ("b", "root")
    stale = ann.ask("PATCH", f"{ann.top}/nodes/{node['id']}", {"name": "c"}, if_match=node["etag"])
    stale.refused(412, "ETAG_MISMATCH")
    tags = f'"0", {renamed["etag"]}'
    moved = ann.done("PATCH", f"{ann.top}/nodes/{node['id']}", {"parent": docs["id"]}, if_match=tags)
    assert (moved["name"], moved["parent"]) == ("b", docs["id"])
    ann.ask("PATCH", f"{ann.top}/nodes/{docs['id']}", {"parent": docs["id"]}).refused(409, "CYCLE")
    ann.ask("PATCH", f"{ann.top}/nodes/root", {"name": "top"}).refused(404, "NO_SUCH_NODE")
    assert (ann.children(), ann.children(docs["id"])) == (["docs"], ["b"])


def test_a_name_is_taken_once(ann: Person):
    first = ann.folder("docs")
    told = ann.ask("POST", f"{ann.top}/folders", {"parent": "root", "name": "docs"}).refused(409, "NAME_TAKEN")
    assert told["details"] == {"node": first["id"]}
    other = ann.file("a", b"")
    ann.ask("PATCH", f"{ann.top}/nodes/{other['id']}", {"name": "docs"}).refused(409, "NAME_TAKEN")


def test_a_node_is_deleted_and_restored(ann: Person):
    docs = ann.folder("docs")
    node = ann.file("a", b"1", docs["id"])
    ann.ask("DELETE", f"{ann.top}/nodes/{docs['id']}", if_match='"999"').refused(412, "ETAG_MISMATCH")
    ann.done("DELETE", f"{ann.top}/nodes/{docs['id']}", status=204, if_match=docs["etag"])
    ann.ask("GET", f"{ann.top}/nodes/{node['id']}").refused(404, "NO_SUCH_NODE")
    (thrown,) = ann.done("GET", f"{ann.top}/trash")["nodes"]
    assert (thrown["name"], thrown["deleted_at_ms"] > 0) == ("docs", True)
    ann.folder("docs")
    ann.ask("POST", f"{ann.top}/trash/{docs['id']}/restore", {"name": "docs"}).refused(409, "NAME_TAKEN")
    back = ann.done("POST", f"{ann.top}/trash/{docs['id']}/restore", {"name": "old docs"})
    assert (back["name"], back["path"]) == ("old docs", "old docs")
    assert ann.children(docs["id"]) == ["a"]
    ann.done("DELETE", f"{ann.top}/nodes/{docs['id']}", status=204)
    ann.folder("old docs")
    # A name that is not asked for gives way.
    assert ann.done("POST", f"{ann.top}/trash/{docs['id']}/restore", {})["path"] == "old docs (2)"
    ann.ask("POST", f"{ann.top}/trash/{docs['id']}/restore", {}).refused(409, "NOT_DELETED")


def test_what_is_deleted_comes_back_though_its_folders_are_gone(ann: Person):
    outer = ann.folder("p")
    inner = ann.folder("q", outer["id"])
    node = ann.file("f.txt", b"1", inner["id"])
    ann.update(node, b"2")
    for gone in (node, outer):
        ann.done("DELETE", f"{ann.top}/nodes/{gone['id']}", status=204)
    found = {one["id"]: one["path"] for one in ann.done("GET", f"{ann.top}/trash")["nodes"]}
    assert found == {outer["id"]: "p", node["id"]: "p/q/f.txt"}
    at = f"{ann.top}/nodes/{node['id']}/versions"
    ann.ask("POST", f"{at}/3/restore").refused(404, "NO_SUCH_VERSION")
    # A version of what is in the trash takes it out.
    first, again = (ann.done("POST", f"{at}/1/restore", idempotency_key="v") for _ in range(2))
    assert (first["id"], first["version"]) == (node["id"], 3)
    assert again == first
    assert ann.ask("GET", f"{ann.top}/content/p/q/f.txt").body == b"1"
    ann.done("DELETE", f"{ann.top}/nodes/{node['id']}", status=204)
    there = ann.done("POST", f"{ann.top}/trash/{node['id']}/restore", {"path": "kept/f"})
    assert (there["name"], there["path"]) == ("f", "kept/f")
    # A node that went with its directory is found by its path, and names are taken in any form.
    assert ann.done("GET", f"{ann.top}/trash?path=p/q")["nodes"][0]["id"] == inner["id"]
    assert ann.done("GET", f"{ann.top}/trash?path=p/nothing")["nodes"] == []
    for body, path in (({"name": "e\u0301"}, "p/\u00e9"), ({"path": "a\u0308/o\u0308"}, "\u00e4/\u00f6")):
        ann.done("DELETE", f"{ann.top}/nodes/{node['id']}", status=204)
        assert ann.done("POST", f"{ann.top}/trash/{node['id']}/restore", body)["path"].endswith(path.rpartition("/")[2])
        assert ann.done("GET", f"{ann.top}/nodes/{node['id']}")["name"] == path.rpartition("/")[2]
    both = {"path": "kept/f", "name": "f"}
    ann.ask("POST", f"{ann.top}/trash/{outer['id']}/restore", both).refused(400, "INVALID_ARGUMENT")
    ann.ask("POST", f"{ann.top}/trash/{outer['id']}/restore", {"path": "a/../b"}).refused(400, "INVALID_ARGUMENT")


def test_a_repeated_request_is_done_once_and_answered_the_same(ann: Person):
    def twice(method, path, body=None, *, status=200):
        first, second = (ann.done(method, path, body, status=status, idempotency_key="k") for _ in range(2))
        assert first == second
        return first

    docs = twice("POST", f"{ann.top}/folders", {"parent": "root", "name": "docs"}, status=201)
    node = ann.file("a", b"1")
    ann.update(node, b"2")
    at = f"{ann.top}/nodes/{node['id']}"
    twice("PATCH", at, {"parent": docs["id"], "name": "b"})
    copied = twice("POST", f"{at}/copy", {"parent": "root", "name": "c"}, status=201)
    twice("POST", f"{at}/versions/1/restore")
    twice("DELETE", at, status=204)
    twice("POST", f"{ann.top}/trash/{node['id']}/restore", {})
    change = {"create": {"parent": "root", "name": "d", "kind": "directory"}}
    twice("POST", f"{ann.top}/changes", {"changes": [change]})
    assert copied["id"] != node["id"]
    assert ann.children() == ["c", "d", "docs"]


def test_versions_are_listed_downloaded_and_restored(ann: Person):
    node = ann.file("a.txt", b"first")
    node = ann.update(node, b"second")
    at = f"{ann.top}/nodes/{node['id']}"
    versions = ann.done("GET", f"{at}/versions")["versions"]
    assert [(one["version"], one["size"]) for one in versions] == [(2, 6), (1, 5)]
    old = ann.ask("GET", f"{at}/versions/1/content")
    assert (old.body, old.headers["content-disposition"].split(";")[1]) == (b"first", ' filename="a.txt"')
    assert ann.ask("GET", f"{at}/versions/1/content", range="bytes=1-2").body == b"ir"
    assert ann.ask("HEAD", f"{at}/versions/1/content").headers["content-length"] == "5"
    ann.ask("GET", f"{at}/versions/3/content").refused(404, "NO_SUCH_VERSION")
    ann.ask("POST", f"{at}/versions/3/restore").refused(404, "VERSION_NOT_FOUND")
    ann.ask("POST", f"{at}/versions/1/restore", if_match='"1"').refused(412, "ETAG_MISMATCH")
    restored = ann.done("POST", f"{at}/versions/1/restore", if_match=node["etag"])
    assert restored["version"] == 3
    assert ann.ask("GET", f"{at}/content").body == b"first"


def test_nodes_are_found_by_their_names(ann: Person):
    docs = ann.folder("Reports")
    ann.file("Report 2026.pdf", b"1", docs["id"])
    ann.file("other", b"2")
    found = ann.done("GET", f"{ann.top}/search", query={"q": "report"})["nodes"]
    assert [node["path"] for node in found] == ["Reports", "Reports/Report 2026.pdf"]
    found = ann.done("GET", f"{ann.top}/search", query={"q": "2026 REPORT"})["nodes"]
    assert [node["path"] for node in found] == ["Reports/Report 2026.pdf"]
    ann.ask("GET", f"{ann.top}/search").refused(400, "INVALID_ARGUMENT")


def test_what_happened_is_told_newest_first(ann: Person):
    node = ann.file("a", b"1")
    ann.done("PATCH", f"{ann.top}/nodes/{node['id']}", {"name": "b"})
    ann.done("DELETE", f"{ann.top}/nodes/{node['id']}", status=204)
    told = ann.done("GET", f"{ann.top}/activity")["activities"]
    assert [(one["change"], one["node"]["name"], one["from_name"]) for one in told] == [
        ("deleted", "b", None),
        ("moved", "b", "a"),
        ("created", "a", None),
    ]
    assert {one["user_id"] for one in told} == {ann.account["account"]["user_id"]}


def test_a_tree_is_copied_without_moving_content(ann: Person):
    docs = ann.folder("docs")
    deep = ann.folder("deep", docs["id"])
    ann.file("a", b"1", docs["id"])
    ann.file("b", b"2", deep["id"])
    copied = ann.done("POST", f"{ann.top}/nodes/{docs['id']}/copy", {"parent": "root", "name": "copy"}, status=201)
    assert ann.children(copied["id"]) == ["a", "deep"]
    assert ann.ask("GET", f"{ann.top}/content/copy/deep/b").body == b"2"
    at = f"{ann.top}/nodes/{docs['id']}/copy"
    ann.ask("POST", at, {"parent": deep["id"], "name": "x"}).refused(409, "CYCLE")
    ann.ask("POST", at, {"parent": docs["id"], "name": "x"}).refused(409, "CYCLE")
    ann.ask("POST", at, {"parent": "root", "name": "copy"}).refused(409, "NAME_TAKEN")
    # A directory whose name only begins alike is another one.
    beside = ann.folder("docs2")
    ann.done("POST", at, {"parent": beside["id"], "name": "docs"}, status=201)


def test_a_folder_is_downloaded_as_a_zip(ann: Person):
    docs = ann.folder("döcs")
    ann.folder("empty", docs["id"])
    files = {f"{i:02}.bin": bytes([i]) * (i * 30_000) for i in range(12)}
    for name, data in files.items():
        ann.file(name, data, docs["id"])
    ann.file("back\\slash", b"x", docs["id"])
    answer = ann.ask("GET", f"{ann.top}/nodes/{docs['id']}/archive")
    assert answer.headers["content-type"] == "application/zip"
    assert "d%C3%B6cs.zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        assert {info.filename for info in archive.infolist()} == {
            "döcs/",
            "döcs/empty/",
            "döcs/back%5Cslash",
            *(f"döcs/{name}" for name in files),
        }
        for name, data in files.items():
            assert archive.read(f"döcs/{name}") == data
    whole = ann.ask("GET", f"{ann.top}/nodes/root/archive")
    with zipfile.ZipFile(io.BytesIO(whole.body)) as archive:
        assert len(archive.infolist()) == len(files) + 3
    two = [ann.file("one", b"1")["id"], docs["id"]]
    some = ann.ask("GET", f"{ann.top}/archive", query={"node": two})
    with zipfile.ZipFile(io.BytesIO(some.body)) as archive:
        assert archive.read("one") == b"1"
        assert len(archive.infolist()) == len(files) + 4


def test_files_of_one_name_are_all_in_a_zip(ann: Person):
    one, two = ann.folder("one")["id"], ann.folder("two")["id"]
    nodes = [ann.file("same.txt", name.encode(), folder)["id"] for name, folder in (("1", one), ("2", two))]
    answer = ann.ask("GET", f"{ann.top}/archive", query={"node": nodes})
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.namelist() == ["same.txt", "same (2).txt"]
        assert [archive.read(name) for name in archive.namelist()] == [b"1", b"2"]


def test_a_directory_within_another_one_is_listed_once_for_a_zip(ann: Person):
    """Twelve nested directories once were 78 entries, and a hundred would have been 5,050."""
    nested = [ann.folder("nested")]
    for number in range(11):
        nested.append(ann.folder(f"{number}", nested[-1]["id"]))
    deepest = ann.file("file", b"deep", nested[-1]["id"])
    beside = ann.folder("nested2")  # The name of this directory only begins alike.
    nodes = [one["id"] for one in (deepest, *reversed(nested), beside)]
    answer = ann.ask("GET", f"{ann.top}/archive", query={"node": nodes})
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        path = "/".join(["nested", *(f"{number}" for number in range(11)), "file"])
        assert archive.read(path) == b"deep"
        assert len(archive.namelist()) == len(nodes)
        assert "nested2/" in archive.namelist()


def test_an_empty_space_is_an_empty_zip(ann: Person):
    answer = ann.ask("GET", f"{ann.top}/nodes/root/archive")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.infolist() == []


@pytest.mark.parametrize(
    ("name", "inline", "kind"),
    [
        ("a.png", True, "image/png"),
        ("a.svg", True, "image/svg+xml"),
        ("a.pdf", True, "application/pdf"),
        ("a.txt", True, "text/plain; charset=utf-8"),
        ("a.mp4", True, "video/mp4"),
        ("a.html", False, "text/html"),
        ("a.htm", False, "text/html"),
        ("a.xml", False, "text/xml"),
        ("a.swf", False, "application/x-shockwave-flash"),
        ("unknown", False, "application/octet-stream"),
    ],
)
def test_only_what_cannot_run_is_shown(ann: Person, name, inline, kind):
    node = ann.file(name, b"<script>alert(1)</script>")
    answer = ann.ask("GET", f"{ann.top}/nodes/{node['id']}/content", query={"disposition": "inline"})
    assert answer.headers["content-disposition"].startswith("inline" if inline else "attachment")
    assert answer.headers["content-type"] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy
    assert ("sandbox" in policy) == (kind != "application/pdf")
    assert "sandbox" in policy or "frame-ancestors 'self'" in policy
    saved = ann.ask("GET", f"{ann.top}/nodes/{node['id']}/content")
    assert saved.headers["content-disposition"].startswith("attachment")


NAMES = [
    *("a\r\nset-cookie: x=1", 'quo"te', "semi;colon", "ü\u202eexe", "\u2028", "%0d%0a", "..%2f", " lead", "tab\t"),
    *("\x01", "\x1b]0;owned\x07", "\x0b\x1f\x7f\x85", "\ufffe\uffff\U0010ffff", "]]>&lt;"),
]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_gets_out_of_its_header(ann: Person, stack: Stack, name):
    """A device may have called a file anything."""
    node = ann.file("plain", b"x")
    renamed(ann, stack, node, name)
    for path in (f"nodes/{node['id']}/content", f"archive?node={node['id']}"):
        answer = ann.ask("GET", f"{ann.top}/{path}")
        assert answer.status == 200
        assert answer.headers["set-cookie"] is None
        assert "\n" not in answer.headers["content-disposition"]
        assert answer.headers["content-disposition"].isascii()
        assert answer.headers["content-disposition"].isprintable()
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert [(member.filename, archive.read(member)) for member in archive.infolist()] == [
            (archived_name(name), b"x")
        ]


def renamed(ann: Person, stack: Stack, node: dict[str, Any], name: str) -> None:
    """Rename as a device does, which may use names that the API takes from nobody."""
    move = metadata_pb2.MoveNode(
        node=bytes.fromhex(node["id"]), from_parent=ROOT, from_name=node["name"], parent=ROOT, name=name
    )
    asked = metadata_pb2.CommitChangesRequest(
        space_id=ann.space, request_id=new_request_id(), mutations=[metadata_pb2.Mutation(move=move)]
    )
    authorization = ("authorization", ann.headers["authorization"])
    with grpc.insecure_channel(f"127.0.0.1:{stack.ports.metadata}") as channel:
        answer = MetadataServiceStub(channel).CommitChanges(asked, metadata=(authorization,), timeout=60)
    assert answer.results[0].verdict == journal_pb2.VERDICT_ACCEPTED


BAD_NAMES = [
    "a\nb",
    "\x01",
    "tab\t",
    "\x7f",
    "a\r\nset-cookie: x=1",
    "..",
    ".",
    "a/b",
    "/",
    "a\0b",
    "x" * 256,
    "ü" * 128,
    "\ud800",
    "",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_cannot_be(ann: Person, name):
    node = ann.file("a", b"x")
    for method, path, body in (
        ("POST", "folders", {"parent": "root", "name": name}),
        ("PATCH", f"nodes/{node['id']}", {"name": name}),
        ("POST", f"nodes/{node['id']}/copy", {"parent": "root", "name": name}),
        ("POST", "changes", {"changes": [{"create": {"parent": "root", "name": name, "kind": "directory"}}]}),
    ):
        answer = ann.ask(method, f"{ann.top}/{path}", body)
        if path == "changes" and answer.status == 200:
            assert answer.json["results"] == [{"verdict": "NAME_INVALID", "node": None}]
            continue
        assert answer.json["reason"] in ("INVALID_ARGUMENT", "NAME_INVALID")
        answer.refused(400, answer.json["reason"])
    assert ann.children() == ["a"]


def test_a_browsers_uploads_and_changes_go_the_same_way(stack):
    eve = browser(stack.endpoint, "eve")
    eve.file("a", b"from a browser")
    assert eve.ask("GET", f"{eve.top}/content/a").body == b"from a browser"
