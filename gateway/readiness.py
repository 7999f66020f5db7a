"""Readiness of this process to receive requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from gateway.ports import RequiredPeer


class Readiness:
    """Determines if the process is ready: the required services serve, and the process is not about to stop."""

    def __init__(self, peers: Mapping[str, RequiredPeer]) -> None:
        """`peers` are the required services, by name."""
        self._peers = peers
        self._draining = False
        self._asking: asyncio.Task[list[str]] | None = None

    @property
    def draining(self) -> bool:
        """True if the process is about to stop."""
        return self._draining

    def drain(self) -> None:
        """Report from now on that the process is not ready, because it is about to stop."""
        self._draining = True

    async def missing(self) -> list[str]:
        """Return the names of the required services that do not serve; empty if the process is ready.

        Concurrent callers share one check, because anybody may call this at any rate.
        """
        if self._draining:
            return ["gateway"]
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> list[str]:
        serving = await asyncio.gather(*(peer.serves() for peer in self._peers.values()))
        return [name for name, serves in zip(self._peers, serving, strict=True) if not serves]
