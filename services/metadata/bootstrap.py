"""Composition root of metadata."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aws.session import Clients
from runtime.interruption import ASK_SECONDS, REMEMBERED_SECONDS
from runtime.network_tokens import warn_without_secret
from runtime.rpc.server import App
from runtime.tokens import AnyTokenVerifier, ServiceTokenVerifier, UserTokenVerifier, service_authorization
from services.metadata import metrics
from services.metadata.access import Auth, RoleCache
from services.metadata.adapters.auth import IDEMPOTENT, AuthClient
from services.metadata.adapters.dynamodb_journal import DynamoJournal
from services.metadata.adapters.dynamodb_measures import DynamoMeasures
from services.metadata.adapters.dynamodb_objects import DynamoObjectIndex
from services.metadata.adapters.dynamodb_tree import DynamoTable
from services.metadata.adapters.s3 import S3Storage
from services.metadata.adapters.sns import SnsTopic
from services.metadata.journal.open_spaces import OpenSpaces
from services.metadata.journal.sweep import Sweeper
from services.metadata.ports import Journal, MeasureTable, ObjectIndex, ObjectStorage, Topic, TreeTable
from services.metadata.quota import Measuring, Writers
from services.metadata.reserving import Reserving
from services.metadata.sealing import Objects
from services.metadata.servicer import MetadataServicer
from services.metadata.settings import MetadataSettings
from services.metadata.tree.depths import Depths
from services.metadata.tree.search import NameSearch
from services.metadata.tree.sizes import TreeSizes
from services.metadata.undo import CopyUndos
from syncline.metadata.v1.metadata_pb2_grpc import add_MetadataServiceServicer_to_server
from syncline.rpc.channel import aio_channel


@dataclass(frozen=True, slots=True)
class MetadataAdapters:
    """The adapters of all of metadata's ports."""

    journal: Journal
    table: TreeTable
    index: ObjectIndex
    measures: MeasureTable
    storage: ObjectStorage
    topic: Topic
    auth: Auth
    writers: Writers
    reserving: Reserving


@asynccontextmanager
async def on_aws(settings: MetadataSettings) -> AsyncIterator[MetadataAdapters]:
    """Context manager that yields metadata's adapters for AWS and auth, and closes their clients at the end."""
    secret = settings.service_secret.get_secret_value()
    async with (
        Clients() as clients,
        aio_channel(
            settings.auth_target,
            authorization=service_authorization("metadata", secret),
            idempotent=IDEMPOTENT,
            tls=settings.peer_tls,
        ) as auth,
    ):
        dynamodb = await clients.open("dynamodb")
        asked = AuthClient(auth)
        table = settings.metadata_table
        yield MetadataAdapters(
            journal=DynamoJournal(dynamodb, table=table),
            table=DynamoTable(dynamodb, table=table, projection_writes=settings.projection_writes),
            index=DynamoObjectIndex(dynamodb, table=table),
            measures=DynamoMeasures(dynamodb, table=table),
            storage=S3Storage(await clients.open("s3"), bucket=settings.bucket),
            topic=SnsTopic(await clients.open("sns"), topic_arn=settings.changes_topic_arn),
            auth=asked,
            writers=asked,
            reserving=asked,
        )


def system_clock() -> int:
    """Return the present time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def bootstrap(
    settings: MetadataSettings,
    adapters: MetadataAdapters,
    *,
    access_seconds: float = REMEMBERED_SECONDS,
    ask_seconds: float = ASK_SECONDS,
) -> AsyncIterator[App]:
    """Context manager that yields the composed service.

    `access_seconds` is the time for which a grant is cached, and `ask_seconds` the time between two checks of the right
    of a stream's caller.
    """
    objects = Objects(index=adapters.index, storage=adapters.storage)
    search = NameSearch(journal=adapters.journal)
    metrics.SEARCHABLE.set_function(lambda: search.size)
    spaces = OpenSpaces(
        journal=adapters.journal,
        table=adapters.table,
        topic=adapters.topic,
        objects=objects,
        depths=Depths(search),
        process=secrets.token_hex(8),
        reserving=adapters.reserving,
        max_nodes=settings.max_nodes,
        max_journal_bytes=settings.journal_bytes,
        now_ms=system_clock,
        coalesce_seconds=settings.coalesce_seconds,
        lease_ms=int(settings.lease_seconds * 1000),
        capacity=settings.cached_nodes,
    )
    metrics.SPACES.set_function(spaces.in_memory)
    metrics.KNOWN.set_function(spaces.size)
    metrics.OUTBOX.set_function(spaces.waiting)
    metrics.OUTBOX_AGE.set_function(spaces.oldest_waiting_seconds)
    sweeper = Sweeper(spaces=spaces, table=adapters.table, now_ms=system_clock, interval_seconds=settings.sweep_seconds)
    measuring = Measuring(
        measures=adapters.measures,
        storage=adapters.storage,
        index=adapters.index,
        objects=objects,
        table=adapters.table,
        writers=adapters.writers,
        reserving=adapters.reserving,
        now_ms=system_clock,
        interval_seconds=settings.measure_seconds,
        keep_days=settings.keep_unsealed_days,
    )
    warn_without_secret(settings.gateway_secret.get_secret_value())
    undos = CopyUndos(spaces, now_ms=system_clock)
    servicer = MetadataServicer(
        access=RoleCache(adapters.auth, seconds=access_seconds),
        spaces=spaces,
        objects=objects,
        journal=adapters.journal,
        measures=adapters.measures,
        search=search,
        sizes=TreeSizes(search),
        undos=undos,
        max_nodes=settings.max_nodes,
        ask_seconds=ask_seconds,
        now_ms=system_clock,
    )
    yield App(
        name="metadata",
        mounts=[partial(add_MetadataServiceServicer_to_server, servicer)],
        verifier=AnyTokenVerifier(
            users=UserTokenVerifier(adapters.auth.keys),
            services=ServiceTokenVerifier(settings.service_secret.get_secret_value()),
        ),
        background=[spaces.running(), undos.running(), sweeper.running(), measuring.running()],
    )
