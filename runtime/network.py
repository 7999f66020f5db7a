"""From which network a call comes: what one network takes of something shared, or tries, is counted together."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote

from typing_extensions import override

from runtime.identity import find_identity
from runtime.interceptors import Around, Rpc
from runtime.permissions import CallerKind
from runtime.pool import Share

if TYPE_CHECKING:
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

UNKNOWN: Final = "unknown"

_TRANSPORT = re.compile(r"ipv[46]:(\[.*\]|[^:]*):\d+")
_V6_NETWORK_BITS = 64


def peer_address(
    transport: str,
    forwarded: Sequence[str],
    *,
    trusted_proxies: int,
    trusted_networks: Sequence[IPv4Network | IPv6Network] = (),
) -> str:
    """The network that a call comes from; UNKNOWN if it cannot be told.

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


def is_within(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """True if one of `networks` has this address; a text that is no address is in no network."""
    return _within(_address(address), networks)


def network_of(address: str) -> str:
    """The network by which an address is counted; UNKNOWN if the text is no address."""
    return _counted(_address(address))


def _counted(address: IPv4Address | IPv6Address | None) -> str:
    if isinstance(address, IPv6Address):
        return str(ipaddress.ip_network((address, _V6_NETWORK_BITS), strict=False).network_address)
    return UNKNOWN if address is None else str(address)


# Each call runs in a task of its own and so in a context of its own: nothing is ever reset.
_network: ContextVar[str] = ContextVar("network", default=UNKNOWN)
_connection: ContextVar[str | None] = ContextVar("connection", default=None)


class CallNetwork(Around):
    """Binds, for the rest of a call, from which network it comes and whether its connection is its caller's own."""

    def __init__(
        self,
        *,
        trusted_proxies: int,
        trusted_networks: Sequence[IPv4Network | IPv6Network],
        peer: Callable[[str], str] = str,
    ) -> None:
        """`peer` makes of grpc's name for a peer that of the caller's own connection.

        The other arguments are those of `peer_address`.
        """
        super().__init__()
        self._peer = peer
        self._proxies = trusted_proxies
        self._networks = trusted_networks

    @override
    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Context) -> AsyncIterator[None]:
        transport = self._peer(context.peer())
        forwarded = _forwarded(context)
        _network.set(peer_address(transport, forwarded, trusted_proxies=self._proxies, trusted_networks=self._networks))
        if not self._proxies and not (forwarded and self._is_trusted(transport)):
            _connection.set(transport)
        yield

    def _is_trusted(self, transport: str) -> bool:
        match = _TRANSPORT.fullmatch(unquote(transport))
        return match is not None and _within(_address(match[1]), self._networks)


def current_network() -> str:
    """The network that the call under way comes from; UNKNOWN outside of a call."""
    return _network.get()


def own_connection() -> str | None:
    """The peer, as grpc names it, whose connection has calls of this caller alone; None where a proxy is between."""
    identity = find_identity()
    return None if identity is not None and identity.kind is CallerKind.SERVICE else _connection.get()


def current_share() -> Share:
    """Return whose share the call under way takes from; its network is the caller while nobody is known."""
    identity, network = find_identity(), _network.get()
    if identity is None:
        return Share.alone(network)
    return Share.alone(identity.account) if identity.kind is CallerKind.SERVICE else Share(identity.account, network)


def _forwarded(context: Context) -> Sequence[str]:
    metadata = context.invocation_metadata() or ()
    return [value for key, value in metadata if key == "x-forwarded-for" and isinstance(value, str)]
