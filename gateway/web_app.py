"""The web app: files of `gateway/web`, read once, with a content security policy that admits only our own scripts."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.content.static import FixedAnswer
from gateway.http import paths  # noqa: F401 # registers `any_path`
from gateway.identity.address import Authority, OwnAddress, SeenAddress

_FOLDER: Final = Path(__file__).with_name("web")
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
_PAGES: Final = {
    "/": "app.html",
    "/s/{rest:any_path}": "app.html",
    "/settings": "app.html",
    "/settings/{rest:any_path}": "app.html",
    "/admin": "app.html",
    "/admin/{rest:any_path}": "app.html",
    "/invitations": "app.html",
    "/join": "app.html",
    "/prove": "app.html",
    "/reset": "app.html",
    "/l": "link.html",
    "/l/{token}": "link.html",  # links of earlier versions
    "/docs": "reference.html",
}
"""The file that is served as the page, by path; the app itself shows the view that belongs to the path."""
_NAMED: Final = re.compile(r"[A-Za-z0-9.-]+")
"""Hosts that a content security policy can name."""
_ENTRY: Final = re.compile(rb'<script type="module" src="/web/([^"]+)"></script>')
_IMPORTS: Final = re.compile(rb'^(?:import|export)\b[^;"]*?"(\.[^"]+)";$', re.MULTILINE)


def pages(*, upload_origin: str, own: OwnAddress) -> list[BaseRoute]:
    """Return the routes of the pages and of the files that they load; uploads go to `upload_origin`."""
    files = dict(_files())

    def policy(request: Request) -> str:
        return _policy(upload_origin, own.of(request))

    return [
        *(Route(path, _serving(files[name], policy, name="page")) for path, name in _PAGES.items()),
        *(Route(f"/web/{name}", _serving(file, policy, name="asset")) for name, file in files.items()),
    ]


def _files() -> Iterator[tuple[str, FixedAnswer]]:
    below = ((path.relative_to(_FOLDER), path) for path in sorted(_FOLDER.rglob("*")) if path.is_file())
    # node_modules exists if somebody has installed the tools of package.json, and must not be served
    found = {name.as_posix(): path for name, path in below if "node_modules" not in name.parts}
    contents = {name: path.read_bytes() for name, path in found.items() if path.suffix in _TYPES}
    for name, content in contents.items():
        suffix = found[name].suffix
        whole = _preloading(content, contents) if suffix == ".html" else content
        yield name, FixedAnswer.of(whole, _TYPES[suffix])


def _preloading(page: bytes, contents: dict[str, bytes]) -> bytes:
    """Return the page with a preload for each module that its script imports: otherwise a browser would discover them
    one after the other.
    """
    entry = _ENTRY.search(page)
    if entry is None:
        return page
    needed, rest = dict[str, None](), [entry[1].decode()]
    while rest:
        name = rest.pop()
        if name not in needed:
            needed[name] = None
            rest += [_resolved(name, one.decode()) for one in _IMPORTS.findall(contents[name])]
    links = "".join(f'<link rel="modulepreload" href="/web/{name}">\n    ' for name in needed)
    return page[: entry.start()] + links.encode() + page[entry.start() :]


def _resolved(importing: str, relative: str) -> str:
    parts: list[str] = []
    for part in (PurePosixPath(importing).parent / relative).parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _policy(upload_origin: str, here: SeenAddress) -> str:
    """Return the content security policy of a page: scripts and styles only from the path of the app, because contents
    are on the same host.

    A policy cannot name an IPv6 host with a path. The policy then contains `self`, and the headers of contents prevent
    their execution.
    """
    hosts = dict.fromkeys(_host(one) for one in here.own)
    named = bool(hosts) and None not in hosts

    def below(*folders: str) -> str:
        prefixes = dict.fromkeys((here.prefix, ""))
        every = [f"{host}{prefix}{folder}" for host in hosts for prefix in prefixes for folder in folders]
        return " ".join(every) if named else "'self'"

    app, contents = below("/web/"), below("/v1/")
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {app}",
            f"style-src {app}",
            f"img-src {below('/web/', '/v1/')} blob:",
            f"media-src {contents}",
            f"frame-src {contents}",
            f"object-src {contents}",
            f"connect-src 'self' {upload_origin}",
            f"worker-src {app}",
            f"manifest-src {app}",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types syncline",
        )
    )


def _host(authority: Authority) -> str | None:
    """Return the host and port of `authority` in the form of a content security policy, for any scheme; None if a
    policy cannot name this host.
    """
    if not _NAMED.fullmatch(authority.host):
        return None
    return authority.host if authority.port is None else f"{authority.host}:{authority.port}"


def _serving(
    file: FixedAnswer, policy: Callable[[Request], str], *, name: str
) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        headers = {
            "cache-control": "no-cache",
            "content-security-policy": policy(request),
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=()",
        }
        return file.response(request, headers)

    serve.__name__ = name  # the route's name in logs and metrics
    return serve
