"""A server that sends what a test says, byte by byte, whatever it is asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

MIB = 1 << 20
MAX_OFFERED_BYTES = 48 * MIB
"""Maximum number of bytes of an answer that never ends: a client that reads all of it is found out, and survives."""
MAX_TAKEN_BYTES = 32 * MIB
"""More than a client takes that has stopped reading, since the buffers of two sockets hold less."""


class HostileServer:
    """Reads the head of each request, and lets `answer` send. Loopback only."""

    def __init__(self, answer: Callable[[HostileConnection], None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.endpoint = f"http://{self.address}"
        self.requests: list[bytes] = []
        self.sent = 0
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self.stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while head := self._head(connection):
                with self._lock:
                    self.requests.append(head)
                self._answer(HostileConnection(self, connection))

    @staticmethod
    def _head(connection: socket.socket) -> bytes:
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            head += byte
            if not byte or head.startswith(b"\x16"):  # the end, or a handshake of TLS
                return b""
        return bytes(head)

    def count(self, size: int) -> None:
        with self._lock:
            self.sent += size


class HostileConnection:
    """The side of the server of one connection."""

    def __init__(self, server: HostileServer, connection: socket.socket) -> None:
        self._server = server
        self._connection = connection
        self.peer: tuple[str, int] = connection.getpeername()

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)
        self._server.count(len(data))

    def flood(self, data: bytes) -> None:
        """Send `data` again and again, until the client leaves or MAX_OFFERED_BYTES are sent; then close."""
        piece = data * max(1, MIB // len(data))
        for _ in range(MAX_OFFERED_BYTES // len(piece)):
            self.send(piece)
        self.close()

    def drip(self, data: bytes) -> None:
        """Send `data` one byte after the other, until the client leaves or the server stops; then close."""
        for byte in data:
            self.send(bytes([byte]))
            if self._server.stopped.wait(0.02):
                break
        self.close()

    def wait(self) -> None:
        """Do nothing until the server stops."""
        self._server.stopped.wait()

    def close(self) -> None:
        """End the connection at once, whatever the client has sent meanwhile."""
        self._connection.close()
        raise OSError


@contextmanager
def hostile(answer: Callable[[HostileConnection], None]) -> Iterator[HostileServer]:
    server = HostileServer(answer)
    try:
        yield server
    finally:
        server.close()
