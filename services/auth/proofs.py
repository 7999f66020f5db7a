"""Proofs of addresses: a person who has made an account shows that mail to its address reaches them.

A proof is a random token that is mailed to the address. It makes an account proven only if it is presented in a session
of the account that it was made for. Otherwise somebody could make an account with the address of another person, who
then follows the link in the mail, and would make an account proven whose password the other one knows.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from runtime.logs import structlog
from services.auth import metrics
from services.auth.attempts import Attempts
from services.auth.audit.events import AuditKind, audit_event
from services.auth.known_accounts import known_account
from services.auth.opaque_tokens import is_token, new_token, token_digest
from services.auth.ports import AccountStore, MailRequests, ProofSpent, ProofStore
from services.auth.records import SECOND_MS, Account, Clock, Proof, ProofMail
from syncline.model.errors import AddressTaken, ProofInvalid, SynclineError
from syncline.model.identifiers import UserId, new_text_id
from syncline.model.limits import PROOF_SECONDS

log = structlog.get_logger()

_OFFER_SECONDS: Final = 5.0
"""Maximum seconds for which a sign-up waits until its mail is asked for."""


class Proofs:
    """Mails proofs to the addresses of accounts, and makes accounts proven."""

    def __init__(
        self, proofs: ProofStore, accounts: AccountStore, mail: MailRequests, *, attempts: Attempts, clock: Clock
    ) -> None:
        self._proofs = proofs
        self._accounts = accounts
        self._mail = mail
        self._attempts = attempts
        self._clock = clock

    async def offer(self, account: Account) -> None:
        """Ask for a mail with a proof to the address of an account that was just made. Whether that succeeds is logged,
        and raises nothing: the person can ask again, and the answer to a sign-up tells nothing of the address.
        """
        try:
            async with asyncio.timeout(_OFFER_SECONDS):
                await self._request(account)
        except (SynclineError, TimeoutError) as error:
            log.warning("proof not mailed", user=account.user, reason=str(error))

    async def request(self, user: UserId) -> bool:
        """Ask for another mail with a proof to the address of an account, and return True; return False if the account
        is proven already. Raise TooManyAttempts if enough mails were asked for, Unavailable if none can be asked for,
        and NoSuchAccount if there is no such account.
        """
        account = await known_account(self._accounts, user)
        if account.proven:
            return False
        await self._request(account)
        return True

    async def _request(self, account: Account) -> None:
        await self._attempts.admit_mail(user=account.user, email=account.email)
        token = new_token()
        proof = Proof(token_digest(token), account.user, account.email, self._clock() + PROOF_SECONDS * SECOND_MS)
        event = audit_event(AuditKind.PROOF_REQUESTED, at_ms=self._clock(), user=account.user, address=account.email)
        await self._proofs.add_proof(proof, events=[event])
        is_taken = await self._accounts.login(account.email) is not None
        await self._mail.send(
            ProofMail(new_text_id(), account.user, account.email, None if is_taken else token, proof.expires_at_ms)
        )
        metrics.PROOFS.labels("mailed").inc()

    async def prove(self, token: str, *, user: UserId) -> Account:
        """Make the account of the calling user proven by the token of a proof, and return the account.

        Raise ProofInvalid for a token that is none, was used, has expired, or was made for another account, also if the
        account is proven already. Raise AddressTaken if another account of the address is proven.
        """
        if not is_token(token):
            raise ProofInvalid("that is no proof of an address; copy the whole code from the mail")
        proof = await self._proofs.proof(token_digest(token))
        if proof is None or proof.user != user or proof.expires_at_ms <= self._clock():
            metrics.PROOFS.labels("refused").inc()
            raise ProofInvalid
        login = await self._accounts.unproven(user)
        if login is None:
            raise ProofInvalid("the address of this account is proven already; nothing more has to be done")
        try:
            event = audit_event(AuditKind.ADDRESS_PROVEN, at_ms=self._clock(), user=user, address=proof.email)
            await self._proofs.prove(login, proof, events=[event])
        except ProofSpent:
            raise ProofInvalid from None
        except AddressTaken:
            metrics.PROOFS.labels("taken").inc()
            raise
        metrics.PROOFS.labels("proven").inc()
        log.info("address proven", user=user)
        return replace(login.account, proven=True)
