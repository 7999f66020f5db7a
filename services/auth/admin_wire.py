"""Conversion between the messages of AdminService and auth's records.

Functions named `*_from_wire` check what they read and raise InvalidArgument.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from services.auth import wire
from services.auth.addresses import MAX_EMAIL_CHARACTERS
from services.auth.administration import Policy
from services.auth.audit.events import MAX_DETAIL_CHARACTERS, AuditEvent
from services.auth.audit.ports import LAST_MS, AuditFilter
from services.auth.quotas import PersonalUsage, Quotas, SpaceUsage
from services.auth.records import Account, SpaceRecord, UserState
from syncline.admin.v1 import admin_pb2
from syncline.model.errors import InvalidArgument
from syncline.model.limits import MAX_REASON_CHARACTERS

_STATES: Final = MappingProxyType(
    {
        admin_pb2.USER_STATE_UNSPECIFIED: None,
        admin_pb2.USER_STATE_UNPROVEN: UserState.UNPROVEN,
        admin_pb2.USER_STATE_SUSPENDED: UserState.SUSPENDED,
        admin_pb2.USER_STATE_ADMINISTRATOR: UserState.ADMINISTRATOR,
    }
)


def state_from_wire(pb: admin_pb2.UserState.ValueType) -> UserState | None:
    """Return the state by which users are listed; None for all users. Raise InvalidArgument for an unknown state."""
    try:
        return _STATES[pb]
    except KeyError:
        raise InvalidArgument("state must be unproven, suspended or administrator", field="state") from None


def email_prefix_from_wire(text: str) -> str:
    """Return the beginning of normalised addresses. Raise InvalidArgument for a text that is longer than an address."""
    if len(text) > MAX_EMAIL_CHARACTERS:
        raise InvalidArgument(f"email_prefix has at most {MAX_EMAIL_CHARACTERS} characters", field="email_prefix")
    return text.strip().lower()


def reason_from_wire(text: str) -> str:
    """Return the reason of a suspension. Raise InvalidArgument if it is too long, or not printable in one line."""
    reason = text.strip()
    if len(reason) > MAX_REASON_CHARACTERS or not reason.isprintable():
        raise InvalidArgument(f"reason has at most {MAX_REASON_CHARACTERS} printable characters", field="reason")
    return reason


def quota_from_wire(request: admin_pb2.SetUserQuotaRequest | admin_pb2.SetSpaceQuotaRequest) -> int | None:
    """Return the quota in a request, in bytes; None for the usual one. Raise InvalidArgument for one that is too
    large.
    """
    if not request.HasField("quota_bytes"):
        return None
    return wire.bytes_from_wire(request.quota_bytes, field="quota_bytes")


def user_to_wire(account: Account, usage: PersonalUsage) -> admin_pb2.User:
    suspension = account.suspension
    return admin_pb2.User(
        user_id=account.user,
        email=account.email,
        personal_space_id=account.personal_space,
        created_at_ms=account.created_at_ms,
        unproven=not account.proven,
        admin=account.admin,
        guest=account.guest,
        usage=wire.usage_to_wire(usage),
        quota_set=account.quota_bytes is not None,
        suspension=None
        if suspension is None
        else admin_pb2.Suspension(since_ms=suspension.since_ms, by_user_id=suspension.by, reason=suspension.reason),
    )


def summary_to_wire(space: SpaceRecord, usage: SpaceUsage) -> admin_pb2.SpaceSummary:
    return admin_pb2.SpaceSummary(
        space_id=space.space,
        name=space.name,
        personal=space.personal,
        owners=space.owners,
        created_at_ms=space.created_at_ms,
        deleted_at_ms=space.deletion.at_ms if space.deletion is not None else 0,
        quota_bytes=usage.quota_bytes,
        quota_set=space.quota_bytes is not None,
        reserved_bytes=usage.reservation.reserved_bytes,
        payer_user_id=usage.reservation.payer or "",
    )


def policy_to_wire(policy: Policy, quotas: Quotas) -> admin_pb2.GetPolicyResponse:
    return admin_pb2.GetPolicyResponse(
        sign_up_policy=policy.admission.policy.value,
        sign_up_domains=policy.admission.domains,
        prove_addresses=policy.prove_addresses,
        invitation_seconds=policy.invitation_seconds,
        credential_seconds=policy.credential_seconds,
        user_quota_bytes=quotas.user_bytes,
        space_quota_bytes=quotas.space_bytes,
    )


def audit_filter_from_wire(request: admin_pb2.ListAuditEventsRequest) -> AuditFilter:
    """Return the events that a request asks for. Raise InvalidArgument for a text or a time that no event can have."""
    for field in ("kind", "actor", "subject", "involving"):
        if len(getattr(request, field)) > MAX_DETAIL_CHARACTERS:
            raise InvalidArgument(f"{field} has at most {MAX_DETAIL_CHARACTERS} characters", field=field)
    for field in ("since_ms", "until_ms"):
        if not 0 <= getattr(request, field) <= LAST_MS:
            raise InvalidArgument(f"{field} is a time in milliseconds since 1970, at most {LAST_MS}", field=field)
    return AuditFilter(
        since_ms=request.since_ms,
        until_ms=request.until_ms or LAST_MS,
        kind=request.kind,
        actor=request.actor,
        subject=request.subject,
        involving=(request.involving,) if request.involving else (),
    )


def audit_event_to_wire(event: AuditEvent) -> admin_pb2.AuditEvent:
    return admin_pb2.AuditEvent(
        event_id=event.ident,
        at_ms=event.at_ms,
        kind=event.kind,
        result=event.result.value,
        actor=admin_pb2.AuditActor(
            kind=event.actor.kind.value,
            user_id=event.actor.user,
            device_id=event.actor.device,
            name=event.actor.name,
        ),
        subjects=[admin_pb2.AuditSubject(kind=one.kind.value, id=one.ident) for one in event.subjects],
        network=event.network,
        request_id=event.request,
        count=event.count,
        details=event.details,
    )
