"""Composition root of auth."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aws.session import Clients
from runtime.rpc.server import App
from runtime.tokens import AnyTokenVerifier, ServiceTokenVerifier, UserTokenVerifier
from services.auth.accounts import AccountRegistry
from services.auth.adapters.dynamodb import DynamoIdentityStore
from services.auth.adapters.sqs import SqsMailRequests
from services.auth.adapters.sts import StsCredentialSource
from services.auth.attempts import AttemptLimits, Attempts
from services.auth.credentials import CredentialIssuer, TransferTarget
from services.auth.derived import DerivedSecrets
from services.auth.devices import DeviceLists, Devices
from services.auth.endings import Endings
from services.auth.grants import Grants
from services.auth.invitations import Invitations
from services.auth.keys import Keys
from services.auth.links import Links
from services.auth.passwords import Passwords
from services.auth.ports import CredentialSource, IdentityStore, MailRequests
from services.auth.proofs import Proofs
from services.auth.records import SECOND_MS, Clock
from services.auth.servicer import AuthServicer
from services.auth.sessions import Sessions
from services.auth.settings import AuthSettings
from services.auth.spaces import Spaces
from services.auth.tokens import AccessTokens, SigningKeys
from services.auth.uploads import Uploads
from syncline.auth.v1.auth_pb2_grpc import add_AuthServiceServicer_to_server


@dataclass(frozen=True, slots=True)
class AuthAdapters:
    """The adapters of all of auth's ports."""

    store: IdentityStore
    source: CredentialSource
    mail: MailRequests


@asynccontextmanager
async def on_aws(settings: AuthSettings) -> AsyncIterator[AuthAdapters]:
    """Context manager that yields auth's adapters for AWS (DynamoDB and STS), and closes their clients at the end."""
    async with Clients() as clients:
        yield AuthAdapters(
            DynamoIdentityStore(await clients.open("dynamodb"), table=settings.identity_table),
            StsCredentialSource(await clients.open("sts"), role_arn=settings.transfer_role_arn),
            SqsMailRequests(await clients.open("sqs"), url=settings.mail_queue_url),
        )


def system_clock() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def bootstrap(
    settings: AuthSettings, adapters: AuthAdapters, *, clock: Clock = system_clock
) -> AsyncIterator[App]:
    """Context manager that yields the composed service. `clock` returns milliseconds since 1970. Raise OSError if a key
    file cannot be read.
    """
    keys = SigningKeys.from_files(settings.signing_key_file, settings.previous_key_file)
    limits = AttemptLimits(
        per_peer=settings.sign_in_limit_per_peer,
        per_network=settings.sign_in_limit_per_network,
        per_address=settings.sign_in_limit_per_address,
        accounts=settings.sign_up_limit_per_network,
        mails_per_address=settings.proof_mails_per_address,
        mails_per_account=settings.proof_mails_per_account,
        window_ms=settings.sign_in_window_seconds * SECOND_MS,
    )
    target = TransferTarget(settings.bucket, partition=settings.transfer_role_arn.split(":")[1])
    store, source = adapters.store, adapters.source

    with Passwords(workers=settings.password_workers, places=settings.password_places) as passwords:
        access_tokens = AccessTokens(keys, clock=clock)
        attempts = Attempts(store, limits, clock=clock)
        proofs = Proofs(store, store, adapters.mail, attempts=attempts, clock=clock)
        endings = Endings(store, store, store, store, clock=clock)
        sessions = Sessions(store, access_tokens, endings=endings, clock=clock)
        derived = DerivedSecrets(settings.service_secret.get_secret_value())
        uploads = Uploads(store, clock=clock)
        holdings = settings.holdings()
        lists = DeviceLists(store, holdings, clock=clock)
        device_keys = Keys(store, store, access_tokens, derived=derived, holdings=holdings, lists=lists, clock=clock)
        servicer = AuthServicer(
            accounts=AccountRegistry(
                store,
                store,
                admission=settings.admission(),
                passwords=passwords,
                attempts=attempts,
                sessions=sessions,
                keys=device_keys,
                lists=lists,
                invitations=Invitations(store, store, clock=clock),
                clock=clock,
                proofs=proofs if settings.prove_addresses else None,
            ),
            proofs=proofs,
            sessions=sessions,
            devices=Devices(store, clock=clock),
            endings=endings,
            spaces=Spaces(store, store, store, holdings=holdings, clock=clock),
            grants=Grants(store, store, store, store, store, holdings=holdings, clock=clock),
            credentials=CredentialIssuer(
                store, source, uploads, target=target, lifetime_seconds=settings.credential_seconds, clock=clock
            ),
            uploads=uploads,
            keys=device_keys,
            links=Links(
                store,
                store,
                store,
                store,
                holdings=holdings,
                passwords=passwords,
                attempts=attempts,
                access_tokens=access_tokens,
                derived=derived,
                clock=clock,
            ),
            signing_keys=keys,
            anonymous_calls=settings.anonymous_calls(),
            bucket=settings.bucket,
        )

        def seconds() -> float:
            return clock() / SECOND_MS

        verifier = AnyTokenVerifier(
            users=UserTokenVerifier(keys.fetch, now=seconds),
            services=ServiceTokenVerifier(settings.service_secret.get_secret_value(), now=seconds),
        )
        mount = partial(add_AuthServiceServicer_to_server, servicer)
        yield App(name="auth", mounts=[mount], verifier=verifier, background=[endings.running()])
