"""The embedded AWS that many tests share and moto, each with our resources."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest

from services.auth.adapters import layout
from services.auth.adapters.dynamodb import DynamoIdentityStore
from services.auth.adapters.dynamodb_audit import DynamoAuditStore
from services.auth.aliases import fold_alias
from stack.deploy import Resources
from stack.embedded_aws import Aws, AwsCredentials
from stack.running import EmbeddedAws
from tests.support.auth import InMemoryIdentityStore
from tests.support.moto import copy_table, moto_server

IN_MEMORY, MINISTACK, MOTO = "in_memory", "ministack", "moto"


@dataclass(frozen=True)
class Backend:
    """An AWS with our resources, and auth's own credentials there."""

    aws: Aws
    resources: Resources
    auth: AwsCredentials


@pytest.fixture(scope="session")
def ministack(aws: EmbeddedAws) -> Backend:
    return Backend(aws, aws.resources, asyncio.run(aws.assume(aws.resources.auth_role_arn)))


@pytest.fixture(scope="session")
def moto(ministack):
    with moto_server() as aws:
        for table in (ministack.resources.identity_table_name, ministack.resources.audit_table_name):
            asyncio.run(copy_table(table, source=ministack.aws, target=aws))
        yield Backend(aws, ministack.resources, aws.root)


@pytest.fixture
def backend(request):
    """Return the fixture that the test's parameter names; None for memory."""
    return None if request.param == IN_MEMORY else request.getfixturevalue(request.param)


def stores(backend, client) -> tuple[DynamoIdentityStore, DynamoAuditStore]:
    """Return the stores of auth in a backend, by a client of DynamoDB."""
    resources = backend.resources
    audit = DynamoAuditStore(client, table=resources.audit_table_name, days=400)
    return DynamoIdentityStore(client, table=resources.identity_table_name, audit=audit), audit


@pytest.fixture
async def open_stores(backend):
    """Opens stores of identities and of the audit log over the same data, each pair with a client of its own."""
    memory = InMemoryIdentityStore()
    async with AsyncExitStack() as clients:

        async def opened():
            if backend is None:
                return memory, memory.audit
            return stores(backend, await clients.enter_async_context(backend.aws.client("dynamodb", backend.auth)))

        yield opened


@pytest.fixture
async def open_store(open_stores):
    """Opens stores over the same data, each with a client of its own, as each process has."""

    async def opened():
        store, _ = await open_stores()
        return store

    return opened


@pytest.fixture
async def store(open_store):
    return await open_store()


@pytest.fixture
def forget_alias(backend, store):
    """Makes a grant one from the time before aliases."""

    async def forget(space, user, alias):
        if backend is None:
            store._grants[space, user] = replace(store._grants[space, user], alias=None)
            del store._aliases[user, fold_alias(alias)]
            return
        table = backend.resources.identity_table_name
        async with backend.aws.client("dynamodb", backend.auth) as client:
            for pk, sk in ((f"S#{space}", f"U#{user}"), (f"U#{user}", f"S#{space}")):
                key = {"pk": {"S": pk}, "sk": {"S": sk}}
                await client.update_item(
                    TableName=table,
                    Key=key,
                    UpdateExpression="REMOVE #alias",
                    ExpressionAttributeNames={"#alias": "alias"},
                )
            await client.delete_item(TableName=table, Key=layout.alias_key(user, alias))

    return forget


@pytest.fixture
def forget_admin(backend, store):
    """Makes the system one without an administrator."""

    async def forget():
        if backend is None:
            store._admins.clear()
            store._accounts |= {user: replace(one, admin=False) for user, one in store._accounts.items()}
            return
        async with backend.aws.client("dynamodb", backend.auth) as client:
            await client.delete_item(TableName=backend.resources.identity_table_name, Key=layout.admin_key())

    return forget
