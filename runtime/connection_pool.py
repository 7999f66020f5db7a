"""Pool of the connections of a process: the total number, and the number per network."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from runtime.network import is_within, network_of
from runtime.pool import Pool, Share, TooMuchAtOnce


class ConnectionPool:
    """Shares the connections of a process: a network may hold as many as it leaves free (runtime/pool.py).

    Many networks are behind a trusted proxy, so each connection of a proxy counts as a network of its own.
    """

    def __init__(self, total: int, trusted_networks: Sequence[IPv4Network | IPv6Network]) -> None:
        """`trusted_networks` has the address ranges of trusted proxies."""
        self._pool = Pool("connections", total, counted=True)
        self._trusted = trusted_networks

    def taken(self) -> int:
        """Return the number of open connections."""
        return self._pool.taken()

    def is_trusted(self, address: str) -> bool:
        """Return True if an address belongs to a trusted proxy."""
        return is_within(address, self._trusted)

    def admit(self, address: str, port: int) -> Share | None:
        """Count a connection from this address until `leave`; return None if the limit is reached."""
        share = self.share_of(address, port)
        return share if self._pool.try_take(1, share) else None

    def share_of(self, address: str, port: int) -> Share:
        """Return the account to which a connection from this address is charged."""
        return Share.alone(f"{address} {port}" if self.is_trusted(address) else network_of(address))

    def refused(self) -> TooMuchAtOnce:
        """Return the error for a refused connection, and count it in the metric."""
        return self._pool.refused("too many connections; close some, or try again in a few seconds")

    def leave(self, share: Share) -> None:
        """Stop counting a connection, which has ended."""
        self._pool.give(1, share)
