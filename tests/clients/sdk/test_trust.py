"""Nothing is sent in clear, nor to whom the user did not name, whatever an endpoint says of itself."""

from __future__ import annotations

import copy
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from syncline.sdk import account
from syncline.sdk.account_file import AccountFile, _account, _document
from syncline.sdk.discovery import deployment_from_json, discover
from syncline.sdk.errors import NotSyncline
from syncline.sdk.trust import NO_FURTHER, NotTrusted, Trust, check_endpoint, check_place, host_of_target, host_of_url
from tests.clients.sdk.test_account_file import ACCOUNT
from tests.clients.sdk.test_discovery import DOCUMENT
from tests.support.http import serving

HTTPS = "https://files.example.com"


@pytest.mark.parametrize(
    ("endpoint", "trust", "allowed"),
    [
        (HTTPS, NO_FURTHER, True),
        ("http://127.0.0.1:8080", NO_FURTHER, True),
        ("http://[::1]:8080", NO_FURTHER, True),
        ("http://localhost", NO_FURTHER, True),
        ("http://files.example.com", NO_FURTHER, False),
        ("http://192.168.1.2", NO_FURTHER, False),
        ("http://127.0.0.1.example.com", NO_FURTHER, False),
        ("http://localhost.example.com", NO_FURTHER, False),
        ("http://files.example.com", Trust(http=True), True),
    ],
)
def test_http_is_for_this_machine_or_for_who_says_so(endpoint: str, trust: Trust, allowed: bool) -> None:
    if allowed:
        check_endpoint(endpoint, trust)
    else:
        with pytest.raises(NotTrusted, match="allow-http"):
            check_endpoint(endpoint, trust)


@pytest.mark.parametrize(
    ("endpoint", "host", "tls", "trust", "allowed"),
    [
        (HTTPS, "files.example.com", True, NO_FURTHER, True),
        (HTTPS, "FILES.example.com", True, NO_FURTHER, True),
        (HTTPS, "s3.files.example.com", True, NO_FURTHER, True),
        (HTTPS, "s3.example.com", True, NO_FURTHER, True),
        (HTTPS, "example.com", True, NO_FURTHER, True),
        (HTTPS, "s3.example.net", True, NO_FURTHER, False),
        (HTTPS, "s3.example.net", True, Trust(hosts=frozenset({"example.net"})), True),
        # A host beside the trusted one, below a public suffix, belongs to somebody else.
        ("https://files.co.uk", "evil.co.uk", True, NO_FURTHER, False),
        ("https://ann.github.io", "evil.github.io", True, NO_FURTHER, False),
        ("https://example.com", "evil.com", True, NO_FURTHER, False),
        ("https://files.ann.co.uk", "s3.ann.co.uk", True, NO_FURTHER, True),
        ("https://server", "evil", True, NO_FURTHER, False),
        (HTTPS, "files.example.com.evil.org", True, NO_FURTHER, False),
        (HTTPS, "evil.org", True, NO_FURTHER, False),
        (HTTPS, "evil.org", True, Trust(http=True), False),
        (HTTPS, "127.0.0.1", True, NO_FURTHER, False),
        (HTTPS, "169.254.169.254", True, NO_FURTHER, False),
        # Never less than the address that was named, whatever somebody agreed to.
        (HTTPS, "files.example.com", False, NO_FURTHER, False),
        (HTTPS, "files.example.com", False, Trust(http=True), False),
        (HTTPS, "127.0.0.1", False, Trust(http=True, hosts=frozenset({"127.0.0.1"})), False),
        ("http://127.0.0.1:8080", "127.0.0.1", False, NO_FURTHER, True),
        ("http://localhost:8080", "127.0.0.1", False, NO_FURTHER, True),
        ("http://127.0.0.1:8080", "evil.org", False, NO_FURTHER, False),
        ("http://127.0.0.1:8080", "evil.org", True, NO_FURTHER, False),
        ("http://files.example.com", "files.example.com", False, Trust(http=True), True),
        ("https://10.0.0.1", "10.0.0.1", True, NO_FURTHER, True),
        ("https://10.0.0.1", "1.10.0.0.1", True, NO_FURTHER, False),
        ("https://10.0.0.1", "10.0.0.2", True, NO_FURTHER, False),
    ],
)
def test_a_place_is_below_the_endpoint_and_as_safe(
    endpoint: str, host: str, tls: bool, trust: Trust, allowed: bool
) -> None:
    if allowed:
        check_place("auth", host, endpoint, tls=tls, trust=trust)
    else:
        with pytest.raises(NotTrusted, match="nothing was sent"):
            check_place("auth", host, endpoint, tls=tls, trust=trust)


def changed(path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(DOCUMENT)
    *above, last = path.split(".")
    inner = document
    for name in above:
        inner = inner[name]
    inner[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("auth.target", "evil.org:443"),
        ("metadata.target", "evil.org:443"),
        ("notify.target", "evil.org:443"),
        ("s3.endpoint", "https://evil.org"),
        ("s3.endpoint", "http://evil.org"),
    ],
)
def test_what_an_endpoint_says_is_checked_before_anything_is_sent(tmp_path: Path, path: str, value: str) -> None:
    raw = json.dumps(changed(path, value)).encode()
    with serving(lambda _: (200, raw)) as endpoint, pytest.raises(NotTrusted, match=r"evil\.org"):
        account.sign_in(tmp_path, endpoint=endpoint, email="a@example.com", password="secret", device_name="d")
    assert AccountFile(tmp_path).load() is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("auth.target", "unix:/run/secrets.sock"),
        ("auth.target", "ipv4:1.2.3.4:80"),
        ("auth.target", "dns://evil.org/files.example.com:443"),
        ("auth.target", "files.example.com"),
        ("auth.target", "files.example.com:99999"),
        ("auth.target", "a:1,evil.org:2"),
        ("s3.endpoint", "file:///etc"),
        ("s3.endpoint", "https://files.example.com@evil.org"),
        ("s3.endpoint", "https://files.example.com?x"),
        ("s3.endpoint", "https://"),
        ("s3.region", "evil.org/"),
        ("s3.region", "x.evil.org:443/#"),
        ("s3.bucket", "evil.org/"),
        ("s3.bucket", "a@b"),
        ("s3.bucket", "evil.org#"),
    ],
)
def test_a_part_of_an_address_cannot_make_another_address(path: str, value: str) -> None:
    with pytest.raises(NotSyncline):
        deployment_from_json(changed(path, value), HTTPS)


@pytest.mark.parametrize(
    "place",
    [
        # A parser of addresses as browsers have it ends the host at the backslash.
        "https://evil.org\\.files.example.com",
        "https://evil.org\\@files.example.com",
        "https://files.example.com@evil.org",
        "https://evil.org%2f.files.example.com",
        "https://evil.org\t.files.example.com",
        "https://evil.org\u3002files.example.com",
        "https://files.\u0435xample.com",
        "https://files.example.com:99999",
        "https://files.example.com:443@evil.org/",
        "https://[::1",
        "https://",
        "//files.example.com",
    ],
)
def test_a_place_that_parsers_read_differently_is_no_address(place: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        host_of_url(place)
    with pytest.raises(NotSyncline, match="describes itself incompletely"):
        deployment_from_json(changed("s3.endpoint", place), HTTPS)
    with pytest.raises(NotSyncline, match="is not an address"):
        discover(place)


def test_tls_is_only_what_says_true() -> None:
    assert not deployment_from_json(changed("auth.tls", "false"), HTTPS).auth.tls


def test_targets_are_hosts_and_ports() -> None:
    assert host_of_target("[::1]:443") == "::1"
    assert host_of_target("a.example.com:1") == "a.example.com"


class Redirecting(HTTPServer):
    """Answers everything with one redirect."""

    def __init__(self, to: str) -> None:
        super().__init__(("127.0.0.1", 0), _Redirect)
        self.to = to


class _Redirect(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Redirecting)
        self.send_response(302)
        self.send_header("Location", self.server.to)
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


@pytest.mark.parametrize("to", ["http://evil.org/", "https://evil.org/", "http://192.168.0.1/", "file:///etc/passwd"])
def test_a_redirect_to_somewhere_else_is_not_followed(to: str) -> None:
    server = Redirecting(to)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises((NotTrusted, NotSyncline)):
            discover(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_redirect_within_the_endpoint_is_followed() -> None:
    raw = json.dumps(DOCUMENT).encode()
    with serving(lambda _: (200, raw)) as endpoint:
        server = Redirecting(f"{endpoint}/.well-known/syncline")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert discover(f"http://127.0.0.1:{server.server_port}").s3.bucket == "content"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def test_what_a_user_agreed_to_is_kept_and_nothing_else() -> None:
    secured = changed("auth", {"target": "other.example.net:443", "tls": True})
    raw = json.dumps(secured).encode()
    with serving(lambda _: (200, raw)) as endpoint:
        with pytest.raises(NotTrusted, match=r"--allow-host other\.example\.net"):
            discover(endpoint)
        with pytest.raises(NotTrusted, match=r"--allow-host other\.example\.net"):
            discover(endpoint, trust=Trust(http=True, hosts=frozenset({"example.com"})))
        agreed = Trust(hosts=frozenset({"other.example.net"}))
        assert discover(endpoint, trust=agreed).auth.target == "other.example.net:443"
    kept = replace(ACCOUNT, trust=agreed)
    assert _account(_document(kept)) == kept


def test_an_account_of_an_older_version_goes_on_as_it_was() -> None:
    for endpoint in (HTTPS, "http://files.lan"):
        document = _document(replace(ACCOUNT, endpoint=endpoint))
        del document["trust"]
        assert _account(document).trust == Trust(http=endpoint != HTTPS)
