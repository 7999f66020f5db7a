"""Pool of the connections of a process: the total number, and the number per network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from runtime.network import is_within, network_of
from runtime.pool import Pool, Share, TooMuchAtOnce


class ConnectionPool:
    """Counts the open connections of a process, and refuses a further one of a network that holds too many: a network
    may hold as many connections as it leaves free (runtime/pool.py).

    Many networks are behind a trusted proxy, so each connection of a proxy counts as a network of its own.
    """

    def __init__(self, total: int, trusted_networks: Sequence[IPv4Network | IPv6Network]) -> None:
        """`total` is the maximum number of connections, and `trusted_networks` has the address ranges of trusted
        proxies.
        """
        self._pool = Pool("connections", total, counted=True)
        self._trusted = trusted_networks

    def taken(self) -> int:
        """Return the number of open connections."""
        return self._pool.taken()

    def is_trusted(self, address: str) -> bool:
        """Return True if an address belongs to a trusted proxy."""
        return is_within(address, self._trusted)

    def admit(self, address: str, port: int) -> Share | None:
        """Count a connection from this IP address and port until `leave`, and return the share to pass to `leave`.
        Count nothing and return None if the limit for the network, or the total, is reached.
        """
        share = self.share_of(address, port)
        return share if self._pool.try_take(1, share) else None

    def share_of(self, address: str, port: int) -> Share:
        """Return the share to which a connection from this IP address and port is charged."""
        return Share.alone(f"{address} {port}" if self.is_trusted(address) else network_of(address))

    def refused(self) -> TooMuchAtOnce:
        """Return the error for a connection that `admit` has refused, and count the refusal in the metric of pools."""
        return self._pool.refused("too many connections; close some, or try again in a few seconds")

    def leave(self, share: Share, *, after_seconds: float = 0.0) -> None:
        """Stop counting a connection that has ended, `after_seconds` from now. `share` is the one that `admit`
        returned.
        """
        if after_seconds:
            asyncio.get_running_loop().call_later(after_seconds, self._pool.give, 1, share)
        else:
            self._pool.give(1, share)
