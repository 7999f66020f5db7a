"""Connections that the server ends: those on which answers are not read, or whose calls come with false tokens.

grpc.aio can neither end a call whose answer waits for room at its reader, nor the connection of a caller, so the socket
is shut down beneath it: grpc then finds that the caller has gone away. Only connections that are a caller's own are
ended, never those of a proxy, which has calls of many people.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Final
from urllib.parse import unquote

import prometheus_client

from runtime.logs import structlog

GATHERING_SECONDS: Final = 0.1
"""Connections to be ended are looked for together so often at most, since all open files are looked at."""

HUNG_UP: Final = prometheus_client.Counter(
    "syncline_connections_ended", "Connections that the server ended since their callers misuse them.", ["why"]
)

log = structlog.get_logger()


class HangingUp:
    """Ends connections to one port, for one event loop (not thread-safe)."""

    def __init__(self) -> None:
        self.port = 0
        """The port is that of the server; nothing is ended before it is known."""
        self._peers: set[str] = set()
        self._ending: asyncio.Task[None] | None = None

    def end(self, peer: str, why: str) -> None:
        """End the connection of `peer`, as grpc names it, soon. `why` is a word for the log and the metric."""
        if peer in self._peers:
            return
        HUNG_UP.labels(why).inc()
        log.info("connection ended", why=why)
        self._peers.add(peer)
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        while self._peers:
            await asyncio.sleep(GATHERING_SECONDS)
            peers, self._peers = self._peers, set()
            await asyncio.to_thread(_shut_down, {_normal(peer) for peer in peers}, self.port)
        self._ending = None


def _shut_down(peers: AbstractSet[tuple[str, int]], port: int) -> None:
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 # numbers, not paths
        with suppress(OSError), _copy(int(name)) as connection:  # no socket, not connected, or closed meanwhile
            if connection.family not in {socket.AF_INET, socket.AF_INET6} or connection.getsockname()[1] != port:
                continue
            host, of_peer, *_ = connection.getpeername()
            if (_plain(host), of_peer) in peers:
                connection.shutdown(socket.SHUT_RDWR)


def _copy(file: int) -> socket.socket:
    """A socket that nobody closes and opens as something else while it is looked at; OSError if this is none."""
    copied = os.dup(file)
    try:
        return socket.socket(fileno=copied)
    except OSError:
        os.close(copied)
        raise


def _normal(peer: str) -> tuple[str, int]:
    """The address and port of `ipv4:192.0.2.1:5000` or `ipv6:%5B2001:db8::1%5D:5000`."""
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return _plain(host.strip("[]")), int(port) if port.isdecimal() else 0


def _plain(host: str) -> str:
    """An address as all write it, an IPv4 one as such."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
