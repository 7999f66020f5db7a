"""Headers that are sent twice, to the API and to WebDAV alike."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest

from stack.up import Stack
from tests.e2e.dav import Answer, Person

TWICE = {
    "authorization": ("Basic eDp5", None),
    "content-length": ("1", "1"),
    "content-range": ("bytes 0-0/1", "bytes 1-1/2"),
    "content-type": ("application/json", "text/plain"),
    "depth": ("0", "1"),
    "destination": ("/dav/personal/a", "/dav/personal/b"),
    "host": ("a.example.com", "b.example.com"),
    "idempotency-key": ("a", "b"),
    "if": ("(<a:b>)", "(<c:d>)"),
    "if-modified-since": ("Thu, 01 Jan 1970 00:00:00 GMT",) * 2,
    "if-range": ('"a"', '"b"'),
    "if-unmodified-since": ("Thu, 01 Jan 1970 00:00:00 GMT",) * 2,
    "lock-token": ("<a:b>", "<c:d>"),
    "oc-checksum": ("MD5:00", "MD5:01"),
    "oc-total-length": ("1", "2"),
    "overwrite": ("T", "F"),
    "range": ("bytes=0-0", "bytes=1-1"),
    "timeout": ("Second-1", "Second-2"),
    "x-csrf-token": ("a", "b"),
    "x-expected-entity-length": ("1", "2"),
    "x-oc-mtime": ("1", "1"),
}


@pytest.fixture(scope="module")
def ann(stack: Stack) -> Person:
    person = Person(stack.endpoint)
    assert person.put("personal/f", b"some bytes").status == 201
    return person


def asked(ann: Person, method: str, path: str, headers: list[tuple[str, str]]) -> Answer:
    """A request whose headers are exactly these."""
    connection = http.client.HTTPConnection(urlsplit(ann.endpoint).netloc, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        if all(name != "host" for name, _ in headers):
            connection.putheader("host", urlsplit(ann.endpoint).netloc)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize("path", ["/dav/personal/f", "/v1/spaces"])
def test_what_can_be_said_once_is_refused_when_it_is_said_twice(ann: Person, name: str, path: str) -> None:
    auth = ann.basic if path.startswith("/dav") else f"Bearer {ann.token}"
    first, second = (value or auth for value in TWICE[name])
    headers = [("authorization", auth), (name, first), (name.title(), second)]
    for method in ("GET", "MOVE", "PUT", "LOCK") if path.startswith("/dav") else ("GET", "POST"):
        answer = asked(ann, method, path, headers)
        assert answer.status == 400, (method, answer.status)
        if name != "content-length":  # an invalid length is no HTTP
            assert answer.headers["content-type"].startswith("application/" + ("xml" if "dav" in path else "problem"))
            assert name in answer.body.decode().lower()
    assert ann.dav("GET", "personal/f").body == b"some bytes"


def test_a_list_in_several_lines_is_one_list(ann: Person) -> None:
    etag = ann.dav("GET", "personal/f").headers["etag"]
    auth = ("authorization", ann.basic)
    for tags in (('"other"', etag), (etag, '"other"')):
        lines = [("if-none-match", tag) for tag in tags]
        assert asked(ann, "GET", "/dav/personal/f", [auth, *lines]).status == 304
        lines = [("if-match", tag) for tag in tags]
        assert asked(ann, "PROPFIND", "/dav/personal/f", [auth, ("depth", "0"), *lines]).status == 207
    wrong = [("digest", "md5=AAAAAAAAAAAAAAAAAAAAAA=="), ("digest", "sha=AAAAAAAAAAAAAAAAAAAAAAAAAAA=")]
    for lines in (wrong, wrong[::-1]):
        answer = asked(ann, "PUT", "/dav/personal/f", [auth, ("content-length", "0"), *lines])
        assert answer.problem() == (400, "CHECKSUM_MISMATCH")


def test_an_underscore_is_no_hyphen(ann: Person) -> None:
    headers = [("authorization", ann.basic), ("content-length", "0"), ("X_OC_Mtime", "1"), ("x-oc-mtime", "2")]
    assert asked(ann, "PUT", "/dav/personal/underscore", headers).status == 201
    (found,) = ann.dav("PROPFIND", "personal/underscore", depth="0").properties().values()
    assert found["{DAV:}getlastmodified"] == "Thu, 01 Jan 1970 00:00:02 GMT"
