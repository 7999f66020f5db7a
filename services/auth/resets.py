"""Resets: a person who has lost the password shows by a mail that the address is theirs, and chooses another one.

A reset is a random token that is mailed to the address of a proven account. Asking for one does the same for all
addresses: the same limits are counted, an address is looked up, a reset is stored, and a request is left in the queue
of mail. For an address without a proven account, the reset is for nobody, and notify mails nothing.
"""

from __future__ import annotations

from contextlib import suppress

from runtime.logs import structlog
from runtime.pool import Share
from services.auth import metrics
from services.auth.attempts import Attempts
from services.auth.opaque_tokens import is_token, new_token, token_digest
from services.auth.password_changes import PasswordChanges
from services.auth.ports import AccountStore, MailRequests, PasswordStore, ResetSpent
from services.auth.records import SECOND_MS, Clock, Login, Reset, ResetMail
from syncline.model.errors import Contended, ResetInvalid, Unavailable
from syncline.model.identifiers import new_text_id
from syncline.model.limits import RESET_SECONDS

log = structlog.get_logger()


class Resets:
    """Mails resets to the addresses of proven accounts, and gives those accounts new passwords by them."""

    def __init__(
        self,
        store: PasswordStore,
        accounts: AccountStore,
        mail: MailRequests,
        changes: PasswordChanges,
        *,
        attempts: Attempts,
        clock: Clock,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._mail = mail
        self._changes = changes
        self._attempts = attempts
        self._clock = clock

    async def request(self, *, email: str, peer: str) -> None:
        """Ask for a mail with a reset to the address, if it has a proven account. `peer` is the network of the caller.
        Nothing that the caller notices depends on the accounts of the address.

        Raise TooManyAttempts if enough resets were asked for, before any work, and Unavailable if none can be asked
        for.
        """
        await self._attempts.admit_reset(email=email, peer=peer)
        login = await self._accounts.login(email)
        token, until = new_token(), self._clock() + RESET_SECONDS * SECOND_MS
        user, changes = (login.account.user, login.password_changes) if login is not None else (None, 0)
        await self._store.add_reset(Reset(token_digest(token), user, email, changes, until))
        await self._mail.send(ResetMail(new_text_id(), email, token if login is not None else None, until))
        metrics.RESETS.labels("asked").inc()

    async def spend(self, token: str, *, password: str, peer: str) -> None:
        """Give the account of a reset the password `password` by the token of the reset, and end all devices and keys
        of the account. `peer` is the network of the caller.

        - Raise ResetInvalid for a token that is none, was used or has expired, or if the password was changed since.
        - Raise WeakPassword if the password is easily guessed; the token is not spent then.
        - Raise TooMuchAtOnce if too many passwords are being hashed or measured.
        """
        if not is_token(token):
            raise ResetInvalid("that is no reset; copy the whole link or code from the mail")
        reset = await self._store.reset(token_digest(token))
        login = await self._login_of(reset)
        if reset is None or login is None:
            metrics.RESETS.labels("refused").inc()
            raise ResetInvalid
        try:
            await self._changes.replace(login, password, share=Share(reset.email, peer), keep=None, reset=reset)
        except (ResetSpent, Contended):  # another call has spent it, or changes the password, which ends it
            metrics.RESETS.labels("refused").inc()
            raise ResetInvalid from None
        with suppress(Unavailable):  # the password is changed, whatever is counted
            await self._attempts.recovered(email=reset.email, peer=peer)
        metrics.RESETS.labels("spent").inc()
        log.info("password reset", user=login.account.user)

    async def _login_of(self, reset: Reset | None) -> Login | None:
        """Return the account whose password a reset changes; None if the reset is missing, has expired, is for nobody,
        or if the password was changed since it was made.
        """
        if reset is None or reset.user is None or reset.expires_at_ms <= self._clock():
            return None
        login = await self._accounts.login(reset.email)
        if login is None or (login.account.user, login.password_changes) != (reset.user, reset.password_changes):
            return None
        return login
