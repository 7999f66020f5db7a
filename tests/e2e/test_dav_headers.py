"""Headers that WebDAV clients send beside the file are honoured, or refused."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.e2e.dav import Answer, Person, address, send

WINDOWS = "urn:schemas-microsoft-com:"
DATA = b"some bytes"
HEAD_BYTES = 32 * 1024
"""Longer headers are refused as such, before anybody reads what they say."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system behind a proxy on this machine, which says how it was addressed."""
    with running_stack(variables={"SYNCLINE_TRUSTED_NETWORKS": "127.0.0.1/32"}) as running:
        yield running


@pytest.fixture(scope="module")
def ann(stack: Stack) -> Person:
    person = Person(stack.endpoint)
    assert person.put("personal/f", DATA).status == 201
    return person


def proppatch(ann: Person, path: str, *properties: str, remove: bool = False) -> Answer:
    what = "remove" if remove else "set"
    body = "".join(f"<D:{what}><D:prop>{one}</D:prop></D:{what}>" for one in properties)
    return ann.dav(
        "PROPPATCH", path, f'<D:propertyupdate xmlns:D="DAV:" xmlns:W="{WINDOWS}">{body}</D:propertyupdate>'.encode()
    )


def statuses(answer: Answer) -> dict[str, int]:
    """Return the outcome of each property."""
    import xml.etree.ElementTree as ET

    assert answer.status == 207, answer.body
    found = {}
    for stat in ET.fromstring(answer.body).iter("{DAV:}propstat"):
        for prop in stat.find("{DAV:}prop") or []:
            found[prop.tag.partition("}")[2]] = int((stat.findtext("{DAV:}status") or "").split()[1])
    return found


def changed(ann: Person, path: str) -> str | None:
    (found,) = ann.dav("PROPFIND", path, depth="0").properties().values()
    return found["{DAV:}getlastmodified"]


@pytest.mark.parametrize(
    ("mtime", "date"),
    [
        ("0", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("-1", "Wed, 31 Dec 1969 23:59:59 GMT"),
        ("-0.5", "Wed, 31 Dec 1969 23:59:59 GMT"),
        ("1.999999999", "Thu, 01 Jan 1970 00:00:01 GMT"),
        ("-2208988800", "Mon, 01 Jan 1900 00:00:00 GMT"),
        ("4102444800", "Fri, 01 Jan 2100 00:00:00 GMT"),
        ("253402300799", "Fri, 11 Apr 2262 23:47:16 GMT"),  # the last of the year 9999: the nearest that is stored
        ("-62135596800", "Tue, 21 Sep 1677 00:12:43 GMT"),
    ],
)
def test_a_time_of_change_is_what_the_client_said(ann: Person, mtime: str, date: str) -> None:
    answer = ann.put("personal/time", mtime.encode(), x_oc_mtime=mtime)
    assert answer.status in {201, 204}
    assert answer.headers["x-oc-mtime"] == "accepted"
    assert changed(ann, "personal/time") == date


def test_rclone_has_nothing_to_do_for_old_files(ann: Person, tmp_path: Path) -> None:
    for name, seconds in (("epoch", 0), ("before", -86_400 * 400), ("second", 1)):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (seconds, seconds))
    ann.rclone("copy", str(tmp_path), "dav:personal/old")
    assert "Copied" not in ann.rclone("copy", "-v", str(tmp_path), "dav:personal/old")


def test_explorer_sets_the_time_of_change(ann: Person) -> None:
    ann.put("personal/doc", DATA)
    date = "Fri, 13 Feb 2009 23:31:30 GMT"
    answer = proppatch(
        ann,
        "personal/doc",
        f"<W:Win32LastModifiedTime>{date}</W:Win32LastModifiedTime>",
        f"<W:Win32CreationTime>{date}</W:Win32CreationTime>",
        "<W:Win32FileAttributes>00000020</W:Win32FileAttributes>",
    )
    names = ("Win32LastModifiedTime", "Win32CreationTime", "Win32FileAttributes")
    assert statuses(answer) == dict.fromkeys(names, 200)
    assert changed(ann, "personal/doc") == date
    wanted = "".join(f"<W:{name}/>" for name in names)
    asked = f'<D:propfind xmlns:D="DAV:" xmlns:W="{WINDOWS}"><D:prop>{wanted}</D:prop></D:propfind>'
    (found,) = ann.dav("PROPFIND", "personal/doc", asked.encode(), depth="0").properties().values()
    assert list(found.values()) == [date, date, "00000020"]
    # The time that is shown is never another than the file's.
    ann.put("personal/doc", DATA, x_oc_mtime="0")
    (found,) = ann.dav("PROPFIND", "personal/doc", asked.encode(), depth="0").properties().values()
    assert found[f"{{{WINDOWS}}}Win32LastModifiedTime"] == "Thu, 01 Jan 1970 00:00:00 GMT"
    # The content and its blocks are as they were.
    assert ann.dav("GET", "personal/doc").body == DATA


@pytest.mark.parametrize("year", ["0001", "0026", "0070", "0099", "1600"])
def test_a_time_long_ago_is_not_lately(ann: Person, year: str) -> None:
    """A time that cannot be stored becomes the earliest time that can be."""
    earliest = "Tue, 21 Sep 1677 00:12:43 GMT"
    ann.put("personal/ancient", DATA)
    date = f"Mon, 01 Jan {year} 00:00:00 GMT"
    for name in ("<W:Win32LastModifiedTime>{}</W:Win32LastModifiedTime>", "<D:getlastmodified>{}</D:getlastmodified>"):
        ann.put("personal/ancient", DATA, x_oc_mtime="978307200")
        assert list(statuses(proppatch(ann, "personal/ancient", name.format(date))).values()) == [200]
        assert changed(ann, "personal/ancient") == earliest
    for two_digits in ("Mon, 01 Jan 01 00:00:00 GMT", "Mon, 01 Jan 1 00:00:00 GMT"):
        answer = proppatch(ann, "personal/ancient", f"<W:Win32LastModifiedTime>{two_digits}</W:Win32LastModifiedTime>")
        assert list(statuses(answer).values()) == [409]
    ann.put("personal/ancient", DATA, x_oc_mtime="0")
    assert ann.put("personal/ancient", b"x", if_unmodified_since=date).status == 412
    assert ann.put("personal/ancient", b"x", if_unmodified_since="Thursday, 01-Jan-70 00:00:00 GMT").status == 204


@pytest.mark.parametrize(
    ("property_", "date"),
    [
        ("<D:getlastmodified>Thu, 01 Jan 1970 00:00:00 GMT</D:getlastmodified>", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("<D:lastmodified>86400</D:lastmodified>", "Fri, 02 Jan 1970 00:00:00 GMT"),
        ("<D:lastmodified>-86400</D:lastmodified>", "Wed, 31 Dec 1969 00:00:00 GMT"),
    ],
)
def test_other_programs_set_the_time_of_change(ann: Person, property_: str, date: str) -> None:
    ann.put("personal/other", DATA)
    assert list(statuses(proppatch(ann, "personal/other", property_)).values()) == [200]
    assert changed(ann, "personal/other") == date


def test_a_property_that_cannot_be_set_is_said_to_be_so(ann: Person) -> None:
    before = changed(ann, "personal/f")
    for wrong, status in (
        ("<W:Win32LastModifiedTime>yesterday</W:Win32LastModifiedTime>", 409),
        (f"<W:Win32LastModifiedTime>{'9' * 5000}</W:Win32LastModifiedTime>", 409),
        ("<W:Win32LastModifiedTime/>", 409),
        ("<D:lastmodified>1e9</D:lastmodified>", 409),
        ("<D:creationdate>1970-01-01T00:00:00Z</D:creationdate>", 403),
        ("<D:getcontentlength>1</D:getcontentlength>", 403),
        ("<D:getetag>x</D:getetag>", 403),
        ('<favorite xmlns="http://owncloud.org/ns">1</favorite>', 403),
    ):
        told = statuses(proppatch(ann, "personal/f", "<W:mine>1</W:mine>", wrong))
        assert sorted(told.values()) == sorted([424, status]), wrong
    assert changed(ann, "personal/f") == before
    removed = proppatch(ann, "personal/f", "<W:Win32LastModifiedTime/>", remove=True)
    assert statuses(removed) == {"Win32LastModifiedTime": 403}
    ann.dav("MKCOL", "personal/dir")
    assert statuses(proppatch(ann, "personal/dir", "<D:getlastmodified>x</D:getlastmodified>")) == {
        "getlastmodified": 403
    }


SUMS = {
    "oc_checksum": f"SHA1:{hashlib.sha1(DATA, usedforsecurity=False).hexdigest()} ADLER32:{zlib.adler32(DATA):08x}",
    "content_md5": base64.b64encode(hashlib.md5(DATA, usedforsecurity=False).digest()).decode(),
    "digest": "SHA-256=" + base64.b64encode(hashlib.sha256(DATA).digest()).decode(),
    "content_digest": "sha-256=:" + base64.b64encode(hashlib.sha256(DATA).digest()).decode() + ":",
}


@pytest.mark.parametrize("header", SUMS)
def test_a_checksum_is_checked(ann: Person, header: str) -> None:
    name = f"personal/sum {header}"
    assert ann.put(name, DATA, **{header: SUMS[header]}).status == 201
    for chunked in (False, True):
        sent = iter([DATA[:-1], b"!"]) if chunked else DATA[:-1] + b"!"
        answer = ann.dav("PUT", name, sent, **{header: SUMS[header]})
        assert answer.problem() == (400, "CHECKSUM_MISMATCH")
    for wrong in (
        "SHA1:zz",
        "CRC32:00000000",
        "nonsense",
        "sha-256=:AAAA:",
        "SHA-512=" + "A" * 88,
        "=",
        "MD5:" + "0" * 30,
    ):
        assert ann.put(name, DATA, **{header: wrong}).status == 400, wrong
    if header == "oc_checksum":
        assert ann.put(name, DATA, oc_checksum=" ".join([SUMS[header].split()[0]] * 8)).status == 204
        many = ann.put(name, DATA, oc_checksum=" ".join([SUMS[header].split()[0]] * 9))
        assert many.problem() == (400, "INVALID_ARGUMENT")
    assert ann.dav("GET", name).body == DATA


def test_many_properties_are_not_looked_for_at_once(ann: Person) -> None:
    for count, status in ((64, 207), (65, 400)):
        names = "".join(f"<W:p{number}/>" for number in range(count))
        asked = f'<D:propfind xmlns:D="DAV:" xmlns:W="{WINDOWS}"><D:prop>{names}<W:p1/></D:prop></D:propfind>'
        assert ann.dav("PROPFIND", "personal", asked.encode(), depth="1").status == status


@pytest.mark.parametrize("header", ["x_expected_entity_length", "oc_total_length"])
def test_a_length_is_checked(ann: Person, header: str) -> None:
    name = f"personal/length {header}"
    assert ann.put(name, DATA, **{header: "10"}).status == 201
    for wrong in ("9", "11", "0", "9" * 19):
        assert ann.put(name, DATA + b"!", **{header: wrong}).status == (204 if wrong == "11" else 400)
        chunked = ann.dav("PUT", name, iter([DATA, b"!!"]), **{header: wrong})
        assert chunked.problem() == (400, "SIZE_MISMATCH")
    for wrong in ("-1", "ten", "9" * 5000, "1e3", ""):
        assert ann.put(name, DATA, **{header: wrong}).status == 400
    assert ann.dav("GET", name).body == DATA + b"!"


def test_a_part_of_a_file_is_not_taken_for_the_file(ann: Person) -> None:
    assert ann.put("personal/f", b"x", content_range="bytes 0-0/10").status == 400
    assert ann.put("personal/f", b"x", oc_chunked="1").status == 501
    assert ann.put("personal/f", b"x", content_encoding="gzip").status == 415
    assert ann.dav("GET", "personal/f").body == DATA


HOSTILE = {
    "depth": ["2", "-1", "infinite", "1, 1", "9" * 5000, "ä"],
    "overwrite": ["", "X", "TRUE", "T" * 5000],
    "if": [
        "",
        "(",
        "()",
        "<>",
        "(<x",
        "nonsense",
        "(Not)",
        "(" * 5000,
        "(<a>)" * 4000,
        '([""""])',
        "(<" * 25_000,
        "<" * 50_000,
        "(" + "<a>" * 16_000,
        "(<a:b>" + " " * 8_000,
        "(Not" * 12_500,
        "<*>" * 2000,
    ],
    "timeout": ["Second-", "Second-" + "9" * 5000, "Second-" + "9" * 40_000, "soon", "Second--1", "Infinite," * 1000],
    "lock_token": ["", "x", "<>", "<" + "x" * 5000 + ">", "<a> <b>"],
    "x_oc_mtime": ["9" * 40_000, "", "--1", "1.2.3", "0x10", "9" * 5000],
    "range": ["bytes=" + "9" * 5000 + "-", "bytes=5-1", "lines=1-2", "bytes=-"],
    "if_modified_since": ["soon", "Fri, 99 Foo 99999 99:99:99 GMT", "9" * 5000],
    "if_unmodified_since": ["soon", "Fri, 99 Foo 99999 99:99:99 GMT", "9" * 5000],
    "if_match": ['"', "x" * 5000, '"a', "W/"],
    "if_none_match": ['"', "x" * 5000, '"a'],
}


@pytest.mark.parametrize("header", HOSTILE)
def test_no_header_is_a_fault_of_the_server(ann: Person, header: str) -> None:
    ann.put("personal/h", DATA)
    lock = (
        b'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:shared/></D:lockscope>'
        b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
    )
    bodies = {"PUT": DATA, "LOCK": lock}
    for value in HOSTILE[header]:
        for method in (
            "PROPFIND",
            "PUT",
            "LOCK",
            "UNLOCK",
            "COPY",
            "MOVE",
            "MKCOL",
            "DELETE",
            "PROPPATCH",
            "GET",
            "HEAD",
        ):
            more = {"destination": address("personal/i")} if method in {"COPY", "MOVE"} else {}
            more |= {"depth": "0"} if method == "PROPFIND" else {}
            raw = value.encode("latin-1").decode("latin-1")
            answer = ann.dav(method, "personal/h", bodies.get(method), **(more | {header: raw}))
            assert answer.status < 500, (method, value[:50], answer.body)
            if header in {"depth", "overwrite", "if", "timeout", "lock_token"} and method not in {"GET", "HEAD"}:
                too_long = len(value) > HEAD_BYTES
                assert answer.status == (431 if too_long else 400), (method, value[:50], answer.status)
        ann.put("personal/h", DATA)


@pytest.mark.parametrize("method", ["PROPFIND", "PROPPATCH", "LOCK"])
def test_no_body_is_a_fault_of_the_server(ann: Person, method: str) -> None:
    deep = b'<D:propfind xmlns:D="DAV:">' + b"<a>" * 20_000 + b"</a>" * 20_000 + b"</D:propfind>"
    bomb = b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    many = b"<a>" + b"<b/>" * 10_000 + b"</a>"
    bodies = (
        b"<",
        b"<a/>",
        b"\xff\xfe",
        deep,
        bomb,
        many,
        b'<a xmlns="DAV:"><b></a>',
        b"\0",
        b"<D:prop/>",
        b"x" * 300_000,
    )
    for body in bodies:
        answer = ann.dav(method, "personal/f", body, depth="0")
        assert 400 <= answer.status < 500, (body[:40], answer.status)


@pytest.mark.parametrize("method", ["PROPFIND", "PROPPATCH", "LOCK"])
def test_what_a_parser_gets_is_bounded_before_it(ann: Person, method: str) -> None:
    """The parser would understand each of these: their amount and their definitions are refused."""
    top, inside = {
        "PROPFIND": ("propfind", "<D:prop>{}</D:prop>"),
        "PROPPATCH": ("propertyupdate", "<D:set><D:prop>{}</D:prop></D:set>"),
        "LOCK": (
            "lockinfo",
            "<D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner>{}</D:owner>",
        ),
    }[method]

    def asked(what: str, before: str = "", after: str = "") -> Answer:
        body = f'{before}<D:{top} xmlns:D="DAV:" xmlns:W="{WINDOWS}">{inside.format(what)}</D:{top}>{after}'
        return ann.dav(method, "personal/locked", body.encode(), depth="0")

    ann.put("personal/locked", DATA)
    assert asked("<W:a>1</W:a>").status in {200, 207}
    assert asked("<W:a>" + "<W:b/>" * 5_000 + "</W:a>").status == 400
    assert asked("<W:a>" * 100 + "</W:a>" * 100).status == 400
    assert asked("<W:a>1</W:a>", before='<!DOCTYPE a [<!ENTITY b "bb">]>').status == 400
    assert asked("<W:a>1</W:a>", after=" " * 300_000).status == 413


def test_a_download_is_of_the_file_that_the_client_means(ann: Person) -> None:
    ann.put("personal/f", DATA)
    etag = ann.dav("GET", "personal/f").headers["etag"]
    assert ann.dav("GET", "personal/f", if_match=etag, range="bytes=1-2").body == DATA[1:3]
    for method in ("GET", "HEAD"):
        refused = ann.dav(method, "personal/f", if_match='"another"')
        assert (refused.status, refused.headers["etag"]) == (412, etag)


def test_a_date_decides_about_reading_only(ann: Person) -> None:
    late = "Fri, 01 Jan 2100 00:00:00 GMT"
    assert ann.put("personal/f", DATA, if_modified_since=late).status == 204
    assert ann.dav("PROPFIND", "personal/f", depth="0", if_modified_since=late).status == 207
    ann.put("personal/f", DATA, x_oc_mtime="1000000000")
    assert ann.put("personal/f", b"x", if_unmodified_since="Fri, 01 Jan 1999 00:00:00 GMT").status == 412
    assert ann.dav("GET", "personal/f").body == DATA


@pytest.mark.parametrize(
    ("headers", "destination"),
    [
        ({}, "{path}"),
        ({}, "http://{host}{path}"),
        ({}, "HTTP://{HOST}{path}"),
        ({"host": "files.example.com"}, "https://files.example.com:443{path}"),
        ({"host": "Files.Example.com:443"}, "https://files.example.com{path}"),
        ({"host": "[::1]:8080"}, "http://[0::1]:8080{path}"),
        (
            {"x_forwarded_host": "files.example.com", "x_forwarded_proto": "https"},
            "https://files.example.com:443{path}",
        ),
        (
            {"x_forwarded_host": "files.example.com", "x_forwarded_proto": "https", "x_forwarded_port": "8443"},
            "https://files.example.com:8443{path}",
        ),
        ({"forwarded": 'for=192.0.2.1;proto=https;host="files.example.com"'}, "https://files.example.com{path}"),
        ({"x_forwarded_prefix": "/sub"}, "http://{host}/sub{path}"),
        ({}, "http://{host}/d%61v/p%65rsonal/to"),
    ],
)
def test_our_own_address_is_known_in_every_form(ann: Person, headers: dict[str, str], destination: str) -> None:
    ann.put("personal/from", DATA)
    host = ann.endpoint.partition("://")[2]
    told = destination.format(path=address("personal/to"), host=host, HOST=host.upper())
    answer = ann.dav("MOVE", "personal/from", destination=told, **headers)
    assert answer.status in {201, 204}, answer.body
    assert ann.dav("GET", "personal/to").body == DATA


def test_another_address_is_not_ours(ann: Person) -> None:
    ann.put("personal/from", DATA)
    host = ann.endpoint.partition("://")[2]
    for other in (
        "http://files.example.com" + address("personal/to"),
        f"http://{host.partition(':')[0]}:1" + address("personal/to"),
        "http://127.0.0.1.example.com" + address("personal/to"),
        f"http://{host}/elsewhere/to",
        f"ftp://{host}" + address("personal/to"),
    ):
        assert ann.dav("MOVE", "personal/from", destination=other).problem() == (502, "BAD_GATEWAY"), other
    for nonsense in ("", "http://[", "dav:x", "personal/to", "http://a:b/dav/x", address("personal") + "/%ff", "?"):
        assert ann.dav("MOVE", "personal/from", destination=nonsense).status in {400, 502}, nonsense
    assert ann.dav("MOVE", "personal/from", destination="/dav/" + "x" * 20_000).status == 400


def test_what_is_given_out_is_the_address_that_the_client_knows(ann: Person) -> None:
    proxied = {"x_forwarded_host": "files.example.com", "x_forwarded_proto": "https", "x_forwarded_prefix": "/sub"}
    (path,) = ann.dav("PROPFIND", "personal/f", depth="0", **proxied).properties()
    assert path == "/sub/dav/personal/f"
    space = next(one for one in ann.call("GET", "/v1/spaces", token=ann.token)["spaces"] if one["personal"])["space_id"]
    body = b'{"node": "root"}'
    headers = {name.replace("_", "-"): value for name, value in proxied.items()}
    headers |= {"authorization": f"Bearer {ann.token}", "content-type": "application/json"}
    made = send(ann.endpoint, "POST", f"/v1/spaces/{space}/links", body, headers)
    # The public address is given out where it is configured.
    assert f'"url":"{ann.endpoint}/l#'.encode() in made.body
