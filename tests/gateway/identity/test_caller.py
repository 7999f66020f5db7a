"""The services are told who calls."""

import pytest
from starlette.requests import Request

from gateway.identity.caller import peer


def request(*forwarded: bytes, client: tuple[str, int] | None = ("10.40.7.7", 40_000)) -> Request:
    headers = [(b"x-forwarded-for", value) for value in forwarded]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers, "client": client})


@pytest.mark.parametrize(
    ("forwarded", "told"),
    [
        ((), "10.40.7.7"),
        ((b"203.0.113.9",), "203.0.113.9, 10.40.7.7"),
        ((b"6.6.6.6, 203.0.113.9",), "6.6.6.6, 203.0.113.9, 10.40.7.7"),
        ((b"6.6.6.6", b"203.0.113.9"), "6.6.6.6, 203.0.113.9, 10.40.7.7"),  # the part that the proxy added is not lost
        ((b"\xff\t6", b"203.0.113.9"), "??6, 203.0.113.9, 10.40.7.7"),
        ((b"6.6.6.6," * 4_000 + b"6.6.6.6", b"203.0.113.9"), "6.6.6.6, " * 30 + "203.0.113.9, 10.40.7.7"),
        ((b"6" * 30_000 + b",203.0.113.9",), "?, 203.0.113.9, 10.40.7.7"),
    ],
)
def test_the_way_here_is_told_with_us_at_its_end(forwarded: tuple[bytes, ...], told: str) -> None:
    assert peer(request(*forwarded)) == told


def test_without_a_connection_the_headers_are_all_there_is() -> None:
    assert peer(request(b"203.0.113.9", client=None)) == "203.0.113.9"
