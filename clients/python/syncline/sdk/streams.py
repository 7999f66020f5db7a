"""Streaming calls: opened with a valid access token, never read without a time limit, and with one error for every
early end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import grpc

from syncline.model.errors import SynclineError, TokenExpired, Unavailable
from syncline.sdk.session import Session, Stubs, error_of_call

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class StreamCall(Protocol[T_co]):
    """A streaming call of gRPC, reduced to what the SDK uses: messages, and a way to end the call early."""

    def __next__(self) -> T_co: ...
    def cancel(self) -> object: ...


class Broken(Exception):
    """The stream ended early, for a reason that may pass: the caller may open it again. `error` is the error to raise
    if the caller does not.
    """

    def __init__(self, error: SynclineError) -> None:
        super().__init__(str(error))
        self.error = error


def _never(message: object) -> bool:  # noqa: ARG001 # what a message says makes no difference
    return False


class Stream(Generic[T]):
    """Iterator over the messages of one streaming call, which is opened when the first message is requested. It ends in
    one of these ways:

    - StopIteration after `close`, which any thread may call, even during a wait for a message;
    - StopIteration when the call ends, in whatever way, directly after a message for which `complete` returns True;
    - Broken if the service ends the call earlier, even with the status OK, or fails in a way that may pass;
    - Broken if no message arrives for `silence` seconds;
    - Broken if the access token expires during the stream; the caller may reopen the stream with a new token;
    - another SynclineError if the service refuses the call for good.

    `begin` makes the call with the stubs of the session.
    """

    def __init__(
        self,
        session: Session,
        begin: Callable[[Stubs], StreamCall[T]],
        *,
        silence: float,
        complete: Callable[[T], bool] = _never,
    ) -> None:
        self._session = session
        self._begin = begin
        self._silence = silence
        self._says_complete = complete
        self._complete = False
        self._call: StreamCall[T] | None = None
        self._begun = False
        self._closed = threading.Event()
        self._waiting_since: float | None = None
        self._silent = False
        threading.Thread(target=self._watch, name="stream-watch", daemon=True).start()

    def __iter__(self) -> Stream[T]:
        return self

    def __next__(self) -> T:
        if self._closed.is_set():
            raise StopIteration
        self._waiting_since = time.monotonic()
        try:
            if self._call is None:
                message = self._session.repeating(self._first, until=self._closed)
            else:
                message = next(self._call)
        except (grpc.RpcError, SynclineError, StopIteration) as end:
            raise self._meaning(end) from None
        finally:
            self._waiting_since = None
        self._begun = True
        self._complete = self._says_complete(message)
        return message

    def close(self) -> None:
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    def _first(self, stubs: Stubs) -> T:
        self._waiting_since = time.monotonic()
        self._call = self._begin(stubs)
        if self._closed.is_set():  # closed by another thread, which had no call to cancel yet
            self._call.cancel()
        return next(self._call)

    def _meaning(self, failure: grpc.RpcError | SynclineError | StopIteration) -> Exception:
        if self._closed.is_set() or self._complete:
            return StopIteration()
        if self._silent:
            return Broken(Unavailable("the service went silent; try again later"))
        if isinstance(failure, StopIteration):
            return Broken(Unavailable("the service ended its answer before it was complete; try again"))
        if isinstance(failure, SynclineError):
            return Broken(failure) if failure.passing else failure
        error = error_of_call(failure)
        outlived = self._begun and isinstance(error, TokenExpired)
        return Broken(error) if error.passing or outlived else error

    def _watch(self) -> None:
        while not self._closed.wait(min(self._silence / 4, 5.0)):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > self._silence and self._call is not None:
                self._silent = True
                self._call.cancel()
                return
