"""Attempts with passwords: guessing is slowed down per address (or link) and peer, and per address from everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import RETRY_AFTER, TooManyAttempts
from services.auth.ports import AttemptStore
from services.auth.records import MINUTE, SECOND, Clock


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """How many attempts are allowed within `window_ms` of the first.

    The limit for one peer is the smaller, so that somebody who guesses locks themselves out rather than the owner.
    """

    per_peer: int = 10
    per_address: int = 100
    window_ms: int = 15 * MINUTE


class Attempts:
    """Counts attempts before their passwords are looked at, so that many at once do not slip through."""

    def __init__(self, store: AttemptStore, limits: AttemptLimits, *, clock: Clock) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock

    async def admit(self, *, subject: str, peer: str) -> None:
        """Count an attempt; TooManyAttempts with `retry_after_seconds`, and nothing counted, if a limit is reached."""
        for whence, limit in ((peer, self._limits.per_peer), (None, self._limits.per_address)):
            wait = await self._store.count_attempt(
                subject=subject, peer=whence, limit=limit, window_ms=self._limits.window_ms, now_ms=self._clock()
            )
            if wait:
                seconds = -(-wait // SECOND)
                raise TooManyAttempts(
                    f"too many attempts; try again in {seconds} seconds", **{RETRY_AFTER: str(seconds)}
                )

    async def succeeded(self, *, subject: str, peer: str) -> None:
        """Begin anew after a right password."""
        await self._store.forget_attempts(subject=subject, peer=peer)
