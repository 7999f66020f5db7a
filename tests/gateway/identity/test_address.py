"""Our own address is the one that the sender of a request sees."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from starlette.requests import Request

from gateway.identity.address import OwnAddress, authority
from runtime.connection_pool import ConnectionPool
from syncline.model.errors import InvalidArgument

PROXY, STRANGER = "10.0.0.7", "192.0.2.1"
VISITOR = "203.0.113.9"


def here(headers: dict[str, str], *, peer: str = PROXY, public_url: str = ""):
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "scheme": "http", "path": "/", "headers": raw, "client": (peer, 1), "server": ("x", 1)}
    own = OwnAddress(public_url=public_url, trusted_networks=[ip_network("10.0.0.0/8"), ip_network("::1/128")])
    return own.of(Request(scope))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("example.com", "https://example.com:443/dav/"),
        ("example.com", "http://example.com:80/dav/"),
        ("example.com", "http://EXAMPLE.com./dav/"),
        ("example.com:443", "https://example.com/dav/"),
        ("EXAMPLE.com:8080", "http://example.com:8080"),
        ("example.com", "https://me:secret@example.com/dav/"),
        ("example.com", "//example.com/dav/"),
        ("[::1]:8080", "http://[0:0::1]:8080/"),
        ("[2001:DB8::1]", "https://[2001:db8:0::1]:443/"),
        ("xn--bcher-kva.example", "https://bücher.example/"),
        ("127.0.0.1:80", "http://127.0.0.1/"),
    ],
)
def test_one_address_in_many_forms(host: str, url: str) -> None:
    assert here({"host": host}, peer=STRANGER).is_ours(url)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("example.com", "https://example.com:80/"),
        ("example.com", "http://example.com:443/"),
        ("example.com:8080", "http://example.com/"),
        ("example.com", "http://example.com.evil.org/"),
        ("example.com", "http://evil.org/?example.com"),
        ("example.com", "http://example.com@evil.org/"),
        ("example.com", "ftp://example.com/"),
        ("[::1]", "http://[::2]/"),
        ("", "http:///"),
    ],
)
def test_another_address(host: str, url: str) -> None:
    try:
        assert not here({"host": host}).is_ours(url)
    except ValueError:
        assert url == "http:///"


@pytest.mark.parametrize(
    "url", ["http://[", "http://a:b/", "http://a:99999/", "null", "", "http://a b/", "http://" + "a" * 5000]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        here({"host": "example.com"}).is_ours(url)


FORWARDED = [
    ({"x-forwarded-proto": "https", "x-forwarded-host": "files.example.com"}, "https://files.example.com"),
    ({"x-forwarded-host": "files.example.com:8443", "x-forwarded-proto": "https"}, "https://files.example.com:8443"),
    (
        {"x-forwarded-host": "files.example.com", "x-forwarded-proto": "https", "x-forwarded-port": "8443"},
        "https://files.example.com:8443",
    ),
    (
        {"x-forwarded-host": "files.example.com", "x-forwarded-proto": "https", "x-forwarded-port": "443"},
        "https://files.example.com",
    ),
    ({"x-forwarded-host": "evil.org, files.example.com", "x-forwarded-proto": "https"}, "https://files.example.com"),
    ({"forwarded": "for=1.2.3.4;host=files.example.com;proto=https"}, "https://files.example.com"),
    ({"forwarded": 'for="[::1]:9";Proto=HTTPS;host="[2001:db8::1]:8443"'}, "https://[2001:db8::1]:8443"),
    ({"forwarded": "host=evil.org;proto=http, host=files.example.com;proto=https"}, "https://files.example.com"),
    (
        {"x-forwarded-host": "files.example.com", "x-forwarded-proto": "https", "x-forwarded-prefix": "/sub/files/"},
        "https://files.example.com/sub/files",
    ),
    ({"x-forwarded-proto": "https"}, "https://inside:8080"),
]


@pytest.mark.parametrize(("headers", "url"), FORWARDED)
def test_what_a_trusted_proxy_tells_is_believed(headers: dict[str, str], url: str) -> None:
    told = here({"host": "inside:8080", **headers})
    assert told.url == url
    assert told.is_ours(url + "/dav/")
    assert told.is_ours("http://inside:8080/")
    assert not told.is_ours("http://evil.org/")


@pytest.mark.parametrize(("headers", "url"), FORWARDED)
def test_nobody_else_is(headers: dict[str, str], url: str) -> None:
    told = here({"host": "inside:8080", **headers}, peer=STRANGER)
    assert (told.url, told.prefix) == ("http://inside:8080", "")
    assert not told.is_ours("https://files.example.com")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-proto": "javascript", "x-forwarded-host": "evil.org"},
        {"x-forwarded-host": 'a"b'},
        {"x-forwarded-host": "a/b"},
        {"forwarded": "host=" + "a" * 10_000},
        {"forwarded": '"' * 3000},
        {"x-forwarded-port": "9" * 5000},
        {"x-forwarded-port": "²"},
        {"x-forwarded-port": "000080801"},
        {"x-forwarded-prefix": "//evil.org"},
        {"x-forwarded-prefix": "/a b"},
    ],
)
def test_nonsense_of_a_proxy_is_left_out(headers: dict[str, str]) -> None:
    told = here({"host": "inside:8080", **headers})
    assert (told.url, told.prefix) == ("http://inside:8080", "")


def test_the_public_address_is_ours_whatever_host_a_proxy_made_of_it() -> None:
    told = here({"host": "inside:8080"}, peer=STRANGER, public_url="https://files.example.com")
    assert told.url == "https://files.example.com"
    assert told.is_ours("https://files.example.com:443/dav/")
    assert told.is_ours("http://inside:8080/dav/")
    assert not told.is_ours("http://files.example.com:8080/")


def test_a_host_that_is_none_is_told() -> None:
    for host in ("", "a b", "a/b", "[::1", "a:0", "a:99999", "a" * 300):
        with pytest.raises(InvalidArgument):
            _ = here({"host": host}).url
    assert authority("http", "x") is not None


# ---- from which network a request comes


@pytest.mark.parametrize(
    ("forwarded", "peer", "options", "network"),
    [
        ([], STRANGER, {}, STRANGER),
        ([b"6.6.6.6"], STRANGER, {}, STRANGER),
        ([b"6.6.6.6, 203.0.113.9"], PROXY, {"trusted_networks": [ip_network("10.0.0.0/8")]}, VISITOR),
        ([b"6.6.6.6", b"203.0.113.9"], PROXY, {"trusted_networks": [ip_network("10.0.0.0/8")]}, VISITOR),
        ([b"6.6.6.6, 203.0.113.9"], PROXY, {"trusted_proxies": 1}, VISITOR),
        ([b"6.6.6.6, 10.0.0.8"], PROXY, {"trusted_proxies": 1}, "10.0.0.8"),
        ([], PROXY, {"trusted_proxies": 1}, PROXY),
        ([b"6.6.6.6," * 4_000 + b"203.0.113.9"], PROXY, {"trusted_proxies": 1}, VISITOR),
        ([b"\xff\t6"], PROXY, {"trusted_proxies": 1}, "unknown"),
        ([b"2001:db8:1:2::5"], PROXY, {"trusted_proxies": 1}, "2001:db8:1:2::"),
        ([b"203.0.113.9"], None, {}, "unknown"),
    ],
)
def test_only_proxies_tell_from_which_network_a_request_comes(
    forwarded: list[bytes], peer: str | None, options: Any, network: str
) -> None:
    headers = [(b"x-forwarded-for", value) for value in forwarded]
    client = (peer, 40_000) if peer else None
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": headers, "client": client})
    own = OwnAddress(**{"public_url": "", "trusted_networks": (), **options})
    assert own.network(request) == network


def test_each_connection_of_a_proxy_stands_for_somebody_else() -> None:
    networks = [ip_network("10.0.0.0/8")]
    for proxies, peer, counted in ((0, PROXY, 10), (0, STRANGER, 5), (1, STRANGER, 10)):
        own = OwnAddress(public_url="", trusted_networks=networks, trusted_proxies=proxies)
        pool = ConnectionPool(10, own.proxies)
        assert sum(pool.admit(peer, port) is not None for port in range(10)) == counted
