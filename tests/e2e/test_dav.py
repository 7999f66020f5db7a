"""WebDAV over the whole system: rclone, litmus, and native clients of the same files."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import subprocess
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psutil
import pytest

from stack.demo import DemoDevice, contents
from syncline.model.blocks import MIB
from tests.clients.transfer.fakes import noise
from tests.e2e.dav import PASSWORD, Person, Slowly, address, tree

LITMUS = shutil.which("litmus")
LOCK = (
    b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
    b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
)
ALLPROP = b'<D:propfind xmlns:D="DAV:"><D:allprop/></D:propfind>'
NAMED = b'<D:propfind xmlns:D="DAV:"><D:prop><D:getetag/><D:displayname/></D:prop></D:propfind>'
PROPPATCH = (
    b'<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><x:tag xmlns:x="urn:x">VALUE</x:tag></D:prop></D:set>'
    b"</D:propertyupdate>"
)
OWNER = "<D:owner>Ann &#13;&#x7f; \u202e \ufffd</D:owner>".encode()
WINDOWS = "urn:schemas-microsoft-com:"


@pytest.fixture(scope="module")
def ann(stack) -> Person:
    return Person(stack.endpoint)


@pytest.fixture
def folder(ann: Person, request: pytest.FixtureRequest) -> Iterator[str]:
    """A directory for one test."""
    name = f"personal/{request.node.name[:80]}"
    assert ann.dav("MKCOL", name).status == 201
    yield name
    ann.dav("DELETE", name)


# -- programs


def test_rclone_copies_a_tree_there_and_back(ann: Person, tmp_path: Path) -> None:
    here, back = tmp_path / "here", tmp_path / "back"
    tree(here, files=500, make=noise)
    ann.rclone("copy", "--transfers", "8", str(here), "dav:personal/tree")
    assert "0 differences" in ann.rclone("check", "--download", str(here), "dav:personal/tree")
    ann.rclone("copy", "--transfers", "8", "dav:personal/tree", str(back))
    assert contents(back) == contents(here)
    times = {path.relative_to(here): path.stat().st_mtime for path in here.rglob("*") if path.is_file()}
    assert {path.relative_to(back): path.stat().st_mtime for path in back.rglob("*") if path.is_file()} == times
    # Times and sizes are as they were, so there is nothing to do.
    assert "Copied" not in ann.rclone("copy", "-v", str(here), "dav:personal/tree")
    ann.rclone("moveto", "dav:personal/tree", "dav:personal/a;b?c#d%20e")
    assert len(ann.rclone("lsf", "-R", "--files-only", "dav:personal/a;b?c#d%20e").splitlines()) == 500
    ann.rclone("purge", "dav:personal/a;b?c#d%20e")
    assert "/dav/personal/a;b?c#d%20e/" not in ann.listing("personal")


def test_devices_and_webdav_see_the_same_files(ann: Person, stack, tmp_path: Path) -> None:
    device = DemoDevice(ann.email.partition("@")[0], "laptop", tmp_path / "laptop")
    device.run(
        *("login", "--endpoint", stack.endpoint, "--email", ann.email, "--password-stdin", "--device", "laptop"),
        stdin=f"{PASSWORD}\n",
    )
    ann.call("POST", "/v1/spaces", {"name": "Both"}, token=ann.token)
    large, small = noise(9 * MIB + 17, 1), b"written by WebDAV"
    assert ann.dav("MKCOL", "Both/dä").status == 201
    assert ann.put("Both/dä/large", large).status == 201
    assert ann.put("Both/small", small, x_oc_mtime="1500000000").status == 201
    device.folder.mkdir(parents=True)
    device.run("sync", str(device.folder), "--space", "Both")
    assert (device.folder / "dä" / "large").read_bytes() == large
    assert (device.folder / "small").read_bytes() == small
    assert (device.folder / "small").stat().st_mtime == 1_500_000_000
    # The same cuts: what a device cut is not stored again.
    (device.folder / "again").write_bytes(large)
    (device.folder / "small").write_bytes(b"written by a device")
    figures = device.sync()
    assert figures["uploaded"] == 2
    assert figures["bytes_up"] < MIB
    assert ann.dav("GET", "Both/small").body == b"written by a device"
    answer = ann.dav("GET", "Both/again", range=f"bytes={8 * MIB}-")
    assert (answer.status, answer.body) == (206, large[8 * MIB :])
    assert answer.headers["etag"] == f'"{hashlib.sha256(large).hexdigest()}"'
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert device.check()["current"] == 3


@pytest.mark.skipif(LITMUS is None, reason="litmus is not installed")
@pytest.mark.parametrize("suite", ["basic", "copymove", "props", "locks", "http"])
def test_litmus(ann: Person, stack, suite: str, tmp_path: Path) -> None:
    """All tests of each suite pass, without a warning."""
    assert LITMUS is not None
    ran = subprocess.run(
        [LITMUS, "-k", f"{stack.endpoint}/dav/personal/", ann.email, ann.key],
        env={**os.environ, "TESTS": suite},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "WARNING" not in ran.stdout
    assert " 0 failed. 100.0%" in ran.stdout


# -- who may


def test_only_a_key_or_a_token_opens_it(ann: Person) -> None:
    asked = ann.dav("PROPFIND", "personal", depth="0", authorization="")
    assert asked.status == 401
    assert asked.headers["www-authenticate"].startswith('Basic realm="Syncline"')
    wrong = Person(ann.endpoint)
    wrong.key = PASSWORD
    assert b"make one in the settings" in wrong.dav("PROPFIND", "personal", depth="0").body
    wrong.key = "syk_" + "a" * 40
    assert wrong.dav("PROPFIND", "personal", depth="0").status == 401
    wrong.key = ann.key  # somebody else's
    assert wrong.dav("PROPFIND", "personal", depth="0").status == 401
    for bearer in (ann.token, ann.key):
        assert ann.dav("PROPFIND", "personal", depth="0", authorization=f"Bearer {bearer}").status == 207
    assert ann.dav("GET", "personal", authorization="", cookie=f"__Host-syncline={ann.key}").status == 401


def test_a_space_is_for_its_members_and_a_viewer_only_reads(ann: Person) -> None:
    ben = Person(ann.endpoint)
    space = ann.call("POST", "/v1/spaces", {"name": "Shared"}, token=ann.token)["space_id"]
    assert ann.put("Shared/f", b"x").status == 201
    assert ben.dav("PROPFIND", "Shared", depth="0").status == 404
    assert ben.dav("GET", "Shared/f").status == 404
    assert ben.put("Shared/g", b"x").status == 404
    ann.call("PUT", f"/v1/spaces/{space}/members/{ben.email}", {"role": "viewer"}, token=ann.token)
    assert ben.dav("GET", "Shared/f").body == b"x"
    for method, headers in {
        "PUT": {},
        "DELETE": {},
        "MKCOL": {},
        "PROPPATCH": {},
        "LOCK": {},
        "MOVE": {"destination": address("Shared/g")},
        "COPY": {"destination": address("Shared/g")},
    }.items():
        refused = ben.dav(method, "Shared/f", b"", **headers)
        assert refused.problem() == (403, "PERMISSION_DENIED"), method
    assert ann.listing("Shared") == ["/dav/Shared/f"]
    # Nothing goes from one space to another.
    for method in ("MOVE", "COPY"):
        assert ann.dav(method, "Shared/f", destination=address("personal/f")).status == 403
        assert ann.dav(method, "Shared/f", destination="http://elsewhere/dav/Shared/f").status == 502


def test_an_owner_of_a_space_breaks_the_lock_of_an_editor(ann: Person) -> None:
    ben, other = Person(ann.endpoint), Person(ann.endpoint)
    space = ann.call("POST", "/v1/spaces", {"name": "Locked"}, token=ann.token)["space_id"]
    for editor in (ben, other):
        ann.call("PUT", f"/v1/spaces/{space}/members/{editor.email}", {"role": "editor"}, token=ann.token)
    taken = ben.dav("LOCK", "Locked", LOCK, depth="infinity", timeout="Infinite")
    assert taken.status == 200
    assert b"Second-86400" in taken.body
    assert ann.put("Locked/f", b"x").status == 423
    told = ann.dav("PROPFIND", "Locked", ALLPROP, depth="0").body
    (token,) = set(re.findall(rb"urn:uuid:[0-9a-f-]+", told))
    name = f"<{token.decode()}>"
    assert other.dav("UNLOCK", "Locked", lock_token=name).status == 403
    assert ann.dav("UNLOCK", "Locked", lock_token=name).status == 204
    assert ann.put("Locked/f", b"x").status == 201


def test_beside_the_spaces_nothing_can_be(ann: Person) -> None:
    assert ann.dav("GET", "").status == 200
    assert "/dav/personal/" in ann.listing("")
    assert ann.put("file", b"x").status == 404
    for method in ("MKCOL", "DELETE"):
        assert ann.dav(method, "new" if method == "MKCOL" else "personal").status == 403
    assert ann.dav("MOVE", "personal", destination=address("other")).status == 403
    assert ann.dav("PROPFIND", "personal", depth="infinity").status == 403
    assert b"propfind-finite-depth" in ann.dav("PROPFIND", "personal", depth="infinity").body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dav/personal/..%2Fx", 400),
        ("/dav/personal/%2e%2e/x", 400),
        ("/dav/personal/a%00b", 400),
        ("/dav/personal/%ff", 400),
        ("/dav/personal/" + "a" * 256, 400),
        ("/dav/personal/.syncline", 400),
        ("/dav/personal/no/such/directory", 409),
    ],
)
def test_hostile_names_are_refused(ann: Person, path: str, status: int) -> None:
    connection = http.client.HTTPConnection(urlsplit(ann.endpoint).netloc, timeout=60)
    connection.request("PUT", path, b"x", {"authorization": ann.basic})
    assert connection.getresponse().status == status
    connection.close()


# -- files


def test_a_put_over_a_file_is_a_new_version(ann: Person, folder: str) -> None:
    first = ann.put(f"{folder}/f", b"one")
    assert first.status == 201
    assert ann.put(f"{folder}/f", b"two", if_none_match="*").status == 412
    assert ann.put(f"{folder}/f", b"two", if_match='"other"').status == 412
    assert ann.put(f"{folder}/g", b"two", if_match='"other"').status == 412
    second = ann.put(f"{folder}/f", b"two", if_match=first.headers["etag"])
    assert second.status == 204
    found = ann.dav("PROPFIND", f"{folder}/f", depth="0").properties()[f"/dav/{folder}/f"]
    assert found["{DAV:}getetag"] == second.headers["etag"] == f'"{hashlib.sha256(b"two").hexdigest()}"'
    assert ann.put(f"{folder}/f", b"x", x_oc_mtime="soon").status == 400
    assert ann.put(f"{folder}/f", b"x", x_oc_mtime="9" * 30).status == 400
    for number, mtime in enumerate(("99999999999", "-99999999999", "10413792000.5", "-2177452800", "0")):
        assert ann.put(f"{folder}/of {number}", b"x", x_oc_mtime=mtime).status == 201
        assert ann.dav("PROPFIND", f"{folder}/of {number}", depth="0").status == 207
        assert ann.dav("GET", f"{folder}/of {number}").body == b"x"
    assert ann.put(f"{folder}", b"x").status == 405
    assert ann.dav("GET", f"{folder}/f", if_none_match=second.headers["etag"]).status == 304


def test_a_put_that_others_were_faster_than_changes_nothing(ann: Person, folder: str) -> None:
    assert ann.put(f"{folder}/f", b"one").status == 201
    slow = Slowly(ann, f"{folder}/f", "content-length: 4")
    assert ann.put(f"{folder}/f", b"fast").status == 204
    assert slow.finish(b"slow").problem() == (409, "VERSION_CONFLICT")
    slow = Slowly(ann, f"{folder}/g", "content-length: 4\r\nif-none-match: *")
    assert ann.put(f"{folder}/g", b"fast").status == 201
    assert slow.finish(b"slow").problem() == (412, "NAME_TAKEN")
    slow = Slowly(ann, f"{folder}/f", "content-length: 4")
    assert ann.dav("LOCK", f"{folder}/f", LOCK, depth="0").status == 200
    assert slow.finish(b"slow").status == 423
    assert ann.dav("GET", f"{folder}/f").body == ann.dav("GET", f"{folder}/g").body == b"fast"


def test_a_put_in_chunks(ann: Person, folder: str) -> None:
    data = noise(3 * MIB, 3)
    sent = (data[at : at + 100_000] for at in range(0, len(data), 100_000))
    assert ann.dav("PUT", f"{folder}/f", sent, x_expected_entity_length=str(len(data))).status == 201
    assert ann.dav("GET", f"{folder}/f").body == data


@pytest.mark.parametrize("framing", ["content-length: 1000000", "transfer-encoding: chunked"])
def test_a_put_that_is_broken_off_changes_nothing(ann: Person, folder: str, framing: str) -> None:
    assert ann.put(f"{folder}/f", b"before").status == 201
    slow = Slowly(ann, f"{folder}/f", framing)
    slow.socket.sendall(b"100\r\n" + b"x" * 256 + b"\r\n")
    slow.socket.close()
    for i in range(5):  # anything that it would do would have been done meanwhile
        assert ann.put(f"{folder}/{i}", b"after").status == 201
    assert ann.dav("GET", f"{folder}/f").body == b"before"


def test_uploads_take_bounded_memory_and_no_disk(ann: Person, stack, folder: str) -> None:
    process = psutil.Process(stack.pids["gateway"])
    before, most = process.memory_info().rss, 0
    data = noise(48 * MIB, 4)
    uploads = [threading.Thread(target=ann.put, args=(f"{folder}/{i}", data[i * MIB :] + bytes([i]))) for i in range(6)]
    for upload in uploads:
        upload.start()
    while any(upload.is_alive() for upload in uploads):
        most = max(most, process.memory_info().rss)
        time.sleep(0.01)
    assert len(ann.listing(folder)) == 6
    assert most - before < 120 * MIB


# -- the tree


def test_a_tree_moves_and_what_it_replaces_is_in_the_trash(ann: Person, folder: str) -> None:
    ann.dav("MKCOL", f"{folder}/a")
    ann.dav("MKCOL", f"{folder}/a/b")
    ann.put(f"{folder}/a/b/f", b"moved")
    ann.put(f"{folder}/c", b"replaced")
    assert ann.dav("MOVE", f"{folder}/a", destination=address(f"{folder}/c"), overwrite="F").status == 412
    assert ann.dav("MOVE", f"{folder}/a", destination=address(f"{folder}/a/b/x")).status == 403
    assert ann.dav("MOVE", f"{folder}/a/b", destination=address(f"{folder}/a")).status == 403
    assert ann.dav("MOVE", f"{folder}/a", destination=address(f"{folder}/none/x")).status == 409
    assert ann.dav("MOVE", f"{folder}/a", destination=address(f"{folder}/c")).status == 204
    assert ann.dav("GET", f"{folder}/c/b/f").body == b"moved"
    space = ann.call("GET", "/v1/spaces", token=ann.token)["spaces"][0]["space_id"]
    trash = ann.call("GET", f"/v1/spaces/{space}/trash", token=ann.token)["nodes"]
    assert [node["name"] for node in trash if node["name"] == "c"] == ["c"]


def test_a_copy_moves_no_bytes(ann: Person, stack, folder: str) -> None:
    ann.dav("MKCOL", f"{folder}/a")
    ann.dav("MKCOL", f"{folder}/a/b")
    for i in range(20):
        ann.put(f"{folder}/a/b/{i}", b"%d" % i)
    assert ann.dav("COPY", f"{folder}/a", destination=address(f"{folder}/c")).status == 201
    assert ann.dav("GET", f"{folder}/c/b/7").body == b"7"
    assert len(ann.listing(f"{folder}/c/b")) == 20
    assert ann.dav("COPY", f"{folder}/a", destination=address(f"{folder}/d"), depth="0").status == 201
    assert ann.listing(f"{folder}/d") == []
    assert ann.dav("COPY", f"{folder}/a/b/1", destination=address(f"{folder}/a/b/2")).status == 204
    assert ann.dav("GET", f"{folder}/a/b/2").body == b"1"
    # A directory that is replaced by a copy is not merged with it.
    assert ann.dav("COPY", f"{folder}/d", destination=address(f"{folder}/c")).status == 204
    assert ann.listing(f"{folder}/c") == []


# -- names that XML cannot hold

NAMES = [
    "a\x01b.txt",
    "\x1b[31m red \x1b]0;owned\x07",
    "\x0b\x0c\x08 \x1f",
    "not a character \ufffe \uffff",
    "lines\nand\r\ttabs",
    "\x7f\x85 ]]> &lt; <b> \"' %01",
    "photo\u202egpj.exe",
    "\U000effff \U0010ffff \ufdd0 \u2028",
]


def hrefs(answer: bytes) -> list[tuple[str, str]]:
    """The address of each resource as it is told, and the name to be shown."""
    return [
        (one.findtext("{DAV:}href") or "", one.findtext(".//{DAV:}displayname") or "")
        for one in ET.fromstring(answer).findall("{DAV:}response")
    ]


@pytest.mark.parametrize("body", [b"", ALLPROP, NAMED], ids=["", "allprop", "named"])
def test_names_that_xml_cannot_hold_hide_nothing_of_their_directory(ann: Person, folder: str, body: bytes) -> None:
    for name in NAMES:
        assert ann.put(f"{folder}/{name}", name.encode()).status == 201
        assert ann.dav("MKCOL", f"{folder}/{name} d").status == 201
    assert ann.put(f"{folder}/ünschuldig 👨\u200d👩\u200d👧.txt", b"x").status == 201
    answer = ann.dav("PROPFIND", folder, body, depth="1")
    assert answer.status == 207
    told = hrefs(answer.body)
    found = {unquote(href).removeprefix(f"/dav/{folder}/").rstrip("/") for href, _ in told} - {""}
    assert found == {*NAMES, *(f"{name} d" for name in NAMES), "ünschuldig 👨\u200d👩\u200d👧.txt"}
    assert all(re.fullmatch(r"[!-~]+", href) for href, _ in told)
    shown = dict(told)
    assert shown[address(f"{folder}/ünschuldig 👨\u200d👩\u200d👧.txt")] == "ünschuldig 👨\u200d👩\u200d👧.txt"
    assert shown[address(f"{folder}/a\x01b.txt")] == "a b.txt"
    for steers in "\x1b\x07\x0b\n\r\u202e\u2028\ufffe":
        assert not any(steers in name for name in shown.values())


@pytest.mark.parametrize("name", NAMES, ids=map(str, range(len(NAMES))))
def test_what_xml_cannot_hold_is_worked_with_by_its_address(ann: Person, folder: str, name: str) -> None:
    assert ann.put(f"{folder}/{name}", b"one").status == 201
    assert ann.dav("MKCOL", f"{folder}/{name} d").status == 201
    told = [href for href, _ in hrefs(ann.dav("PROPFIND", folder, ALLPROP, depth="1").body)]
    ((file,), (directory,)) = (
        [href for href in told if unquote(href) == f"/dav/{folder}/{name}"],
        [href for href in told if unquote(href) == f"/dav/{folder}/{name} d/"],
    )
    assert ann.at("GET", file).body == b"one"
    assert ann.at("HEAD", file).status == 200
    assert hrefs(ann.at("PROPFIND", file, ALLPROP, depth="0").body)[0][0] == file
    set_one = PROPPATCH.replace(b"VALUE", b"kept \xef\xbf\xbd")
    patched = ann.at("PROPPATCH", file, set_one)
    assert patched.status == 207
    assert hrefs(patched.body)[0][0] == file
    locked = ann.at("LOCK", directory, LOCK.replace(b"</D:lockinfo>", OWNER + b"</D:lockinfo>"), depth="infinity")
    assert locked.status == 200
    token = locked.headers["lock-token"]
    root = ET.fromstring(locked.body).findtext(".//{DAV:}lockroot/{DAV:}href") or ""
    assert unquote(root) == f"/dav/{folder}/{name} d"
    assert re.fullmatch(r"[!-~]+", root)
    refused = ann.at("MOVE", file, destination=f"{directory}inner")
    assert refused.problem()[0] == 423
    assert unquote(ET.fromstring(refused.body).findtext(".//{DAV:}href") or "").rstrip("/") == unquote(root)
    assert ann.at("UNLOCK", directory, lock_token=token).status == 204
    moved = ann.at("MOVE", file, destination=f"{directory}inner {quote(name)}")
    assert moved.status == 201
    assert ann.at("COPY", directory, destination=f"/dav/{folder}/copy%01").status == 201
    assert ann.dav("GET", f"{folder}/copy\x01/inner {name}").body == b"one"
    assert b"kept" in ann.dav("PROPFIND", f"{folder}/copy\x01/inner {name}", ALLPROP, depth="0").body
    assert ann.at("MOVE", directory, destination=file).status == 201
    assert ann.at("DELETE", file).status == 204
    assert ann.at("GET", f"{file}%01").problem()[0] == 404


@pytest.mark.parametrize(
    "value",
    [b"&#1;", b"\x01", b"&#xfffe;", "\ufffe".encode(), b"\xed\xa0\x80", b"&#xd800;", b"&evil;", b"\xff"],
    ids=ascii,
)
def test_no_property_and_no_owner_holds_what_xml_cannot(ann: Person, folder: str, value: bytes) -> None:
    assert ann.put(f"{folder}/f", b"x").status == 201
    for asked, body in {
        "PROPPATCH": PROPPATCH.replace(b"VALUE", value),
        "LOCK": LOCK.replace(b"</D:lockinfo>", b"<D:owner>" + value + b"</D:owner></D:lockinfo>"),
    }.items():
        assert ann.dav(asked, f"{folder}/f", body, depth="0").problem() == (400, "INVALID_ARGUMENT")
    assert len(hrefs(ann.dav("PROPFIND", folder, ALLPROP, depth="1").body)) == 2


def test_what_xml_cannot_hold_has_no_part_in_an_error(ann: Person, folder: str) -> None:
    for method, path in (("PROPPATCH", "no\x01ne\ufffe"), ("PROPFIND", "a\x1b"), ("MKCOL", "a\x01/b\uffff")):
        answer = ann.dav(method, f"{folder}/{path}", PROPPATCH if method == "PROPPATCH" else b"", depth="0")
        assert answer.problem()[0] in {404, 409}
        assert "\x01" not in answer.body.decode()


# -- properties and locks


def test_properties_move_and_are_copied_along(ann: Person, folder: str) -> None:
    ann.put(f"{folder}/f", b"x")
    body = (
        f'<D:propertyupdate xmlns:D="DAV:" xmlns:W="{WINDOWS}"><D:set><D:prop>'
        "<W:Win32FileAttributes>00000020</W:Win32FileAttributes></D:prop></D:set></D:propertyupdate>"
    )
    assert ann.dav("PROPPATCH", f"{folder}/f", body.encode()).status == 207
    assert ann.dav("COPY", f"{folder}/f", destination=address(f"{folder}/g")).status == 201
    assert ann.dav("MOVE", f"{folder}/f", destination=address(f"{folder}/h")).status == 201
    found = ann.dav("PROPFIND", folder, depth="1").properties()
    name = f"{{{WINDOWS}}}Win32FileAttributes"
    assert {path.rpartition("/")[2]: own.get(name) for path, own in found.items()} == {
        "": None,
        "g": "00000020",
        "h": "00000020",
    }
    large = body.replace("00000020", "x" * 40_000)
    assert ann.dav("PROPPATCH", f"{folder}/g", large.encode()).status == 507


def test_what_is_locked_can_be_changed_only_with_the_lock(ann: Person, folder: str) -> None:
    ann.dav("MKCOL", f"{folder}/a")
    ann.put(f"{folder}/a/f", b"one")
    locked = ann.dav("LOCK", f"{folder}/a", LOCK, depth="infinity")
    assert locked.status == 200
    token = locked.headers["lock-token"]
    refused = ann.put(f"{folder}/a/f", b"two")
    assert refused.status == 423
    assert b"lock-token-submitted" in refused.body
    assert address(f"{folder}/a").encode() in refused.body
    assert ann.dav("DELETE", folder).status == 423
    assert ann.dav("MOVE", f"{folder}/a", destination=address(f"{folder}/b")).status == 423
    assert ann.dav("LOCK", f"{folder}/a/f", LOCK, depth="0").status == 423
    held = f"<{ann.endpoint}{address(folder)}/a> ({token})"
    assert ann.put(f"{folder}/a/f", b"two", **{"if": held}).status == 204
    assert ann.dav("UNLOCK", f"{folder}/a", lock_token=token).status == 204
    assert ann.put(f"{folder}/a/f", b"three").status == 204


@pytest.mark.parametrize("asked", ["Infinite", "Second-4100000000", f"Second-{'9' * 19}"])
def test_a_lock_lasts_a_day_at_most(ann: Person, folder: str, asked: str) -> None:
    answer = ann.dav("LOCK", f"{folder}/long", LOCK, timeout=asked, depth="0")
    assert answer.status in {200, 201}
    assert b"Second-86400<" in answer.body
    token = answer.headers["lock-token"]
    assert ann.dav("UNLOCK", f"{folder}/long", lock_token=token).status == 204


def test_a_lock_ends_with_its_time(ann: Person, folder: str) -> None:
    began = time.monotonic()
    assert ann.dav("LOCK", f"{folder}/new", LOCK, timeout="Second-5", depth="0").status == 201
    status = ann.put(f"{folder}/new", b"x").status
    assert status == 423 or time.monotonic() > began + 5, status
    deadline = time.monotonic() + 60
    while ann.put(f"{folder}/new", b"x").status != 204:
        assert time.monotonic() < deadline
        time.sleep(0.1)
