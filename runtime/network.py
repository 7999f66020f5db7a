"""The network that a call comes from: limits count all use of a shared resource, and all attempts, of one network
together.

Proxies in front of a process are trusted by their number or their address ranges, and report the client's address in
`x-forwarded-for`. The gateway calls services on behalf of clients. It proves by a token, signed with a secret that it
shares with the services, which network its client has; the address that the gateway calls from does not matter.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final
from urllib.parse import unquote

from runtime.identity import find_identity
from runtime.permissions import CallerKind
from runtime.pool import Share

UNKNOWN: Final = "unknown"

_TRANSPORT = re.compile(r"ipv[46]:(\[.*\]|[^:]*):\d+")
_V6_NETWORK_BITS = 64


def peer_name(host: str, port: int) -> str:
    """Return the name of a peer in the form of gRPC (`ipv4:192.0.2.1:5000`), which `peer_host` parses."""
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def peer_host(name: str) -> str | None:
    """Return the host of the peer that grpc calls `name`; None if the peer has no IP address."""
    match = _TRANSPORT.fullmatch(unquote(name))
    return match[1] if match else None


def peer_address(
    transport: str,
    forwarded: Sequence[str],
    *,
    trusted_proxies: int,
    trusted_networks: Sequence[IPv4Network | IPv6Network] = (),
) -> str:
    """Return the network that a call comes from; UNKNOWN if it cannot be determined.

    `transport` is grpc's name of the peer (`ipv4:192.0.2.1:5000`); the other arguments are those of `network_of`.
    """
    host = peer_host(transport) or ""
    return network_of(host, forwarded, trusted_proxies=trusted_proxies, trusted_networks=trusted_networks)


def network_of(
    address: str,
    forwarded: Sequence[str] = (),
    *,
    trusted_proxies: int = 0,
    trusted_networks: Sequence[IPv4Network | IPv6Network] = (),
) -> str:
    """Return the network of a client; UNKNOWN if it cannot be determined.

    - `address` is the IP address that the connection comes from.
    - `forwarded` has the values of the header `x-forwarded-for`, each a list of addresses.
    - `trusted_proxies` is the number of proxies in front of this process. Each has appended the address that it saw to
      `forwarded`; earlier entries are untrusted.
    - `trusted_networks` contain only further proxies. If the address that results is within them, the entry before it
      is used instead, and so on.

    Of an IPv6 address, the first 64 bits are used, which belong to one customer.
    """
    way = [hop.strip() for value in forwarded for hop in value.split(",")]
    way.append(address)
    at = len(way) - 1 - trusted_proxies
    if at < 0:  # the call did not pass through all proxies, so no entry can be trusted
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


def is_within(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Return True if one of `networks` contains the address; a text that is no address is in no network."""
    return _within(_address(address), networks)


def _counted(address: IPv4Address | IPv6Address | None) -> str:
    if isinstance(address, IPv6Address):
        return str(ipaddress.ip_network((address, _V6_NETWORK_BITS), strict=False).network_address)
    return UNKNOWN if address is None else str(address)


# Each call runs in its own task and so in its own context, so that the variable need not be reset.
_network: ContextVar[str] = ContextVar("network", default=UNKNOWN)
_connection: ContextVar[str | None] = ContextVar("connection", default=None)
_charged: ContextVar[Share | None] = ContextVar("charged", default=None)
_from_gateway: ContextVar[bool] = ContextVar("from_gateway", default=False)


def bind_network(network: str, own_connection: str | None, *, from_gateway: bool = False) -> None:
    """Record, for the rest of the current call, that it comes from `network`.

    `own_connection` is gRPC's name of the caller's connection, if the connection carries only calls of this caller;
    None if a proxy or the gateway is between the caller and this process. `from_gateway` is True if the call is proven
    to come from the gateway.
    """
    _network.set(network)
    _connection.set(own_connection)
    _from_gateway.set(from_gateway)


def current_network() -> str:
    """Return the network of the current call; UNKNOWN outside of a call."""
    return _network.get()


def is_from_gateway() -> bool:
    """Return True if the current call is proven to come from the gateway; False outside of a call."""
    return _from_gateway.get()


def direct_connection() -> str | None:
    """Return gRPC's name of the connection that the current call came on; None if a proxy or the gateway is between the
    caller and this process.
    """
    return _connection.get()


def own_connection() -> str | None:
    """Return gRPC's name of the connection that the current call came on, if a limit may close it because it carries
    only calls of this caller. Return None for calls of services, and if a proxy or the gateway is between the caller
    and this process.
    """
    identity = find_identity()
    return None if identity is not None and identity.kind is CallerKind.SERVICE else _connection.get()


def current_share() -> Share:
    """Return the share to which the current call is charged in pools: its caller and its network. Before
    authentication, the network stands for the caller; a service is charged without a network. After `charge_to`, return
    the share that was given there.
    """
    if (charged := _charged.get()) is not None:
        return charged
    identity, network = find_identity(), _network.get()
    if identity is None:
        return Share.alone(network)
    return Share.alone(identity.account) if identity.kind is CallerKind.SERVICE else Share(identity.account, network)


def charge_to(share: Share) -> None:
    """Let `current_share` return `share` for the rest of the current task. This is for a task that works for other
    callers than the call that started it, and for requests to the gateway, which are no gRPC calls.
    """
    _charged.set(share)
