"""Revocation of a device together with the keys and links that were made from it, so that a thief of the device keeps
no access.

To "end" a device, key or link here means to revoke it permanently. The keys of programs that were made from a device
end with it, because each key grants the same access. Its public links end only if the owner of the device requests
that, because innocent visitors may use them. No key or link is missed: a store adds a key or link of a device only if
the device is not revoked, so a list that is read afterwards is complete.

A revocation is recorded before it begins, and the record is removed when everything has ended. A process that is killed
in between, or that could not end everything, leaves the record, and any process resumes a revocation whose record it
finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from runtime.logs import structlog
from runtime.periodic_work import run_periodically
from runtime.workers import results_of
from services.auth.audit.events import PROCESS, Actor, AuditKind, audit_event
from services.auth.links import is_open, opens_after_undeletion
from services.auth.ports import AccessStore, DeviceStore, EndingStore, LinkStore
from services.auth.records import HOUR_MS, SECOND_MS, Clock, DeviceEnding, DeviceRecord, Link
from syncline.model.accounts import DeviceKind
from syncline.model.errors import NoSuchDevice, SynclineError, Unavailable
from syncline.model.identifiers import DeviceId, UserId, new_text_id
from syncline.model.retry_policy import RetryPolicy

log = structlog.get_logger()

T = TypeVar("T")

_ENDINGS_AT_ONCE: Final = 20
"""Maximum number of keys and links of one device that are revoked at the same time."""
SWEEP_SECONDS: Final = 2.0
"""Mean number of seconds between two searches of one process for unfinished revocations."""
_MAX_LISTINGS: Final = 5
"""Maximum number of times that the devices of a user who is signed out are listed: what signs in meanwhile, or is not
in the list yet, is found by a further listing.
"""
_TAKEN_AT_ONCE: Final = 20
"""Maximum number of unfinished revocations that one search resumes."""
_PATIENCE_MS: Final = 3 * SECOND_MS
"""Milliseconds after which a recorded revocation counts as abandoned. If the process that wrote the record is still at
work, two processes carry it out, which is harmless.
"""
_LONGEST_PATIENCE_MS: Final = HOUR_MS
"""Maximum number of milliseconds between two attempts at a failing revocation. The interval doubles with each
attempt.
"""
_RETRIES: Final = RetryPolicy(max_attempts=5, first_pause_seconds=0.05, max_pause_seconds=0.5, jitter=1)


@dataclass(frozen=True, slots=True)
class EndedDevice:
    """The result of revoking a device: the keys that were revoked with it, the links that were revoked with it, and the
    valid links that remain.
    """

    keys: Sequence[DeviceRecord]
    links: Sequence[Link]
    remaining_links: Sequence[Link]


@dataclass(frozen=True, slots=True)
class EndedDevices:
    """The result of signing out many devices of one user: the clients and browsers, and the programs, that one call has
    signed out. `complete` is False if some could not be signed out, or if some of their keys could not be revoked.
    """

    devices: Sequence[DeviceRecord]
    keys: Sequence[DeviceRecord]
    complete: bool


class Endings:
    """Revokes devices permanently, with the keys and links that were made from them."""

    def __init__(
        self, devices: DeviceStore, links: LinkStore, access: AccessStore, notes: EndingStore, *, clock: Clock
    ) -> None:
        self._devices = devices
        self._links = links
        self._access = access
        self._notes = notes
        self._clock = clock
        self._under_way: set[asyncio.Task[Any]] = set()
        self._own: set[str] = set()
        """The ids of the records of the revocations that this process is carrying out."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Context manager within which `sweep` runs about every SWEEP_SECONDS."""
        return run_periodically(self.sweep, interval_seconds=SWEEP_SECONDS)

    async def sweep(self) -> int:
        """Resume, once, the recorded revocations that are due; return the number of those that this call has
        finished.
        """
        now, finished = self._clock(), 0
        left = [one for one in await self._notes.endings() if one.due_at_ms <= now and one.ident not in self._own]
        for ending in sorted(left, key=lambda one: one.due_at_ms)[:_TAKEN_AT_ONCE]:
            patience = min(_PATIENCE_MS << min(ending.attempts, 16), _LONGEST_PATIENCE_MS)
            taken = await self._notes.take_ending(ending, due_at_ms=now + patience)
            if taken is None:
                continue
            log.info("ending taken over", user=taken.user, device=taken.device, attempts=taken.attempts)
            try:
                await self._finish(taken, actor=PROCESS)
            except Exception as error:  # the other ends must not wait for this one
                log.warning("ending postponed", device=taken.device, exc_info=not isinstance(error, SynclineError))
            else:
                finished += 1
        return finished

    async def revoke(self, device: DeviceId, *, user: UserId, calling: DeviceId, end_links: bool) -> EndedDevice:
        """Sign out one of the user's devices, and revoke the keys that were made from it; with `end_links` also the
        public links that were made from it. `calling` is the device that makes the call; it may be the revoked one.

        Idempotent: if the device is already signed out, or its record was dropped after it expired, the keys and links
        that were made from it are revoked now. The work is completed even if the calling task is cancelled.

        Raise NoSuchDevice if the device is not the user's, or was dropped and none of its keys and links is left. Raise
        Unavailable if a key or link could not be revoked yet: a process tries it again later, and the call may be
        repeated. Everything else has then been revoked, with one exception: a device that revokes itself stays signed
        in until the rest has been revoked.
        """
        found = await self._devices.device(device)
        if found.user != user if found is not None else not await self._has_made(device, user):
            raise NoSuchDevice
        return await self._to_its_end(self._begin(device, user, device_last=device == calling, end_links=end_links))

    async def end_all(self, user: UserId, *, end_keys: bool) -> tuple[int, int]:
        """Sign a user out of all clients and browsers, and with `end_keys` end the keys of programs as well. Return the
        number of clients and browsers, and the number of keys, that this call has ended.

        Idempotent. The work is completed even if the calling task is cancelled, but no record is kept of it: what the
        end of a process interrupts has to be asked for again. Raise Unavailable if a device could not be signed out;
        all others have been, and the call may be repeated.
        """
        return await self._to_its_end(self._end_all(user, end_keys=end_keys))

    async def _end_all(self, user: UserId, *, end_keys: bool) -> tuple[int, int]:
        ended, gone = _Ended(), list[DeviceRecord]()
        for _ in range(_MAX_LISTINGS):
            now = self._clock()
            good = [
                one
                for one in await self._devices.devices(user)
                if one.revoked_at_ms is None and one.expires_at_ms > now
                if end_keys or one.kind is not DeviceKind.PROGRAM
            ]
            if not good or ended.failures:
                break
            gone += await ended.end(good, lambda one: self._revoke_device(one.device, user, _kind_of(one), None))
        for failure in ended.failures:
            if not isinstance(failure, Unavailable):
                raise failure
        if ended.failures:
            raise Unavailable("some devices of the user could not be signed out; sign the user out again")
        keys = sum(one.kind is DeviceKind.PROGRAM for one in gone)
        log.info("user signed out", user=user, devices=len(gone) - keys, keys=keys)
        return len(gone) - keys, keys

    async def revoke_copied(self, device: DeviceRecord) -> None:
        """Sign out a device whose refresh token was copied, and revoke the keys that were made from it.

        Idempotent: if the device is already signed out, its keys are revoked now. The work is completed even if the
        calling task is cancelled. Raise Unavailable if a key could not be revoked yet; that key is tried again later,
        and all other keys have been revoked.
        """
        await self._to_its_end(self._begin(device.device, device.user, device_last=False, end_links=False, copied=True))

    async def end_former(
        self, user: UserId, *, before: int, keep: DeviceId | None, actor: Actor | None = None
    ) -> EndedDevices:
        """Sign out the devices of a user, and revoke the keys, that date from before the password was changed for the
        `before`th time. The device `keep` and the keys that it has made stay; None keeps none. Return what this call
        has ended. Idempotent; the caller has a record by which the work is resumed. The audit log names `actor`; None
        stands for the caller of the current call.

        Public links stay, as they do when a single device is revoked.
        """
        ended, now = _Ended(), self._clock()
        devices: list[DeviceRecord] = []

        async def end(one: DeviceRecord) -> None:
            await self._revoke_device(one.device, user, _kind_of(one), actor)

        with ended.noting_failure():
            former = [
                one
                for one in await self._devices.devices(user)
                if one.user == user
                and one.password_changes < before
                and one.revoked_at_ms is None
                and one.expires_at_ms > now
                and (keep is None or keep not in {one.device, one.made_by})
            ]
            programs = [one for one in former if one.kind is DeviceKind.PROGRAM]
            others = [one for one in former if one.kind is not DeviceKind.PROGRAM]
            devices = await ended.end(others, end)
            ended.keys += await ended.end(programs, end)
        # The list may lack a key that was made a moment ago. That of one device lacks none, once the device has ended.
        await results_of(
            (partial(self._end_keys, one.device, user, actor, ended) for one in devices),
            at_once=_ENDINGS_AT_ONCE,
        )
        for failure in ended.failures:
            log.warning("former devices ended in part", user=user, exc_info=_exc_info(failure))
        if devices or ended.keys:
            log.info("former devices ended", user=user, devices=len(devices), keys=len(ended.keys))
        return EndedDevices(devices, ended.keys, not ended.failures)

    async def valid_keys(self, maker: DeviceId, *, user: UserId) -> list[DeviceRecord]:
        """Return the programs of `user` that have a valid key which was made on the device `maker`."""
        now = self._clock()
        made = await self._made_keys(maker, user)
        return [key for key in made if key.revoked_at_ms is None and key.expires_at_ms > now]

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, which runs to its end even if the calling task is cancelled."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _begin(
        self, device: DeviceId, user: UserId, *, device_last: bool, end_links: bool, copied: bool = False
    ) -> EndedDevice:
        """Record the revocation of a device of `user`, carry it out, and return its result. `device_last`, `end_links`
        and `copied` are fields of DeviceEnding.
        """
        due_at_ms = self._clock() + _PATIENCE_MS
        ending = DeviceEnding(new_text_id(), device, user, device_last, end_links, due_at_ms, copied=copied)
        self._own.add(ending.ident)
        try:
            try:
                await self._notes.begin_ending(ending)
            except Unavailable:  # a failure to record must not prevent the end
                log.warning("ending not noted", user=user, device=device)
            return await self._finish(ending)
        finally:
            self._own.discard(ending.ident)

    async def _finish(self, ending: DeviceEnding, *, actor: Actor | None = None) -> EndedDevice:
        """Carry out the recorded revocation `ending`, remove the record, and return what was revoked. If something
        could not be revoked, an error is raised and the record stays. The audit log names `actor`; None stands for the
        caller of the current call.
        """
        ended = await self._end(ending, actor)
        with suppress(Unavailable):  # a process that finds the record finds nothing left to end
            await self._notes.forget_ending(ending)
        return ended

    async def _end(self, ending: DeviceEnding, actor: Actor | None) -> EndedDevice:
        """Revoke a device and the keys, and with `end_links` the links, that its user has made from it; return the
        result. If one of them cannot be revoked, the others are revoked all the same, and an error is raised at the
        end.

        With `device_last` the device is revoked only after everything else has been: otherwise the device could not
        repeat the call after a failure.
        """
        ended, device, user, end_links = _Ended(), ending.device, ending.user, ending.end_links
        if ending.device_last:
            await self._end_made(ending, actor, ended)
            ended.raise_failure(device)
        kind = AuditKind.DEVICE_COPIED if ending.copied else AuditKind.DEVICE_ENDED
        await ended.end([device], lambda device: self._revoke_device(device, user, kind, actor))
        await self._end_made(ending, actor, ended)
        ended.raise_failure(device)
        remaining = [] if end_links else await self._open_links(device, user)
        log.info("device revoked", user=user, device=device, keys=len(ended.keys), links=len(ended.links))
        return EndedDevice(ended.keys, ended.links, remaining)

    async def _end_made(self, ending: DeviceEnding, actor: Actor | None, ended: _Ended) -> None:
        """Revoke the valid keys, and with `end_links` the public links, that a user has made from the device of
        `ending`, and add them to `ended`. Errors are recorded there.
        """
        maker, user = ending.device, ending.user
        await self._end_keys(maker, user, actor, ended)
        if ending.end_links:
            with ended.noting_failure():
                links = await self._made_links(maker, user)
                ended.links += await ended.end(links, lambda link: self._revoke_link(link, actor))

    async def _end_keys(self, maker: DeviceId, user: UserId, actor: Actor | None, ended: _Ended) -> None:
        """Revoke the valid keys that a user has made from the device `maker`, and add them to `ended`. Errors are
        recorded there.
        """
        with ended.noting_failure():
            good = await self.valid_keys(maker, user=user)
            ended.keys += await ended.end(
                good, lambda key: self._revoke_device(key.device, user, AuditKind.KEY_ENDED, actor)
            )

    async def _revoke_device(self, device: DeviceId, user: UserId, kind: AuditKind, actor: Actor | None) -> None:
        now = self._clock()
        event = audit_event(kind, at_ms=now, actor=actor, user=user, device=device)
        await self._devices.revoke_device(device, at_ms=now, events=[event])

    async def _revoke_link(self, link: Link, actor: Actor | None) -> None:
        now = self._clock()
        event = audit_event(AuditKind.LINK_ENDED, at_ms=now, actor=actor, space=link.space, link=link.link)
        await self._links.revoke_link(link, at_ms=now, events=[event])

    async def _open_links(self, maker: DeviceId, user: UserId) -> list[Link]:
        made = await self._made_links(maker, user)
        spaces = {link.space for link in made}
        grants, _ = await self._access.accesses({(space, user) for space in spaces}, [])
        deletions = await self._access.deletions(spaces, user=user)
        now = self._clock()
        return [
            link
            for link in made
            if is_open(link, grants.get((link.space, user)), now_ms=now)
            or opens_after_undeletion(link, deletions, now_ms=now)
        ]

    async def _has_made(self, maker: DeviceId, user: UserId) -> bool:
        return bool(await self._made_keys(maker, user) or await self._made_links(maker, user))

    async def _made_keys(self, maker: DeviceId, user: UserId) -> list[DeviceRecord]:
        return [key for key in await self._devices.keys_of(maker) if key.user == user]

    async def _made_links(self, maker: DeviceId, user: UserId) -> list[Link]:
        """Return the links that a user has made by a device, or by a program whose key was made by the device."""
        makers = {maker, *(key.device for key in await self._made_keys(maker, user))}
        return [link for link in await self._links.links_of(user) if link.made_by in makers]


def _kind_of(device: DeviceRecord) -> AuditKind:
    return AuditKind.KEY_ENDED if device.kind is DeviceKind.PROGRAM else AuditKind.DEVICE_ENDED


@dataclass(slots=True)
class _Ended:
    """The keys and links that one call has revoked, and the errors of those that it could not revoke."""

    keys: list[DeviceRecord] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    async def end(self, items: Sequence[T], end: Callable[[T], Awaitable[None]]) -> list[T]:
        """Call the function `end` for each of `items` (devices, keys or links), at most _ENDINGS_AT_ONCE at the same
        time, and again where it raises Unavailable. Return the items for which it succeeded. Errors are recorded in
        `failures`, and do not prevent the other calls.
        """
        ended: list[T] = []
        left: Sequence[T] = items
        unavailable: list[Exception] = []
        for pause in _RETRIES.pauses():
            failed, unavailable = list[T](), []
            errors = await results_of((partial(_error_of, end, one) for one in left), at_once=_ENDINGS_AT_ONCE)
            for one, error in zip(left, errors, strict=True):
                match error:
                    case None:
                        ended.append(one)
                    case Unavailable():
                        failed.append(one)
                        unavailable.append(error)
                    case _:
                        self.failures.append(error)
            if not failed:
                break
            left = failed
            await asyncio.sleep(pause)
        self.failures += unavailable
        return ended

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Context manager that records an error of its body in `failures`, instead of raising the error."""
        try:
            yield
        except Exception as error:  # raised by `raise_failure` after the rest is done
            self.failures.append(error)

    def raise_failure(self, device: DeviceId) -> None:
        """Raise an error if any is recorded: one that indicates a fault of the service, otherwise Unavailable."""
        if self.failures:  # logged as well, because the caller may have disconnected
            log.warning("device ended in part", device=device, failures=len(self.failures))
        for failure in self.failures:
            if not isinstance(failure, Unavailable):
                raise failure
        if self.failures:
            raise Unavailable("some keys or links of the device could not be ended; revoke it again")


def _exc_info(error: Exception) -> Exception | None:
    """Return the error for the log if it indicates a fault of the service; None if the backend did not answer."""
    return None if isinstance(error, SynclineError) else error


async def _error_of(end: Callable[[T], Awaitable[None]], one: T) -> Exception | None:
    """Call `end` with `one`, and return the error that it raises instead of raising it; None if it raises none."""
    try:
        await end(one)
    except Exception as error:
        return error
    return None
