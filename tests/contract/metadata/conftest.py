"""Metadata's adapters over memory, the embedded AWS in metadata's own role, and moto where it is right.

moto checks and carries out writes without a lock, so what is about concurrency, or is written by several
transactions at once, is not asked of it.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from services.metadata.adapters.dynamodb_journal import DynamoJournal
from services.metadata.adapters.dynamodb_objects import DynamoObjectIndex
from services.metadata.adapters.dynamodb_tree import DynamoTable
from services.metadata.ports import Journal, ObjectIndex, TreeTable
from stack.embedded_aws import Aws, AwsCredentials
from stack.running import EmbeddedAws
from syncline.model.identifiers import SpaceId, new_text_id
from tests.support.metadata import MemoryJournal, MemoryObjects, MemoryTable
from tests.support.moto import copy_table, moto_server

IN_MEMORY, EMBEDDED, MOTO = "in_memory", "embedded", "moto"
everywhere = pytest.mark.parametrize("backend", [IN_MEMORY, EMBEDDED, MOTO], indirect=True)
where_concurrent = pytest.mark.parametrize("backend", [IN_MEMORY, EMBEDDED], indirect=True)


@dataclass(frozen=True)
class Backend:
    """Something that speaks AWS: as root, and what metadata may use of it, as itself."""

    aws: Aws
    metadata: AwsCredentials
    table: str
    bucket: str
    topic_arn: str = ""


@dataclass(frozen=True)
class Stores:
    """The adapters of the table that one process has."""

    journal: Journal
    table: TreeTable
    index: ObjectIndex


@pytest.fixture(scope="session")
def embedded(aws: EmbeddedAws) -> Backend:
    made = aws.resources
    role = asyncio.run(aws.assume(made.metadata_role_arn))
    return Backend(aws, role, made.metadata_table_name, made.bucket_name, made.changes_topic_arn)


@pytest.fixture(scope="session")
def moto(embedded):
    with moto_server() as aws:
        asyncio.run(copy_table(embedded.table, source=embedded.aws, target=aws))
        asyncio.run(make_bucket(aws, embedded.bucket))
        yield Backend(aws, aws.root, embedded.table, embedded.bucket)


async def make_bucket(aws: Aws, name: str) -> None:
    async with aws.client("s3") as s3:
        await s3.create_bucket(Bucket=name)


@pytest.fixture
def backend(request):
    """Return the fixture that the test's parameter names; None for memory."""
    return None if request.param == IN_MEMORY else request.getfixturevalue(request.param)


@pytest.fixture
async def open_stores(backend):
    """Opens stores over the same data, each with a client of its own, as each process has."""
    memory = Stores(MemoryJournal(), MemoryTable(), MemoryObjects())
    async with AsyncExitStack() as clients:

        async def opened() -> Stores:
            if backend is None:
                return memory
            client = await clients.enter_async_context(backend.aws.client("dynamodb", backend.metadata))
            name = backend.table
            return Stores(
                DynamoJournal(client, table=name),
                DynamoTable(client, table=name),
                DynamoObjectIndex(client, table=name),
            )

        yield opened


@pytest.fixture
async def stores(open_stores):
    return await open_stores()


@pytest.fixture
def journal(stores):
    return stores.journal


@pytest.fixture
def table(stores):
    return stores.table


@pytest.fixture
def index(stores):
    return stores.index


@pytest.fixture
def space() -> SpaceId:
    return SpaceId(new_text_id())
