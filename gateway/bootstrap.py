"""Composition root of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws.session import Clients, RoleCredentials, region, s3_endpoint
from gateway import metrics
from gateway.app import Parts, application
from gateway.content.allowance import Allowance
from gateway.content.archive import Archives
from gateway.content.assemble import Contents, Memory
from gateway.discovery import Jwks, endpoints
from gateway.http.parsing import ParsingTime
from gateway.identity.address import OwnAddress
from gateway.ports import ObjectSink, ObjectSource, UploadAddresses
from gateway.readiness import Readiness
from gateway.records.dynamodb import DynamoRecords
from gateway.records.ports import Records
from gateway.services.calls import IDEMPOTENT, Services
from gateway.services.copies import COPIES_AT_ONCE, Copies
from gateway.services.peers import AuthKeys, HealthyPeer
from gateway.settings import GatewaySettings
from gateway.storage.s3 import S3ObjectSink, S3ObjectSource, S3Place, S3UploadAddresses, origin
from runtime.drain import Drain
from runtime.network_tokens import NetworkTokens, warn_without_secret
from runtime.pool import Pool
from syncline.rpc.channel import aio_channel

if TYPE_CHECKING:
    from starlette.types import ASGIApp


@dataclass(frozen=True, slots=True)
class GatewayAdapters:
    """The adapters of the gateway's ports, except for the services."""

    objects: ObjectSource
    addresses: UploadAddresses
    sink: ObjectSink
    records: Records
    region: str
    """The region of the bucket, for clients."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The composed application, with what the process needs to serve and to stop it."""

    app: ASGIApp
    own: OwnAddress
    readiness: Readiness
    drain: Drain


@asynccontextmanager
async def on_aws(settings: GatewaySettings) -> AsyncIterator[GatewayAdapters]:
    """Context manager that yields the gateway's adapters for AWS (S3 and DynamoDB), and closes their connections at the
    end.
    """
    async with Clients() as clients:
        here = region()
        ours = S3Place(settings.bucket, here, s3_endpoint())
        theirs = S3Place(settings.bucket, here, settings.public_s3_endpoint)
        async with origin(ours) as connections:
            yield GatewayAdapters(
                objects=S3ObjectSource(connections, RoleCredentials().current, ours),
                addresses=S3UploadAddresses(theirs),
                sink=S3ObjectSink(connections, ours),
                records=DynamoRecords(lambda: clients.open("dynamodb"), table=settings.gateway_table),
                region=here,
            )


@asynccontextmanager
async def bootstrap(
    settings: GatewaySettings, adapters: GatewayAdapters, *, bodies: Pool | None = None
) -> AsyncIterator[Gateway]:
    """Context manager that yields the composed gateway. `bodies` is the pool of memory for request bodies; by default a
    new pool with the size from the settings.
    """
    async with AsyncExitStack() as opened:
        threads = ThreadPoolExecutor(settings.archives, "archive")
        # In a thread: running workers wait for the event loop, so the event loop must not wait for them.
        opened.push_async_callback(asyncio.to_thread, threads.shutdown)
        auth, metadata, notify = [
            await opened.enter_async_context(aio_channel(target, idempotent=IDEMPOTENT, tls=settings.peer_tls))
            for target in (settings.auth_target, settings.metadata_target, settings.notify_target)
        ]
        memory = Memory(settings.content_memory_bytes, manifests=settings.manifest_memory_bytes)
        metrics.CONTENT_MEMORY.set_function(memory.taken)
        readiness = Readiness({"auth": HealthyPeer(auth, "auth"), "metadata": HealthyPeer(metadata, "metadata")})
        contents, drain = Contents(adapters.objects, memory), Drain()
        own = OwnAddress(
            public_url=settings.public_url,
            trusted_networks=settings.trusted_networks,
            trusted_proxies=settings.trusted_proxies,
        )
        secret = settings.gateway_secret.get_secret_value()
        warn_without_secret(secret)
        allowance = Allowance(adapters.records)
        opened.push_async_callback(allowance.finished)
        app = application(
            Parts(
                endpoints=endpoints(settings, region=adapters.region),
                own=own,
                network_tokens=NetworkTokens(secret) if secret else None,
                hsts_seconds=settings.hsts_seconds,
                request_seconds=settings.request_seconds,
                body_rate=settings.body_bytes_per_second,
                bodies=bodies or Pool("bodies", settings.body_memory_bytes),
                answers=Pool("answers", settings.answer_memory_bytes),
                parsing=ParsingTime(settings.parsed_bytes_per_second),
                jwks=Jwks(AuthKeys(auth)),
                readiness=readiness,
                drain=drain,
                services=Services.over(auth=auth, metadata=metadata, notify=notify),
                contents=contents,
                copies=Copies(Pool("copies", COPIES_AT_ONCE)),
                archives=Archives(contents, threads, Pool("archives", settings.archives)),
                addresses=adapters.addresses,
                sink=adapters.sink,
                records=adapters.records,
                allowance=allowance,
                upload_memory=settings.upload_memory_bytes,
            )
        )
        yield Gateway(app, own, readiness, drain)
