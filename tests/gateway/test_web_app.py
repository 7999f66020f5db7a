"""The pages name what they load, and let nothing else in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from gateway import web_app
from gateway.identity.address import OwnAddress

WEB = Path(web_app.__file__).with_name("web")
OWN = OwnAddress(public_url="", trusted_networks=())
APP = Starlette(routes=web_app.pages(upload_origin="https://content.example.com", own=OWN))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def get(path: str, **headers: str) -> Answer:
    sent: list[Any] = []
    names = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": names,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await APP(scope, receive, send)
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent[1:]))


async def test_a_page_names_every_module_that_it_needs():
    page = (await get("/s/anything/below")).body.decode()
    named = re.findall(r'<link rel="modulepreload" href="/web/([^"]+)">', page)
    needed: set[str] = set()
    rest = ["app.js"]
    while rest:
        name = rest.pop()
        if name not in needed:
            needed.add(name)
            found = re.findall(r'from "(\.[^"]+)";', (WEB / name).read_text())
            rest += [(WEB / name).parent.joinpath(one).resolve().relative_to(WEB).as_posix() for one in found]
    assert sorted(named) == sorted(needed)
    assert "upload/uploads.js" in named


async def test_the_tools_that_check_the_app_are_not_served():
    for name in ("package.json", "tsconfig.json", "biome.json", "vendor/noble-hashes/sha2.d.ts"):
        assert (WEB / name).exists()
        assert (await get(f"/web/{name}")).status == 404


async def test_everything_that_a_page_loads_is_ours():
    for address in ("/", "/settings/keys", "/l", "/l/token", "/docs"):
        page = await get(address)
        loaded = set(re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())) - {"/openapi.json"}
        assert loaded
        for name in loaded:
            assert (await get(name)).status == 200
        policy = page.headers["content-security-policy"]
        assert "trusted-types syncline" in policy
        assert "connect-src 'self' https://content.example.com" in policy


def allowed(policy: str, directive: str) -> list[str]:
    (found,) = [one for one in policy.split("; ") if one.startswith(f"{directive} ")]
    return found.split()[1:]


async def test_scripts_come_from_where_the_app_lies_and_never_from_where_contents_lie():
    for host, source in (
        ("files.example.com:8443", "files.example.com:8443"),
        ("Files.Example.com", "files.example.com"),
    ):
        policy = (await get("/", host=host)).headers["content-security-policy"]
        for directive in ("script-src", "style-src", "worker-src", "manifest-src"):
            assert allowed(policy, directive) == [f"{source}/web/"]
        for directive in ("frame-src", "object-src", "media-src"):
            assert allowed(policy, directive) == [f"{source}/v1/"]
        assert allowed(policy, "img-src") == [f"{source}/web/", f"{source}/v1/", "blob:"]


async def test_a_host_that_a_policy_cannot_name_is_ours_as_a_whole():
    for host in ("[::1]:8080", "'unsafe-inline'", "a_b"):
        policy = (await get("/", host=host)).headers["content-security-policy"]
        assert allowed(policy, "script-src") == ["'self'"]


async def test_an_unchanged_file_is_not_sent_again():
    first = await get("/web/app.js")
    again = await get("/web/app.js", if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")


async def test_who_has_a_page_does_not_get_it_again():
    etag = (await get("/")).headers["etag"]
    for has in (etag, f'"other", W/{etag}', "*"):
        answer = await get("/", if_none_match=has)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
    assert (await get("/", if_none_match='"other"')).status == 200


async def test_every_address_of_the_app_can_be_reloaded():
    source = (WEB / "app.js").read_text()
    addresses = re.findall(r'router\.on\("([^"]+)"', source)
    assert len(addresses) > 10
    for address in addresses:
        path = re.sub(r":\w+", "x", address)
        assert (await get(path)).body == (await get("/")).body, path
