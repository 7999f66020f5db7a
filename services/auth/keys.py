"""Keys: a browser or a program keeps one secret, which stands for its device, and exchanges it for access tokens.

A key is `syk_{device}{secret}`; the prefix identifies a leaked key as such. Only its digest is stored. A browser's key
is valid for 30 days after its last exchange, a program's until the date that its maker chose.
"""

from __future__ import annotations

import hmac
import re
import secrets
from enum import Enum

from runtime.logs import structlog
from services.auth.audit.events import AuditKind, audit_event
from services.auth.derived import DerivedSecrets, derived_id
from services.auth.devices import DeviceLists, check_active, check_signed_in
from services.auth.holdings import HoldingLimits, decided_anew, limit_reached
from services.auth.opaque_tokens import token_digest
from services.auth.ports import AccessStore, DeviceStore, GateStore, MakerEnded
from services.auth.records import DAY_MS, HOUR_MS, USUAL_LIMITS, Clock, DeviceRecord, Key, KeyLimits
from services.auth.sessions import Tokens
from services.auth.tokens import AccessTokens
from syncline.model.accounts import DeviceKind
from syncline.model.errors import (
    DeviceRevoked,
    InvalidArgument,
    NoSuchSpace,
    PermissionDenied,
    RequestIdReused,
    TokenExpired,
    TokenInvalid,
    TokenMalformed,
)
from syncline.model.identifiers import DeviceId, RequestId, UserId, new_text_id
from syncline.model.limits import BROWSER_KEY_IDLE_DAYS, PROGRAM_KEY_DAYS

log = structlog.get_logger()

NOTED_MS = HOUR_MS
"""Minimum milliseconds between two records of the last use of a key, so that an exchange usually needs one read and no
write.
"""

_KEY = re.compile(r"syk_([a-z2-7]{26})[A-Za-z0-9_-]{43}")
_SECRET_BYTES = 32

KeyState = Enum("KeyState", "GOOD FORGED REVOKED EXPIRED")
"""The state of a presented key with respect to the device that it names: GOOD if it is valid, FORGED if it is not the
device's key, REVOKED or EXPIRED if the device was revoked or has expired.
"""


def parse_key(text: str) -> DeviceId:
    """Return the device that a key names. Raise TokenMalformed if the text is no key."""
    match = _KEY.fullmatch(text)
    if match is None:
        raise TokenMalformed("that is not a key")
    return DeviceId(match[1])


def judge_key(text: str, device: DeviceRecord, *, now_ms: int) -> KeyState:
    """Return the state of the key `text` with respect to `device`, the device that it names, at `now_ms` in
    milliseconds since 1970.
    """
    if device.key is None or not hmac.compare_digest(token_digest(text), device.key.digest):
        return KeyState.FORGED
    if device.revoked_at_ms is not None:
        return KeyState.REVOKED
    return KeyState.EXPIRED if now_ms >= device.key.expires_at_ms else KeyState.GOOD


class Keys:
    """Makes the keys of browsers and programs, and exchanges keys for access tokens."""

    def __init__(
        self,
        devices: DeviceStore,
        access: AccessStore,
        gates: GateStore,
        access_tokens: AccessTokens,
        *,
        derived: DerivedSecrets,
        holdings: HoldingLimits,
        lists: DeviceLists,
        clock: Clock,
    ) -> None:
        self._devices = devices
        self._access = access
        self._gates = gates
        self._holdings = holdings
        self._lists = lists
        self._access_tokens = access_tokens
        self._secrets = derived
        self._clock = clock

    def open(self, *, user: UserId, name: str, password_changes: int = 0) -> tuple[DeviceRecord, str, Tokens]:
        """Return a new device called `name` for the browser of a user who has just been authenticated, its key, and its
        tokens. `password_changes` is that of the login. Nothing is stored: the caller adds the device to the store.
        """
        until = self._clock() + BROWSER_KEY_IDLE_DAYS * DAY_MS
        device, key = self._new(
            user=user,
            name=name,
            kind=DeviceKind.BROWSER,
            until=until,
            device=DeviceId(new_text_id()),
            secret=secrets.token_urlsafe(_SECRET_BYTES),
            made_by=None,
            limits=None,
            password_changes=password_changes,
        )
        return device, key, self._tokens(device)

    async def create(
        self,
        *,
        request: RequestId,
        name: str,
        expires_at_ms: int,
        user: UserId,
        device: DeviceId,
        limits: KeyLimits = USUAL_LIMITS,
    ) -> tuple[DeviceRecord, str]:
        """Make a program's device and its key, and return both. A repeated request gets those that it made before.
        `expires_at_ms`, in milliseconds since 1970, is the time until which the key is valid; `user` and `device` are
        the caller.

        - Raise InvalidArgument for an expiry that has passed or is more than PROGRAM_KEY_DAYS away.
        - Raise NoSuchSpace for a space in `limits` in which the user has no grant.
        - Raise DeviceRevoked or TokenExpired if the calling device was revoked or has expired.
        - Raise PermissionDenied if it is a program itself: otherwise a stolen key could be made permanent.
        - Raise RequestIdReused if the user has used the request id for a different key, or if the secret of the
          services has changed since.
        - Raise LimitReached if the user has too many keys, and Contended if concurrent additions come first too often.

        No key is made then.
        """
        now = self._clock()
        if not now < expires_at_ms <= now + PROGRAM_KEY_DAYS * DAY_MS:
            raise InvalidArgument("expires_at_ms must be later than now, and within a year")
        calling = check_signed_in(await self._devices.device(device), user=user, now_ms=now)
        if calling.kind is DeviceKind.PROGRAM:
            raise PermissionDenied("a program cannot make keys; sign in")
        program, key = self._new(
            user=user,
            name=name,
            kind=DeviceKind.PROGRAM,
            until=expires_at_ms,
            device=DeviceId(derived_id("key", user, request)),
            secret=self._secrets.secret("key", user, request, size=_SECRET_BYTES),
            made_by=device,
            limits=limits,
            password_changes=calling.password_changes,
        )
        try:
            await self._check_spaces(limits, user=user)
        except NoSuchSpace:
            if await self._devices.device(program.device) is None:  # otherwise it is a repeated request
                raise
        busy = "you make other keys at this moment; try again"
        if await decided_anew(lambda: self._try_to_add(program), busy=busy):
            log.info("key created", user=user, device=program.device)
            return program, key
        made = await self._devices.device(program.device)
        if made is None or (made.user, made.name, made.key, made.limits) != (user, name, program.key, limits):
            raise RequestIdReused
        return made, key

    async def _check_spaces(self, limits: KeyLimits, *, user: UserId) -> None:
        if limits.spaces:
            grants, _ = await self._access.accesses([(space, user) for space in limits.spaces], [])
            for space in sorted(limits.spaces):
                if (space, user) not in grants:
                    raise NoSuchSpace(space_id=space)

    async def _try_to_add(self, program: DeviceRecord) -> bool:
        """Add the program's device and return True; return False if it exists already. Raise LimitReached if the user
        has too many keys, DeviceRevoked if the device from which the key is made was revoked, and GateMoved if a
        concurrent addition came first.
        """
        gates = await self._gates.gates(f"keys {program.user}")
        if await self._lists.keys(program.user) < (most := self._holdings.keys):
            event = audit_event(
                AuditKind.KEY_CREATED,
                at_ms=self._clock(),
                device=program.device,
                name=program.name,
                expires_at_ms=str(program.expires_at_ms),
            )
            try:
                return await self._devices.add_device(program, gates=gates, events=[event])
            except MakerEnded:
                raise DeviceRevoked from None
        if await self._devices.device(program.device) is not None:
            return False
        raise limit_reached("keys", f"you have {most} keys, as many as one person may have; revoke some first")

    async def exchange(self, text: str) -> Tokens:
        """Return an access token of the device for which the key `text` stands, without a refresh token. A program's
        access token never outlives its key.

        Raise TokenMalformed for a text that is no key, TokenInvalid for a key that was never issued or was dropped long
        after its end, DeviceRevoked if its device was revoked, TokenExpired for an expired key, and AccountSuspended if
        the account of its user is suspended.
        """
        device = await self._devices.device(parse_key(text))
        now = self._clock()
        match KeyState.FORGED if device is None else judge_key(text, device, now_ms=now):
            case KeyState.GOOD:
                assert device is not None
                account, _ = await self._devices.signed_in(device.user, device.device)
                check_active(account)
                await self._note(device, now)
                return self._tokens(device)
            case KeyState.FORGED:
                raise TokenInvalid("this key is not known")
            case KeyState.REVOKED:
                raise DeviceRevoked
            case KeyState.EXPIRED:
                raise TokenExpired("this key has expired; sign in again")

    async def _note(self, device: DeviceRecord, now: int) -> None:
        if now - device.last_seen_at_ms >= NOTED_MS:
            until = now + BROWSER_KEY_IDLE_DAYS * DAY_MS if device.kind is DeviceKind.BROWSER else device.expires_at_ms
            await self._devices.key_used(device.device, seen_at_ms=now, expires_at_ms=until)

    def _new(
        self,
        *,
        user: UserId,
        name: str,
        kind: DeviceKind,
        until: int,
        device: DeviceId,
        secret: str,
        made_by: DeviceId | None,
        limits: KeyLimits | None,
        password_changes: int,
    ) -> tuple[DeviceRecord, str]:
        now = self._clock()
        text = f"syk_{device}{secret}"
        key = Key(token_digest(text), until)
        record = DeviceRecord(device, user, name, now, now, None, None, kind, key, made_by, limits, password_changes)
        return record, text

    def _tokens(self, device: DeviceRecord) -> Tokens:
        # A browser's key has just been used, so it is valid for longer than the token, whatever is recorded.
        until = device.expires_at_ms if device.kind is DeviceKind.PROGRAM else None
        scopes = device.limits.scopes if device.limits is not None else ()
        return Tokens(self._access_tokens.issue(user=device.user, device=device.device, scopes=scopes, until_ms=until))
