"""Composition root of notify."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from aws.session import Clients
from runtime.interruption import ASK_SECONDS, REMEMBERED_SECONDS
from runtime.rpc.server import App, background
from runtime.tokens import UserTokenVerifier, service_authorization
from services.notify.access import GrantCache
from services.notify.adapters.auth import SERVICE as AUTH
from services.notify.adapters.auth import AuthDirectory
from services.notify.adapters.dynamodb import DynamoNotifyStore
from services.notify.adapters.ses import SesMailSender
from services.notify.adapters.sns import SnsDoorbellQueues
from services.notify.adapters.sqs import READ_TIMEOUT_SECONDS, SqsQueue
from services.notify.doorbells import Doorbells
from services.notify.listener import Listener
from services.notify.mailer import Mailer
from services.notify.ports import DoorbellQueues, MailSender, MessageQueue, NotifyStore
from services.notify.postman import Postman
from services.notify.preferences import Preferences
from services.notify.records import SECOND_MS, Clock
from services.notify.servicer import NotifyServicer
from services.notify.settings import NotifySettings
from services.notify.watch import Watches
from syncline.notify.v1.notify_pb2_grpc import add_NotifyServiceServicer_to_server
from syncline.rpc.channel import aio_channel

_AUTH_SECONDS: Final = 10.0
"""Timeout for auth's answers, in seconds, so that a slow answer delays no heartbeat by more."""


@dataclass(frozen=True, slots=True)
class NotifyAdapters:
    """The adapters of all of notify's ports."""

    store: NotifyStore
    mail_queue: MessageQueue
    doorbell_queues: DoorbellQueues
    sender: MailSender


@asynccontextmanager
async def on_aws(settings: NotifySettings) -> AsyncIterator[NotifyAdapters]:
    """Context manager that yields notify's adapters for AWS, and closes their clients at the end."""
    async with Clients() as clients:
        sqs = await clients.open("sqs", read_timeout=READ_TIMEOUT_SECONDS)
        yield NotifyAdapters(
            DynamoNotifyStore(await clients.open("dynamodb"), table=settings.notify_table),
            SqsQueue(sqs, url=settings.mail_queue_url),
            SnsDoorbellQueues(
                await clients.open("sns"),
                sqs,
                topic=settings.changes_topic_arn,
                prefix=settings.doorbell_queue_prefix,
            ),
            SesMailSender(
                await clients.open("sesv2"),
                sender=settings.mail_sender,
                configuration_set=settings.mail_configuration_set,
            ),
        )


def system_clock() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def bootstrap(
    settings: NotifySettings,
    adapters: NotifyAdapters,
    *,
    clock: Clock = system_clock,
    access_seconds: float = REMEMBERED_SECONDS,
    ask_seconds: float = ASK_SECONDS,
) -> AsyncIterator[App]:
    """Context manager that yields the composed service. `access_seconds` is the time for which a grant is cached, and
    `ask_seconds` the time between two checks of the right of a client that watches spaces.
    """
    authorization = service_authorization("notify", settings.service_secret.get_secret_value())
    async with aio_channel(
        settings.auth_target,
        authorization=authorization,
        idempotent=[AUTH],
        timeout=_AUTH_SECONDS,
        tls=settings.peer_tls,
    ) as channel:
        directory = AuthDirectory(channel)
        access = GrantCache(directory, seconds=access_seconds)
        doorbells = Doorbells()
        listener = Listener(adapters.doorbell_queues, adapters.store, doorbells, clock=clock)
        mailer = Mailer(
            directory=directory,
            preferences=adapters.store,
            claims=adapters.store,
            schedule=adapters.store,
            counts=adapters.store,
            sender=adapters.sender,
            url=settings.public_url,
            clock=clock,
            window_ms=int(settings.mail_window_seconds * SECOND_MS),
            per_sender=settings.mails_per_sender,
            per_person=settings.mails_per_person,
        )
        postman = Postman(adapters.mail_queue, mailer, clock=clock)
        servicer = NotifyServicer(
            watches=Watches(
                doorbells,
                access,
                heartbeat_seconds=settings.heartbeat_seconds,
                ask_seconds=ask_seconds,
                most=settings.watched_per_person,
            ),
            preferences=Preferences(adapters.store, access, clock=clock),
        )

        yield App(
            name="notify",
            mounts=[partial(add_NotifyServiceServicer_to_server, servicer)],
            verifier=UserTokenVerifier(directory.keys),
            background=[
                listener.opened(),
                background("doorbells", listener.listen),
                background("doorbell queues", listener.keep),
                background("mail", postman.work),
            ],
        )
