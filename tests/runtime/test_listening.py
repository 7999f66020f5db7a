"""Sockets that listen, whatever listens there: gRPC, HTTP, or the embedded AWS."""

import errno
import os
import socket

import pytest

from runtime.listening import listening_socket, split_address, with_port


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("127.0.0.1:0", "127.0.0.1", 0), ("[::1]:8080", "[::1]", 8080), ("localhost:50051", "localhost", 50051)],
)
def test_an_address_is_a_host_and_a_port(address, host, port):
    assert split_address(address) == (host, port)
    assert with_port(address, 9) == f"{host}:9"


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_a_free_port_is_taken_and_then_in_use(address):
    with listening_socket(address) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((listener.getsockname()[0], port), timeout=60):
            pass
        with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)) as caught:
            listening_socket(with_port(address, port))
        assert (caught.value.errno, caught.value.strerror) == (errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def test_whoever_listens_on_all_addresses_of_ipv6_is_reached_by_ipv4():
    with listening_socket("[::]:0") as listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=60).close()


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(OSError, match=os.strerror(errno.EADDRNOTAVAIL)):
        listening_socket("192.0.2.1:0")
