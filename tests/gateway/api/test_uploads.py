"""Uploads: straight to S3, sealed, committed."""

import hashlib

import pytest

from tests.gateway.client import Person, checksum, put

DATA = b"content" * 1000
SHA = hashlib.sha256(DATA).hexdigest()
WANTED = {"objects": [{"sha256": SHA, "size": len(DATA)}]}


def test_an_address_takes_exactly_the_bytes_it_is_for(ann: Person):
    (upload,) = ann.done("POST", f"{ann.top}/uploads", WANTED)["uploads"]
    assert upload["headers"] == {"if-none-match": "*", "x-amz-checksum-sha256": checksum(DATA)}
    other = b"another" * 1000
    assert put(upload, other) == 400
    assert put(upload | {"headers": upload["headers"] | {"x-amz-checksum-sha256": checksum(other)}}, other) == 403
    assert put(upload | {"headers": {"x-amz-checksum-sha256": checksum(DATA)}}, DATA) == 403
    assert put(upload, DATA[:-1]) in (400, 403)
    assert put(upload | {"url": upload["url"].replace(SHA, "0" * 64)}, DATA) == 403
    assert put(upload | {"url": upload["url"].replace(ann.space, "a" * 26)}, DATA) == 403
    assert put(upload, DATA) == 200
    assert put(upload, DATA) == 412


def test_what_is_stored_is_not_uploaded_again(ann: Person):
    ann.store(DATA)
    assert ann.done("POST", f"{ann.top}/uploads", WANTED)["uploads"][0]["stored"]


def test_what_was_not_uploaded_is_not_sealed_and_not_committed(ann: Person):
    assert ann.done("POST", f"{ann.top}/objects", WANTED) == {"verdicts": ["OBJECT_MISSING"]}
    content = {"digest": SHA, "size": len(DATA), "blocks": [[SHA, len(DATA)]]}
    change = {"create": {"parent": "root", "name": "a", "kind": "file", "content": content}}
    (result,) = ann.done("POST", f"{ann.top}/changes", {"changes": [change]})["results"]
    assert result == {"verdict": "OBJECT_MISSING", "node": None}
    assert ann.children() == []


def test_a_pack_of_small_files_is_one_object(ann: Person):
    parts = [bytes([i]) * (100 + i) for i in range(50)]
    pack = b"".join(parts)
    sha = hashlib.sha256(pack).hexdigest()
    (upload,) = ann.done("POST", f"{ann.top}/uploads", {"objects": [{"sha256": sha, "size": len(pack)}]})["uploads"]
    assert put(upload, pack) == 200
    digests = [hashlib.sha256(part).hexdigest() for part in parts]
    lengths = [len(part) for part in parts]
    offsets = [sum(lengths[:i]) for i in range(len(parts))]
    declared = {"sha256": sha, "size": len(pack), "pack": {"blocks": digests, "offsets": offsets, "lengths": lengths}}
    assert ann.done("POST", f"{ann.top}/objects", {"objects": [declared]}) == {"verdicts": ["SEALED"]}
    folder = {"create": {"parent": "root", "name": "many", "kind": "directory"}}
    files = [
        {
            "create": {
                "parent": {"change": 0},
                "name": f"{i:02}",
                "kind": "file",
                "content": {
                    "digest": digests[i],
                    "size": lengths[i],
                    "blocks": [[digests[i], lengths[i], sha, offsets[i]]],
                },
            }
        }
        for i in range(len(parts))
    ]
    results = ann.done("POST", f"{ann.top}/changes", {"changes": [folder, *files]})["results"]
    assert {result["verdict"] for result in results} == {"ACCEPTED"}
    for i, part in enumerate(parts):
        assert ann.ask("GET", f"{ann.top}/content/many/{i:02}").body == part


def test_a_conflict_overwrites_nothing(ann: Person):
    node = ann.file("a", b"1")
    ann.update(node, b"2")
    change = {"update": {"node": node["id"], "base_version": 1, "content": ann.content(b"3")}}
    (result,) = ann.done("POST", f"{ann.top}/changes", {"changes": [change]})["results"]
    assert result["verdict"] == "VERSION_CONFLICT"
    assert result["node"]["version"] == 2
    assert ann.ask("GET", f"{ann.top}/content/a").body == b"2"


def test_changes_that_make_no_sense(ann: Person):
    content = {"digest": SHA, "size": len(DATA), "blocks": [[SHA, len(DATA)]]}
    create = {"parent": "root", "name": "a", "kind": "file", "content": content}
    for change in (
        {},
        {"create": create, "update": {"node": "root", "base_version": 1, "content": content}},
        {"create": create | {"parent": {"change": 0}}},
        {"create": create | {"parent": "nonsense"}},
        {"create": create | {"kind": "symlink"}},
        {"create": create | {"content": content | {"digest": "xyz"}}},
        {"create": create | {"content": content | {"size": -1}}},
        {"create": create | {"content": content | {"blocks": [[SHA]]}}},
        {"create": create | {"content": content | {"blocks": [[SHA, 0]]}}},
        {"create": create | {"content": content | {"blocks": [[SHA, len(DATA), SHA]]}}},
    ):
        ann.ask("POST", f"{ann.top}/changes", {"changes": [change]}).refused(400, "INVALID_ARGUMENT")
    ann.ask("POST", f"{ann.top}/changes", {"changes": []}).refused(400, "INVALID_ARGUMENT")
    declared = {"sha256": SHA, "size": 1, "manifest": True, "pack": {"blocks": [SHA], "offsets": [0], "lengths": [1]}}
    ann.ask("POST", f"{ann.top}/objects", {"objects": [declared]}).refused(400, "INVALID_ARGUMENT")
    assert ann.children() == []


def test_a_viewer_uploads_nothing(ann: Person, ben: Person):
    space = ann.done("POST", "/v1/spaces", {"name": "P"}, status=201)["space_id"]
    ann.done("PUT", f"/v1/spaces/{space}/members/{ben.email}", {"role": "viewer"})
    ben.space = space
    for path, body in (
        ("uploads", WANTED),
        ("objects", WANTED),
        ("folders", {"parent": "root", "name": "x"}),
        ("links", {"node": "root"}),
    ):
        ben.ask("POST", f"{ben.top}/{path}", body).refused(403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (-62_135_596_800_000, -9_223_372_036_855),  # the year 1
        (-2_177_452_800_000, -2_177_452_800_000),  # 1901
        (-1, -1),
        (0, 0),
        (10_413_792_000_000, 9_223_372_036_854),  # 2300
        (253_402_300_799_999, 9_223_372_036_854),
    ],
)
def test_a_file_may_be_of_any_time(ann: Person, given: int, kept: int):
    ann.store(DATA)
    content = {"digest": SHA, "size": len(DATA), "blocks": [[SHA, len(DATA)]], "mtime_ms": given}
    change = {"create": {"parent": "root", "name": "a", "kind": "file", "content": content}}
    (result,) = ann.done("POST", f"{ann.top}/changes", {"changes": [change]})["results"]
    assert result["verdict"] == "ACCEPTED"
    assert result["node"]["mtime_ms"] == kept
    assert ann.ask("GET", f"{ann.top}/content/a").body == DATA
    assert ann.ask("GET", f"{ann.top}/nodes/root/archive").status == 200


@pytest.mark.parametrize("given", [10**15, -(10**15), 10**30, 1.5, "soon"])
def test_a_time_that_nobody_means_is_refused(ann: Person, given: object):
    content = {"digest": SHA, "size": len(DATA), "blocks": [[SHA, len(DATA)]], "mtime_ms": given}
    change = {"create": {"parent": "root", "name": "a", "kind": "file", "content": content}}
    assert 400 <= ann.ask("POST", f"{ann.top}/changes", {"changes": [change]}).status < 500
    assert ann.children() == []
