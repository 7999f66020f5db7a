"""Composition root of auth."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aws.session import Clients
from runtime.rpc.server import App, background
from runtime.tokens import AnyTokenVerifier, ServiceTokenVerifier, UserTokenVerifier
from services.auth.accounts import AccountRegistry
from services.auth.adapters.dynamodb import DynamoIdentityStore
from services.auth.adapters.dynamodb_audit import DynamoAuditStore
from services.auth.adapters.s3 import S3AuditArchive
from services.auth.adapters.sqs import SqsMailRequests
from services.auth.adapters.sts import StsCredentialSource
from services.auth.admin_servicer import AdminServicer
from services.auth.administration import Administration, Policy
from services.auth.administrators import Administrators
from services.auth.attempts import AttemptLimits, Attempts
from services.auth.audit.counts import RefusalCounts
from services.auth.audit.export import AuditExport
from services.auth.audit.hourly import HourlyEvents
from services.auth.audit.ports import AuditArchive, AuditStore
from services.auth.audit_log import AuditLog
from services.auth.confirmation import Confirmation
from services.auth.credentials import CredentialIssuer, TransferTarget
from services.auth.derived import DerivedSecrets
from services.auth.devices import DeviceLists, Devices
from services.auth.earlier import enter_earlier
from services.auth.endings import Endings
from services.auth.factor_changes import FactorChanges
from services.auth.factors import Factors
from services.auth.grants import Grants
from services.auth.invitations import Invitations
from services.auth.inviting import Inviting
from services.auth.keys import Keys
from services.auth.links import Links
from services.auth.password_changes import PasswordChanges
from services.auth.password_strength import PasswordStrength
from services.auth.passwords import Passwords
from services.auth.ports import CredentialSource, IdentityStore, MailRequests
from services.auth.proofs import Proofs
from services.auth.quotas import Quotas
from services.auth.records import DAY_MS, SECOND_MS, Clock
from services.auth.resets import Resets
from services.auth.servicer import AuthServicer
from services.auth.sessions import Sessions
from services.auth.settings import AuthSettings
from services.auth.space_changes import SpaceChanges
from services.auth.space_invitations import SpaceInvitations
from services.auth.spaces import Spaces
from services.auth.tokens import AccessTokens, SigningKeys
from services.auth.uploads import Uploads
from syncline.admin.v1.admin_pb2_grpc import add_AdminServiceServicer_to_server
from syncline.auth.v1.auth_pb2_grpc import add_AuthServiceServicer_to_server
from syncline.model.limits import INVITATION_DAYS


@dataclass(frozen=True, slots=True)
class AuthAdapters:
    """The adapters of all of auth's ports."""

    store: IdentityStore
    source: CredentialSource
    mail: MailRequests
    audit: AuditStore
    archive: AuditArchive | None
    """The place to which the audit log is exported; None for no export."""


@asynccontextmanager
async def on_aws(settings: AuthSettings) -> AsyncIterator[AuthAdapters]:
    """Context manager that yields auth's adapters for AWS, and closes their clients at the end."""
    async with Clients() as clients:
        dynamodb = await clients.open("dynamodb")
        audit = DynamoAuditStore(dynamodb, table=settings.audit_table, days=settings.audit_days)
        archive = None
        if settings.audit_bucket:
            archive = S3AuditArchive(await clients.open("s3"), bucket=settings.audit_bucket)
        yield AuthAdapters(
            DynamoIdentityStore(dynamodb, table=settings.identity_table, audit=audit),
            StsCredentialSource(await clients.open("sts"), role_arn=settings.transfer_role_arn),
            SqsMailRequests(await clients.open("sqs"), url=settings.mail_queue_url),
            audit,
            archive,
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
        invitations_per_pair=settings.invitation_mails_per_pair,
        invitations_per_address=settings.invitation_mails_per_address,
        invitations_per_person=settings.invitation_mails_per_person,
        codes_per_account=settings.codes_per_account,
        codes_per_day=settings.codes_per_day,
        resets_per_address=settings.resets_per_address,
        resets_per_network=settings.resets_per_network,
        resets=settings.resets_in_total,
        window_ms=settings.sign_in_window_seconds * SECOND_MS,
    )
    target = TransferTarget(settings.bucket, partition=settings.transfer_role_arn.split(":")[1])
    store, source = adapters.store, adapters.source

    with (
        Passwords(workers=settings.password_workers, places=settings.password_places) as passwords,
        PasswordStrength() as strength,
    ):
        access_tokens = AccessTokens(keys, clock=clock)
        attempts = Attempts(store, limits, clock=clock)
        refusals = RefusalCounts(adapters.audit, clock=clock)
        proofs = Proofs(store, store, adapters.mail, attempts=attempts, clock=clock)
        endings = Endings(store, store, store, store, clock=clock)
        confirmation = Confirmation(store, passwords=passwords, attempts=attempts)
        changes = PasswordChanges(
            store,
            store,
            adapters.mail,
            confirmation=confirmation,
            passwords=passwords,
            strength=strength,
            endings=endings,
            clock=clock,
        )
        sessions = Sessions(store, access_tokens, endings=endings, clock=clock)
        derived = DerivedSecrets(settings.service_secret.get_secret_value())
        factor_changes = FactorChanges(store, adapters.mail, clock=clock)
        factors = Factors(
            store, factor_changes, confirmation=confirmation, attempts=attempts, derived=derived, clock=clock
        )
        quotas = Quotas(
            store,
            store,
            store,
            space_bytes=settings.quota_bytes,
            user_bytes=settings.user_quota_bytes or None,
        )
        uploads = Uploads(store, quotas=quotas, clock=clock)
        holdings = settings.holdings()
        admission = settings.admission()
        lists = DeviceLists(store, holdings, clock=clock)
        device_keys = Keys(
            store, store, store, access_tokens, derived=derived, holdings=holdings, lists=lists, clock=clock
        )
        invitations = Invitations(store, store, clock=clock)
        devices = Devices(store, clock=clock)
        spaces = Spaces(store, store, holdings=holdings, clock=clock)
        inviting = Inviting(
            store,
            store,
            adapters.mail,
            admission=admission,
            attempts=attempts,
            holdings=holdings,
            derived=derived,
            clock=clock,
        )
        grants = Grants(
            store,
            store,
            store,
            store,
            store,
            invitations=store,
            inviting=inviting,
            quotas=quotas,
            holdings=holdings,
            clock=clock,
        )
        space_invitations = SpaceInvitations(
            store, store, store, store, store, grants=grants, admission=admission, clock=clock
        )
        servicer = AuthServicer(
            accounts=AccountRegistry(
                store,
                store,
                admission=admission,
                passwords=passwords,
                strength=strength,
                attempts=attempts,
                factors=factors,
                sessions=sessions,
                keys=device_keys,
                lists=lists,
                invitations=invitations,
                space_invitations=space_invitations,
                clock=clock,
                proofs=proofs if settings.prove_addresses else None,
            ),
            proofs=proofs,
            password_changes=changes,
            factors=factors,
            resets=Resets(store, store, adapters.mail, changes, attempts=attempts, clock=clock),
            sessions=sessions,
            devices=devices,
            endings=endings,
            spaces=spaces,
            space_changes=SpaceChanges(store, store, reversible_days=settings.deleted_space_days, clock=clock),
            grants=grants,
            credentials=CredentialIssuer(
                store, source, uploads, target=target, lifetime_seconds=settings.credential_seconds, clock=clock
            ),
            uploads=uploads,
            quotas=quotas,
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
                refusals=refusals,
                clock=clock,
            ),
            refusals=refusals,
            hourly=HourlyEvents(adapters.audit, clock=clock),
            space_invitations=space_invitations,
            signing_keys=keys,
            anonymous_calls=settings.anonymous_calls(),
            bucket=settings.bucket,
        )
        admin_servicer = AdminServicer(
            administrators=Administrators(store, clock=clock),
            administration=Administration(
                store,
                store,
                store,
                store,
                endings=endings,
                factor_changes=factor_changes,
                grants=grants,
                invitations=invitations,
                attempts=attempts,
                mail=adapters.mail,
                derived=derived,
                policy=Policy(
                    admission,
                    prove_addresses=settings.prove_addresses,
                    invitation_seconds=INVITATION_DAYS * DAY_MS // SECOND_MS,
                    credential_seconds=settings.credential_seconds,
                ),
                clock=clock,
            ),
            devices=devices,
            spaces=spaces,
            grants=grants,
            quotas=quotas,
            audit_log=AuditLog(adapters.audit, store),
        )

        def seconds() -> float:
            return clock() / SECOND_MS

        verifier = AnyTokenVerifier(
            users=UserTokenVerifier(keys.fetch, now=seconds),
            services=ServiceTokenVerifier(settings.service_secret.get_secret_value(), now=seconds),
        )
        mounts = [
            partial(add_AuthServiceServicer_to_server, servicer),
            partial(add_AdminServiceServicer_to_server, admin_servicer),
        ]
        works = [
            endings.running(),
            changes.running(),
            refusals.running(),
            background("entering accounts", partial(enter_earlier, store)),
        ]
        if adapters.archive is not None:
            works.append(AuditExport(adapters.audit, adapters.archive, clock=clock).running())
        yield App(name="auth", mounts=mounts, verifier=verifier, background=works)
