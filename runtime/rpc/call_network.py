"""The network that a call comes from: the one that the gateway's network token proves, otherwise the one that follows
from the connection and from trusted proxies.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, TypeAlias

from typing_extensions import override

from runtime.logs import structlog
from runtime.network import bind_network, is_within, network_of, peer_address, peer_host
from runtime.network_tokens import NETWORK_KEY, NetworkTokenVerifier
from runtime.rpc.interceptors import Around, Rpc
from syncline.model.errors import SynclineError

if TYPE_CHECKING:
    import grpc.aio

    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_COMPLAINT_SECONDS = 60.0
"""Minimum seconds between two warnings about tokens that do not prove that a call comes from the gateway."""

log = structlog.get_logger()


class CallNetwork(Around):
    """Interceptor that records, for the rest of a call, the network that the call comes from. It also records the
    connection, unless a proxy or the gateway sends calls of several callers on it.
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
        """- `trusted_proxies` and `trusted_networks` are those of `runtime.network.network_of`.
        - `gateway` verifies the gateway's network tokens. Without it, no call can be proven to come from the gateway.
        - `peer` takes gRPC's name of a connection, and returns the name of the connection from the caller. The two
          differ if an `Intake` is in front of gRPC.
        - `proven` is called for each call that is proven to come from the gateway, with the result of `peer`.
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
            bind_network(proven, None, from_gateway=True)
            yield
            return
        forwarded = _values(context, "x-forwarded-for")
        network = peer_address(transport, forwarded, trusted_proxies=self._proxies, trusted_networks=self._networks)
        is_own = not self._proxies and not (forwarded and self._is_trusted(transport))
        bind_network(network, transport if is_own else None)
        yield

    def _proven(self, context: Context, transport: str) -> str | None:
        """Return the network that the gateway states in a call; None if the call is not proven to come from the
        gateway. `transport` is gRPC's name of the connection.
        """
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
        host = peer_host(transport)
        return host is not None and is_within(host, self._networks)


def _values(context: Context, wanted: str) -> Sequence[str]:
    metadata = context.invocation_metadata() or ()
    return [value for key, value in metadata if key == wanted and isinstance(value, str)]
