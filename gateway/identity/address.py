"""The gateway's own address, as requests name it and as answers contain it.

A request names the address in Host. A proxy in front of the gateway may have rewritten Host, and then sends the
original in `Forwarded` (RFC 7239) or `X-Forwarded-Proto`, `-Host`, `-Port` and `-Prefix`: these headers are trusted
only from trusted networks, because anybody can send them. `public_url`, if it is configured, is always ours.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from runtime.network import is_within, network_of
from syncline.model.errors import InvalidArgument

EVERYWHERE: Final = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MAX_HEADER_CHARACTERS: Final = 4096
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([^\s\[\]:/?#@,;\"]{1,255}))(?::([0-9]{0,5}))?")
_PORT: Final = re.compile("[0-9]{1,5}")
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~-]{1,100}){1,10}")
_PAIR: Final = re.compile(r'(?<![A-Za-z-])([A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";,]*))')


@dataclass(frozen=True, slots=True)
class Authority:
    """A host, and the port if it is given. `scheme` is empty if it is unknown."""

    scheme: str
    host: str
    port: int | None

    def same_as(self, other: Authority) -> bool:
        """Return True if both are the same address. A missing port is the default port of the scheme; an address
        without a scheme has the scheme of the other address.
        """
        scheme = self.scheme or other.scheme
        return self.host == other.host and self._port(scheme) == other._port(other.scheme or scheme)

    def _port(self, scheme: str) -> int | None:
        return _DEFAULT_PORTS.get(scheme) if self.port is None else self.port

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        shown = self.port is not None and self.port != _DEFAULT_PORTS.get(self.scheme)
        return f"{self.scheme}://{host}:{self.port}" if shown else f"{self.scheme}://{host}"


def authority(scheme: str, text: str) -> Authority | None:
    """Return the authority in `text`, which has the form of Host; None if it is invalid."""
    found = _HOST.fullmatch(text.strip()) if len(text) <= _MAX_HEADER_CHARACTERS else None
    if found is None:
        return None
    literal, name, port = found.groups()
    try:
        host = str(ipaddress.IPv6Address(literal)) if literal else _name(name)
    except ValueError:
        return None
    number = int(port) if port else None
    return Authority(scheme.lower(), host, number) if number is None or 0 < number < 65536 else None


def _name(text: str) -> str:
    """Return a host name in normal form: lower case, ASCII, without a trailing dot."""
    name = text.rstrip(".")
    return (name if name.isascii() else name.encode("idna").decode()).lower()


@dataclass(frozen=True, slots=True)
class SeenAddress:
    """The gateway's address as the sender of one request sees it."""

    own: tuple[Authority, ...]
    """All combinations of host and port that the gateway is known by."""
    shown: str | None
    """The host and port to put into answers; None if the request names none."""
    prefix: str
    """The prefix that the gateway's paths have for the sender; empty, or beginning with '/'."""

    def is_ours(self, url: str) -> bool:
        """Return True if `url`, an absolute URL or the value of an Origin header, leads to the gateway. Raise
        ValueError for a text that is no URL.
        """
        parts = urlsplit(url)
        told = authority(parts.scheme, parts.netloc.rpartition("@")[2])
        if told is None:
            raise ValueError("that is no host")
        return told.scheme in {"", *_DEFAULT_PORTS} and any(one.same_as(told) for one in self.own)

    @property
    def url(self) -> str:
        """Return the beginning of all URLs of the gateway for the sender. Raise InvalidArgument if the request names no
        address.
        """
        if self.shown is None:
            raise InvalidArgument("the header Host is no host")
        return self.shown


class OwnAddress:
    """Determines the gateway's own address, and the sender's network, from the headers and the connection of a
    request.
    """

    def __init__(
        self, *, public_url: str, trusted_networks: Sequence[IPv4Network | IPv6Network], trusted_proxies: int = 0
    ) -> None:
        """`public_url` is the configured URL of the gateway, empty if there is none. `trusted_networks` and
        `trusted_proxies` are those of `runtime.network.network_of`. Raise ValueError if `public_url` has no host.
        """
        self._public: list[Authority] = []
        if public_url:
            parts = urlsplit(public_url)
            public = authority(parts.scheme, parts.netloc)
            if public is None:
                raise ValueError(f"the public URL {public_url!r} has no host")
            self._public.append(public)
        self._trusted = trusted_networks
        self._proxies = trusted_proxies
        self.proxies = EVERYWHERE if trusted_proxies else trusted_networks
        """The networks from which only our proxies connect."""

    def of(self, request: Request) -> SeenAddress:
        """Return the gateway's address as the sender of this request sees it."""
        told, prefix = list[Authority](), ""
        if is_within(request.client.host if request.client else "", self._trusted):
            told += _forwarded(request)
            prefix = _last(request, "x-forwarded-prefix").rstrip("/")
            prefix = prefix if _PREFIX.fullmatch(prefix) else ""
        # the sender's scheme is unknown if TLS ends before us: any scheme matches
        host = authority("", request.headers.get("host", ""))
        own = [*self._public, *told, *([host] if host is not None else [])]
        if self._public:
            return SeenAddress(tuple(own), str(self._public[0]), prefix)
        first = told[0] if told else authority(request.url.scheme, request.headers.get("host", ""))
        return SeenAddress(tuple(own), f"{first}{prefix}" if first is not None else None, prefix)

    def network(self, request: Request) -> str:
        """Return the network that a request comes from: an IPv4 address, or the first 64 bits of an IPv6 address.

        Trusted proxies name the sender in X-Forwarded-For; the last address that is not a trusted proxy's is used. The
        header is ignored from any other sender, and so is `for=` of Forwarded.
        """
        forwarded = ",".join(request.headers.getlist("x-forwarded-for"))[-_MAX_HEADER_CHARACTERS:]
        return network_of(
            request.client.host if request.client else "",
            [forwarded] if forwarded else [],
            trusted_proxies=self._proxies,
            trusted_networks=self._trusted,
        )


def _forwarded(request: Request) -> Iterator[Authority]:
    """Yield the authorities by which the client addressed the proxy that sent this request. In each header the last
    element is the one that this proxy has added.
    """
    standard = {key.lower(): value or plain for key, value, plain in _PAIR.findall(_last(request, "forwarded"))}
    proto = standard.get("proto") or _last(request, "x-forwarded-proto")
    scheme = proto or request.url.scheme
    if scheme.lower() not in _DEFAULT_PORTS:
        return
    port = _last(request, "x-forwarded-port")
    for text in (
        standard.get("host"),
        _last(request, "x-forwarded-host"),
        request.headers.get("host", "") if proto else "",  # the proxy has left Host unchanged
    ):
        told = authority(scheme, text) if text else None
        if told is None:
            continue
        if told.port is None and _PORT.fullmatch(port) and 0 < int(port) < 65536:
            told = Authority(told.scheme, told.host, int(port))
        yield told


def _last(request: Request, name: str) -> str:
    """Return the last element of a list header; empty if there is none."""
    lines = request.headers.getlist(name)
    return lines[-1][-_MAX_HEADER_CHARACTERS:].rpartition(",")[2].strip() if lines else ""
