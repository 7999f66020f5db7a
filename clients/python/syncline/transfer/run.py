"""The part that an upload and a download have in common: threads of their own, results for the caller, one way to give
up.

What is done in a thread belongs to the trace of who asked for it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from queue import SimpleQueue
from typing import Generic, TypeVar

R = TypeVar("R")


class GivenUp(Exception):
    """Within a thread of a run: the run has ended, there is nothing to do any more."""


class Run(Generic[R]):
    """One transfer. `lock` guards the state of subclasses; it is never held for long.

    The caller's thread calls `expect` for each job, `next` for each result, and `stop` at the end, whatever happened.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.unreported = 0
        """Jobs whose result was not given out yet. For the caller's thread only."""
        self.stopping = False
        self._error: BaseException | None = None
        self._finished: SimpleQueue[R | None] = SimpleQueue()
        self._executors: list[Executor] = []
        self._threads: list[threading.Thread] = []

    # ---- the caller's thread ----

    def expect(self) -> None:
        self.unreported += 1

    def ready(self) -> bool:
        """Return True if `next` returns at once."""
        return not self._finished.empty()

    def next(self) -> R:
        """The next result; raises what made the run end."""
        result = self._finished.get()
        if result is None:
            raise self.error()
        self.unreported -= 1
        return result

    def error(self) -> BaseException:
        """The exception that made the run end."""
        assert self._error is not None
        return self._error

    def stop(self) -> None:
        """Returns when all threads have ended; what has not begun is left undone.

        When the user interrupts, nobody waits for requests under way: the process is about to end.
        """
        wait = not isinstance(sys.exception(), KeyboardInterrupt)
        with self.lock:
            self.stopping = True
        self.wake()
        for executor in self._executors:
            executor.shutdown(wait=wait, cancel_futures=True)
        for thread in self._threads if wait else ():
            thread.join()

    # ---- any thread ----

    def finish(self, result: R) -> None:
        """The result of a job."""
        self._finished.put(result)

    def wake(self) -> None:
        """Let nobody wait who would wait for ever now that the run stops. Called without the lock."""

    # ---- for subclasses ----

    def executor(self, threads: int, name: str) -> Executor:
        executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._executors.append(executor)
        return executor

    def thread(self, work: Callable[[], None], name: str) -> None:
        def guarded() -> None:
            with self._guarded():
                work()

        thread = threading.Thread(target=copy_context().run, args=(guarded,), name=name)
        self._threads.append(thread)
        thread.start()

    def start(self, executor: Executor, work: Callable[[], None]) -> None:
        """Have `work` done. The lock may be held. Raise GivenUp."""
        if self.stopping:
            raise GivenUp

        def guarded() -> None:
            with self._guarded():
                if not self.stopping:
                    work()

        try:
            executor.submit(copy_context().run, guarded)
        except RuntimeError:  # The executor was shut down just now.
            raise GivenUp from None

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """End the run if something goes wrong in one of its threads; the caller's thread then raises the error."""
        try:
            yield
        except GivenUp:
            pass
        except BaseException as error:
            with self.lock:
                if self.stopping:
                    return
                self._error, self.stopping = error, True
            self.wake()
            self._finished.put(None)
