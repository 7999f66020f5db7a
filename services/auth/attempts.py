"""Limits of password attempts. Each attempt is counted three times before any password is hashed:

- for the network that it comes from and the account's e-mail address (or the link) together;
- for the network alone;
- for the address (or link) alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from services.auth.ports import AttemptStore
from services.auth.records import DAY_MS, MINUTE_MS, SECOND_MS, Clock
from syncline.model.errors import RETRY_AFTER, TooManyAttempts
from syncline.model.identifiers import UserId

_ALL: Final = "all"
"""Subject of the counter of all attempts of a network. No e-mail address equals this text, because it has no @."""
KNOWN_DAYS: Final = 30
"""Days after a successful sign-in for which attempts from the same network are exempt from the limit per address."""
_NEW: Final = "new"
"""Subject of the counter of accounts that were created from a network. Followed by a space and an address, which no
address contains: subject of the counters of accounts that were created for the address.
"""
_MAIL: Final = "mail"
"""Followed by a space and an address or a user: subject of the counter of mails with proofs."""
_INVITING: Final = "invite"
"""Followed by a space and an address, a user, or both: subject of the counter of mails with invitations to spaces."""
_CODE: Final = "code"
"""Followed by a space and a user: subject of the counter of attempts at the codes of the user's second factor."""
_DAY: Final = "day"
"""Behind a space at the end of a subject: subject of the counter of a day."""
_RESET: Final = "reset"
"""Subject of the counters of resets that were asked for: from a network, and of all. Followed by a space and an
address: subject of the counter of resets for the address.
"""


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """Maximum numbers of attempts within `window_ms` milliseconds of the first attempt.

    - `per_peer` limits the attempts for one address from one network. It is the smallest, so that a person who guesses
      locks out themselves rather than the owner.
    - `per_network` limits the attempts from one network, so that one password cannot be tried at many addresses.
    - `per_address` limits the attempts for one address from everywhere, so that guessing from many networks is limited
      as well. Networks of recent successful sign-ins are exempt, so that the owner is not locked out.
    """

    per_peer: int = 10
    per_network: int = 100
    per_address: int = 100
    accounts: int = 1000
    """Maximum number of accounts that are created from one network within `window_ms`."""
    mails_per_address: int = 10
    """Maximum number of mails with proofs to one address, for all of its accounts together."""
    mails_per_account: int = 3
    """Maximum number of mails with proofs for one account. It is lower, so that an account leaves mails to others."""
    invitations_per_pair: int = 3
    """Maximum number of mails with invitations to spaces by one person to one address in a day."""
    invitations_per_address: int = 20
    """Maximum number of mails with invitations to spaces to one address in a day, by all people together."""
    invitations_per_person: int = 100
    """Maximum number of mails with invitations to spaces by one person in a day."""
    codes_per_account: int = 10
    """Maximum number of attempts at the codes of one account's second factor, from all networks together."""
    codes_per_day: int = 50
    """The same in a day, so that nobody guesses for months."""
    resets_per_address: int = 5
    """Maximum number of resets that are asked for at one address, whether it has an account or not."""
    resets_per_network: int = 50
    """Maximum number of resets that are asked for from one network."""
    resets: int = 1000
    """Maximum number of resets that are asked for in total, so that a flood from many networks sends few mails."""
    window_ms: int = 15 * MINUTE_MS


class Attempts:
    """Counts password attempts before the passwords are verified, so that concurrent attempts cannot exceed a limit."""

    def __init__(self, store: AttemptStore, limits: AttemptLimits, *, clock: Clock) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock

    async def admit(self, *, subject: str, peer: str) -> None:
        """Count an attempt for `subject`, an e-mail address or a link, from the network `peer`. Raise TooManyAttempts
        with `retry_after_seconds` if a limit is reached.
        """
        await self._count(subject, peer, self._limits.per_peer)
        await self._count(_ALL, peer, self._limits.per_network)
        try:
            await self._count(subject, None, self._limits.per_address)
        except TooManyAttempts:
            if not await self._store.knows_network(subject=subject, peer=peer, now_ms=self._clock()):
                raise

    async def admit_account(self, *, peer: str) -> None:
        """Count an account that is about to be created from the network `peer`. Raise TooManyAttempts with
        `retry_after_seconds` if the limit of accounts is reached.
        """
        await self._count(_NEW, peer, self._limits.accounts)

    async def admit_claim(self, *, email: str, peer: str) -> None:
        """Count an account that is about to be created for an address and not proven, from the network `peer`. Raise
        TooManyAttempts with `retry_after_seconds` if as many were created as there may be attempts at one address.
        """
        await self._count(f"{_NEW} {email}", peer, self._limits.per_peer)
        await self._count(f"{_NEW} {email}", None, self._limits.per_address)

    async def admit_mail(self, *, user: UserId, email: str) -> None:
        """Count a mail with a proof that is about to be sent to the address of an account. Raise TooManyAttempts with
        `retry_after_seconds` if the limit of the account or of the address is reached.
        """
        await self._count(f"{_MAIL} {user}", None, self._limits.mails_per_account)
        await self._count(f"{_MAIL} {email}", None, self._limits.mails_per_address)

    async def admit_invitation(self, *, email: str) -> None:
        """Count a mail with an invitation that is about to be sent to an address. Raise TooManyAttempts with
        `retry_after_seconds` if the limit of mails to the address is reached.
        """
        await self._count(f"{_MAIL} {email}", None, self._limits.mails_per_address)

    async def admit_space_invitation(self, *, user: UserId, email: str) -> None:
        """Count a mail with an invitation to a space that `user` is about to have sent to an address. Raise
        TooManyAttempts with `retry_after_seconds` if a limit for a day is reached: that of the user for the address,
        that of the user, or that of the address. The last one counts only mails that the others admit, so that one
        person leaves mails to others.
        """
        limits = self._limits
        for subject, limit in (
            (f"{user} {email}", limits.invitations_per_pair),
            (user, limits.invitations_per_person),
            (email, limits.invitations_per_address),
        ):
            await self._count(f"{_INVITING} {subject}", None, limit, window_ms=DAY_MS, what="mails with invitations")

    async def admit_reset(self, *, email: str, peer: str) -> None:
        """Count a reset that is about to be asked for at an address, from the network `peer`. Raise TooManyAttempts
        with `retry_after_seconds` if the limit of the network, of the address, or of all resets is reached.
        """
        await self._count(_RESET, peer, self._limits.resets_per_network)
        await self._count(f"{_RESET} {email}", None, self._limits.resets_per_address)
        await self._count(_RESET, None, self._limits.resets)

    async def admit_code(self, *, user: UserId, confirming: bool = False) -> None:
        """Count an attempt at a code of the second factor of a user; `confirming` if the factor is being confirmed.
        Raise TooManyAttempts with `retry_after_seconds` if the limit within the window, or that of a day, is reached.
        They are limits for all networks together: a code has few digits, and whoever tries one has the password
        already.
        """
        subject, limits = _codes_of(user, confirming), self._limits
        await self._count(subject, None, limits.codes_per_account)
        await self._count(f"{subject} {_DAY}", None, limits.codes_per_day, window_ms=DAY_MS, what="wrong codes")

    async def code_was_right(self, *, user: UserId, confirming: bool = False) -> None:
        """Record that the last attempt at a code of a user was right: it does not count."""
        subject = _codes_of(user, confirming)
        for counter in (subject, f"{subject} {_DAY}"):
            await self._store.take_back_attempt(subject=counter, peer=None)

    async def needs_code(self, *, peer: str) -> None:
        """Record that a password from the network `peer` was right and lacked a code. The counter of the network is
        decremented, because the attempt is repeated with the code; those of the address count both.
        """
        await self._store.take_back_attempt(subject=_ALL, peer=peer)

    async def recovered(self, *, email: str, peer: str) -> None:
        """Record that the owner of an address has chosen a new password by a reset, from the network `peer`. The
        counters of the address are reset; the attempts of the network stay counted.
        """
        until = self._clock() + KNOWN_DAYS * DAY_MS
        await asyncio.gather(
            self._store.forget_attempts(subject=email, peer=peer),
            self._store.know_network(subject=email, peer=peer, until_ms=until),
        )

    async def succeeded(self, *, subject: str, peer: str) -> None:
        """Record that a correct password for `subject` came from the network `peer`. The counters of the subject are
        reset. The counter of the network is decremented by this attempt; failed attempts stay counted there.
        """
        await asyncio.gather(
            self._store.forget_attempts(subject=subject, peer=peer),
            self._store.take_back_attempt(subject=_ALL, peer=peer),
            self._store.know_network(subject=subject, peer=peer, until_ms=self._clock() + KNOWN_DAYS * DAY_MS),
        )

    async def _count(
        self, subject: str, peer: str | None, limit: int, *, window_ms: int | None = None, what: str = "attempts"
    ) -> None:
        window = self._limits.window_ms if window_ms is None else window_ms
        wait = await self._store.count_attempt(
            subject=subject, peer=peer, limit=limit, window_ms=window, now_ms=self._clock()
        )
        if wait:
            seconds = -(-wait // SECOND_MS)
            raise TooManyAttempts(f"too many {what}; try again in {seconds} seconds", **{RETRY_AFTER: str(seconds)})


def _codes_of(user: UserId, confirming: bool) -> str:
    return f"{_CODE} confirm {user}" if confirming else f"{_CODE} {user}"
