"""Connections of a process as a pool: how many there are, and how many of them one network has."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from runtime.network import is_within, network_of
from runtime.pool import Pool, Share, TooMuchAtOnce


class ConnectionPool:
    """Shares the connections of a process: a network may have as many as it leaves free (runtime/pool.py).

    Behind a trusted proxy are many networks, so that each of its connections counts as if it came from another.
    """

    def __init__(self, total: int, trusted_networks: Sequence[IPv4Network | IPv6Network]) -> None:
        """`trusted_networks` has the addresses of proxies."""
        self._pool = Pool("connections", total, counted=True)
        self._trusted = trusted_networks

    def taken(self) -> int:
        """The number of connections that there are."""
        return self._pool.taken()

    def is_trusted(self, address: str) -> bool:
        """True if only trusted proxies have addresses like this one."""
        return is_within(address, self._trusted)

    def admit(self, address: str, port: int) -> Share | None:
        """Count a connection from there, until `leave`; None if it is one too many."""
        share = self.share_of(address, port)
        return share if self._pool.try_take(1, share) else None

    def share_of(self, address: str, port: int) -> Share:
        """Return the account that a connection from there is counted on."""
        return Share.alone(f"{address} {port}" if self.is_trusted(address) else network_of(address))

    def refused(self) -> TooMuchAtOnce:
        """Return the error for a connection that is not admitted, and count it."""
        return self._pool.refused("too many connections; close some, or try again in a few seconds")

    def leave(self, share: Share) -> None:
        """Count a connection no more, which has ended."""
        self._pool.give(1, share)
