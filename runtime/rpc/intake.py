"""The listening port of a gRPC service without a load balancer: accepts connections, limits them, and forwards their
bytes to gRPC in the same process.

gRPC exposes neither the number of connections of a network nor the bytes that precede a call, and cannot close a
caller's connection. Such a service therefore listens with an `Intake`, which copies bytes between each connection and a
connection to gRPC's Unix socket. A service behind a balancer has no intake: the balancer limits the clients, and all
connections come from the balancer's address.

A connection is known once one of its calls carried a valid token, or the network token by which the gateway proves that
the call is its own (runtime/network_tokens.py). Until then it is unknown. No limit but the number of connections
applies to trusted networks. For all others there are these limits:

- Connections: `ConnectionPool` limits their number for each network. A further one is closed.
- Work for unknown callers, for each network: a new connection, a call with an invalid token, and a number of bytes
  before the HTTP/2 handshake is complete cost one unit each. A network above UNITS_PER_SECOND is shut out for
  SHUT_OUT_SECONDS: its unknown connections are closed, and new ones are refused. If a connection from the network was
  known recently, ADMITTED_PER_SECOND new ones are accepted all the same.
- Bytes before the handshake is complete, for each connection: above MAX_UNACKNOWLEDGED_BYTES it is closed.
- Small frames of HTTP/2, for each connection: above SMALL_FRAMES_PER_SECOND it is closed.
- Small frames, for each network: above NETWORK_FRAMES_PER_SECOND a connection that sends more is not read for a while.
- Calls that gRPC has not accepted, for each network: gRPC accepts calls in the order of arrival, whoever makes them.
  Therefore at most CALLS_AHEAD calls of a network are forwarded before gRPC accepts them, and none while CALLS_WAITING
  of its calls wait to start. A connection with a further call is parked: its remaining bytes wait here, and it is not
  read, until its turn among the connections of its network. Calls of the gateway are exempt.
"""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import prometheus_client
from cachetools import TTLCache

from runtime.connection_pool import ConnectionPool
from runtime.listening import listening_socket
from runtime.logs import structlog
from runtime.network import network_of, peer_name
from runtime.permissions import Work
from runtime.pool import Share
from runtime.rates import Rate, Rates
from runtime.rpc.frames import FRAME_HEADER_BYTES, FrameReader
from syncline.model.errors import RateExceeded

HANDSHAKE_SECONDS: Final = 10.0
"""Maximum seconds for a new connection to send its first bytes, and then to complete the handshake of HTTP/2, which
ends when the client acknowledges the server's SETTINGS frame.
"""
FILES_PER_CONNECTION: Final = 3
"""Number of file descriptors per connection: its own, and both ends of the connection to gRPC."""
MAX_UNACKNOWLEDGED_BYTES: Final = 65_536
"""Maximum number of bytes that a connection may send before its client acknowledges the server's SETTINGS frame of
HTTP/2. Payloads of DATA frames do not count. Until the acknowledgement gRPC accepts headers of 16 MiB.
"""
UNITS_PER_SECOND: Final = 50.0
"""Maximum rate of work for unknown callers of one network, in units: a new connection and a call with an invalid token
cost one unit each.
"""
UNITS_AT_ONCE: Final = 256
UNACKNOWLEDGED_BYTES_PER_UNIT: Final = 4_096
"""Number of bytes, sent before the client acknowledges the server's SETTINGS frame, that cost one unit."""
SMALL_FRAMES_PER_SECOND: Final = 2_000.0
"""Maximum rate of small HTTP/2 frames on one connection. SMALL_FRAMES_PER_CALL frames for each call with a valid token
do not count.
"""
SMALL_FRAMES_AT_ONCE: Final = 20_000
SMALL_FRAMES_PER_CALL: Final = 16
"""Number of small HTTP/2 frames that do not count, for each call with a valid token."""
_PAID_AT_ONCE: Final = 64
"""Number of small frames that a connection reserves at a time, so that its rate is not computed for each read."""
READ_BYTES: Final = 65_536
"""Maximum size of one read from a connection, in bytes."""
CALLS_AHEAD: Final = 32
"""Maximum number of calls of one network that were forwarded to gRPC and that gRPC has not accepted yet. Calls of the
gateway are exempt.
"""
CALLS_WAITING: Final = 1_024
"""Maximum number of calls of one network that wait to start in this process (`runtime.rpc.beginning`). At this number,
no further call of the network is forwarded to gRPC.
"""
_STUCK_SECONDS: Final = 0.25
"""If gRPC accepts no call of a network for this number of seconds, the calls that were forwarded to it no longer count:
gRPC has refused them by itself.
"""
_FEW_BYTES: Final = 4_096
"""Maximum size of one read from a connection, in bytes, while a connection of the same network is parked (waits to
forward a further call) or rests (is not read for a while after too many small frames or refused calls).
"""
NETWORK_FRAMES_PER_SECOND: Final = 20_000.0
"""Maximum rate of small HTTP/2 frames on all connections of one network together. SMALL_FRAMES_PER_CALL frames for each
call with a valid token, and the first _PAID_AT_ONCE frames of each connection, do not count.
"""
NETWORK_FRAMES_AT_ONCE: Final = 20_000
UNITS_PER_FLOOD: Final = 64
"""Cost, in units of work for unknown callers, of a connection that is closed because of its small frames."""
SHUT_OUT_SECONDS: Final = 10.0
ADMITTED_PER_SECOND: Final = 10.0
"""Maximum rate of new connections that are accepted from a network that is shut out, if a valid token came from there
recently.
"""
KNOWN_SECONDS: Final = 900.0
"""Seconds for which a valid token from a network counts as recent: the lifetime of an access token."""
_NOTED_SECONDS: Final = 1.0
"""Minimum seconds between two updates of the time of a network's last valid token by the same connection."""
PROOF_SECONDS: Final = 2.0
"""Seconds within which a connection that was admitted from a network that is shut out has to present a valid token."""
_MAX_REMEMBERED_NETWORKS: Final = 10_000
"""Maximum number of networks to remember, both of those with valid tokens and of those that are shut out."""
_CLOSING_SECONDS: Final = 5.0
"""Seconds for a caller to read the last bytes of the service before the connection is closed."""
_ACCEPTED_AT_ONCE: Final = 16
"""Maximum number of connections that are accepted in one callback of the event loop."""
_NO_ROOM_SECONDS: Final = 0.5
"""Seconds to wait before accepting again after the process has reached its open-file limit."""
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GRPC: Final = "grpc"

HUNG_UP: Final = prometheus_client.Counter(
    "syncline_connections_ended", "Connections that the server closed because their callers misused them.", ["why"]
)

log = structlog.get_logger()


class Intake:
    """Accepts the connections to the listening port of one service, applies the limits that the module lists, and
    forwards the bytes to gRPC. For one event loop (not thread-safe).

    In its methods, the argument `peer` is the name of the caller's connection as gRPC would write it
    (`ipv4:192.0.2.1:5000`), which `handed_in` returns.
    """

    def __init__(self, admission: ConnectionPool, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`admission` is the pool that limits the number of connections, `clock` returns seconds."""
        self.admission = admission
        self._directory: Path | None = None
        """Directory of gRPC's Unix socket. Only this user has access, so that gRPC can be reached only through the
        intake.
        """
        self._listener: socket.socket | None = None
        self._all: set[CallerConnection] = set()
        """All connections, including those that have sent nothing yet."""
        self._connections: dict[str, CallerConnection] = {}
        """The callers' connections that have a connection to gRPC, by gRPC's name of the latter."""
        self._by_peer: dict[str, CallerConnection] = {}
        self._networks: dict[str, _Network] = {}
        """The untrusted networks that have connections, by their address as text."""
        self._waiting: Callable[[str], int] = lambda _network: 0
        self.room = memoryview(bytearray(READ_BYTES))
        """The buffer into which all connections are read, one at a time."""
        self.little_room = self.room[:_FEW_BYTES]
        """The buffer of _FEW_BYTES into which a connection is read while connections of its network are parked or rest.
        """
        self._beginning: set[asyncio.Task[None]] = set()
        """The running tasks of `begin`, each of which sets up a connection with a caller or with grpc."""
        self._came = 0
        self._units = Rates({Work.ANONYMOUS: Rate(UNITS_PER_SECOND, burst=UNITS_AT_ONCE)}, clock=clock)
        at_once = SMALL_FRAMES_AT_ONCE - 3 * _PAID_AT_ONCE  # frames that are paid ahead come on top
        self._frames = Rates({Work.ANONYMOUS: Rate(SMALL_FRAMES_PER_SECOND, burst=at_once)}, clock=clock)
        self._network_frames = Rates(
            {Work.ANONYMOUS: Rate(NETWORK_FRAMES_PER_SECOND, burst=NETWORK_FRAMES_AT_ONCE)}, clock=clock
        )
        self._clock = clock
        self._admitted = Rates({Work.ANONYMOUS: Rate(ADMITTED_PER_SECOND, burst=ADMITTED_PER_SECOND)}, clock=clock)
        self._shut_out: TTLCache[str, None] = TTLCache(_MAX_REMEMBERED_NETWORKS, SHUT_OUT_SECONDS, timer=clock)
        self._known: TTLCache[str, None] = TTLCache(_MAX_REMEMBERED_NETWORKS, KNOWN_SECONDS, timer=clock)
        """Networks from which a valid token, or a network token of the gateway, has come, each until KNOWN_SECONDS
        after the last one.
        """

    def bind(self, listen: str) -> int:
        """Bind `listen` (host:port, where port 0 stands for a free port), and return the port. Raise OSError if the
        address is taken.
        """
        listener = listening_socket(listen)
        listener.setblocking(False)
        self._listener = listener
        self._directory = Path(tempfile.mkdtemp(prefix="syncline-"))
        bound: int = listener.getsockname()[1]
        return bound

    @property
    def address(self) -> str:
        """The address on which gRPC has to listen; available after `bind`."""
        return f"unix:{self._socket()}"

    def start(self) -> None:
        """Start accepting connections; gRPC has to listen already."""
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
        """Stop listening on the port, and remove the Unix socket of gRPC and the directory that it is in."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._directory is not None:
            with suppress(OSError):
                self._socket().unlink(missing_ok=True)
                self._directory.rmdir()
            self._directory = None

    def count_waiting(self, waiting: Callable[[str], int]) -> None:
        """Set the function that takes a network, and returns the number of its calls that wait to start in this
        process.
        """
        self._waiting = waiting

    def handed_in(self, name: str) -> str:
        """Record that gRPC has accepted a call, so that a parked connection of the same network may forward its next
        call. `name` is gRPC's name of the connection on which the call came.

        Return the name that gRPC would give to the caller's connection without an intake; `name` itself if the
        connection has ended.
        """
        connection = self._connections.get(name)
        if connection is None:
            return name
        if connection.ahead and connection.shared is not None:
            connection.ahead -= 1
            network = connection.shared
            network.ahead -= 1
            network.is_stuck = False
            if network.parked:
                self._go_on(network)
        return connection.peer

    def begun(self, network: str) -> None:
        """Let parked connections of a network forward calls, after one of its waiting calls has started."""
        found = self._networks.get(network)
        if found is not None and found.parked:
            self._go_on(found)

    def park(self, connection: CallerConnection) -> None:
        """Put a connection with a further call into the queue of its network, to be resumed when the call may be
        forwarded.
        """
        network = connection.shared
        assert network is not None
        network.parked[connection] = None
        if not network.looks:
            self._look_later(network)

    def _left(self, network: _Network) -> int:
        """Return the number of further calls that connections of this network may forward now."""
        return 0 if self._waiting(network.name) >= CALLS_WAITING else max(0, CALLS_AHEAD - network.ahead)

    def _go_on(self, network: _Network) -> None:
        while network.parked and self._left(network):
            connection, _ = network.parked.popitem(last=False)
            connection.go_on()

    def _look_later(self, network: _Network) -> None:
        network.looks = network.is_stuck = True
        asyncio.get_running_loop().call_later(_STUCK_SECONDS, self._look, network)

    def _look(self, network: _Network) -> None:
        """Check if gRPC has accepted a call of `network` in the last _STUCK_SECONDS. If it has not, it has refused the
        forwarded calls by itself, so that they no longer count. Then let parked connections forward calls, and schedule
        the next check if some stay parked.
        """
        network.looks = False
        if network.is_stuck:
            network.ahead = 0
            for connection in network.connections:
                connection.ahead = 0
        self._go_on(network)
        if network.parked:
            self._look_later(network)

    def end(self, peer: str, why: str) -> None:
        """Close the connection `peer`; do nothing if it is not open. `why` is one word that names the reason in the log
        and the metric.
        """
        connection = self._by_peer.get(peer)
        if connection is not None:
            HUNG_UP.labels(why).inc()
            log.info("connection ended", why=why)
            connection.abort()

    def rest(self, peer: str, seconds: float) -> None:
        """Read nothing from the connection `peer` for `seconds`. Do nothing if it is not open, is not read for a while
        already, or belongs to a trusted network.
        """
        connection = self._by_peer.get(peer)
        if connection is not None:
            connection.rest(seconds)

    def proven(self, peer: str) -> None:
        """Record that a call on the connection `peer` is proven to come from the gateway. The connection counts as
        known, and the limit of forwarded calls does not apply to it, because the gateway calls for many networks and
        has turns of its own.
        """
        connection = self._by_peer.get(peer)
        if connection is not None and connection.shared is not None and not connection.is_gateway:
            connection.is_gateway = True
            connection.shared.ahead -= connection.ahead
            connection.ahead = 0
        self.accepted(peer)

    def accepted(self, peer: str) -> None:
        """Record that a call on the connection `peer` carries a valid token, or is proven to come from the gateway:

        - The connection counts as known from now on, so that it stays open if its network is shut out, and the unit for
          it is returned to its network.
        - SMALL_FRAMES_PER_CALL of its small frames do not count.
        - For KNOWN_SECONDS, its network may open some new connections even if it is shut out.

        Do nothing if the connection is not open or belongs to a trusted network.
        """
        connection = self._by_peer.get(peer)
        if connection is None or connection.network is None:
            return
        connection.unpaid -= SMALL_FRAMES_PER_CALL
        if connection.unpaid < -2 * _PAID_AT_ONCE:
            connection.unpaid += _PAID_AT_ONCE
            self._frames.charge(Work.ANONYMOUS, connection.peer, -_PAID_AT_ONCE)
        if (now := self._clock()) >= connection.noted_until:
            connection.noted_until = now + _NOTED_SECONDS
            self._known[connection.network] = None
        if not connection.known:
            connection.prove()
            self._units.charge(Work.ANONYMOUS, connection.network, -1)

    def refused(self, peer: str) -> None:
        """Record that a call on the connection `peer` carries an invalid token, or none: the network of the connection
        is charged one unit.
        """
        connection = self._by_peer.get(peer)
        if connection is not None and connection.network is not None:
            self._charge(connection.network, 1)

    def read(self, connection: CallerConnection, network: _Network, reader: FrameReader, data: bytes) -> int | None:
        """Charge the bytes `data`, which were read from a connection of the untrusted network `network`. `reader`
        follows the frames of this connection. Return the number of bytes that may be forwarded; the caller passes the
        others again later. Return None if the connection was closed because `data` exceeds a limit.
        """
        before, is_known, small, calls = reader.unacknowledged_bytes, reader.acknowledged, reader.small, reader.calls
        read = reader.feed(data, math.inf if connection.is_gateway else self._left(network))
        connection.unpaid += reader.small - small
        begun = reader.calls - calls
        if begun and not connection.is_gateway:
            connection.ahead += begun
            network.ahead += begun
        if connection.unpaid <= 0 and is_known:
            return read
        return read if self._pays(connection) and self._acknowledges(connection, reader, before) else None

    def _pays(self, connection: CallerConnection) -> bool:
        """Charge the small frames of a connection that are not charged yet, to the limits of the connection and of its
        network. Return True, or False if the connection was closed because it exceeds its limit. If the network exceeds
        its limit, the connection is not read for a while.
        """
        if connection.unpaid <= 0:
            return True
        assert connection.network is not None
        small, connection.unpaid = connection.unpaid + _PAID_AT_ONCE, -_PAID_AT_ONCE
        try:
            self._frames.admit(Work.ANONYMOUS, connection.peer, small)
        except RateExceeded:
            self._cut(connection, "frames")
            self._charge(connection.network, UNITS_PER_FLOOD)
            return False
        if not connection.is_gateway:
            late = self._network_frames.owe(Work.ANONYMOUS, connection.network, small)
            if late:
                connection.rest(late)
        return True

    def _acknowledges(self, connection: CallerConnection, reader: FrameReader, before: int) -> bool:
        """Charge the bytes that a connection has sent before its client acknowledged the server's SETTINGS frame of
        HTTP/2 to its network. `before` is the number of such bytes that were charged earlier.

        Return False if the connection is closed, because it has sent too many of these bytes or its network is shut
        out; otherwise True.
        """
        if reader.unacknowledged_bytes > MAX_UNACKNOWLEDGED_BYTES:
            self._cut(connection, "headers")
            return False
        if reader.unacknowledged_bytes > before:
            assert connection.network is not None
            units = (reader.unacknowledged_bytes - before) / UNACKNOWLEDGED_BYTES_PER_UNIT
            self._charge(connection.network, units)
        return not connection.is_cut()

    def _charge(self, network: str, units: float) -> None:
        """Charge `units` of work for unknown callers to a network. If the network exceeds its rate, shut it out for
        SHUT_OUT_SECONDS, and close its unknown connections.
        """
        if network in self._shut_out:
            return
        try:
            self._units.admit(Work.ANONYMOUS, network, units)
        except RateExceeded:
            log.warning("network shut out", network=network, seconds=SHUT_OUT_SECONDS)
            self._shut_out[network] = None
            for connection in list(self._connections_of(network)):
                if not connection.known:
                    self._cut(connection, "shut out")

    def _connections_of(self, network: str) -> Collection[CallerConnection]:
        found = self._networks.get(network)
        return () if found is None else found.connections

    def _cut(self, connection: CallerConnection, why: str) -> None:
        HUNG_UP.labels(why).inc()
        connection.abort()

    def _lets_in(self, network: str) -> bool:
        """Return True, and count the connection, if a new connection may be accepted from a network that is
        shut out.
        """
        try:
            if network in self._known or any(one.known for one in self._connections_of(network)):
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
            shared = None
            if network is not None:
                shared = self._networks.get(network) or self._networks.setdefault(network, _Network(network))
            connection = CallerConnection(self, share, peer_name(address[0], address[1]), shared)
            self._all.add(connection)
            if shared is not None:
                shared.connections.add(connection)
                self._charge(shared.name, 1)
                if shut_out:
                    connection.expect_proof(PROOF_SECONDS)
            self.begin(self._arrived(connection, accepted))

    def _accept_again(self) -> None:
        if self._listener is not None:
            self.start()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work`, which sets up a connection, in a task that is cancelled when the intake is closed. Return the
        task.
        """
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
        """Return a socket that is being connected to gRPC for `connection`, from an address with a unique name, by
        which gRPC's calls are assigned to the connection. Raise OSError if gRPC accepts no further connection.
        """
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
        """Stop counting a connection that has ended, for its network and for `share` in the pool of connections."""
        self.admission.leave(share)
        self._all.discard(connection)
        network = connection.shared
        if network is not None:
            network.connections.discard(connection)
            network.parked.pop(connection, None)
            network.ahead -= connection.ahead
            if not network.connections:
                del self._networks[network.name]
            else:
                self._go_on(network)
        self._connections.pop(connection.name, None)
        # Another connection may have come from the same port since.
        if self._by_peer.get(connection.peer) is connection:
            del self._by_peer[connection.peer]


class _Network:
    """The connections of one untrusted network, and the counts that they share."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connections: set[CallerConnection] = set()
        self.ahead = 0
        """Number of calls that were forwarded to gRPC and that gRPC has not accepted yet."""
        self.parked: OrderedDict[CallerConnection, None] = OrderedDict()
        """The parked connections, in the order in which they are resumed. The values have no meaning."""
        self.looks = False
        """True if a check is scheduled for whether gRPC has accepted calls."""
        self.resting = 0
        """Number of connections that are not read for a while, after too many small frames or refused calls."""
        self.is_stuck = False
        """True if gRPC has accepted no call since this check was scheduled."""


class CallerConnection(asyncio.BufferedProtocol):
    """The connection of a caller. Its bytes are copied to and from a second connection, to the gRPC server behind the
    intake. The second connection is opened when the first bytes arrive on the first one.
    """

    def __init__(self, intake: Intake, share: Share, peer: str, shared: _Network | None) -> None:
        """- `share` is the account to which the intake's pool of connections charges the connection.
        - `peer` is the name of the connection as gRPC would write it (`ipv4:192.0.2.1:5000`).
        - `shared` holds the counts of the connection's network; None if the network is trusted.
        """
        self.name = ""
        self.peer = peer
        self.shared = shared
        self.network = None if shared is None else shared.name
        self.known = False
        """True once a call with a valid token, or with the gateway's proof, came on this connection."""
        self.unpaid = -_PAID_AT_ONCE
        """Number of small HTTP/2 frames that are not charged yet; below 0, the number of frames that were charged in
        advance.
        """
        self.ahead = 0
        """Number of calls of this connection that were forwarded to gRPC and that gRPC has not accepted yet."""
        self.is_gateway = False
        """True once a call with the gateway's proof came on this connection."""
        self.noted_until = 0.0
        """Time of the intake's clock, in seconds, until which a further valid token does not update the time of the
        network's last valid token.
        """
        self._reader = FrameReader()
        self._cut = False
        self._proof: asyncio.TimerHandle | None = None
        self._intake = intake
        self._share: Share | None = share
        self._loop = asyncio.get_running_loop()
        self._outer: asyncio.Transport | None = None
        self._inner: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None
        self._early = b""
        """Bytes to forward that arrived before the connection to gRPC was open."""
        self._rest = b""
        """Bytes that may not be forwarded yet: an incomplete frame header, or everything from a further call on."""
        self._is_parked = False
        self._is_full = False
        """True while gRPC does not read."""
        self._resting: asyncio.TimerHandle | None = None
        """Timer that ends a pause in reading after too many small frames or refused calls."""
        self._at_end = False
        self._limit = self._loop.call_later(HANDSHAKE_SECONDS, self.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection of a caller, of which `transport` is the transport. Close it if `abort` was called
        before.
        """
        self._outer = cast("asyncio.Transport", transport)
        if self._cut:
            self._outer.abort()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Return the buffer for the next read. It is a small one (_FEW_BYTES) while a connection of the same network is
        parked or rests.
        """
        shared = self.shared
        is_behind = shared is not None and (shared.parked or shared.resting)
        return self._intake.little_room if is_behind else self._intake.room

    def buffer_updated(self, nbytes: int) -> None:
        """Forward to gRPC the `nbytes` bytes that were read from the caller into the buffer, as far as the limits of
        the intake allow. Bytes beyond the limits are kept until these allow them.
        """
        if self._cut:
            return
        data = bytes(self._intake.room[:nbytes])
        if self.shared is None:
            self._hand_on(data)
            return
        self._read(self.shared, self._rest + data if self._rest else data)

    def go_on(self) -> None:
        """Forward the bytes of a parked connection, as far as limits allow, and read from it again if all were
        forwarded. Do nothing while the connection is not read after too many small frames or refused calls; it is
        parked again afterwards.
        """
        if self._resting is not None:
            return
        self._is_parked = False
        if self._cut or self.shared is None:
            return
        self._read(self.shared, self._rest)
        if not self._is_parked and self._inner is not None:
            self._read_on()

    def _read(self, network: _Network, data: bytes) -> None:
        read = self._intake.read(self, network, self._reader, data)
        if read is None:
            return
        if read == len(data):
            self._rest = b""
            self._hand_on(data)
            return
        self._rest = data[read:]
        self._hand_on(data[:read])
        if len(self._rest) >= FRAME_HEADER_BYTES:
            self._is_parked = True
            self._intake.park(self)
            if self._outer is not None:
                self._outer.pause_reading()

    def _hand_on(self, data: bytes) -> None:
        if not data:
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
        """Start copying bytes, now that `inner`, the connection to gRPC, is open."""
        self._inner = inner
        if self._outer is None or self._outer.is_closing():
            inner.abort()
            return
        early, self._early = self._early, b""
        inner.write(early)
        self._read_on()
        if self._at_end:
            inner.write_eof()

    def answered(self, data: bytes) -> None:
        """Forward `data`, bytes that gRPC has sent, to the caller. Drop them if the caller has gone."""
        if self._outer is not None:
            self._outer.write(data)

    def hung_up(self) -> None:
        """Close the caller's connection because gRPC closed the connection behind it; the caller has _CLOSING_SECONDS
        to receive the bytes that were sent before.
        """
        if self._outer is not None and not self._outer.is_closing():
            self._outer.close()
            self._limit.cancel()
            self._limit = self._loop.call_later(_CLOSING_SECONDS, self.abort)

    def pause_writing(self) -> None:
        """Stop reading from gRPC, because the caller does not read the answers; asyncio calls `resume_writing`
        later.
        """
        if self._inner is not None:
            self._inner.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading from gRPC, because the caller reads the answers again."""
        if self._inner is not None and not self._inner.is_closing():
            self._inner.resume_reading()

    def pause(self) -> None:
        """Stop reading from the caller until `resume`, because gRPC does not read what is forwarded."""
        self._is_full = True
        if self._outer is not None:
            self._outer.pause_reading()

    def resume(self) -> None:
        """Resume reading from the caller, because gRPC reads again. A connection that is parked, or rests, is not read
        yet.
        """
        self._is_full = False
        self._read_on()

    def _read_on(self) -> None:
        is_held = self._is_full or self._is_parked or self._resting is not None
        if self._outer is not None and not (is_held or self._outer.is_closing()):
            self._outer.resume_reading()

    def rest(self, seconds: float) -> None:
        """Stop reading from the caller for `seconds`. Do nothing if the connection is not read for a while already, or
        belongs to a trusted network.
        """
        if self._resting is None and self.shared is not None:
            self._resting = self._loop.call_later(seconds, self._rested)
            self.shared.resting += 1
            if self._outer is not None:
                self._outer.pause_reading()

    def _rested(self) -> None:
        network = self._end_rest()
        if self._is_parked:
            self._intake.park(self)
            self._intake.begun(network.name)
        elif self._inner is not None:
            self._read_on()

    def _end_rest(self) -> _Network:
        """End the time in which the connection is not read, and return its network."""
        assert self.shared is not None
        self._resting = None
        self.shared.resting -= 1
        return self.shared

    def eof_received(self) -> bool:
        """Forward the end of the caller's stream to gRPC. Return True if the caller may still read answers."""
        self._at_end = True
        if self._inner is not None and not self._inner.is_closing():
            self._inner.write_eof()
        return self._inner is not None or self._opening is not None

    def connection_lost(self, _exc: Exception | None) -> None:
        """Close the connection to the gRPC server behind the intake, because the caller's connection has ended."""
        if self._inner is not None:
            self._inner.abort()
        self.forget()

    def abort(self) -> None:
        """Close the connection at once, without sending what is buffered."""
        self._cut = True
        if self._outer is not None:
            self._outer.abort()

    def is_cut(self) -> bool:
        """Return True if no bytes of the connection are forwarded any more."""
        return self._cut

    def prove(self) -> None:
        """Record that a call on the connection had a valid token or the gateway's proof. The connection is known from
        now on, and `expect_proof` no longer closes it.
        """
        self.known = True
        if self._proof is not None:
            self._proof.cancel()

    def expect_proof(self, seconds: float) -> None:
        """Close the connection unless a call with a valid token or the gateway's proof comes within `seconds`."""
        self._proof = self._loop.call_later(seconds, self.abort)

    def forget(self) -> None:
        """Stop counting the connection, which has ended, in the pool of connections and in its network. Further calls
        have no effect.
        """
        self._limit.cancel()
        if self._proof is not None:
            self._proof.cancel()
        if self._resting is not None:
            self._resting.cancel()
            self._end_rest()
        if self._share is not None:
            share, self._share = self._share, None
            self._intake.forget(self, share)


class _Inner(asyncio.Protocol):
    """The connection to gRPC behind a caller's connection."""

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
