"""Threads that wait for the event loop, and the end of that."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from gateway.threads import LoopStopped, wait

PATIENCE_SECONDS = 60.0


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs on a thread of its own until somebody stops it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    if loop.is_running():
        loop.call_soon_threadsafe(loop.stop)
    thread.join()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_thread_gets_what_it_waits_for(loop: asyncio.AbstractEventLoop) -> None:
    async def late() -> str:
        await asyncio.sleep(0.01)
        return "done"

    async def too_late() -> None:
        raise TimeoutError("its own")

    assert wait(late(), loop) == "done"
    with pytest.raises(TimeoutError, match="its own"):
        wait(too_late(), loop)


def test_a_thread_does_not_outlast_the_event_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Otherwise a process that was told to stop would not end."""
    ended = threading.Event()

    def work() -> None:
        with pytest.raises(LoopStopped):
            wait(asyncio.Event().wait(), loop)
        ended.set()

    threading.Thread(target=work, daemon=True).start()
    loop.call_soon_threadsafe(loop.stop)
    assert ended.wait(PATIENCE_SECONDS)
