"""Limits of attempts with passwords: of a network at one address (or link), of a network at all addresses, and at one
address from everywhere. Attempts are counted before anything is hashed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from services.auth.ports import AttemptStore
from services.auth.records import DAY, MINUTE, SECOND, Clock
from syncline.model.errors import RETRY_AFTER, TooManyAttempts

_ALL: Final = "all"
"""The subject that counts all attempts of a network. It is nobody's address, since an e-mail address has an @."""
KNOWN_DAYS: Final = 30
"""Days for which a network is known as one from which a right password came."""
_NEW: Final = "new"
"""The subject of accounts that are made from one network."""


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """Maximum numbers of attempts within `window_ms` of the first.

    The limit for one address from one network is the smallest, so that somebody who guesses locks themselves out
    rather than the owner. The one for a network is against one password that is tried at many addresses. The one for
    an address from everywhere is against a guesser with many networks; one from which a right password came lately
    is exempt from it, so that the guesser does not shut the owner out.
    """

    per_peer: int = 10
    per_network: int = 100
    per_address: int = 100
    accounts: int = 1000
    """Accounts that are made from one network."""
    window_ms: int = 15 * MINUTE


class Attempts:
    """Counts attempts before their passwords are looked at, so that many at once do not slip through."""

    def __init__(self, store: AttemptStore, limits: AttemptLimits, *, clock: Clock) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock

    async def admit(self, *, subject: str, peer: str) -> None:
        """Count an attempt; TooManyAttempts with `retry_after_seconds` if a limit is reached."""
        await self._count(subject, peer, self._limits.per_peer)
        await self._count(_ALL, peer, self._limits.per_network)
        try:
            await self._count(subject, None, self._limits.per_address)
        except TooManyAttempts:
            if not await self._store.knows_network(subject=subject, peer=peer, now_ms=self._clock()):
                raise

    async def admit_account(self, *, peer: str) -> None:
        """Count an account that is about to be made; TooManyAttempts as above."""
        await self._count(_NEW, peer, self._limits.accounts)

    async def succeeded(self, *, subject: str, peer: str) -> None:
        """Set the subject's counters back after a right password.

        From the network's counter only this attempt is taken; those that failed stay.
        """
        await asyncio.gather(
            self._store.forget_attempts(subject=subject, peer=peer),
            self._store.take_back_attempt(subject=_ALL, peer=peer),
            self._store.know_network(subject=subject, peer=peer, until_ms=self._clock() + KNOWN_DAYS * DAY),
        )

    async def _count(self, subject: str, peer: str | None, limit: int) -> None:
        wait = await self._store.count_attempt(
            subject=subject, peer=peer, limit=limit, window_ms=self._limits.window_ms, now_ms=self._clock()
        )
        if wait:
            seconds = -(-wait // SECOND)
            raise TooManyAttempts(f"too many attempts; try again in {seconds} seconds", **{RETRY_AFTER: str(seconds)})
