"""Turns of the workers of WebDAV are shared out."""

import asyncio
import contextvars
import threading
from ipaddress import ip_network
from typing import Any

from gateway.address import OwnAddress
from gateway.dav.app import _WORKERS, Dav, _Answer
from gateway.dav.mount import Behind
from runtime.pool import Pool, Share

NOTHING: Any = None


async def test_one_person_has_half_of_the_workers_and_others_go_on():
    own = OwnAddress(public_url="", trusted_networks=[ip_network("10.0.0.0/8")])
    behind = Behind(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, own, 1, Pool("bodies", 1))
    dav, go, begun = Dav(behind), threading.Event(), []

    def hold(name):
        begun.append(name)
        go.wait(30)

    def ask(name, work):
        return asyncio.create_task(dav._worked(Share(name, name), contextvars.copy_context(), work, _Answer(NOTHING)))

    slow = [ask("mallory", lambda: hold("mallory")) for _ in range(20)]
    try:
        async with asyncio.timeout(20):
            while len(begun) < _WORKERS // 2:
                await asyncio.sleep(0.005)
            await ask("ann", lambda: begun.append("ann"))
        assert begun == ["mallory"] * (_WORKERS // 2) + ["ann"]
    finally:
        go.set()
    await asyncio.gather(*slow)
    assert len(begun) == 21
