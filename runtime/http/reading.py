"""Fair scheduling of the input of HTTP connections on the event loop, with a bound on input that is not consumed yet.

A connection with input is read once, into one buffer of the process. What was read is called a piece. The connection is
read again only when the piece has been parsed and the request has consumed the result. Each piece waits for a turn
(runtime/turns.py). A turn ends at MAX_TURN_COST_BYTES, which counts bytes and parser callbacks, because a body of
one-byte chunks costs a hundred times as much as its size suggests. A network with thousands of connections that each
send a byte therefore has one piece parsed for each piece of another network.

A piece of up to MAX_PIECE_BYTES is charged to a pool that networks share. If the pool grants nothing, pieces are small
and are not charged, so that every connection makes progress.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol, cast

from typing_extensions import override

from runtime.pool import Pool, Share
from runtime.turns import granted

MAX_PIECE_BYTES: Final = 64 * 1024
"""Maximum size of one read from a connection, in bytes."""
SMALL_PIECE_BYTES: Final = 4 * 1024
"""Size in bytes of one read from a connection whose network has used up its share of the memory for unconsumed
input.
"""
MAX_TURN_COST_BYTES: Final = 64 * 1024
"""Maximum cost of one turn: the parsed bytes, plus PARSER_CALL_COST_BYTES for each parser callback."""
PARSER_CALL_COST_BYTES: Final = 64
"""Cost of one parser callback, expressed in bytes that take the same time to copy and parse."""
MAX_LINGERING_BYTES: Final = 16 * 1024 * 1024
MAX_LINGERING_SECONDS: Final = 5.0
"""Maximum number of bytes (MAX_LINGERING_BYTES) that are read and discarded after the last answer of a connection, and
maximum seconds (MAX_LINGERING_SECONDS) for which the connection is still read. A client whose connection is closed
while it sends could not read the answer.
"""
MAX_LINGERING_CONNECTIONS: Final = 128
"""Maximum number of connections of one listening process that discard input at the same time; further ones are closed
at once.
"""


class Parsing(Protocol):
    """Parser of the input of one connection, as `ReadInTurns` uses it."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start parsing the input of `transport`. From this call on, `share` is available."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection, which has ended."""

    def pause_writing(self) -> None:
        """Stop writing to the connection until `resume_writing`, because its client does not read fast enough."""

    def resume_writing(self) -> None:
        """Resume writing to the connection."""

    @property
    def share(self) -> Share:
        """The account that input is charged to."""

    @property
    def person(self) -> str:
        """The name of the person in whose turns the next input is parsed; empty for an unknown client."""

    @property
    def is_full(self) -> bool:
        """True if nothing more can be parsed before an earlier request has made progress."""

    @property
    def is_cut_short(self) -> bool:
        """True if the client may still be sending input that will be discarded."""

    def next_size(self) -> int:
        """Return the maximum number of bytes to pass to the next call of `parse`."""

    def parse(self, data: memoryview) -> int:
        """Parse `data`, and return the number of callbacks that the parser made."""


class Unread:
    """State that all connections of one process share: the memory for input that no request has consumed yet, and the
    number of connections that discard input (at most MAX_LINGERING_CONNECTIONS).
    """

    def __init__(self, total: int) -> None:
        """`total` is the memory for unconsumed input, in bytes."""
        self.memory = Pool("unread", total)
        self.room = memoryview(bytearray(MAX_PIECE_BYTES))
        """The buffer that all connections are read into, one at a time; the bytes are copied out before the
        next read.
        """
        self.lingering = Pool("lingering", MAX_LINGERING_CONNECTIONS, counted=True)


class ReadInTurns(asyncio.BufferedProtocol):
    """A connection whose input is parsed piece by piece, in turns."""

    def __init__(self, parsing: Parsing, unread: Unread) -> None:
        """`parsing` parses the input of this connection, and `unread` is the state that all connections share."""
        self._parsing = parsing
        self._unread = unread
        self._share = Share.alone("")
        self._transport: asyncio.Transport
        self._rest = memoryview(b"")
        """Bytes that were read and not parsed yet."""
        self._taken = 0
        """Bytes of memory that the unparsed input, or the buffer for the next read, has taken from the pool."""
        self._turn: asyncio.Future[None] | None = None
        self._is_paused = False
        """True if the parser accepts no input for now."""
        self._discarded: int | None = None
        """Number of bytes discarded after the last answer; None before it."""
        self._end: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport does not inherit from asyncio.Transport
        self._transport = cast("asyncio.Transport", transport)
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
        """Parse no further input until `resume`."""
        self._is_paused = True
        if not self._rest:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Continue to parse, or to read from the connection. Has no effect while the parser waits for an earlier
        request (`Parsing.is_full`).
        """
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
        """True once the last answer is written and the input that still arrives is discarded."""
        return self._discarded is not None

    def close(self) -> None:
        """Close the connection after its last answer. If the client is still sending, the input is first discarded, for
        up to MAX_LINGERING_SECONDS and MAX_LINGERING_BYTES, so that the client can read the answer. Close at once if
        the share of the connection may have no further one of the MAX_LINGERING_CONNECTIONS that discard input.
        """
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
            self._turn = granted(self._parsing.share.network, self._parsing.person)
            self._turn.add_done_callback(self._parse)

    def _parse(self, turn: asyncio.Future[None]) -> None:
        """Parse as much input as one turn allows, and ask for another turn for the rest. `turn` is the future of this
        turn.
        """
        self._turn = None
        if turn.cancelled() or self._transport.is_closing():
            return
        cost = 0
        while self._rest and cost < MAX_TURN_COST_BYTES and not self.is_lingering and not self._parsing.is_full:
            size = self._parsing.next_size()
            some, self._rest = self._rest[:size], self._rest[size:]
            cost += len(some) + PARSER_CALL_COST_BYTES * self._parsing.parse(some)
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
    """The transport that the parser gets for a connection that is read in turns."""

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
