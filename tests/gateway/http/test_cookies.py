"""The application sees our cookies of a request, and no parser sees the others."""

import pytest
from starlette.requests import Request

from gateway.http.headers import ReadHeaders

KEY = "__Host-syncline=syk_abc.DEF-~+/="
LINK = "__Host-link-0123456789abcdefghjkmnpqrs=e30.e30.s_g"
QUOTED = 'a="' + '\\"' * 16_000 + '"'
"""To take the quotes off takes the square of its length."""


async def unused(*_):
    raise AssertionError("nothing is read or answered here")


async def seen(*headers):
    scopes = []

    async def app(scope, _receive, _send):
        scopes.append(scope)

    raw = [(b"accept", b"*/*"), *((b"cookie", header.encode()) for header in headers)]
    await ReadHeaders(app)({"type": "http", "path": "/", "headers": raw}, unused, unused)
    (scope,) = scopes
    assert dict(scope["headers"])[b"accept"] == b"*/*"
    return scope


@pytest.mark.parametrize("headers", [(f"{KEY}; {LINK}",), (KEY, LINK), (f"x=1;{QUOTED};  {KEY} ;{LINK};", QUOTED)])
async def test_our_cookies_are_seen(headers):
    scope = await seen(*headers)
    assert [value for name, value in scope["headers"] if name == b"cookie"] == [f"{KEY}; {LINK}".encode()]
    assert Request(scope).cookies == dict(one.split("=", 1) for one in (KEY, LINK))


@pytest.mark.parametrize(
    "other",
    [QUOTED, "__Host-syncline=" + QUOTED, '__Host-syncline="x"', f"x{KEY}", "__Host-link-=x", "=", ";" * 9, "a"],
)
async def test_others_are_not(other):
    scope = await seen(other)
    assert [value for name, value in scope["headers"] if name == b"cookie"] == [b""]
    assert Request(scope).cookies == {}
