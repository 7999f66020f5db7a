"""The kinds of events that each rpc can cause: one table, closed. An rpc that is missing here fails a test, so that
nobody adds an act without deciding what of it the audit log keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from services.auth.audit.events import AuditKind

NOTHING: Final[frozenset[AuditKind]] = frozenset()
"""The kinds of an rpc that changes no right and no account: it reads, or exchanges a secret for an access token."""


def _rows(service: str, rows: Mapping[str, frozenset[AuditKind]]) -> dict[str, frozenset[AuditKind]]:
    return {f"{service}/{method}": kinds for name, kinds in rows.items() for method in name.split()}


def _kinds(*kinds: AuditKind) -> frozenset[AuditKind]:
    return frozenset(kinds)


AUDITED: Final[Mapping[str, frozenset[AuditKind]]] = MappingProxyType(
    _rows(
        "syncline.auth.v1.AuthService",
        {
            "SignUp": _kinds(
                AuditKind.ACCOUNT_CREATED, AuditKind.SIGN_UP_FAILED, AuditKind.PROOF_REQUESTED, AuditKind.MEMBER_ADDED
            ),
            "SignIn": _kinds(
                AuditKind.SIGNED_IN,
                AuditKind.SIGN_IN_FAILED,
                AuditKind.FACTOR_RECOVERY_CODE_USED,
                AuditKind.DEVICE_MADE_WAY,
                AuditKind.MEMBER_ADDED,
            ),
            "RefreshToken": _kinds(AuditKind.DEVICE_COPIED, AuditKind.KEY_ENDED),
            "CreateKey": _kinds(AuditKind.KEY_CREATED),
            "SignOut": _kinds(AuditKind.DEVICE_SIGNED_OUT),
            "RequestProof": _kinds(AuditKind.PROOF_REQUESTED),
            "ProveAddress": _kinds(AuditKind.ADDRESS_PROVEN, AuditKind.PROOF_FAILED, AuditKind.MEMBER_ADDED),
            "ChangePassword": _kinds(AuditKind.PASSWORD_CHANGED, AuditKind.DEVICE_ENDED, AuditKind.KEY_ENDED),
            "ConfirmTotp": _kinds(AuditKind.FACTOR_ADDED, AuditKind.FACTOR_CODE_REFUSED),
            "RemoveFactor": _kinds(AuditKind.FACTOR_REMOVED, AuditKind.FACTOR_CODE_REFUSED),
            # Until the factor is confirmed, it has no effect.
            "AddTotp ListFactors": NOTHING,
            "ResetPassword": _kinds(AuditKind.PASSWORD_RESET, AuditKind.DEVICE_ENDED, AuditKind.KEY_ENDED),
            # A stranger asks for a reset, and nothing depends on the account of the address.
            "RequestReset": NOTHING,
            "RevokeDevice": _kinds(AuditKind.DEVICE_ENDED, AuditKind.KEY_ENDED, AuditKind.LINK_ENDED),
            "CreateSpace": _kinds(AuditKind.SPACE_CREATED),
            "SetMember": _kinds(AuditKind.MEMBER_ADDED, AuditKind.MEMBER_CHANGED, AuditKind.MEMBER_INVITED),
            "RevokeInvitation DeclineInvitation RefuseInvitation": _kinds(AuditKind.MEMBER_INVITATION_ENDED),
            "AcceptInvitation": _kinds(AuditKind.MEMBER_ADDED),
            "RemoveMember": _kinds(AuditKind.MEMBER_REMOVED),
            "RenameSpace": _kinds(AuditKind.SPACE_RENAMED),
            "DeleteSpace": _kinds(AuditKind.SPACE_DELETED),
            "UndeleteSpace": _kinds(AuditKind.SPACE_UNDELETED),
            "TransferSpace": _kinds(
                AuditKind.SPACE_TRANSFERRED, AuditKind.MEMBER_ADDED, AuditKind.MEMBER_CHANGED, AuditKind.MEMBER_REMOVED
            ),
            "IssueCredentials": _kinds(AuditKind.CREDENTIALS_ISSUED),
            "CreateLink": _kinds(AuditKind.LINK_CREATED),
            "RevokeLink": _kinds(AuditKind.LINK_ENDED),
            "OpenLink": _kinds(AuditKind.LINK_PASSWORD_FAILED),
            "ExchangeKey GetAccount GetJwks GetInvitation ListInvitations": NOTHING,
            "ListDevices ListSpaces ListDeletedSpaces ListMembers ListLinks ListWrittenSpaces": NOTHING,
            "CheckAccess BatchCheckAccess CheckWriters": NOTHING,
            # Counts of downloads and sizes of uploads and versions, which concern no right.
            "CountLinkDownload SetUploads ReserveBytes": NOTHING,
        },
    )
    | _rows(
        "syncline.admin.v1.AdminService",
        {
            "InviteUser": _kinds(AuditKind.INVITATION_CREATED),
            "SuspendUser": _kinds(AuditKind.ACCOUNT_SUSPENDED),
            "ResumeUser": _kinds(AuditKind.ACCOUNT_RESUMED),
            "SignOutUser": _kinds(AuditKind.DEVICE_ENDED, AuditKind.KEY_ENDED),
            "RemoveUserFactor": _kinds(AuditKind.FACTOR_REMOVED),
            "SetAdministrator": _kinds(AuditKind.ADMINISTRATOR_ADDED, AuditKind.ADMINISTRATOR_REMOVED),
            "SetUserQuota": _kinds(AuditKind.ACCOUNT_QUOTA_SET),
            "SetSpaceQuota": _kinds(AuditKind.SPACE_QUOTA_SET),
            "SetSpaceOwner": _kinds(AuditKind.MEMBER_ADDED, AuditKind.MEMBER_CHANGED),
            "ListUsers GetUser ListUserDevices ListUserSpaces": NOTHING,
            "ListSpaces GetSpace ListSpaceMembers GetPolicy ListAuditEvents": NOTHING,
        },
    )
)
"""The kinds of each rpc, by the full name of the method."""

OF_THE_OPERATOR: Final = _kinds(AuditKind.INVITATION_CREATED, AuditKind.FACTOR_REMOVED)
"""The kinds that commands cause which the operator runs on a machine of auth."""
