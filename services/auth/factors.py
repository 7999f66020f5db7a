"""Second factors: a sign-in needs a code of the user's authenticator app as well as the password.

The app shows a code of six digits for each time step of 30 seconds (TOTP, RFC 6238). The codes of the present step and
of both beside it are right, because clocks differ, and a code works once. Whoever has lost the app states one of ten
recovery codes, each of which works once as well.

The app's secret and the recovery codes are derived from random bytes in the record of the factor and the secret of the
services, so that who reads the table learns none of them. Devices and keys that exist go on without a code.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass, field, replace
from typing import Final

import pyotp

from runtime.logs import structlog
from services.auth import metrics
from services.auth.attempts import Attempts
from services.auth.confirmation import Confirmation
from services.auth.derived import DerivedSecrets
from services.auth.factor_changes import FactorChanges
from services.auth.ports import FactorStore
from services.auth.records import MINUTE_MS, SECOND_MS, Account, Clock, FactorChange, Login, SecondFactor
from syncline.model.errors import Contended, FactorExists, NoSuchFactor, SecondFactorNeeded, WrongCode
from syncline.model.identifiers import DeviceId, RequestId, UserId

log = structlog.get_logger()

RECOVERY_CODES: Final = 10
"""Number of recovery codes of a factor."""
PENDING_SECONDS: Final = 3600
"""Seconds within which a factor has to be confirmed after it was added."""
_REPEATED_MINUTES: Final = 2
"""Minutes within which a confirmation whose answer was lost may be repeated: longer than the code itself is right."""
_STEP_SECONDS: Final = 30
_STEPS_BESIDE: Final = 1
"""Number of time steps before and after the present one whose codes are right as well."""
_SECRET_BYTES: Final = 20
"""Size of the secret of an app: that of the hash (SHA-1), as RFC 4226 recommends."""
_SALT_BYTES: Final = 16
_RECOVERY_BYTES: Final = 10
_RECOVERY_CHARACTERS: Final = 16
_DIGITS: Final = 6
MAX_CODE_CHARACTERS: Final = 64
"""Maximum number of characters of a presented code, with the blanks and hyphens that are ignored."""
_ISSUER: Final = "Syncline"
_BUSY: Final = "another call changes the second factor at this moment; try again"
_DECISIONS: Final = 3
"""Maximum number of times that a code is looked at anew, because another call has changed the factor meanwhile."""


@dataclass(frozen=True, slots=True)
class NewTotp:
    """The secret of an authenticator app, in base32, and the same as a URI that the app reads from a QR code."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


class Factors:
    """Adds, removes and checks the second factors of accounts."""

    def __init__(
        self,
        store: FactorStore,
        changes: FactorChanges,
        *,
        confirmation: Confirmation,
        attempts: Attempts,
        derived: DerivedSecrets,
        clock: Clock,
    ) -> None:
        self._store = store
        self._changes = changes
        self._confirmation = confirmation
        self._attempts = attempts
        self._derived = derived
        self._clock = clock

    async def of_user(self, user: UserId) -> SecondFactor | None:
        """Return the confirmed second factor of a user; None if there is none."""
        return await self._changes.of_user(user)

    async def add(self, *, request: RequestId, password: str, user: UserId, device: DeviceId, peer: str) -> NewTotp:
        """Begin to add a second factor to the account of a user whose password is `password`, on the calling device
        `device`, and return what the app needs. The factor has no effect until `confirm`, and replaces one that was not
        confirmed. A repeated request has the same result. `peer` is the network of the caller.

        Raise FactorExists if there is a confirmed factor, Contended if another call changes the factor, and the errors
        of `Confirmation.login` and of `Confirmation.check`.
        """
        login = await self._confirmation.login(user)
        await self._confirmation.check(login, password, peer=peer)
        await self._confirmation.succeeded(login, peer=peer)
        factor = await self._store.factor(user)
        if factor is not None and factor.confirmed_at_ms is not None:
            raise FactorExists
        if factor is None or factor.request != request or not self._is_pending(factor, login, device):
            salt = secrets.token_bytes(_SALT_BYTES)
            added = SecondFactor(user, request, device, login.password_changes, salt, self._clock())
            if not await self._store.change_factor(factor, added):
                raise Contended(_BUSY)
            factor = added
        secret = self._secret(factor)
        return NewTotp(secret, pyotp.TOTP(secret).provisioning_uri(name=login.account.email, issuer_name=_ISSUER))

    async def confirm(self, code: str, *, user: UserId, device: DeviceId) -> list[str]:
        """Confirm the second factor that a user has added on the calling device `device` by a code of its app, and
        return the recovery codes. From then on a sign-in needs a code. A repetition on the same device within
        _REPEATED_MINUTES has the same result, unless another code was used meanwhile.

        Raise NoSuchFactor if none was added on the device within PENDING_SECONDS and since the last change of the
        password, FactorExists if it is confirmed already, WrongCode if the code is wrong, TooManyAttempts if a limit of
        attempts is reached, Contended if another call changes the factor, and the errors of `Confirmation.login`.
        """
        login = await self._confirmation.login(user)
        factor = await self._store.factor(user)
        if factor is not None and factor.confirmed_at_ms is not None:
            if not self._was_just_confirmed(factor, device):
                raise FactorExists("the second factor is confirmed already; sign-ins need its codes")
        elif factor is None or not self._is_pending(factor, login, device):
            raise NoSuchFactor("no second factor waits for a code on this device; begin to add one")
        await self._attempts.admit_code(user=user, confirming=True)
        step = self._step_of(factor, code)
        if step is None or (factor.confirmed_at_ms is not None and step != factor.confirmed_step):
            metrics.FACTORS.labels("refused").inc()
            raise WrongCode("this code is wrong, or of another time; state the one that the app shows now")
        if factor.confirmed_at_ms is None:
            confirmed = replace(factor, confirmed_at_ms=self._clock(), confirmed_step=step, last_step=step)
            if not await self._changes.change(factor, confirmed, account=login.account, change=FactorChange.ADDED):
                raise Contended(_BUSY)
        await self._attempts.code_was_right(user=user, confirming=True)
        return [_grouped(self._recovery_code(factor, number)) for number in range(RECOVERY_CODES)]

    def _is_pending(self, factor: SecondFactor, login: Login, device: DeviceId) -> bool:
        """Return True if a factor that is not confirmed may be confirmed on a device: the one that has added it, a
        short time ago, and with the present password.
        """
        is_fresh = self._clock() < factor.added_at_ms + PENDING_SECONDS * SECOND_MS
        return is_fresh and (factor.device, factor.password_changes) == (device, login.password_changes)

    def _was_just_confirmed(self, factor: SecondFactor, device: DeviceId) -> bool:
        """Return True if a device has just confirmed a factor of which nothing was used since: it may not have got the
        answer.
        """
        until = (factor.confirmed_at_ms or 0) + _REPEATED_MINUTES * MINUTE_MS
        is_unused = factor.last_step == factor.confirmed_step and not factor.spent
        return is_unused and factor.device == device and self._clock() < until

    async def remove(self, *, password: str, code: str, user: UserId, peer: str) -> None:
        """Remove the second factor of the account of a user whose password is `password`, by a code of the app or a
        recovery code. `peer` is the network of the caller.

        Raise NoSuchFactor if there is no confirmed factor, WrongCode if the code is wrong or was used, TooManyAttempts
        if a limit of attempts is reached, Contended if other calls change the factor, and the errors of
        `Confirmation.login` and of `Confirmation.check`.
        """
        login = await self._confirmation.login(user)
        await self._confirmation.check(login, password, peer=peer)
        for _ in range(_DECISIONS):
            factor = await self.of_user(user)
            if factor is None:
                raise NoSuchFactor
            await self._spent_by(factor, code)
            if await self._changes.change(factor, None, account=login.account, change=FactorChange.REMOVED):
                await self._confirmation.succeeded(login, peer=peer)
                return
        raise Contended(_BUSY)

    async def check(self, account: Account, code: str) -> str:
        """Return how a sign-in to an account is confirmed whose password was right: "totp", "recovery code", or an
        empty text if the account has no second factor. A code that is right is spent.

        Raise SecondFactorNeeded if a code is needed and `code` is empty, WrongCode if it is wrong or was used,
        TooManyAttempts if a limit of attempts is reached, and Contended if other calls change the factor.
        """
        for _ in range(_DECISIONS):
            factor = await self.of_user(account.user)
            if factor is None:
                return ""
            if not code:
                raise SecondFactorNeeded
            spent = await self._spent_by(factor, code)
            if spent.last_step > factor.last_step:
                if await self._store.change_factor(factor, spent):
                    return "totp"
            elif await self._changes.change(factor, spent, account=account, change=FactorChange.RECOVERY_CODE_USED):
                return "recovery code"
        raise Contended(_BUSY)

    async def _spent_by(self, factor: SecondFactor, code: str) -> SecondFactor:
        """Return what a confirmed factor becomes when a code is used; nothing is stored. Raise WrongCode if the code is
        wrong or was used, and TooManyAttempts if a limit of attempts is reached. Guesses at recovery codes are not
        counted: each has 80 random bits, so that the owner can always use one.
        """
        stated = _stated(code)
        if len(stated) == _RECOVERY_CHARACTERS:
            number = self._number_of(factor, stated)
            if number is not None:
                return replace(factor, spent=factor.spent | {number})
        else:
            await self._attempts.admit_code(user=factor.user)
            step = self._step_of(factor, stated)
            if step is not None and step > factor.last_step:
                await self._attempts.code_was_right(user=factor.user)
                return replace(factor, last_step=step)
        metrics.FACTORS.labels("refused").inc()
        raise WrongCode

    def _step_of(self, factor: SecondFactor, code: str) -> int | None:
        """Return the time step whose code is `code`; None if it is that of no step near the present one."""
        stated = _stated(code)
        if len(stated) != _DIGITS:
            return None
        app, now = pyotp.TOTP(self._secret(factor)), self._clock() // (_STEP_SECONDS * SECOND_MS)
        steps = range(now - _STEPS_BESIDE, now + _STEPS_BESIDE + 1)
        right = [step for step in steps if hmac.compare_digest(app.generate_otp(step).encode(), stated.encode())]
        return right[-1] if right else None

    def _number_of(self, factor: SecondFactor, stated: str) -> int | None:
        """Return the number of a recovery code; None if there is none, or if it was used."""
        for number in range(RECOVERY_CODES):
            if hmac.compare_digest(self._recovery_code(factor, number).encode(), stated.encode()):
                return None if number in factor.spent else number
        return None

    def _secret(self, factor: SecondFactor) -> str:
        raw = self._derived.raw("totp", factor.user, factor.salt, size=_SECRET_BYTES)
        return base64.b32encode(raw).decode()

    def _recovery_code(self, factor: SecondFactor, number: int) -> str:
        raw = self._derived.raw(f"recovery {number}", factor.user, factor.salt, size=_RECOVERY_BYTES)
        return base64.b32encode(raw).decode().lower()


def _stated(code: str) -> str:
    """Return a presented code without blanks and hyphens, and in lower case; an empty text for one that is too long."""
    if len(code) > MAX_CODE_CHARACTERS:
        return ""
    return "".join(code.replace("-", "").split()).lower()


def _grouped(code: str) -> str:
    """Return a recovery code in groups of four characters, which people read more easily."""
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))
