"""The rule for where a device sends passwords, tokens and files: only to places under the endpoint that its user named,
and never without TLS.

A server sends its clients the addresses of services and storage. A hostile or misconfigured one could thus turn an
https endpoint into connections without TLS, or have secrets sent to a third party.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from syncline.model.errors import Kind, SynclineError


class NotTrusted(SynclineError):
    """The endpoint names a place that you have not agreed to send secrets to; check the endpoint."""

    reason = "ENDPOINT_NOT_TRUSTED"
    kind = Kind.PRECONDITION


@dataclass(frozen=True, slots=True)
class Trust:
    """Exceptions from the rule of this module that a user has agreed to.

    `http` allows an http:// endpoint on another machine to be used without TLS. `hosts` are names at which, or below
    which, services and storage may be.
    """

    http: bool = False
    hosts: frozenset[str] = frozenset()


NO_FURTHER: Final = Trust()

_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9.])?"
_TARGET = re.compile(rf"(?P<host>{_NAME}|\[[0-9A-Fa-f:.]{{2,45}}\]):(?P<port>[0-9]{{1,5}})")
_HOST = re.compile(rf"{_NAME}|[0-9A-Fa-f:.]{{2,45}}")
"""Names and addresses that every parser reads as the same host. If another parser read a different host, as those of
browsers do for a name with a backslash, one host would be checked and another one called. Non-ASCII letters are written
xn--.
"""


_STRANGE = re.compile(r"[^!-~]|[\\?#]")
"""Characters that an endpoint must not contain: non-ASCII ones, white space, and the beginning of a query or
fragment.
"""


def host_of_target(target: str) -> str:
    """Return the host of `host:port`, in gRPC's form. Raise ValueError for any other target that gRPC accepts
    (`unix:...`).
    """
    match = _TARGET.fullmatch(target)
    if match is None or int(match["port"]) > 65_535:
        raise ValueError(f"{target!r} is not host:port")
    return match["host"].strip("[]")


def host_of_url(url: str) -> str:
    """Return the host of an http or https address without a user, a query or a fragment. Raise ValueError for
    anything else, and for a host that is not written in ASCII.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if (
        host is None
        or _HOST.fullmatch(host) is None
        or parts.scheme not in {"http", "https"}
        or "@" in parts.netloc
        or _STRANGE.search(url) is not None
    ):
        raise ValueError(f"{url!r} is not an address like https://storage.example.com")
    return host


def check_endpoint(endpoint: str, trust: Trust) -> None:
    """Raise NotTrusted if `endpoint` (an http or https URL) would be used without TLS on another machine, and `trust`
    does not allow that.
    """
    parts = urllib.parse.urlsplit(endpoint)
    if parts.scheme == "http" and not trust.http and not is_this_machine(parts.hostname or ""):
        raise NotTrusted(
            f"{endpoint} is not encrypted: everybody on the network path would see your password and files; "
            "use https://, or --allow-http if you know the network"
        )


def check_place(what: str, host: str, endpoint: str, *, tls: bool, trust: Trust) -> None:
    """Raise NotTrusted if a device must not send secrets to `host`, the address that `endpoint` has announced for
    `what` (a service or the storage). `tls` is True if the connection to `host` is encrypted. Each of these conditions
    is sufficient:

    - The connection has no TLS, and `endpoint` is an https URL.
    - The connection has no TLS, `host` is another machine, and `trust` does not allow http.
    - `host` is outside of the domain of `endpoint`, and `trust` does not name it.
    """
    parts = urllib.parse.urlsplit(endpoint)
    own = (parts.hostname or "").lower()
    host = host.lower()
    if not tls:
        if parts.scheme == "https":
            raise NotTrusted(
                f"{endpoint} says that {what} is reached without TLS; nothing was sent. Report this to whoever runs it"
            )
        if not trust.http and not is_this_machine(host):
            raise NotTrusted(
                f"{endpoint} says that {what} is reached without TLS at {host}; nothing was sent. "
                "Use --allow-http if you know the network"
            )
    known = (is_this_machine(host) and is_this_machine(own)) or _is_below(host, {own, *trust.hosts})
    if not known and not _same_domain(host, own):
        raise NotTrusted(
            f"{endpoint} says that {what} is at {host}, which is outside of its own domain; nothing was sent. "
            f"Use --allow-host {host} if you trust it too"
        )


def is_this_machine(host: str) -> bool:
    """Return True if `host` is a name or an address of the loopback interface, so that packets to it never leave this
    machine. `host` is a host name or an IP address without a port. Names are not looked up: only `localhost` and names
    below it count.
    """
    host = host.lower().rstrip(".")
    if _is_address(host):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def _same_domain(host: str, other: str) -> bool:
    """Return True if two names are below the same registered domain, and not merely below `co.uk` or `github.io`."""
    # Imported here, because it takes a third of a second and is needed only for the few installations whose services
    # are beside the endpoint and not below it.
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415

    if _is_address(host) or _is_address(other):
        return False
    registered = PublicSuffixList().privatesuffix
    return (domain := registered(host)) is not None and domain == registered(other)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_below(host: str, domains: Collection[str]) -> bool:
    return any(host == domain or (host.endswith(f".{domain}") and not _is_address(domain)) for domain in domains)
