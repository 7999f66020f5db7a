"""The gateway describes files to browsers by type and disposition."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.content.file_headers import content_type, description, disposition
from syncline.model.blocks import NO_DIGEST
from syncline.model.tree import Content


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "text/plain"),
        ("a.PNG", "image/png"),
        ("index.html", "text/html"),
        ("a.tar.gz", "application/gzip"),
        ("a.txt.Z", "application/octet-stream"),
        ("Makefile", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
        ("a.txt?x=.html#.html", "text/html"),
        ("..", "application/octet-stream"),
    ],
)
def test_types_by_name(name, expected):
    assert content_type(name) == expected


def test_disposition():
    assert disposition("a b.txt") == "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt"
    assert disposition("ü.txt") == "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%BC.txt"
    assert disposition('"\r\nA: b') == "attachment; filename=\"___A: b\"; filename*=UTF-8''%22%0D%0AA%3A%20b"


@given(st.text(min_size=1, max_size=30))
def test_no_name_breaks_the_header(name):
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    header = disposition(name)
    found = re.fullmatch(
        r'attachment; filename="([^"\\\r\n]*)"; filename\*=UTF-8\'\'([!#$&+.^_`|~0-9A-Za-z%-]*)', header
    )
    assert found
    assert unquote(found[2]) == name
    assert len(found[1]) == len(name)


@pytest.mark.parametrize(
    ("mtime_ns", "expected"),
    [
        (1_764_000_000 * 10**9, "Mon, 24 Nov 2025 16:00:00 GMT"),
        (0, None),
        (-5, None),
        (2**63 - 1, "now"),
        (10**30, "now"),  # a time beyond what can be kept is the last one that can
    ],
)
def test_last_modified_is_never_in_the_future(mtime_ns, expected):
    found = description("a", Content(NO_DIGEST, 1, mtime_ns)).get("last-modified")
    if expected == "now":
        assert found
        assert not found.endswith("2262 23:47:16 GMT")
    else:
        assert found == expected
