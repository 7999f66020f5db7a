"""Changes of passwords, and what follows from them: the owner is told by mail, and devices and keys from before end.

The new password is stored together with a record of what is left to be done, in one transaction. So nothing that
follows is forgotten if the process is killed: a process that finds the record goes on. The list of a user's devices may
lag, so that the last attempt is made LISTED_SECONDS after the change, and removes the record if nothing is left.

Each device has the number of changes that its sign-in saw. A sign-in that compares the former password, and ends after
the change, adds no device, since a store compares that number in the transaction that adds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from typing import Final

from runtime.logs import structlog
from runtime.periodic_work import run_periodically
from runtime.pool import Share
from services.auth import metrics
from services.auth.audit.events import PROCESS, Actor, AuditKind, audit_event
from services.auth.confirmation import Confirmation
from services.auth.endings import SWEEP_SECONDS, EndedDevices, Endings
from services.auth.password_strength import PasswordStrength
from services.auth.passwords import Passwords
from services.auth.ports import MailRequests, MakerEnded, PasswordMoved, PasswordStore, RequestStore
from services.auth.records import (
    DAY_MS,
    HOUR_MS,
    SECOND_MS,
    Clock,
    DeviceRecord,
    Done,
    Login,
    PasswordChange,
    PasswordMail,
    Reset,
)
from services.auth.repetitions import done_by, is_repetition
from services.auth.telling import TOLD_DAYS, tell
from syncline.model.errors import (
    Contended,
    DeviceRevoked,
    InvalidArgument,
    RequestIdReused,
    SynclineError,
    Unavailable,
    WrongCurrentPassword,
)
from syncline.model.identifiers import DeviceId, RequestId, UserId, new_text_id

log = structlog.get_logger()

LISTED_SECONDS: Final = 60
"""Seconds after which the list of a user's devices has every device that was added before."""
_PATIENCE_MS: Final = 3 * SECOND_MS
"""Milliseconds after which a change counts as abandoned by the process that made it. The interval doubles with each
attempt. If that process is still at work, two processes do the same work, which is harmless.
"""
_LONGEST_PATIENCE_MS: Final = HOUR_MS
_TAKEN_AT_ONCE: Final = 20
"""Maximum number of changes whose work one search resumes."""


@dataclass(frozen=True, slots=True)
class ChangedPassword:
    """The result of a change on a signed-in device: what this call has ended, and the keys of the calling device, which
    still work.
    """

    ended: EndedDevices
    remaining_keys: Sequence[DeviceRecord]


class PasswordChanges:
    """Changes the passwords of proven accounts, and does what follows from a change."""

    def __init__(
        self,
        store: PasswordStore,
        requests: RequestStore,
        mail: MailRequests,
        *,
        confirmation: Confirmation,
        passwords: Passwords,
        strength: PasswordStrength,
        endings: Endings,
        clock: Clock,
    ) -> None:
        self._store = store
        self._requests = requests
        self._mail = mail
        self._confirmation = confirmation
        self._passwords = passwords
        self._strength = strength
        self._endings = endings
        self._clock = clock
        self._own: set[str] = set()
        """The ids of the changes on whose consequences this process is working."""
        self._under_way: set[asyncio.Task[EndedDevices]] = set()

    def running(self) -> AbstractAsyncContextManager[None]:
        """Context manager within which `sweep` runs about every SWEEP_SECONDS."""
        return run_periodically(self.sweep, interval_seconds=SWEEP_SECONDS)

    async def change(
        self, *, request: RequestId, current: str, new: str, user: UserId, device: DeviceId, peer: str
    ) -> ChangedPassword:
        """Replace the password `current` of the account of `user` by `new`, end all other devices and the keys that
        `device`, the calling device, has not made, and tell the owner. `peer` is the network of the caller. A repeated
        request changes nothing more, and ends what may be left.

        - Raise WrongCurrentPassword if `current` is wrong, and AddressUnproven if the account is not proven.
        - Raise TooManyAttempts if a limit of attempts at the address is reached, and TooMuchAtOnce if too many
          passwords are being hashed or measured.
        - Raise WeakPassword if `new` is easily guessed, and InvalidArgument if it is the current password.
        - Raise RequestIdReused if the user has used the request id for something else.
        - Raise Contended if the password is being changed by another call, and DeviceRevoked if the calling device is
          signed out meanwhile.

        The password is not changed then.
        """
        login = await self._confirmation.login(user)
        done = done_by(user, request, "password", device, at_ms=self._clock())
        repeated = await is_repetition(self._requests, done)
        try:
            await self._confirmation.check(login, new if repeated else current, peer=peer)
        except WrongCurrentPassword:
            if repeated:
                # The request has no digest of the new password, which would be faster to guess at than its hash.
                raise RequestIdReused from None
            metrics.PASSWORD_CHANGES.labels("refused").inc()
            raise
        await self._confirmation.succeeded(login, peer=peer)
        if repeated:
            ended = await self._endings.end_former(user, before=login.password_changes, keep=device)
        else:
            if new == current:
                raise InvalidArgument("that is the current password; choose another one", field="new_password")
            share = Share(login.account.email, peer)
            ended = await self.replace(login, new, share=share, keep=device, done=done)
        return ChangedPassword(ended, await self._endings.valid_keys(device, user=user))

    async def replace(
        self,
        login: Login,
        new: str,
        *,
        share: Share,
        keep: DeviceId | None,
        reset: Reset | None = None,
        done: Done | None = None,
    ) -> EndedDevices:
        """Give the proven account `login` the password `new`, and do what follows from that, also if the calling task
        is cancelled after the password was stored. Return what has ended. What could not be done yet is done later.

        `share` is that of the hash, `keep` the device that stays signed in, `reset` the reset that is spent, and `done`
        the mutation request that is recorded.

        Raise ResetSpent if the reset was spent, WeakPassword, TooMuchAtOnce, Contended and DeviceRevoked as `change`
        does; the password is not changed then.
        """
        email = login.account.email
        await self._strength.check(new, email=email, share=share)
        password_hash = await self._passwords.hash(new, share)
        now = self._clock()
        change = PasswordChange(
            new_text_id(), login.account.user, email, login.password_changes + 1, keep, now, now + _PATIENCE_MS
        )
        work = asyncio.create_task(self._replace(login, password_hash, change=change, reset=reset, done=done))
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        return await asyncio.shield(work)

    async def _replace(
        self, login: Login, password_hash: str, *, change: PasswordChange, reset: Reset | None, done: Done | None
    ) -> EndedDevices:
        self._own.add(change.ident)
        try:
            try:
                kind = AuditKind.PASSWORD_CHANGED if reset is None else AuditKind.PASSWORD_RESET
                event = audit_event(kind, at_ms=change.at_ms, user=change.user)
                await self._store.change_password(
                    login, password_hash, change=change, reset=reset, done=done, events=[event]
                )
            except PasswordMoved:
                raise Contended("the password is being changed by another call; try again") from None
            except MakerEnded:
                raise DeviceRevoked from None
            metrics.PASSWORD_CHANGES.labels("changed" if reset is None else "reset").inc()
            log.info("password changed", user=change.user, device=change.keep, by_reset=reset is not None)
            return await self._follow_up(change)
        finally:
            self._own.discard(change.ident)

    async def sweep(self) -> int:
        """Go on, once, with the changes that are due; return the number of those that are complete."""
        now, complete = self._clock(), 0
        left = [one for one in await self._store.password_changes() if one.due_at_ms <= now]
        due = sorted((one for one in left if one.ident not in self._own), key=lambda one: one.due_at_ms)
        for change in due[:_TAKEN_AT_ONCE]:
            patience = min(_PATIENCE_MS << min(change.attempts, 16), _LONGEST_PATIENCE_MS)
            taken = replace(change, due_at_ms=now + patience, attempts=change.attempts + 1)
            if not await self._store.update_change(change, taken):
                continue
            try:
                ended = await self._follow_up(taken, actor=PROCESS)
            except Exception as error:  # the other changes must not wait for this one
                log.warning(
                    "password change postponed", user=change.user, exc_info=not isinstance(error, SynclineError)
                )
            else:
                complete += ended.complete
        return complete

    async def _follow_up(self, change: PasswordChange, *, actor: Actor | None = None) -> EndedDevices:
        """Tell the owner about a change, end the devices and keys from before, and return what this call has ended.
        Remove the record of the change if everything is done, and otherwise store when it is due again.
        """
        told = change.told or await self._tell(change)
        ended = await self._endings.end_former(change.user, before=change.number, keep=change.keep, actor=actor)
        last_at_ms = change.at_ms + LISTED_SECONDS * SECOND_MS
        with suppress(Unavailable):  # the record stays as it is, and a process finds it
            if told and ended.complete and self._clock() >= last_at_ms:
                await self._store.forget_change(change)
            else:
                due_at_ms = last_at_ms if told and ended.complete else change.due_at_ms
                await self._store.update_change(change, replace(change, due_at_ms=due_at_ms, told=told))
        return ended

    async def _tell(self, change: PasswordChange) -> bool:
        """Ask for the mail about a change; return False if it has to be asked for later. A repetition is mailed once,
        because the id of the mail is that of the change.
        """
        until = change.at_ms + TOLD_DAYS * DAY_MS
        mail = PasswordMail(change.ident, change.user, change.email, change.keep is None, change.at_ms, until)
        return await tell(self._mail, mail)
