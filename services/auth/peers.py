"""The peer of a connection, as far as it matters for counting sign-in attempts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import unquote

UNKNOWN = "unknown"

_TRANSPORT = re.compile(r"ipv[46]:(\[.*\]|[^:]*):\d+")
_V6_NETWORK_BITS = 64


def peer_address(
    transport: str,
    forwarded: Sequence[str],
    *,
    trusted_proxies: int,
    trusted_networks: Sequence[IPv4Network | IPv6Network] = (),
) -> str:
    """The network address that an attempt comes from; UNKNOWN if it cannot be told.

    `transport` is grpc's name for the peer (`ipv4:192.0.2.1:5000`), `forwarded` the values of `x-forwarded-for`.
    Each of the `trusted_proxies` in front of the service has added the address it saw to the end of these; what
    stands before was written by who knows whom. Only if that address is within `trusted_networks`, where just those
    are who add what they saw, like the gateway, the one before it is taken, and so on while there is one.
    Of an IPv6 address the first half counts, which one customer has.
    """
    match = _TRANSPORT.fullmatch(unquote(transport))
    way = [hop.strip() for value in forwarded for hop in value.split(",")]
    way.append(match[1] if match else "")
    at = len(way) - 1 - trusted_proxies
    if at < 0:  # not by all the proxies, so none of them vouches for what it says
        return _counted(_address(way[-1]))
    while at > 0 and _within(_address(way[at]), trusted_networks):
        at -= 1
    return _counted(_address(way[at]))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _within(address: IPv4Address | IPv6Address | None, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def _counted(address: IPv4Address | IPv6Address | None) -> str:
    if isinstance(address, IPv6Address):
        return str(ipaddress.ip_network((address, _V6_NETWORK_BITS), strict=False).network_address)
    return UNKNOWN if address is None else str(address)
