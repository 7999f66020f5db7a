"""Doorbells: notifications that a space has changed, for as long as the client listens."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from syncline.model.doorbell import Doorbell
from syncline.model.errors import SynclineError
from syncline.model.identifiers import SpaceId
from syncline.notify.v1 import notify_pb2
from syncline.sdk.session import Session
from syncline.sdk.streams import Broken, Stream

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

SILENCE_SECONDS = 60.0
"""Seconds without a message after which a watch counts as dead; a heartbeat comes every 25 s."""
_FIRST_DELAY_SECONDS = 0.5
_MAX_DELAY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Listening:
    """Event of a watch: a connection exists, and every change from now on is announced by a doorbell. Changes that were
    made before this event are not announced; the caller must pull them from the journal. The event comes again after
    each reconnection.
    """


class Watch:
    """Iterates over Listening and Doorbell events of `spaces` until it is closed, and reconnects as often as necessary.

    An iteration raises errors that no reconnection can resolve, such as NoSuchSpace or DeviceRevoked. `close` may be
    called from another thread. A connection counts as dead after `silence` seconds without a message.
    """

    def __init__(self, session: Session, spaces: list[SpaceId], *, silence: float = SILENCE_SECONDS) -> None:
        self._session = session
        self._request = notify_pb2.WatchRequest(space_ids=spaces)
        self._silence = silence
        self._closed = threading.Event()
        self._stream: Stream[notify_pb2.WatchResponse] | None = None
        self._trouble: SynclineError | None = None

    @property
    def trouble(self) -> SynclineError | None:
        """The error because of which doorbells do not arrive at present; None while they arrive, and before the first
        attempt to connect.
        """
        return self._trouble

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.close()

    def __iter__(self) -> Iterator[Listening | Doorbell]:
        delay = _FIRST_DELAY_SECONDS
        while not self._closed.is_set():
            stream: Stream[notify_pb2.WatchResponse] = Stream(
                self._session, lambda stubs: stubs.notify.Watch(self._request), silence=self._silence
            )
            self._stream = stream
            heard = False
            try:
                for message in stream:
                    if self._closed.is_set():
                        return
                    if not heard:
                        heard, delay = True, _FIRST_DELAY_SECONDS
                        self._trouble = None
                        yield Listening()
                    if message.WhichOneof("kind") == "doorbell":
                        yield Doorbell(SpaceId(message.doorbell.space_id), message.doorbell.seq)
            except Broken as broken:
                self._trouble = None if heard else broken.error  # the next connection may succeed at once
            except SynclineError as error:
                self._trouble = error
                if not error.passing:
                    raise
            finally:
                stream.close()
            # In any case a server has ended the stream, and many clients reconnect at the same time.
            self._closed.wait(delay * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, no secret
            delay = min(delay * 2, _MAX_DELAY_SECONDS)
