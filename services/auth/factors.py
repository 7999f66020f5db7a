"""Second factors: a sign-in needs a code of the user's authenticator app as well as the password.

The app shows a code of six digits for each time step of 30 seconds (TOTP, RFC 6238). The codes of the present step and
of both beside it are right, because clocks differ, and a code works once. Whoever has lost the app states one of ten
recovery codes, each of which works once as well.

The app's secret and the recovery codes are derived from the request that added the factor and the secret of the
services, so that who reads the table learns none of them. Keys and devices that exist stay as they are.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass, field, replace
from typing import Final

import pyotp

from runtime.logs import structlog
from services.auth import metrics
from services.auth.attempts import Attempts
from services.auth.audit.events import AuditKind, audit_event
from services.auth.confirmation import Confirmation
from services.auth.derived import DerivedSecrets
from services.auth.ports import FactorStore, MailRequests
from services.auth.records import DAY_MS, SECOND_MS, Account, Clock, FactorChange, FactorMail, SecondFactor
from syncline.model.errors import Contended, FactorExists, NoSuchFactor, SecondFactorNeeded, SynclineError, WrongCode
from syncline.model.identifiers import RequestId, UserId, new_text_id

log = structlog.get_logger()

RECOVERY_CODES: Final = 10
"""Number of recovery codes of a factor."""
_STEP_SECONDS: Final = 30
_STEPS_BESIDE: Final = 1
"""Number of time steps before and after the present one whose codes are right as well."""
_SECRET_BYTES: Final = 20
"""Size of the secret of an app: that of the hash (SHA-1), as RFC 4226 recommends."""
_RECOVERY_BYTES: Final = 10
_RECOVERY_CHARACTERS: Final = 16
_DIGITS: Final = 6
MAX_CODE_CHARACTERS: Final = 64
"""Maximum number of characters of a presented code, with the blanks and hyphens that are ignored."""
_ISSUER: Final = "Syncline"
_TOLD_DAYS: Final = 4
"""Days after a change at which the owner is not told any more: the time for which the queue of mail keeps a request."""


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
        mail: MailRequests,
        *,
        confirmation: Confirmation,
        attempts: Attempts,
        derived: DerivedSecrets,
        clock: Clock,
    ) -> None:
        self._store = store
        self._mail = mail
        self._confirmation = confirmation
        self._attempts = attempts
        self._derived = derived
        self._clock = clock

    async def of_user(self, user: UserId) -> SecondFactor | None:
        """Return the confirmed second factor of a user; None if there is none."""
        factor = await self._store.factor(user)
        return factor if factor is not None and factor.confirmed_at_ms is not None else None

    async def add(self, *, request: RequestId, password: str, user: UserId, peer: str) -> NewTotp:
        """Begin to add a second factor to the account of a user whose password is `password`, and return what the app
        needs. The factor has no effect until `confirm`, and replaces one that was not confirmed. A repeated request has
        the same result. `peer` is the network of the caller.

        Raise FactorExists if there is a confirmed factor, and the errors of `Confirmation.login` and of
        `Confirmation.check`.
        """
        login = await self._confirmation.login(user)
        await self._confirmation.check(login, password, peer=peer)
        before = await self._store.factor(user)
        if before is not None and before.confirmed_at_ms is not None:
            raise FactorExists
        after = SecondFactor(user, request, self._clock())
        if (before is None or before.request != request) and not await self._store.change_factor(before, after):
            raise Contended
        secret = self._secret(after)
        return NewTotp(secret, pyotp.TOTP(secret).provisioning_uri(name=login.account.email, issuer_name=_ISSUER))

    async def confirm(self, code: str, *, account: Account) -> list[str]:
        """Confirm the second factor that was added to an account by a code of its app, and return the recovery codes.
        From then on a sign-in needs a code. A repetition with the same code has the same result, until another code is
        used.

        Raise NoSuchFactor if none was added, FactorExists if it is confirmed already, WrongCode if the code is wrong,
        and TooManyAttempts if a limit of attempts is reached.
        """
        before = await self._store.factor(account.user)
        if before is None:
            raise NoSuchFactor
        await self._attempts.admit_code(user=account.user)
        step = self._step_of(before, code)
        if before.confirmed_at_ms is not None:
            if step != before.last_step or before.spent:
                raise FactorExists
        elif step is None:
            raise WrongCode
        else:
            now = self._clock()
            after = replace(before, confirmed_at_ms=now, last_step=step)
            event = audit_event(AuditKind.FACTOR_ADDED, at_ms=now, user=account.user)
            if not await self._store.change_factor(before, after, events=[event]):
                raise Contended
            metrics.FACTORS.labels("added").inc()
            log.info("second factor added", user=account.user)
            await self._tell(account, FactorChange.ADDED)
        await self._attempts.code_was_right(user=account.user)
        return [_grouped(self._recovery_code(before, number)) for number in range(RECOVERY_CODES)]

    async def remove(self, *, password: str, code: str, user: UserId, peer: str) -> None:
        """Remove the second factor of the account of a user whose password is `password`, by a code of the app or a
        recovery code. `peer` is the network of the caller.

        Raise NoSuchFactor if there is no confirmed factor, WrongCode if the code is wrong or was used, TooManyAttempts
        if a limit of attempts is reached, and the errors of `Confirmation.login` and of `Confirmation.check`.
        """
        login = await self._confirmation.login(user)
        await self._confirmation.check(login, password, peer=peer)
        factor = await self.of_user(user)
        if factor is None:
            raise NoSuchFactor
        factor = await self._spend(factor, code)
        if not await self.end(factor, account=login.account):
            raise Contended

    async def end(self, factor: SecondFactor, *, account: Account) -> bool:
        """Remove the second factor of an account and tell the owner. Return False, and remove nothing, if the factor
        was changed by another call.
        """
        event = audit_event(AuditKind.FACTOR_REMOVED, at_ms=self._clock(), user=account.user)
        if not await self._store.change_factor(factor, None, events=[event]):
            return False
        metrics.FACTORS.labels("removed").inc()
        log.info("second factor removed", user=account.user)
        await self._tell(account, FactorChange.REMOVED)
        return True

    async def check(self, account: Account, code: str) -> str:
        """Return how a sign-in to an account is confirmed whose password was right: "totp", "recovery code", or an
        empty text if the account has no second factor. A code that is right is spent.

        Raise SecondFactorNeeded if a code is needed and `code` is empty, WrongCode if it is wrong or was used, and
        TooManyAttempts if a limit of attempts is reached.
        """
        factor = await self.of_user(account.user)
        if factor is None:
            return ""
        if not code:
            raise SecondFactorNeeded
        spent = await self._spend(factor, code)
        if spent.last_step > factor.last_step:
            return "totp"
        left = RECOVERY_CODES - len(spent.spent)
        log.info("recovery code used", user=account.user, left=left)
        await self._tell(account, FactorChange.RECOVERY_CODE_USED)
        return "recovery code"

    async def _spend(self, factor: SecondFactor, code: str) -> SecondFactor:
        """Spend a code of a confirmed factor, and return the factor as it is stored then. Raise WrongCode if the code
        is wrong or was used, and TooManyAttempts if a limit of attempts is reached.
        """
        await self._attempts.admit_code(user=factor.user)
        step, number = self._step_of(factor, code), self._number_of(factor, code)
        if step is not None and step > factor.last_step:
            after = replace(factor, last_step=step)
        elif number is not None:
            after = replace(factor, spent=factor.spent | {number})
        else:
            metrics.FACTORS.labels("refused").inc()
            raise WrongCode
        # Two calls may state the same code: the second one finds the factor changed.
        if not await self._store.change_factor(factor, after):
            metrics.FACTORS.labels("refused").inc()
            raise WrongCode
        await self._attempts.code_was_right(user=factor.user)
        return replace(after, version=factor.version + 1)

    def _step_of(self, factor: SecondFactor, code: str) -> int | None:
        """Return the time step whose code is `code`; None if it is that of no step near the present one."""
        stated = _stated(code)
        if len(stated) != _DIGITS:
            return None
        app, now = pyotp.TOTP(self._secret(factor)), self._clock() // (_STEP_SECONDS * SECOND_MS)
        steps = range(now - _STEPS_BESIDE, now + _STEPS_BESIDE + 1)
        right = [step for step in steps if hmac.compare_digest(app.generate_otp(step).encode(), stated.encode())]
        return right[-1] if right else None

    def _number_of(self, factor: SecondFactor, code: str) -> int | None:
        """Return the number of the recovery code `code`; None if there is none, or if it was used."""
        stated = _stated(code)
        if len(stated) != _RECOVERY_CHARACTERS:
            return None
        for number in range(RECOVERY_CODES):
            if hmac.compare_digest(self._recovery_code(factor, number).encode(), stated.encode()):
                return None if number in factor.spent else number
        return None

    def _secret(self, factor: SecondFactor) -> str:
        raw = self._derived.raw("totp", factor.user, factor.request, size=_SECRET_BYTES)
        return base64.b32encode(raw).decode()

    def _recovery_code(self, factor: SecondFactor, number: int) -> str:
        raw = self._derived.raw(f"recovery {number}", factor.user, factor.request, size=_RECOVERY_BYTES)
        return base64.b32encode(raw).decode().lower()

    async def _tell(self, account: Account, change: FactorChange) -> None:
        """Ask for the mail about a change. If that fails, the owner is not told: the change is decided, and in the
        audit log.
        """
        now = self._clock()
        mail = FactorMail(new_text_id(), account.user, account.email, change, now, now + _TOLD_DAYS * DAY_MS)
        try:
            await self._mail.send(mail)
        except SynclineError as error:
            log.warning("change of a second factor not told", user=account.user, reason=str(error))


def _stated(code: str) -> str:
    """Return a presented code without blanks and hyphens, and in lower case; an empty text for one that is too long."""
    if len(code) > MAX_CODE_CHARACTERS:
        return ""
    return "".join(code.replace("-", "").split()).lower()


def _grouped(code: str) -> str:
    """Return a recovery code in groups of four characters, which people read more easily."""
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))
