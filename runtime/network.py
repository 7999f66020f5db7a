"""The network that a call comes from: all use of a shared resource, and all attempts, by one network are counted
together.

Proxies in front of a process are trusted by their number or their networks, and report the client's address in
`x-forwarded-for`. The gateway calls services for others and is recognised only by its secret: a token carries the
network of the client, whatever the address that the gateway calls from.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote

from typing_extensions import override

from runtime.identity import find_identity
from runtime.interceptors import Around, Rpc
from runtime.logs import structlog
from runtime.network_tokens import NetworkTokenVerifier
from runtime.permissions import CallerKind
from runtime.pool import Share
from syncline.model.errors import SynclineError

if TYPE_CHECKING:
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

UNKNOWN: Final = "unknown"
NETWORK_KEY: Final = "x-syncline-network"
"""Metadata key of the token by which the gateway states the network of its client."""

_TRANSPORT = re.compile(r"ipv[46]:(\[.*\]|[^:]*):\d+")
_V6_NETWORK_BITS = 64
_COMPLAINT_SECONDS = 60.0

log = structlog.get_logger()


def peer_name(host: str, port: int) -> str:
    """Return the name of a peer in grpc's form, which `peer_address` parses."""
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


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
    match = _TRANSPORT.fullmatch(unquote(transport))
    return network_of(
        match[1] if match else "", forwarded, trusted_proxies=trusted_proxies, trusted_networks=trusted_networks
    )


def network_of(
    address: str,
    forwarded: Sequence[str] = (),
    *,
    trusted_proxies: int = 0,
    trusted_networks: Sequence[IPv4Network | IPv6Network] = (),
) -> str:
    """Return the network of a client; UNKNOWN if it cannot be determined.

    `address` is that of the connection, `forwarded` the values of `x-forwarded-for`. Each of the `trusted_proxies`
    proxies in front of this process has appended the address that it saw; earlier entries of `forwarded` are untrusted.
    If the address that results is within `trusted_networks`, which contain only further proxies, the entry before it is
    used instead, and so on. Of an IPv6 address, the first 64 bits are used, which belong to one customer.
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


class CallNetwork(Around):
    """Interceptor that binds, for the rest of a call, the network that the call comes from, and the connection if no
    proxy and no gateway shares it among callers.
    """

    def __init__(
        self,
        *,
        trusted_proxies: int,
        trusted_networks: Sequence[IPv4Network | IPv6Network],
        gateway: NetworkTokenVerifier | None = None,
        peer: Callable[[str], str] = str,
        proven: Callable[[str], None] = lambda _peer: None,
    ) -> None:
        """`trusted_proxies` and `trusted_networks` are those of `network_of`. `gateway` verifies the gateway's tokens;
        without it, no call can be proven to come from the gateway.

        `peer` maps grpc's name of a peer to the name of the connection from the caller, which differs behind an
        `Intake`. `proven` is called with the latter name for each call that is proven to come from the gateway.
        """
        super().__init__()
        self._gateway = gateway
        self._complained_at = -_COMPLAINT_SECONDS
        self._peer = peer
        self._on_proven = proven
        self._proxies = trusted_proxies
        self._networks = trusted_networks

    @override
    @asynccontextmanager
    async def around(self, rpc: Rpc, context: Context) -> AsyncIterator[None]:
        transport = self._peer(context.peer())
        proven = self._proven(context, transport)
        if proven is not None:
            self._on_proven(transport)
            _network.set(proven)
            yield
            return
        forwarded = _values(context, "x-forwarded-for")
        _network.set(peer_address(transport, forwarded, trusted_proxies=self._proxies, trusted_networks=self._networks))
        if not self._proxies and not (forwarded and self._is_trusted(transport)):
            _connection.set(transport)
        yield

    def _proven(self, context: Context, transport: str) -> str | None:
        """Return the network that the gateway states; None if the call is not proven to come from the gateway."""
        tokens = _values(context, NETWORK_KEY)
        if self._gateway is None or not tokens:
            return None
        try:
            return network_of(self._gateway.network(tokens[-1]))
        except SynclineError as error:
            # The call is counted as if it had no such token, so that a change of the secret refuses nobody.
            if time.monotonic() - self._complained_at >= _COMPLAINT_SECONDS:
                self._complained_at = time.monotonic()
                log.warning("not proven to be the gateway", peer=transport, reason=error.reason)
            return None

    def _is_trusted(self, transport: str) -> bool:
        match = _TRANSPORT.fullmatch(unquote(transport))
        return match is not None and _within(_address(match[1]), self._networks)


def current_network() -> str:
    """Return the network of the current call; UNKNOWN outside of a call."""
    return _network.get()


def direct_connection() -> str | None:
    """Return the name of the peer whose connection the current call came on; None if a proxy or the gateway is between
    the caller and this process.
    """
    return _connection.get()


def own_connection() -> str | None:
    """Return the name of the peer, as grpc writes it, whose connection carries only calls of this caller. Return None
    for calls of services, and if a proxy or the gateway is between the caller and this process.
    """
    identity = find_identity()
    return None if identity is not None and identity.kind is CallerKind.SERVICE else _connection.get()


def current_share() -> Share:
    """Return the account of the current call for shared pools; before authentication, the network stands for the
    caller.
    """
    identity, network = find_identity(), _network.get()
    if identity is None:
        return Share.alone(network)
    return Share.alone(identity.account) if identity.kind is CallerKind.SERVICE else Share(identity.account, network)


def _values(context: Context, wanted: str) -> Sequence[str]:
    metadata = context.invocation_metadata() or ()
    return [value for key, value in metadata if key == wanted and isinstance(value, str)]
