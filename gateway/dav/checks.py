"""Checks of a request before it is parsed: headers by their grammar, XML by its shape. A failed check is answered with
400.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final
from xml.parsers import expat

from gateway.dav.refusals import DavRefused

MAX_HEADER_BYTES: Final = 8 * 1024
_MAX_CHECKSUMS: Final = 8
"""Maximum number of checksums of one upload; the gateway computes each of them over the whole file."""
_MAX_DEPTH: Final = 64
_MAX_ELEMENTS: Final = 5_000
"""Maximum number of elements and attributes."""
_MAX_NAMESPACE_CHARACTERS: Final = 1_024
"""Maximum length of the name of a namespace. The parser puts it before the name of each element and attribute, so that
a kilobyte of names could become a gigabyte.
"""

_CODED: Final = r"<[!-;=?-~]{1,2000}>"
_CONDITION: Final = rf'(?:Not[ \t]*)?(?:{_CODED}|\[(?:W/)?"[!#-~\x80-\xff]*"\])'
_LIST: Final = rf"\([ \t]*{_CONDITION}(?:[ \t]*{_CONDITION})*[ \t]*\)"
_LISTS: Final = rf"{_LIST}(?:[ \t]*{_LIST})*"
_TAGGED: Final = rf"{_CODED}[ \t]*{_LISTS}"
_TIME: Final = r"(?:Infinite|Second-\d{1,19})"
_GRAMMAR: Final = {
    "depth": ("0, 1 or infinity", r"0|1|infinity"),
    "overwrite": ("T or F", r"T|F"),
    "timeout": (
        "Infinite or Second-N",
        rf"{_TIME}(?:[ \t]*,[ \t]*{_TIME}){{0,9}}",
    ),
    "lock-token": ("one token, <...>", _CODED),
    "x-expected-entity-length": ("a number of bytes", r"\d{1,19}"),
    "oc-total-length": ("a number of bytes", r"\d{1,19}"),
}
_IF: Final = re.compile(rf"{_LISTS}|{_TAGGED}(?:[ \t]*{_TAGGED})*", re.IGNORECASE)
_PARSED: Final = {name: (form, re.compile(grammar, re.IGNORECASE)) for name, (form, grammar) in _GRAMMAR.items()}


class _Adler32:
    """The checksum Adler-32, computed by zlib, with the interface of hashlib."""

    def __init__(self) -> None:
        self._value = 1

    def update(self, data: memoryview) -> None:
        self._value = zlib.adler32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_SUMS: Final[dict[str, Callable[[], hashlib._Hash | _Adler32]]] = {
    "adler32": _Adler32,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
}


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise DavRefused if a header of _PARSED, which WsgiDAV or this package parses later, has an invalid value, or if
    Destination is too long. `headers` has the values by the lower-case names.
    """
    for name, (form, grammar) in _PARSED.items():
        value = headers.get(name)
        if value is not None and (len(value) > MAX_HEADER_BYTES or not grammar.fullmatch(value.strip())):
            raise DavRefused(
                HTTPStatus.BAD_REQUEST, f"the header {name.title()} must be {form}", reason="INVALID_ARGUMENT"
            )
    if len(headers.get("destination", "")) > 2 * MAX_HEADER_BYTES:
        raise DavRefused(HTTPStatus.BAD_REQUEST, "the destination is too long", reason="INVALID_ARGUMENT")


def readable_if(value: str) -> str:
    """Return the readable lists of conditions in `value`, that of an If header. Raise DavRefused if there is none.

    The header is fulfilled if one list holds. An unreadable list, such as the truncated last list of some clients,
    therefore counts as a list that does not hold: it is left out together with everything after it.
    """
    lists = _IF.match(value.strip()) if len(value) <= MAX_HEADER_BYTES else None
    if lists is None:
        form = 'the header If must hold lists of conditions such as (<token> ["etag"])'
        raise DavRefused(HTTPStatus.BAD_REQUEST, form, reason="INVALID_ARGUMENT")
    return lists[0]


def check_xml(body: bytes) -> None:
    """Raise DavRefused for XML that is malformed, too deep, has too many elements and attributes, has very long names
    of namespaces, or defines entities.
    """
    parser = expat.ParserCreate()  # Namespaces stay unresolved: to resolve them multiplies their names.
    depth = elements = 0

    def start(_: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth, elements = depth + 1, elements + 1 + len(attributes)
        if depth > _MAX_DEPTH or elements > _MAX_ELEMENTS:
            raise DavRefused(
                HTTPStatus.BAD_REQUEST, "the XML has too many elements; ask for less at once", reason="INVALID_ARGUMENT"
            )
        for name, value in attributes.items():
            if len(value) > _MAX_NAMESPACE_CHARACTERS and name.partition(":")[0] == "xmlns":
                raise DavRefused(
                    HTTPStatus.BAD_REQUEST,
                    f"the name of a namespace has at most {_MAX_NAMESPACE_CHARACTERS} characters",
                    reason="INVALID_ARGUMENT",
                )

    def end(_: object) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_: object) -> None:
        raise DavRefused(HTTPStatus.BAD_REQUEST, "the XML may not have a DOCTYPE", reason="INVALID_ARGUMENT")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two for an unknown encoding
        raise DavRefused(
            HTTPStatus.BAD_REQUEST, f"the body is no well-formed XML: {error}", reason="INVALID_ARGUMENT"
        ) from None


def expected_size(headers: Mapping[str, str]) -> int | None:
    """Return the length of the file in a PUT, in bytes, according to headers other than Content-Length; None if there
    is none. Raise DavRefused if two lengths differ.
    """
    said = {int(headers[name]) for name in ("x-expected-entity-length", "oc-total-length") if name in headers}
    if len(said) > 1:
        raise DavRefused(
            HTTPStatus.BAD_REQUEST, "the headers state different lengths; send the right one", reason="INVALID_ARGUMENT"
        )
    return said.pop() if said else None


class CheckedBody:
    """Computes the checksums of a body while it is received, and compares them with those in the headers of the
    request.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        """Raise DavRefused for a checksum of an unknown kind, or a malformed one."""
        self._sums = [(name, _SUMS[kind](), wanted) for name, kind, wanted in _told(headers)]

    def update(self, data: memoryview) -> None:
        """Add `data`, the next bytes of the body, to each checksum."""
        for _, found, _ in self._sums:
            found.update(data)

    def check(self) -> None:
        """Raise DavRefused if the received bytes do not match a checksum."""
        for name, found, wanted in self._sums:
            if found.digest() != wanted:
                raise DavRefused(
                    HTTPStatus.BAD_REQUEST, f"the file does not match {name}; send it again", reason="CHECKSUM_MISMATCH"
                )


def _told(headers: Mapping[str, str]) -> list[tuple[str, str, bytes]]:
    """Return the checksums of a PUT: for each, the header, the kind, and the digest. Raise DavRefused for a checksum of
    an unknown kind, a malformed one, or more than _MAX_CHECKSUMS.
    """
    told: list[tuple[str, str, bytes]] = []
    for word in headers.get("oc-checksum", "").split():
        kind, _, digits = word.partition(":")
        told.append(("OC-Checksum", kind.lower(), _decoded("OC-Checksum", digits, bytes.fromhex)))
    if "content-md5" in headers:
        told.append(("Content-MD5", "md5", _decoded("Content-MD5", headers["content-md5"].strip(), _base64)))
    for name in ("digest", "content-digest", "repr-digest"):
        for word in filter(None, headers.get(name, "").split(",")):
            kind, _, value = word.strip().partition("=")
            kind = kind.lower().replace("-", "")
            value = value.strip(":") if name != "digest" else value
            told.append((name, {"sha": "sha1"}.get(kind, kind), _decoded(name, value, _base64)))
    if len(told) > _MAX_CHECKSUMS:
        raise DavRefused(
            HTTPStatus.BAD_REQUEST, f"at most {_MAX_CHECKSUMS} checksums are checked", reason="INVALID_ARGUMENT"
        )
    for name, kind, wanted in told:
        if kind not in _SUMS or len(wanted) != len(_SUMS[kind]().digest()):
            raise DavRefused(
                HTTPStatus.BAD_REQUEST,
                f"{name} is a checksum by one of {', '.join(_SUMS)}; leave it out for another",
                reason="INVALID_ARGUMENT",
            )
    return told


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _decoded(name: str, text: str, decode: Callable[[str], bytes]) -> bytes:
    try:
        return decode(text)
    except (ValueError, binascii.Error):
        wrong = f"{name} is not encoded as it should be"
        raise DavRefused(HTTPStatus.BAD_REQUEST, wrong, reason="INVALID_ARGUMENT") from None
