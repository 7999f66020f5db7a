"""The access of the operator's commands to auth's table and queue of mail, with the role of auth."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field

from aws.session import Clients
from services.auth.adapters.dynamodb import DynamoIdentityStore
from services.auth.adapters.dynamodb_audit import DynamoAuditStore
from services.auth.adapters.sqs import SqsMailRequests
from services.auth.settings import AuditSettings


class OperatorSettings(AuditSettings):
    """The settings of auth that the commands need. AWS itself is configured by the SDK's variables."""

    identity_table: str = Field(min_length=3, description="Name of the DynamoDB table of accounts and invitations.")
    mail_queue_url: str = Field(
        default="", pattern=r"^$|^https?://\S+$", description="URL of the SQS queue from which notify sends mail."
    )


@asynccontextmanager
async def opened(settings: OperatorSettings) -> AsyncIterator[tuple[DynamoIdentityStore, SqsMailRequests | None]]:
    """Context manager that yields the identity store, and the queue of mail; None if no queue is set."""
    async with Clients() as clients:
        dynamodb = await clients.open("dynamodb")
        audit = DynamoAuditStore(dynamodb, table=settings.audit_table, days=settings.audit_days)
        store = DynamoIdentityStore(dynamodb, table=settings.identity_table, audit=audit)
        url = settings.mail_queue_url
        yield store, SqsMailRequests(await clients.open("sqs"), url=url) if url else None
