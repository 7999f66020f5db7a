"""Headers and XML are bounded before their parser gets them."""

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
