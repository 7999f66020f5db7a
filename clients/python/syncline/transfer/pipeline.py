"""The common base of uploads and downloads: each run has its own threads, passes results to the caller's thread, and is
stopped in one way.

Work in a thread belongs to the trace of the caller.
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
    """Raised in a thread that works for a transfer after the transfer has ended, so that the thread stops its work. The
    exception reports no failure of its own.
    """


class Run(Generic[R]):
    """One transfer: threads that work, and one consumer, the caller's thread, which receives a result for each job.
    `lock` protects the state of subclasses; it is never held for long.

    The caller's thread must call `expect` for each job, `next` for each result, and `stop` at the end in every case.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.unreported = 0
        """Number of jobs whose result has not been returned yet. For the caller's thread only."""
        self.stopping = False
        self._error: BaseException | None = None
        self._finished: SimpleQueue[R | None] = SimpleQueue()
        self._executors: list[Executor] = []
        self._threads: list[threading.Thread] = []

    # ---- the caller's thread ----

    def expect(self) -> None:
        self.unreported += 1

    def ready(self) -> bool:
        """Return True if `next` would return, or raise, without waiting."""
        return not self._finished.empty()

    def next(self) -> R:
        """Wait for the next result, and return it. Raise the error that ended the transfer, if a thread has failed."""
        result = self._finished.get()
        if result is None:
            raise self.error()
        self.unreported -= 1
        return result

    def error(self) -> BaseException:
        """Return the exception with which a thread has ended the transfer. To be called only after `next` or GivenUp
        has shown that there is one.
        """
        assert self._error is not None
        return self._error

    def stop(self) -> None:
        """Stop the transfer, and return when all of its threads have ended. Work that has not started is dropped,
        queued requests included, while requests in progress are completed. After an interruption by the user
        (KeyboardInterrupt), nothing is waited for, because the process is about to exit.
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
        """Hand the result of one job to the consumer, the caller's thread, which gets it by `next`. The transfer
        continues. Any thread may call this method.
        """
        self._finished.put(result)

    def wake(self) -> None:
        """Wake the threads of the transfer that wait for something which will not happen after the stop. Called without
        the lock; subclasses override it.
        """

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
        """Have a thread of `executor` run `work`, without waiting. An exception in `work` ends the transfer. The caller
        may hold the lock. Raise GivenUp if the transfer has ended.
        """
        if self.stopping:
            raise GivenUp

        def guarded() -> None:
            with self._guarded():
                if not self.stopping:
                    work()

        try:
            executor.submit(copy_context().run, guarded)
        except RuntimeError:  # the executor was shut down just now
            raise GivenUp from None

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Context in which an exception of a thread ends the transfer; the caller's thread then raises the
        exception.
        """
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
