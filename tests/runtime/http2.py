"""HTTP/2 by hand: calls that begin and never come to their end, and answers that are not taken."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RemoteSettingsChanged, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

WINDOW_BYTES: Final = 65_535
"""The window with which HTTP/2 begins."""
_FRAME_BYTES: Final = 16_384


class Http2:
    """A connection to a gRPC server. Of each message all but the last byte is sent, as far as the server takes it."""

    def __init__(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, window_bytes: int
    ) -> None:
        self._target, self._reader, self._writer = target, reader, writer
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        initial = {SettingCodes.INITIAL_WINDOW_SIZE: window_bytes}
        self._http.local_settings = Settings(client=True, initial_values=initial)
        self._http.initiate_connection()
        self._left: dict[int, memoryview] = {}
        """The unsent rest of each call that is sent as far as the server takes it, by stream."""
        self._finished: set[int] = set()
        """Calls of which even the last byte is sent."""
        self.sent: Counter[int] = Counter()
        """Bytes that the server has taken, by stream; a message has five more than its own."""
        self.codes: dict[int, str] = {}
        """The gRPC codes of calls that ended, by stream; 'reset' of those that the server cut."""
        self.closed = False
        self.most_streams: int | None = None
        """The number of streams that the server allows."""
        self._flush()

    def begin(
        self,
        path: str,
        *,
        token: str = "",
        message_bytes: int = 0,
        finished: bool = False,
        forwarded: str = "",
        proof: str = "",
        message: bytes = b"",
    ) -> int:
        """Begin a call, of whose one message the last byte comes only if it is `finished`; its stream.

        `forwarded` is where a proxy says that it comes from, `proof` the token by which the gateway says so. A
        `message` is sent as a whole.
        """
        stream = self._http.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", self._target),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *([("authorization", f"Bearer {token}")] if token else []),
            *([("x-forwarded-for", forwarded)] if forwarded else []),
            *([("x-syncline-network", proof)] if proof else []),
        ]
        self._http.send_headers(stream, headers)
        whole = memoryview(struct.pack(">BI", 0, len(message)) + message if message else _message(message_bytes))
        finished = finished or bool(message)
        self._left[stream] = whole if finished else whole[:-1]
        if finished:
            self._finished.add(stream)
        self._pump()
        return stream

    def widen(self, count: int) -> None:
        """Widen the window of the connection by a byte, so many times."""
        for _ in range(count):
            self._http.increment_flow_control_window(1)
        self._flush()

    async def until(self, condition: Callable[[], bool], *, seconds: float = 20) -> None:
        """Send and receive until that is so; TimeoutError after `seconds`."""
        async with asyncio.timeout(seconds):
            while not condition():
                await self._turn()

    async def settled(self, *, seconds: float = 0.5) -> None:
        """Send and receive until nothing came for `seconds`."""
        with suppress(TimeoutError):
            while not self.closed:
                async with asyncio.timeout(seconds):
                    await self._turn()

    async def _turn(self) -> None:
        try:
            data = await self._reader.read(65_536)
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return
        for event in self._http.receive_data(data):
            match event:
                case ResponseReceived() | TrailersReceived():
                    told = {str(name): str(value) for name, value in event.headers or ()}
                    if "grpc-status" in told:
                        self._end(event.stream_id, told["grpc-status"])
                case StreamReset():
                    self._end(event.stream_id, "reset")
                case StreamEnded():
                    self._left.pop(event.stream_id, None)
                case RemoteSettingsChanged() if SettingCodes.MAX_CONCURRENT_STREAMS in event.changed_settings:
                    self.most_streams = event.changed_settings[SettingCodes.MAX_CONCURRENT_STREAMS].new_value
        self._pump()
        try:
            await self._writer.drain()
        except ConnectionError:  # The server has ended the connection.
            self.closed = True

    def _end(self, stream: int | None, code: str) -> None:
        assert stream is not None
        self.codes.setdefault(stream, code)
        self._left.pop(stream, None)

    def _pump(self) -> None:
        for stream in list(self._left):
            try:
                self._send(stream)
            except ProtocolError:  # the server has ended it meanwhile
                del self._left[stream]
        self._flush()

    def _send(self, stream: int) -> None:
        while left := self._left[stream]:
            size = min(len(left), self._http.local_flow_control_window(stream), _FRAME_BYTES)
            if size <= 0:
                return
            self._left[stream] = left[size:]
            self.sent[stream] += size
            self._http.send_data(stream, bytes(left[:size]), end_stream=size == len(left) and stream in self._finished)

    def _flush(self) -> None:
        if self._writer.is_closing():  # The server has ended the connection.
            self.closed = True
            return
        self._writer.write(self._http.data_to_send())


@cache
def _message(size: int) -> bytes:
    return struct.pack(">BI", 0, size) + bytes(size)


@asynccontextmanager
async def http2(target: str, *, window_bytes: int = WINDOW_BYTES, source: str = "127.0.0.1") -> AsyncIterator[Http2]:
    """A connection from that address, on which answers find so much room."""
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
    try:
        yield Http2(target, reader, writer, window_bytes=window_bytes)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
