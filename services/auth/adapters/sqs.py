"""Requests for mail in the queue of mail, from which notify sends it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from aws.errors import aws_errors
from services.auth.records import InvitationMail, ProofMail

if TYPE_CHECKING:
    from types_aiobotocore_sqs.client import SQSClient

_VERSION: Final = 1
"""The version of the message, which notify compares."""


class SqsMailRequests:
    """Implements MailRequests on SQS. `services/notify/events.py` reads the messages."""

    def __init__(self, client: SQSClient, *, url: str) -> None:
        self._client = client
        self._url = url

    async def send(self, mail: ProofMail | InvitationMail) -> None:
        about = {"kind": "proof", "user": mail.user} if isinstance(mail, ProofMail) else {"kind": "invitation"}
        told = {"id": mail.ident, "to": mail.to, "token": mail.token, "expires_at_ms": mail.expires_at_ms}
        with aws_errors("the queue of mail"):
            body = json.dumps({"v": _VERSION, **about, **told})
            await self._client.send_message(QueueUrl=self._url, MessageBody=body)
