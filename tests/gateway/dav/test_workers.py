"""Turns of the workers of WebDAV are shared out."""

import asyncio
import contextvars
import threading
from ipaddress import ip_network
from typing import Any

from gateway.dav.app import _MAX_PAUSED_WORKERS, _MAX_WORKERS, Dav, _Answer
from gateway.dav.parts import DavParts
from gateway.http.parsing import ParsingTime
from gateway.identity.address import OwnAddress
from gateway.services.calls import ask as ask_service
from gateway.threads import wait
from runtime.pool import Pool, Share
from syncline.model.errors import RateExceeded

NOTHING: Any = None


def made() -> Dav:
    own = OwnAddress(public_url="", trusted_networks=[ip_network("10.0.0.0/8")])
    return Dav(
        DavParts(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, own, 1, Pool("bodies", 1), ParsingTime(1), NOTHING)
    )


async def test_one_person_has_half_of_the_workers_and_others_go_on():
    dav, go, begun = made(), threading.Event(), []

    def hold(name):
        begun.append(name)
        go.wait(600)

    def ask(name, work):
        return asyncio.create_task(dav._worked(Share(name, name), contextvars.copy_context(), work, _Answer(NOTHING)))

    slow = [ask("mallory", lambda: hold("mallory")) for _ in range(20)]
    try:
        async with asyncio.timeout(60):
            while len(begun) < _MAX_WORKERS // 2:
                await asyncio.sleep(0.005)
            await ask("ann", lambda: begun.append("ann"))
        assert begun == ["mallory"] * (_MAX_WORKERS // 2) + ["ann"]
    finally:
        go.set()
    await asyncio.gather(*slow)
    assert len(begun) == 21


async def test_workers_whose_callers_all_wait_come_to_their_end() -> None:
    """A place to wait without a turn stands for a thread: given back before, turns would wait for threads for ever."""
    dav, loop, callers = made(), asyncio.get_running_loop(), 60
    came: list[str] = []
    again: list[str] = []
    all_again = asyncio.Event()

    async def call(name: str, *, metadata: Any) -> str:
        """Refuse as many as have a place to wait, and once these go on those who have the turns meanwhile."""
        del metadata
        if name in came:
            again.append(name)
            if len(again) == _MAX_PAUSED_WORKERS:
                all_again.set()
            return name
        came.append(name)
        if len(came) > _MAX_PAUSED_WORKERS + _MAX_WORKERS:
            return name
        if len(came) > _MAX_PAUSED_WORKERS:
            await all_again.wait()
        raise RateExceeded(retry_after_seconds="0.01")

    async def one(name: str) -> str:
        answer = _Answer(NOTHING)

        async def asking() -> str:
            async with answer.waiting():
                return await ask_service(call, name, token="x")

        share = Share(name, name)
        return await dav._worked(share, contextvars.copy_context(), lambda: wait(asking(), loop), answer)

    asked = [asyncio.create_task(one(f"{number}")) for number in range(callers)]
    done, waiting = await asyncio.wait(asked, timeout=60)
    for _ in waiting:  # the threads end now
        dav._workers._max_workers += 1
        dav._workers.submit(int)
    assert (len(done), len(waiting)) == (callers, 0)
    refused = [task for task in asked if isinstance(task.exception(), RateExceeded)]
    assert len(refused) == _MAX_WORKERS, "there were no further places to wait"
    assert all(task.result() for task in asked if task not in refused)
    assert (dav._turns.taken(), dav._paused.taken()) == (0, 0)
