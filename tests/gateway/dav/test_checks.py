"""Headers and XML are bounded before their parser gets them."""

import tracemalloc

import pytest

from gateway.dav.checks import MAX_HEADER_BYTES, check_headers, check_xml, readable_if
from gateway.dav.refusals import DavRefused

LONG = MAX_HEADER_BYTES + 1


def test_a_header_that_is_too_long_is_not_read():
    fits = "(<a>)" * (MAX_HEADER_BYTES // 5)
    assert readable_if(fits) == fits
    with pytest.raises(DavRefused):
        readable_if("(<a>)" * LONG)
    for headers in ({"timeout": "Infinite," + " " * LONG + "Infinite"}, {"destination": "/" + "a" * 2 * LONG}):
        with pytest.raises(DavRefused):
            check_headers(headers)
    check_headers({"timeout": "Infinite, Second-4100000000", "destination": "/dav/a"})


def test_xml_is_bounded_in_depth_and_elements_and_defines_nothing():
    check_xml(b"<a>" * 64 + b"</a>" * 64)
    check_xml(b"<a>" + b"<b/>" * 4999 + b"</a>")
    for hostile in (
        b"<a>" * 65 + b"</a>" * 65,
        b"<a>" + b"<b/>" * 5000 + b"</a>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    ):
        with pytest.raises(DavRefused):
            check_xml(hostile)


@pytest.mark.parametrize("encoding", ["utf-7", "utf-32", "big5", "rot13", "hex", "idna", "none", "x" * 99])
def test_xml_in_an_encoding_that_is_not_read_is_refused(encoding):
    with pytest.raises(DavRefused) as refused:
        check_xml(f'<?xml version="1.0" encoding="{encoding}"?><a/>'.encode())
    assert refused.value.value == 400


def test_names_of_namespaces_do_not_multiply() -> None:
    """The parser puts the name of its namespace before that of each element and attribute."""
    check_xml(f'<a xmlns="{"n" * 1024}"/>'.encode())
    long = f'xmlns:n="{"n" * 200_000}"'
    elements = "".join(f"<n:e{number}/>" for number in range(4_000))
    attributes = " ".join(f'n:a{number}=""' for number in range(4_000))
    tracemalloc.start()
    try:
        for hostile in (f"<a {long}>{elements}</a>", f"<a {long} {attributes}/>", f"<n:a {long}/>"):
            with pytest.raises(DavRefused, match="namespace"):
                check_xml(hostile.encode())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000
    plain = " ".join(f'a{number}=""' for number in range(5_000))
    with pytest.raises(DavRefused, match="too many"):
        check_xml(f"<a {plain}/>".encode())
