"""The listening port of a service without a load balancer: accepts connections and forwards their bytes to grpc.

grpc exposes neither the number of connections of a network nor the bytes that precede a call, and cannot close a
caller's connection. Such a service therefore listens with an `Intake`, which copies bytes between each connection and a
connection to grpc's Unix socket. A service behind a balancer has none: the balancer limits its clients, and all its
connections come from one address.

A connection is known once one of its calls carried a valid token, or the gateway's proof that the gateway makes the
call (runtime/network_tokens.py). Unknown connections, refused calls and headers before the settings are acknowledged
are charged to their network, in units of the cost of a refused call. A network that exceeds its rate is shut out for a
while: its unknown connections are closed, and new ones are refused, except for a few if a connection from that network
was recently known. Small frames are rate-limited on each connection. None of this applies to trusted networks.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import prometheus_client
from cachetools import TTLCache

from runtime.connections import ConnectionPool
from runtime.frames import FrameReader
from runtime.logs import structlog
from runtime.network import network_of, peer_name
from runtime.permissions import Work
from runtime.pool import Share
from runtime.rates import Rate, Rates
from syncline.model.errors import RateExceeded

HANDSHAKE_SECONDS: Final = 10.0
"""Maximum seconds for a new connection to begin HTTP/2, and then to acknowledge the server's settings."""
FILES_PER_CONNECTION: Final = 3
"""Number of file descriptors per connection: its own, and both ends of the connection to grpc."""
UNACKNOWLEDGED_BYTES: Final = 65_536
"""Maximum number of bytes on a connection before its client acknowledges the settings, without payloads of DATA. Until
then grpc accepts headers of 16 MiB.
"""
UNITS_PER_SECOND: Final = 50.0
"""Maximum rate of unauthenticated work for one network: an unknown connection and a refused call cost one unit each."""
UNITS_AT_ONCE: Final = 256
UNACKNOWLEDGED_BYTES_PER_UNIT: Final = 4_096
"""Number of bytes before the acknowledgement of the settings that cost one unit."""
SMALL_FRAMES_PER_SECOND: Final = 2_000.0
"""Maximum rate of small frames on one connection, beyond the allowance for calls with valid tokens."""
SMALL_FRAMES_AT_ONCE: Final = 20_000
SMALL_FRAMES_PER_CALL: Final = 16
"""Allowance of small frames for each call with a valid token."""
UNITS_PER_FLOOD: Final = 64
"""Cost in units of a connection that is closed because of its small frames."""
SHUT_OUT_SECONDS: Final = 10.0
ADMITTED_PER_SECOND: Final = 10.0
"""Maximum rate of new connections from a network that is shut out, if a valid token came from there recently."""
KNOWN_SECONDS: Final = 900.0
"""Seconds for which a valid token counts as recent: the lifetime of an access token."""
PROOF_SECONDS: Final = 2.0
"""Seconds within which a connection that was admitted from a network that is shut out has to present a valid token."""
_NETWORKS: Final = 10_000
"""Maximum number of networks to remember, both of those with valid tokens and of those that are shut out."""
_CLOSING_SECONDS: Final = 5.0
"""Seconds for a caller to read the last bytes before the connection is closed."""
_ACCEPTED_AT_ONCE: Final = 16
"""Maximum number of connections that are accepted in one step of the event loop."""
_NO_ROOM_SECONDS: Final = 0.5
"""Seconds to wait before accepting again after the process has reached its open-file limit."""
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BACKLOG: Final = 1024
_GRPC: Final = "grpc"

HUNG_UP: Final = prometheus_client.Counter(
    "syncline_connections_ended", "Connections that the server ended since their callers misuse them.", ["why"]
)

log = structlog.get_logger()


class Intake:
    """The listening port of one service, for one event loop (not thread-safe)."""

    def __init__(self, admission: ConnectionPool, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`admission` counts the connections, `clock` returns seconds."""
        self.admission = admission
        self._directory: Path | None = None
        """Directory of grpc's socket. Only this user has access, so that grpc can be reached only through the intake.
        """
        self._listener: socket.socket | None = None
        self._all: set[CallerConnection] = set()
        """All connections, including those that have sent nothing yet."""
        self._connections: dict[str, CallerConnection] = {}
        """The connections that are connected to grpc, by grpc's names for their peers."""
        self._by_peer: dict[str, CallerConnection] = {}
        self._of_network: dict[str, set[CallerConnection]] = {}
        self._beginning: set[asyncio.Task[None]] = set()
        """The tasks that set up a connection with its caller or with grpc."""
        self._came = 0
        self._units = Rates({Work.ANONYMOUS: Rate(UNITS_PER_SECOND, burst=UNITS_AT_ONCE)}, clock=clock)
        self._frames = Rates({Work.ANONYMOUS: Rate(SMALL_FRAMES_PER_SECOND, burst=SMALL_FRAMES_AT_ONCE)}, clock=clock)
        self._admitted = Rates({Work.ANONYMOUS: Rate(ADMITTED_PER_SECOND, burst=ADMITTED_PER_SECOND)}, clock=clock)
        self._shut_out: TTLCache[str, None] = TTLCache(_NETWORKS, SHUT_OUT_SECONDS, timer=clock)
        self._known: TTLCache[str, None] = TTLCache(_NETWORKS, KNOWN_SECONDS, timer=clock)
        """Networks from which valid tokens or proofs of the gateway came, each until KNOWN_SECONDS after the last one.
        """

    def bind(self, listen: str) -> int:
        """Bind `listen` (host:port), and return the port. Raise OSError if the address is taken."""
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        family, _, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        dual = host == "::" and socket.has_dualstack_ipv6()
        listener = socket.create_server(
            (str(address[0]), int(address[1])), family=family, backlog=_BACKLOG, dualstack_ipv6=dual
        )
        listener.setblocking(False)
        self._listener = listener
        self._directory = Path(tempfile.mkdtemp(prefix="syncline-"))
        bound: int = listener.getsockname()[1]
        return bound

    @property
    def address(self) -> str:
        """The address on which grpc has to listen, once this is bound."""
        return f"unix:{self._socket()}"

    def start(self) -> None:
        """Start accepting connections; grpc has to listen already."""
        assert self._listener is not None
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def stop(self) -> None:
        """Stop accepting connections; existing ones stay open."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def close(self) -> None:
        """Close all connections, and release their resources."""
        self.stop()
        for connection in list(self._all):
            connection.abort()
        for task in list(self._beginning):
            task.cancel()
        if self._beginning:
            await asyncio.wait(self._beginning)
        self.discard()

    def discard(self) -> None:
        """Release the port, and remove the socket and its directory."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._directory is not None:
            with suppress(OSError):
                self._socket().unlink(missing_ok=True)
                self._directory.rmdir()
            self._directory = None

    def peer(self, name: str) -> str:
        """Return the name that grpc would give to the peer without an intake; `name` is the peer's name in grpc."""
        connection = self._connections.get(name)
        return name if connection is None else connection.peer

    def end(self, peer: str, why: str) -> None:
        """Close the connection of `peer`, if there is one. `why` is a word for the log and the metric."""
        connection = self._by_peer.get(peer)
        if connection is not None:
            HUNG_UP.labels(why).inc()
            log.info("connection ended", why=why)
            connection.abort()

    def accepted(self, peer: str) -> None:
        """Record a call whose token is valid, or that is proven to come from the gateway."""
        connection = self._by_peer.get(peer)
        if connection is None or connection.network is None:
            return
        self._frames.charge(Work.ANONYMOUS, connection.peer, -SMALL_FRAMES_PER_CALL)
        self._known[connection.network] = None
        if not connection.known:
            connection.prove()
            self._units.charge(Work.ANONYMOUS, connection.network, -1)

    def refused(self, peer: str) -> None:
        """Record a call whose token is invalid."""
        connection = self._by_peer.get(peer)
        if connection is not None and connection.network is not None:
            self._charge(connection.network, 1)

    def allows(self, connection: CallerConnection, reader: FrameReader, data: bytes) -> bool:
        """Charge `data` of a connection from an untrusted network; return False if the connection was closed because of
        it.
        """
        assert connection.network is not None
        before = reader.unacknowledged_bytes
        small = reader.feed(data)
        if reader.unacknowledged_bytes > UNACKNOWLEDGED_BYTES:
            self._cut(connection, "headers")
            return False
        try:
            if small:
                self._frames.admit(Work.ANONYMOUS, connection.peer, small)
        except RateExceeded:
            self._cut(connection, "frames")
            self._charge(connection.network, UNITS_PER_FLOOD)
            return False
        if reader.unacknowledged_bytes > before:
            units = (reader.unacknowledged_bytes - before) / UNACKNOWLEDGED_BYTES_PER_UNIT
            self._charge(connection.network, units)
        return not connection.is_cut()

    def _charge(self, network: str, units: float) -> None:
        """Charge unauthenticated work to a network, and shut the network out if it exceeds its rate."""
        if network in self._shut_out:
            return
        try:
            self._units.admit(Work.ANONYMOUS, network, units)
        except RateExceeded:
            log.warning("network shut out", network=network, seconds=SHUT_OUT_SECONDS)
            self._shut_out[network] = None
            for connection in list(self._of_network.get(network, ())):
                if not connection.known:
                    self._cut(connection, "shut out")

    def _cut(self, connection: CallerConnection, why: str) -> None:
        HUNG_UP.labels(why).inc()
        connection.abort()

    def _lets_in(self, network: str) -> bool:
        """Return True if a network that is shut out may have one more connection."""
        try:
            if network in self._known or any(one.known for one in self._of_network.get(network, ())):
                self._admitted.admit(Work.ANONYMOUS, network)
                return True
        except RateExceeded:
            pass
        return False

    def _socket(self) -> Path:
        assert self._directory is not None
        return self._directory / _GRPC

    def _accept(self) -> None:
        assert self._listener is not None
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                log.warning("no room for connections", reason=str(error))
                loop.remove_reader(self._listener)
                loop.call_later(_NO_ROOM_SECONDS, self._accept_again)
                return
            network = None if self.admission.is_trusted(address[0]) else network_of(address[0])
            shut_out = network is not None and network in self._shut_out
            if shut_out and network is not None and not self._lets_in(network):
                HUNG_UP.labels("shut out").inc()
                accepted.close()
                continue
            share = self.admission.admit(address[0], address[1])
            if share is None:
                self.admission.refused()
                accepted.close()
                continue
            accepted.setblocking(False)
            connection = CallerConnection(self, share, peer_name(address[0], address[1]), network)
            self._all.add(connection)
            if network is not None:
                self._of_network.setdefault(network, set()).add(connection)
                self._charge(network, 1)
                if shut_out:
                    connection.expect_proof(PROOF_SECONDS)
            self.begin(self._arrived(connection, accepted))

    def _accept_again(self) -> None:
        if self._listener is not None:
            self.start()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work`, which sets up a connection, in a task that is cancelled when the intake is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        return task

    async def _arrived(self, connection: CallerConnection, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted)
        except BaseException:
            accepted.close()
            connection.forget()
            raise

    def open(self, connection: CallerConnection) -> socket.socket:
        """Connect to grpc for `connection`, from a socket with a unique name. Raise OSError if grpc accepts no more."""
        at = self._socket()
        self._came += 1
        name = at.with_name(str(self._came))
        inner = socket.socket(socket.AF_UNIX)
        try:
            inner.setblocking(False)
            inner.bind(str(name))
            name.unlink()  # grpc uses the name only to tell connections apart; the file is not needed
            inner.connect(str(at))
        except OSError:
            inner.close()
            raise
        connection.name = f"unix:{name}"
        self._connections[connection.name] = connection
        self._by_peer[connection.peer] = connection
        return inner

    def forget(self, connection: CallerConnection, share: Share) -> None:
        """Stop counting a connection, which has ended."""
        self.admission.leave(share)
        self._all.discard(connection)
        if connection.network is not None:
            others = self._of_network.get(connection.network, set())
            others.discard(connection)
            if not others:
                self._of_network.pop(connection.network, None)
        self._connections.pop(connection.name, None)
        # Another connection may have come from the same port since.
        if self._by_peer.get(connection.peer) is connection:
            del self._by_peer[connection.peer]


class CallerConnection(asyncio.Protocol):
    """The connection of a caller. It is forwarded to a connection to grpc, which is opened when the first bytes
    arrive.
    """

    def __init__(self, intake: Intake, share: Share, peer: str, network: str | None) -> None:
        """`network` is None if the network is trusted."""
        self.name = ""
        self.peer = peer
        self.network = network
        self.known = False
        """True once a call with a valid token came on this connection."""
        self._reader = None if network is None else FrameReader()
        self._cut = False
        self._proof: asyncio.TimerHandle | None = None
        self._intake = intake
        self._share: Share | None = share
        self._loop = asyncio.get_running_loop()
        self._outer: asyncio.Transport | None = None
        self._inner: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None
        self._early = bytearray()
        """Bytes that arrived before the connection to grpc was open."""
        self._at_end = False
        self._limit = self._loop.call_later(HANDSHAKE_SECONDS, self.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection of a caller."""
        self._outer = cast("asyncio.Transport", transport)
        if self._cut:
            self._outer.abort()

    def data_received(self, data: bytes) -> None:
        """Forward bytes of the caller to grpc."""
        if self._cut or (self._reader is not None and not self._intake.allows(self, self._reader, data)):
            return
        if self._inner is not None:
            self._inner.write(data)
            return
        self._early += data
        if self._opening is None and self._outer is not None:
            self._outer.pause_reading()
            self._limit.cancel()  # from here on, grpc's own time limit applies
            self._opening = self._intake.begin(self._open())

    async def _open(self) -> None:
        if self._cut:
            return
        try:
            opened = self._intake.open(self)
            try:
                await self._loop.create_unix_connection(lambda: _Inner(self), sock=opened)
            except BaseException:
                opened.close()
                raise
        except OSError as error:
            log.warning("grpc takes no connection", reason=str(error))
            self.abort()
        except BaseException:
            self.abort()
            raise

    def opened(self, inner: asyncio.Transport) -> None:
        """Start forwarding, now that the connection to grpc is open."""
        self._inner = inner
        if self._outer is None or self._outer.is_closing():
            inner.abort()
            return
        self._outer.resume_reading()  # writing may pause it again
        inner.write(bytes(self._early))
        self._early.clear()
        if self._at_end:
            inner.write_eof()

    def answered(self, data: bytes) -> None:
        """Forward bytes of grpc to the caller."""
        if self._outer is not None:
            self._outer.write(data)

    def hung_up(self) -> None:
        """Close the connection because grpc closed its own; the caller receives everything sent before."""
        if self._outer is not None and not self._outer.is_closing():
            self._outer.close()
            self._limit.cancel()
            self._limit = self._loop.call_later(_CLOSING_SECONDS, self.abort)

    def pause_writing(self) -> None:
        """Stop reading from grpc while the caller does not read."""
        if self._inner is not None:
            self._inner.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading from grpc."""
        if self._inner is not None and not self._inner.is_closing():
            self._inner.resume_reading()

    def pause(self) -> None:
        """Stop reading from the caller while grpc does not read."""
        if self._outer is not None:
            self._outer.pause_reading()

    def resume(self) -> None:
        """Resume reading from the caller."""
        if self._outer is not None and not self._outer.is_closing():
            self._outer.resume_reading()

    def eof_received(self) -> bool:
        """Forward the end of the caller's stream to grpc; the caller may still read."""
        self._at_end = True
        if self._inner is not None and not self._inner.is_closing():
            self._inner.write_eof()
        return self._inner is not None or self._opening is not None

    def connection_lost(self, _exc: Exception | None) -> None:
        """Close the connection to grpc, since the caller's connection has ended."""
        if self._inner is not None:
            self._inner.abort()
        self.forget()

    def abort(self) -> None:
        """Close the connection at once."""
        self._cut = True
        if self._outer is not None:
            self._outer.abort()

    def is_cut(self) -> bool:
        """Return True if no bytes of the connection are forwarded any more."""
        return self._cut

    def prove(self) -> None:
        """Mark the connection as known."""
        self.known = True
        if self._proof is not None:
            self._proof.cancel()

    def expect_proof(self, seconds: float) -> None:
        """Close the connection unless it is known within `seconds`."""
        self._proof = self._loop.call_later(seconds, self.abort)

    def forget(self) -> None:
        """Release the connection's place in the pool."""
        self._limit.cancel()
        if self._proof is not None:
            self._proof.cancel()
        if self._share is not None:
            share, self._share = self._share, None
            self._intake.forget(self, share)


class _Inner(asyncio.Protocol):
    """The connection to grpc that belongs to a caller's connection."""

    def __init__(self, connection: CallerConnection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.opened(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._connection.answered(data)

    def pause_writing(self) -> None:
        self._connection.pause()

    def resume_writing(self) -> None:
        self._connection.resume()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._connection.hung_up()
