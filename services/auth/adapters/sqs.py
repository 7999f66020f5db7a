"""Requests for mail in the queue of mail, from which notify sends it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from aws.errors import aws_errors
from services.auth.records import (
    AccountMail,
    FactorMail,
    InvitationMail,
    PasswordMail,
    ProofMail,
    ResetMail,
    SpaceInvitationMail,
)

if TYPE_CHECKING:
    from types_aiobotocore_sqs.client import SQSClient

_VERSION: Final = 1
"""The version of the message, which notify compares."""


class SqsMailRequests:
    """Implements MailRequests on SQS. `services/notify/events.py` reads the messages."""

    def __init__(self, client: SQSClient, *, url: str) -> None:
        self._client = client
        self._url = url

    async def send(self, mail: AccountMail) -> None:
        told = {"v": _VERSION, "id": mail.ident, **_about(mail)}
        with aws_errors("the queue of mail"):
            await self._client.send_message(QueueUrl=self._url, MessageBody=json.dumps(told))


def _about(mail: AccountMail) -> dict[str, object]:
    match mail:
        case ProofMail():
            return {"kind": "proof", **_addressed(mail), "user": mail.user, "token": mail.token}
        case InvitationMail():
            return {"kind": "invitation", **_addressed(mail), "token": mail.token}
        case ResetMail():
            return {"kind": "reset", **_addressed(mail), "token": mail.token}
        case PasswordMail():
            changed = {"changed_at_ms": mail.changed_at_ms, "by_reset": mail.by_reset}
            return {"kind": "password", **_addressed(mail), "user": mail.user, **changed}
        case FactorMail():
            told = {"changed_at_ms": mail.changed_at_ms, "change": mail.change.value}
            return {"kind": "factor", **_addressed(mail), "user": mail.user, **told}
        case SpaceInvitationMail(invitation=offer):
            return {
                "kind": "space invitation",
                "token": mail.token,
                "user": offer.by,
                "by": offer.by_email,
                "space_name": offer.space_name,
                "role": offer.role.name.lower(),
                "to": offer.email,
                "expires_at_ms": offer.expires_at_ms,
            }


def _addressed(mail: ProofMail | InvitationMail | ResetMail | PasswordMail | FactorMail) -> dict[str, object]:
    return {"to": mail.to, "expires_at_ms": mail.expires_at_ms}
