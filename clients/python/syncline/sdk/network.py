"""Proxies and certificate authorities: the same environment variables apply to gRPC, storage and HTTP.

Each of the libraries reads some of these variables by rules of its own, so the variables are evaluated here, and the
values are passed to all libraries.

| variable, in lower or upper case | is |
|---|---|
| `HTTPS_PROXY`, `HTTP_PROXY` | the proxy of connections with TLS, and of those without |
| `ALL_PROXY` | the proxy of both, if they have none of their own |
| `NO_PROXY` | hosts, domains, addresses or networks that are reached directly, separated by commas; `*` for all |
| `SSL_CERT_FILE`, `SSL_CERT_DIR` | certificates in PEM that are trusted in addition to the system's |

The lower-case variable wins if both are set; an empty value counts as unset. Loopback addresses are always reached
directly.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from syncline.model.errors import Kind, SynclineError
from syncline.sdk.trust import is_this_machine

Environment = Mapping[str, str]

_PORTS: Final = {"http": 80, "https": 443}


class ProxyUnusable(SynclineError):
    """The proxy in an environment variable cannot be used; correct or unset the variable."""

    reason = "PROXY_UNUSABLE"
    kind = Kind.PRECONDITION


class CertificatesUnreadable(SynclineError):
    """The certificates in an environment variable cannot be read; correct or unset the variable."""

    reason = "CERTIFICATES_UNREADABLE"
    kind = Kind.PRECONDITION


def proxy_for(url: str, environment: Environment = os.environ) -> str | None:
    """Return the proxy for `url`, as `http://host:port`; None if `url` is reached directly. The proxy is read from the
    variables of `environment`.

    `url` must have a scheme, `https` for every TLS connection, and a host. Raise ProxyUnusable if the variable with the
    proxy holds no usable address.
    """
    parts = urllib.parse.urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or _PORTS.get(parts.scheme, 0)
    names = (f"{parts.scheme}_proxy", "all_proxy")
    name, proxy = next(((name, value) for name in names if (value := _value(name, environment))), ("", ""))
    if not proxy or is_this_machine(host) or _is_excluded(host, port, _value("no_proxy", environment)):
        return None
    return _usable(proxy, name.upper())


def proxy_headers(proxy: str) -> dict[str, str]:
    """Return the headers to send to the proxy with the address `proxy`, by name: the credentials in the address, or no
    header if it has none.
    """
    parts = urllib.parse.urlsplit(proxy)
    if parts.username is None:
        return {}
    pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def own_certificates(environment: Environment = os.environ) -> bytes | None:
    """Return the certificates that are trusted in addition to the system's, in PEM; None if none are configured. Raise
    CertificatesUnreadable if they cannot be read.
    """
    file, directory = (_value(name, environment) for name in ("ssl_cert_file", "ssl_cert_dir"))
    found = [_read(Path(file), "SSL_CERT_FILE")] if file else []
    for folder in directory.split(os.pathsep) if directory else ():
        try:
            # The directory may list a certificate under two names, as OpenSSL requires; trusting it twice does no harm.
            found += [_read(path, "SSL_CERT_DIR") for path in sorted(Path(folder).iterdir()) if path.is_file()]
        except OSError as error:
            raise _unreadable("SSL_CERT_DIR", Path(folder), error) from None
    pem = b"\n".join(data for data in found if b"-----BEGIN CERTIFICATE-----" in data)
    if found and not pem:
        raise CertificatesUnreadable(f"{file or directory} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
    return pem or None


def trusted(environment: Environment = os.environ) -> ssl.SSLContext:
    """Return the TLS context for HTTP: the system's certificates and the user's own. Raise CertificatesUnreadable if
    those are damaged.
    """
    context = ssl.create_default_context()
    if own := own_certificates(environment):
        try:
            context.load_verify_locations(cadata=own.decode("ascii", "ignore"))
        except ssl.SSLError as error:
            raise CertificatesUnreadable(
                f"the certificates in SSL_CERT_FILE or SSL_CERT_DIR are damaged ({error.reason}); replace them"
            ) from None
    return context


def roots(environment: Environment = os.environ) -> bytes | None:
    """Return the certificates that gRPC trusts, in PEM: the system's and the user's own. None means gRPC's built-in
    ones.
    """
    own = own_certificates(environment)
    if _value("grpc_default_ssl_roots_file_path", environment) and not own:
        return None  # gRPC's own variable is set, and takes precedence
    return b"\n".join([*_of_the_system(), *([own] if own else [])]) or None


def _of_the_system() -> Iterator[bytes]:
    """Yield the system's certificate bundle for programs without OpenSSL, if there is one."""
    compiled = ssl.get_default_verify_paths()
    for candidate in (
        compiled.openssl_cafile,
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
    ):
        try:
            yield Path(candidate).read_bytes()
        except OSError:
            continue
        return


def _value(name: str, environment: Environment) -> str:
    return (environment.get(name) or environment.get(name.upper()) or "").strip()


def _is_excluded(host: str, port: int, excluded: str) -> bool:
    return any(_excludes(part.strip().lower(), host, port) for part in excluded.split(","))


def _excludes(entry: str, host: str, port: int) -> bool:
    """Return True if an entry of NO_PROXY (`*`, a network, an address or a domain, perhaps with a port) covers this
    host.
    """
    if entry == "*":
        return True
    name, _, only = entry.rpartition(":")
    if name and only.isdecimal() and (name.endswith("]") or ":" not in name):
        if int(only) != port:
            return False
        entry = name
    entry = entry.strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        domain = entry.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _usable(proxy: str, name: str) -> str:
    parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        port = parts.port or _PORTS["http"]
    except ValueError:
        port = 0
    if parts.scheme != "http":
        raise ProxyUnusable(
            f"{name} names a proxy of the kind {parts.scheme}; only http://host:port is supported; correct it "
            "or unset it"
        )
    if not parts.hostname or not port:
        raise ProxyUnusable(f"{name} is not an address like http://proxy.example.com:3128; correct it or unset it")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    credentials = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"http://{credentials}{host}:{port}"


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(name, path, error) from None


def _unreadable(name: str, path: Path, error: OSError) -> CertificatesUnreadable:
    return CertificatesUnreadable(
        f"{name} names {path}, which cannot be read ({error.strerror}); correct it or unset it"
    )
