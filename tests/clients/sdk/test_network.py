"""The environment says which proxy is on the way, and who is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncline.sdk.network import CertificatesUnreadable, ProxyUnusable, own_certificates, proxy_for, roots, trusted

PROXY = "http://proxy.example.com:3128"
OTHER = "http://other.example.com:3128"
FAR = "https://files.example.com"


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        (FAR, {}, None),
        *((FAR, {name: PROXY}, PROXY) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")),
        *((FAR, {name: PROXY}, None) for name in ("http_proxy", "HTTP_PROXY")),
        *(
            ("http://files.example.com", {name: PROXY}, PROXY)
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
        ),
        ("http://files.example.com", {"HTTPS_PROXY": PROXY}, None),
        (FAR, {"https_proxy": PROXY, "HTTPS_PROXY": OTHER, "ALL_PROXY": OTHER}, PROXY),
        (FAR, {"https_proxy": "", "HTTPS_PROXY": PROXY}, PROXY),
        (FAR, {"HTTPS_PROXY": "proxy.example.com:3128"}, PROXY),
        (FAR, {"HTTPS_PROXY": "http://proxy.example.com"}, "http://proxy.example.com:80"),
        (FAR, {"HTTPS_PROXY": "http://ann:a%40b@proxy.example.com:3128/"}, "http://ann:a%40b@proxy.example.com:3128"),
        (FAR, {"HTTPS_PROXY": "http://[2001:db8::1]:3128"}, "http://[2001:db8::1]:3128"),
    ],
)
def test_which_proxy(url: str, environment: dict[str, str], proxy: str | None) -> None:
    assert proxy_for(url, environment) == proxy


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.1.2.3", "[::1]", "LOCALHOST."])
def test_this_machine_is_reached_directly(host: str) -> None:
    assert proxy_for(f"https://{host}:8080", {"ALL_PROXY": PROXY}) is None


@pytest.mark.parametrize(
    ("url", "excluded", "direct"),
    [
        (FAR, "*", True),
        (FAR, "files.example.com", True),
        (FAR, "example.com", True),
        (FAR, ".example.com", True),
        (FAR, "*.example.com", True),
        (FAR, "other.org, EXAMPLE.COM ,", True),
        (FAR, "files.example.com:443", True),
        (FAR, "files.example.com:8443", False),
        (FAR, "ample.com", False),
        (FAR, "files", False),
        (FAR, "", False),
        (FAR, "10.0.0.0/8", False),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://10.1.2.3:8443", "10.1.2.3:8443", True),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://110.1.2.3", "10.1.2.3", False),
        ("https://[2001:db8::1]", "2001:db8::/32", True),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443", True),
        ("https://[2001:db8::1]", "[2001:db8::2]", False),
    ],
)
def test_what_is_excluded(url: str, excluded: str, direct: bool) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        assert (proxy_for(url, {"HTTPS_PROXY": PROXY, name: excluded}) is None) == direct


@pytest.mark.parametrize(
    "proxy", ["socks5://proxy:1080", "https://proxy:3128", "http://", "http://proxy:port", "http://:1"]
)
def test_a_proxy_that_cannot_be_used_is_named(proxy: str) -> None:
    with pytest.raises(ProxyUnusable, match="ALL_PROXY"):
        proxy_for(FAR, {"all_proxy": proxy})


CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nnot really\n-----END CERTIFICATE-----\n"


def test_own_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(CERTIFICATE)
    (tmp_path / "README").write_text("no certificate")
    (tmp_path / "below").mkdir()
    assert own_certificates({}) is None
    for name in ("ssl_cert_file", "SSL_CERT_FILE"):
        assert own_certificates({name: str(tmp_path / "ca.pem")}) == CERTIFICATE
    for name in ("ssl_cert_dir", "SSL_CERT_DIR"):
        assert own_certificates({name: f"{tmp_path}:{tmp_path}"}) == CERTIFICATE + b"\n" + CERTIFICATE
    assert CERTIFICATE in (roots({"SSL_CERT_FILE": str(tmp_path / "ca.pem")}) or b"")


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for name in ("ssl_cert_file", "SSL_CERT_DIR"):
        with pytest.raises(CertificatesUnreadable, match="none, which cannot be read"):
            own_certificates({name: str(tmp_path / "none")})
    (tmp_path / "empty").touch()
    with pytest.raises(CertificatesUnreadable, match="holds no certificate"):
        own_certificates({"SSL_CERT_FILE": str(tmp_path / "empty")})
    (tmp_path / "damaged").write_bytes(CERTIFICATE)
    with pytest.raises(CertificatesUnreadable, match="damaged"):
        trusted({"SSL_CERT_FILE": str(tmp_path / "damaged")})


def test_somebody_who_has_told_grpc_is_heard() -> None:
    assert roots({"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "/some/file"}) is None
