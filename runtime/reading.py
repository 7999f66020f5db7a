"""Input of connections takes turns on the event loop, and what is read ahead of those who take it has a bound.

A connection that becomes readable is read once, into one buffer of the process, and then not again before that piece
is parsed and what came of it is taken. Each piece waits for a turn (runtime/turns.py), and one turn ends after
MAX_TURN_COST: bytes, and calls of the parser, since a body of one-byte chunks costs a hundred times as much as its
bytes do. So a network with thousands of connections that each send a byte has one piece parsed where another network
has one, too.

A piece of up to MAX_PIECE_BYTES takes its size from a pool that networks share. Where the pool grants nothing, pieces
are small and take nothing, so that every connection gets on.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, cast

from typing_extensions import override

from runtime.pool import Pool, Share
from runtime.turns import granted

MAX_PIECE_BYTES: Final = 64 * 1024
"""Maximum size of what is read from a connection at once, in bytes."""
SMALL_PIECE_BYTES: Final = 4 * 1024
"""The same for a connection whose network has its share of the memory for unread input."""
MAX_TURN_COST: Final = 64 * 1024
"""Bytes that are parsed in one turn, with COST_OF_CALL for each call of the parser."""
COST_OF_CALL: Final = 64
"""Bytes for which one call of the parser counts: about the time in which so many bytes are copied and looked at."""
MAX_LINGERING_BYTES: Final = 16 * 1024 * 1024
MAX_LINGERING_SECONDS: Final = 5.0
"""Maximum bytes that are thrown away, and for how many seconds, after the last answer of a connection: a client that
is cut off while it sends does not read why."""
MAX_LINGERING: Final = 128
"""Connections that linger so at the same time, of one listening process; further ones are closed at once."""


class Parsing(Protocol):
    """Port by which input is parsed."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to parse. `share` is known from then on."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, which has ended."""

    def pause_writing(self) -> None:
        """Write nothing more until `resume_writing`."""

    def resume_writing(self) -> None:
        """Go on with writing."""

    @property
    def share(self) -> Share:
        """The account that input is counted on."""

    @property
    def member(self) -> str:
        """The name of the person whose turns within the network input takes; empty for a stranger."""

    @property
    def is_full(self) -> bool:
        """True if nothing more can be parsed before something that was parsed is worked on."""

    @property
    def is_cut_short(self) -> bool:
        """True if the client may still be sending what nobody takes any more."""

    def next_size(self) -> int:
        """The number of bytes to parse at once."""

    def parse(self, data: memoryview) -> int:
        """Parse `data`, and return the number of calls that were made for it."""


class Unread:
    """Memory for input, and places to linger, which all connections of one process share."""

    def __init__(self, total: int) -> None:
        """`total` is the memory, in bytes."""
        self.memory = Pool("unread", total)
        self.room = memoryview(bytearray(MAX_PIECE_BYTES))
        """The buffer into which all connections are read, one at a time: a piece is copied before the loop reads on."""
        self.lingering = Pool("lingering", MAX_LINGERING, counted=True)


class ReadInTurns(asyncio.BufferedProtocol):
    """A connection whose input is parsed piece by piece, in turns."""

    def __init__(self, parsing: Parsing, unread: Unread) -> None:
        self._parsing = parsing
        self._unread = unread
        self._share = Share.alone("")
        self._transport: asyncio.Transport
        self._rest = memoryview(b"")
        """Bytes that were read and not parsed yet."""
        self._taken = 0
        """Bytes of the pool for the present piece, or for the one that is being read."""
        self._turn: asyncio.Future[None] | None = None
        self._is_paused = False
        """True if the parser does not want any more for now."""
        self._discarded: int | None = None
        """Bytes that came after the last answer; None before."""
        self._end: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has a transport that does not inherit from it
        self._parsing.connection_made(_TurnTransport(self._transport, self))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._turn is not None:
            self._turn.cancel()
        self._forget()
        if self._end is not None:
            self._end.cancel()
            self._unread.lingering.give(1, self._share)
        self._parsing.connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        self._parsing.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._parsing.resume_writing()

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        if not self._taken and self._unread.memory.try_take(MAX_PIECE_BYTES, self._parsing.share):
            self._share, self._taken = self._parsing.share, MAX_PIECE_BYTES
        return self._unread.room[: self._taken or SMALL_PIECE_BYTES]

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self._rest = memoryview(bytes(self._unread.room[:nbytes]))
        if self._taken:
            self._unread.memory.give(self._taken - nbytes, self._share)
            self._taken = nbytes
        self._transport.pause_reading()
        self._ask_for_turn()

    def pause(self) -> None:
        """Parse no further piece before `resume`."""
        self._is_paused = True
        if not self._rest:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Go on, unless nothing more can be parsed yet: what was parsed before is taken."""
        self._is_paused = not self.is_lingering and self._parsing.is_full
        if self._is_paused:
            return
        if self._rest:
            self._ask_for_turn()
        elif not self._transport.is_closing():
            self._give_back()
            self._transport.resume_reading()

    @property
    def is_lingering(self) -> bool:
        """True from the last answer on."""
        return self._discarded is not None

    def close(self) -> None:
        """Close the connection. A client that still sends is listened to for a while, if there is a place for it."""
        share = self._parsing.share
        if self.is_lingering or self._transport.is_closing():
            return
        if not self._parsing.is_cut_short or not self._unread.lingering.try_take(1, share):
            self._transport.close()
            return
        self._share, self._discarded = share, 0
        self._end = asyncio.get_running_loop().call_later(MAX_LINGERING_SECONDS, self._transport.close)
        self._transport.write_eof()
        self.resume()

    def _ask_for_turn(self) -> None:
        if self._turn is None:
            self._turn = granted(self._parsing.share.network, self._parsing.member)
            self._turn.add_done_callback(self._parse)

    def _parse(self, turn: asyncio.Future[None]) -> None:
        """Parse what one turn is for, and go on."""
        self._turn = None
        if turn.cancelled() or self._transport.is_closing():
            return
        cost = 0
        while self._rest and cost < MAX_TURN_COST and not self.is_lingering and not self._parsing.is_full:
            size = self._parsing.next_size()
            some, self._rest = self._rest[:size], self._rest[size:]
            cost += len(some) + COST_OF_CALL * self._parsing.parse(some)
        if self.is_lingering:
            self._discard()
        if not self._is_paused:
            self.resume()

    def _discard(self) -> None:
        assert self._discarded is not None
        self._discarded += len(self._rest)
        self._rest = memoryview(b"")
        if self._discarded > MAX_LINGERING_BYTES:
            self._transport.close()

    def _give_back(self) -> None:
        if self._taken:
            self._unread.memory.give(self._taken, self._share)
            self._taken = 0

    def _forget(self) -> None:
        self._rest = memoryview(b"")
        self._give_back()


class _TurnTransport(asyncio.Transport):
    """A transport that is read in turns, as who parses the input sees it."""

    def __init__(self, transport: asyncio.Transport, reading: ReadInTurns) -> None:
        super().__init__()
        self._transport = transport
        self._reading = reading

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    @override
    def pause_reading(self) -> None:
        self._reading.pause()

    @override
    def resume_reading(self) -> None:
        self._reading.resume()

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    @override
    def is_closing(self) -> bool:
        return self._reading.is_lingering or self._transport.is_closing()

    @override
    def close(self) -> None:
        self._reading.close()

    @override
    def abort(self) -> None:
        self._transport.abort()
