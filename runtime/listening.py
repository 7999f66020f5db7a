"""Addresses that a process listens on, written host:port, and the sockets that listen there."""

from __future__ import annotations

import os
import socket
from typing import Final

_BACKLOG: Final = 1024


def split_address(address: str) -> tuple[str, int]:
    """Return the host and the port of `address`. The host keeps the brackets of an IPv6 address."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def with_port(address: str, port: int) -> str:
    """Return `address` with another port, for example with the free port that the system chose in place of port 0."""
    return f"{split_address(address)[0]}:{port}"


def listening_socket(address: str) -> socket.socket:
    """Return a socket that listens on `address`; port 0 takes a free port, and the host `[::]` also accepts IPv4
    connections.

    Raise OSError if the address is in use, or not one of this machine.
    """
    host, port = split_address(address)
    family, _, _, _, found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    is_dual = host == "[::]" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            (str(found[0]), int(found[1])), family=family, backlog=_BACKLOG, dualstack_ipv6=is_dual
        )
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno)) from None  # without the address, which callers name
