"""The gateway put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway import metrics
from gateway.app import routes
from gateway.content import Budget, Contents
from gateway.peers import IDEMPOTENT, AuthKeys, HealthyPeer, MetadataNodes
from gateway.ports import ObjectSource
from gateway.readiness import Readiness
from gateway.s3 import S3ObjectSource
from gateway.settings import Settings
from gateway.wellknown import Jwks, endpoints
from runtime import aws
from runtime.channel import aio_channel

if TYPE_CHECKING:
    from starlette.types import ASGIApp


@dataclass(frozen=True, slots=True)
class Adapters:
    """The outside, except for the services."""

    objects: ObjectSource
    region: str
    """Where clients find the bucket."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The composed application, ready to be served."""

    app: ASGIApp
    readiness: Readiness


@asynccontextmanager
async def on_aws(settings: Settings) -> AsyncIterator[Adapters]:
    """The adapters of production."""
    async with aws.Clients() as clients:
        s3 = await clients.open("s3", response_checksum_validation="when_required")
        yield Adapters(S3ObjectSource(s3, bucket=settings.bucket), s3.meta.region_name)


@asynccontextmanager
async def bootstrap(settings: Settings, adapters: Adapters) -> AsyncIterator[Gateway]:
    """The application."""
    async with (
        aio_channel(settings.auth_target, idempotent=IDEMPOTENT, tls=settings.peer_tls) as auth,
        aio_channel(settings.metadata_target, idempotent=IDEMPOTENT, tls=settings.peer_tls) as metadata,
    ):
        budget = Budget(settings.content_memory_bytes)
        metrics.CONTENT_MEMORY.set_function(budget.taken)
        readiness = Readiness({"auth": HealthyPeer(auth, "auth"), "metadata": HealthyPeer(metadata, "metadata")})
        app = routes(
            endpoints=endpoints(settings, region=adapters.region),
            jwks=Jwks(AuthKeys(auth)),
            readiness=readiness,
            nodes=MetadataNodes(metadata),
            contents=Contents(adapters.objects, budget),
        )
        yield Gateway(app, readiness)
