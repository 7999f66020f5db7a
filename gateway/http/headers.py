"""Normalised headers: each occurs once, and only our own cookies are passed on.

If a header occurs more than once, list headers are joined, and other headers are refused. Some parsers use the first
and some the last of two values, so that a proxy may have checked another value than the one that is used here.

Foreign cookies are removed: the cookie parser takes quadratic time in the length of a quoted value, on the event loop,
for unauthenticated clients as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.problems import problem
from syncline.model.errors import InvalidArgument, SynclineError

_LISTS: Final = {
    b"content-digest": b", ",
    b"cookie": b"; ",
    b"digest": b", ",
    b"if-match": b", ",
    b"if-none-match": b", ",
    b"repr-digest": b", ",
}
"""The separator of the elements of a list header, by the name of each list header that the gateway uses."""
_ONCE: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-md5",
        b"content-range",
        b"content-type",
        b"depth",
        b"destination",
        b"host",
        b"idempotency-key",
        b"if",
        b"if-modified-since",
        b"if-range",
        b"if-unmodified-since",
        b"lock-token",
        b"oc-checksum",
        b"oc-chunked",
        b"oc-total-length",
        b"origin",
        b"overwrite",
        b"range",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"timeout",
        b"x-csrf-token",
        b"x-expected-entity-length",
        b"x-oc-mtime",
    }
)
"""All other headers that affect an answer; a request with two values of one of these headers is refused. Headers that
proxies add are not among them, because the last value is used there (`identity/address.py`).
"""


_OWN_COOKIE: Final = re.compile(rb"__Host-(?:syncline|link-[a-z0-9]+)=[A-Za-z0-9._~+/-]{1,4096}={0,2}")
"""A cookie of ours with a possible value (see `identity/caller.py` and `api/links.py`)."""


class ReadHeaders:
    """ASGI middleware that normalises headers: the application sees each relevant header once, and only its own
    cookies.
    """

    def __init__(
        self, app: ASGIApp, *, refusals: Mapping[str, Callable[[SynclineError], Response]] = MappingProxyType({})
    ) -> None:
        """`refusals` has, by the beginning of a path, the function that makes the answer of an error at and below that
        path; elsewhere an error is answered with `application/problem+json`.
        """
        self._app = app
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        names = [name for name, _ in headers]
        if len(set(names)) < len(names):
            twice = next((name for name in _ONCE if names.count(name) > 1), None)
            if twice is not None:
                await self._refusal(twice.decode(), scope["path"])(scope, receive, send)
                return
            headers = _put_together(headers)
        if b"cookie" in names:
            headers = [(name, _own_cookies(value) if name == b"cookie" else value) for name, value in headers]
        await self._app(scope if headers is scope["headers"] else {**scope, "headers": headers}, receive, send)

    def _refusal(self, name: str, path: str) -> Response:
        detail = f"the header {name.title()} can be given only once"
        for above, refusal in self._refusals.items():
            if path == above or path.startswith(f"{above}/"):
                return refusal(InvalidArgument(detail))
        return problem(status=HTTPStatus.BAD_REQUEST, reason=InvalidArgument.reason, detail=detail)


def _own_cookies(value: bytes) -> bytes:
    every = (one.strip() for one in value.split(b";"))
    return b"; ".join(one for one in every if _OWN_COOKIE.fullmatch(one))


def _put_together(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    lists: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _LISTS:
            lists[name] = lists[name] + _LISTS[name] + value if name in lists else value
    return [*((name, value) for name, value in headers if name not in _LISTS), *lists.items()]
