"""Who is at the other end of the wire, as far as counting sign-in attempts goes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import unquote

UNKNOWN = "unknown"

_TRANSPORT = re.compile(r"ipv[46]:(\[.*\]|[^:]*):\d+")
_V6_NETWORK_BITS = 64


def peer_address(transport: str, forwarded: Sequence[str], *, trusted_proxies: int) -> str:
    """The network address that an attempt comes from; UNKNOWN if it cannot be told.

    `transport` is grpc's name for the peer (`ipv4:192.0.2.1:5000`), `forwarded` the values of `x-forwarded-for`.
    Each of the `trusted_proxies` in front of the service has added the address it saw to the end of these; what
    stands before was written by who knows whom. Of an IPv6 address the first half counts, which one customer has.
    """
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    if 0 < trusted_proxies <= len(hops):
        return _normalized(hops[-trusted_proxies])
    match = _TRANSPORT.fullmatch(unquote(transport))
    return _normalized(match[1]) if match else UNKNOWN


def _normalized(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _V6_NETWORK_BITS), strict=False).network_address)
