"""The embedded AWS that many tests share and moto, each with the gateway's table."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from gateway.records.dynamodb import DynamoRecords
from stack.embedded_aws import Aws, AwsCredentials
from stack.running import EmbeddedAws
from tests.support.moto import copy_table, moto_server
from tests.support.records import InMemoryRecords

BACKENDS = ("in_memory", "ministack", "moto")


@dataclass(frozen=True)
class Backend:
    """An AWS with the table, and the gateway's own credentials there."""

    aws: Aws
    table: str
    gateway: AwsCredentials


@pytest.fixture(scope="session")
def ministack(aws: EmbeddedAws) -> Backend:
    role = asyncio.run(aws.assume(aws.resources.gateway_role_arn))
    return Backend(aws, aws.resources.gateway_table_name, role)


@pytest.fixture(scope="session")
def moto(ministack):
    with moto_server() as aws:
        asyncio.run(copy_table(ministack.table, source=ministack.aws, target=aws))
        yield Backend(aws, ministack.table, aws.root)


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Return the fixture that the test's parameter names; None for memory."""
    return None if request.param == "in_memory" else request.getfixturevalue(request.param)


@pytest.fixture
async def open_records(backend):
    """Opens records over the same data, each with a client of its own, as each process has."""
    memory = InMemoryRecords()
    async with AsyncExitStack() as clients:

        def opened():
            if backend is None:
                return memory
            client = backend.aws.client("dynamodb", backend.gateway)
            return DynamoRecords(lambda: clients.enter_async_context(client), table=backend.table)

        yield opened


@pytest.fixture
def records(open_records):
    return open_records()
