"""The rights, bounds and rates of operations: one table has the callers that each operation admits, one the
maximum size of its request, and one its kind of work. An operation that is missing in the first table is open to
nobody.

| kind of caller | is known by |
|---|---|
| anonymous | nothing |
| session | the access token of a device, or of a browser's key |
| administrator | a session whose account is an administrator's |
| program | the access token of a program's key, which names scopes |
| visitor | the access token of an opened public link, whether the link limits its downloads or not |
| service | the token of another service |

The table decides who may call an operation at all; the operation itself decides what the caller may do. A program is
admitted by the scopes of its key. No scope changes devices or keys, or renames or deletes a space: otherwise a stolen
key could be made permanent, or could shut its owner out. A program may end itself, by signing out.

A token does not tell an administrator: a right must not last as long as a token. An operation of administrators admits
every session, and itself asks for the account before anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from syncline.model.accounts import KeyScope
from syncline.model.blocks import DIGEST_BYTES
from syncline.model.errors import PermissionDenied
from syncline.model.limits import MAX_FIND_DIGESTS, MAX_MESSAGE_BYTES, MAX_SEAL_DECLARATIONS, MAX_SEAL_REQUEST_BYTES
from syncline.model.tree import MAX_CHECK_FILES, MAX_MUTATIONS, MAX_REQUEST_BYTES

CallerKind = Enum("CallerKind", "ANONYMOUS SESSION PROGRAM VISITOR SERVICE ADMINISTRATOR")
"""The kind of a caller, as in the table above. A caller is never identified as an ADMINISTRATOR: the kind stands in the
rows of operations that ask for the account, and an administrator calls all others as a SESSION.
"""

Callers = frozenset[CallerKind | KeyScope]
"""The callers that an operation admits, by their kind. A scope stands for the programs whose keys have it."""

ADMINISTRATORS: Final = Callers({CallerKind.ADMINISTRATOR})
SESSIONS: Final = ADMINISTRATORS | {CallerKind.SESSION}
PEOPLE: Final = SESSIONS | set(KeyScope)
"""People at their devices, and their programs, whatever the keys of these are for."""
ANYBODY: Final = PEOPLE | {CallerKind.ANONYMOUS, CallerKind.VISITOR, CallerKind.SERVICE}
"""All callers, authenticated or not. The token of an authenticated caller is not checked."""
READING: Final = SESSIONS | {KeyScope.READ}
WRITING: Final = SESSIONS | {KeyScope.WRITE}
SHARING: Final = SESSIONS | {KeyScope.SHARE}
READERS: Final = READING | {CallerKind.VISITOR}
VISITORS: Final = Callers({CallerKind.VISITOR})
SERVICES: Final = Callers({CallerKind.SERVICE})


def _rpcs(service: str, **rows: Callers) -> dict[str, Callers]:
    return {f"{service}/{method}": callers for method, callers in rows.items()}


RPCS: Final[Mapping[str, Callers]] = MappingProxyType(
    _rpcs("grpc.health.v1.Health", Check=ANYBODY, Watch=ANYBODY, List=ANYBODY)
    | _rpcs("grpc.reflection.v1.ServerReflection", ServerReflectionInfo=ANYBODY)
    | _rpcs("grpc.reflection.v1alpha.ServerReflection", ServerReflectionInfo=ANYBODY)
    | _rpcs(
        "syncline.auth.v1.AuthService",
        SignUp=ANYBODY,
        SignIn=ANYBODY,
        RequestReset=ANYBODY,
        ResetPassword=ANYBODY,
        RefreshToken=ANYBODY,
        ExchangeKey=ANYBODY,
        OpenLink=ANYBODY,
        GetJwks=ANYBODY,
        GetInvitation=ANYBODY,
        RefuseInvitation=ANYBODY,
        CreateKey=SESSIONS,
        SignOut=PEOPLE,
        GetAccount=PEOPLE,
        RequestProof=SESSIONS,
        ProveAddress=SESSIONS,
        ChangePassword=SESSIONS,
        ListFactors=SESSIONS,
        AddTotp=SESSIONS,
        ConfirmTotp=SESSIONS,
        RemoveFactor=SESSIONS,
        ListDevices=READING,
        RevokeDevice=SESSIONS,
        CreateSpace=WRITING,
        ListSpaces=READING,
        ListMembers=READING | {CallerKind.SERVICE},
        SetMember=SHARING,
        RemoveMember=SHARING,
        RenameSpace=SESSIONS,
        DeleteSpace=SESSIONS,
        UndeleteSpace=SESSIONS,
        ListDeletedSpaces=READING,
        TransferSpace=SESSIONS,
        ListInvitations=READING,
        RevokeInvitation=SHARING,
        AcceptInvitation=SESSIONS,
        DeclineInvitation=SESSIONS,
        IssueCredentials=READING,
        ListWrittenSpaces=SERVICES,
        SetUploads=SERVICES,
        ReserveBytes=SERVICES,
        CreateLink=SHARING,
        ListLinks=READING,
        RevokeLink=SHARING,
        CountLinkDownload=VISITORS,
        CheckAccess=PEOPLE | {CallerKind.VISITOR, CallerKind.SERVICE},
        BatchCheckAccess=SERVICES,
        CheckWriters=READING,
    )
    | _rpcs(
        "syncline.admin.v1.AdminService",
        ListUsers=ADMINISTRATORS,
        GetUser=ADMINISTRATORS,
        ListUserDevices=ADMINISTRATORS,
        ListUserSpaces=ADMINISTRATORS,
        InviteUser=ADMINISTRATORS,
        SuspendUser=ADMINISTRATORS,
        ResumeUser=ADMINISTRATORS,
        SignOutUser=ADMINISTRATORS,
        RemoveUserFactor=ADMINISTRATORS,
        SetAdministrator=ADMINISTRATORS,
        SetUserQuota=ADMINISTRATORS,
        ListSpaces=ADMINISTRATORS,
        GetSpace=ADMINISTRATORS,
        ListSpaceMembers=ADMINISTRATORS,
        SetSpaceOwner=ADMINISTRATORS,
        SetSpaceQuota=ADMINISTRATORS,
        GetPolicy=ADMINISTRATORS,
        ListAuditEvents=ADMINISTRATORS,
    )
    | _rpcs(
        "syncline.metadata.v1.MetadataService",
        GetSpace=READING,
        FindMissingObjects=WRITING,
        SealObjects=WRITING,
        CommitChanges=WRITING,
        RestoreVersion=WRITING,
        RestoreNode=WRITING,
        ListChanges=READING,
        CheckVersions=READING,
        GetNode=READERS,
        ListNodes=READERS,
        ListVersions=READING,
        GetVersion=READING,
        SearchNodes=READING,
        MeasureTree=READERS,
        ListActivity=READING,
        GetAnswer=WRITING,
        UndoCopy=WRITING,
        ListTrash=READING,
    )
    | _rpcs("syncline.notify.v1.NotifyService", Watch=READING, GetPreference=READING, SetPreference=WRITING)
)
"""The callers of each rpc, by the full name of the method."""

MAX_SMALL_REQUEST_BYTES: Final = 64 * 1024
"""Maximum size of a request of each method that is not in REQUEST_BOUNDS, in bytes."""
PARSED_BYTES_PER_BYTE: Final = 32
"""Maximum memory of a parsed request, in bytes for each byte of its serialised form. Measured with the smallest
messages in messages, such as mutations with an empty content: 31 in protobuf 7.36.
"""


_FIELD_BYTES: Final = 64
"""Maximum memory of a field of a parsed request, without its contents, in bytes."""


@dataclass(frozen=True, slots=True)
class RequestBound:
    """The maximum size of a request, or of each message if a method takes a stream of requests. The size is checked
    before the message is parsed.
    """

    max_bytes: int = MAX_SMALL_REQUEST_BYTES
    """Maximum size of the serialised request, in bytes."""
    max_fields: int | None = None
    """Maximum number of fields in the request and in its sub-messages; None for no other limit than `max_bytes`. The
    fields of a sub-message without messages and lists of texts do not count. The maximum is more than the largest
    accepted request has, so that the method itself refuses a request that exceeds its own limits a little.
    """
    parsed_bytes_per_byte: int = PARSED_BYTES_PER_BYTE
    """Maximum memory of the parsed request, in bytes for each byte of its serialised form, beside the memory of
    `max_fields` fields.
    """

    def parsed_bytes(self, size: int) -> int:
        """Return the maximum memory, in bytes, of a parsed request whose serialised form has `size` bytes."""
        fields = _FIELD_BYTES * (self.max_fields or 0)
        return min(size * PARSED_BYTES_PER_BYTE, size * self.parsed_bytes_per_byte + fields)


SMALL_REQUEST: Final = RequestBound()
"""The bound of all methods that are not in REQUEST_BOUNDS."""

REQUEST_BOUNDS: Final[Mapping[str, RequestBound]] = MappingProxyType(
    {
        # A request identifies its space, and may be encoded in a few bytes more than its canonical form. A mutation has
        # at most thirteen fields, those of a content included, and the sum has a quarter more.
        "syncline.metadata.v1.MetadataService/CommitChanges": RequestBound(
            MAX_REQUEST_BYTES + 20_000, max_fields=5 * (4 + 13 * MAX_MUTATIONS) // 4, parsed_bytes_per_byte=10
        ),
        # Digests are one value, which the parser copies.
        "syncline.metadata.v1.MetadataService/FindMissingObjects": RequestBound(
            MAX_FIND_DIGESTS * DIGEST_BYTES + 16_384, max_fields=64, parsed_bytes_per_byte=2
        ),
        # A declaration is a field with up to three fields. The numbers in a pack, of one byte or more, take 4 bytes
        # each, and as much again while their list grows.
        "syncline.metadata.v1.MetadataService/SealObjects": RequestBound(
            MAX_SEAL_REQUEST_BYTES, max_fields=2 * (1 + 4 * MAX_SEAL_DECLARATIONS), parsed_bytes_per_byte=10
        ),
        # A thousand paths of 4 KiB with their digests; each path is a field of the batch.
        "syncline.metadata.v1.MetadataService/CheckVersions": RequestBound(
            MAX_MESSAGE_BYTES, max_fields=2 * (3 + MAX_CHECK_FILES), parsed_bytes_per_byte=2
        ),
    }
)
"""The bounds of those methods whose requests may be larger than MAX_SMALL_REQUEST_BYTES, by the full name of the
method.
"""

Work = Enum("Work", "READ LIST SEARCH COMMIT SEAL STREAM CREDENTIAL SHARE MAKE ANONYMOUS")
"""The kind of work, and so of load, that an operation causes. Each kind has a rate limit (`runtime.rates`).

- READ reads a few rows of a table.
- LIST reads a page of a list.
- SEARCH visits up to 100,000 names.
- COMMIT writes to a journal.
- SEAL asks S3 about each object.
- STREAM stays open.
- CREDENTIAL may call STS.
- SHARE changes rights.
- MAKE creates a permanent thing: a space, a key, a link.
- ANONYMOUS needs no token and comes from an unknown client.
"""


def _of_kinds(service: str, kinds: dict[Work, str]) -> dict[str, Work]:
    return {f"{service}/{method}": work for work, methods in kinds.items() for method in methods.split()}


WORK: Final[Mapping[str, Work]] = MappingProxyType(
    _of_kinds(
        "syncline.auth.v1.AuthService",
        {
            Work.READ: "SignOut GetAccount ListFactors CheckAccess CountLinkDownload",
            Work.LIST: "ListDevices ListSpaces ListDeletedSpaces ListMembers ListLinks ListInvitations CheckWriters",
            Work.CREDENTIAL: "IssueCredentials",
            Work.SHARE: "SetMember RemoveMember RevokeLink RevokeDevice RequestProof ProveAddress ChangePassword "
            "AddTotp ConfirmTotp RemoveFactor RenameSpace DeleteSpace UndeleteSpace TransferSpace RevokeInvitation "
            "AcceptInvitation DeclineInvitation",
            Work.MAKE: "CreateSpace CreateKey CreateLink",
        },
    )
    | _of_kinds(
        "syncline.admin.v1.AdminService",
        {
            Work.READ: "GetUser GetSpace GetPolicy",
            Work.LIST: "ListUsers ListUserDevices ListUserSpaces ListSpaces ListSpaceMembers ListAuditEvents",
            Work.SHARE: "SuspendUser ResumeUser SignOutUser RemoveUserFactor SetAdministrator SetSpaceOwner "
            "SetUserQuota SetSpaceQuota",
            Work.MAKE: "InviteUser",
        },
    )
    | _of_kinds(
        "syncline.metadata.v1.MetadataService",
        {
            Work.READ: "GetSpace GetNode GetVersion GetAnswer FindMissingObjects",
            Work.LIST: "ListNodes ListChanges ListVersions ListActivity ListTrash",
            Work.SEARCH: "SearchNodes MeasureTree",
            Work.COMMIT: "CommitChanges RestoreVersion RestoreNode UndoCopy",
            Work.SEAL: "SealObjects",
            Work.STREAM: "CheckVersions",
        },
    )
    | _of_kinds(
        "syncline.notify.v1.NotifyService",
        {Work.STREAM: "Watch", Work.READ: "GetPreference", Work.SHARE: "SetPreference"},
    )
)
"""The work of each rpc, by the full name of the method. Calls without authentication are limited by attempts, and by
services.auth.anonymous_calls.
"""


METHODS_WITHOUT_RATE_FOR_GATEWAY: Final = frozenset({"syncline.metadata.v1.MetadataService/UndoCopy"})
"""The full names of methods by which the gateway removes what a request of its caller has left. A call of them that is
proven to come from the gateway counts, but is not refused by a rate: the request itself may have exhausted the rate.
"""


def _rows(callers: Callers, operations: str) -> dict[str, Callers]:
    return dict.fromkeys(operations.split(), callers)


ROUTES: Final[Mapping[str, Callers]] = MappingProxyType(
    _rows(ANYBODY, "syncline keys healthz readyz openapi page asset")
    | _rows(ANYBODY, "sign_up sign_in refresh open_link get_invitation refuse_invitation")
    | _rows(ANYBODY, "request_reset reset_password")
    | _rows(SESSIONS, "create_key revoke_device request_proof prove_address change_password")
    | _rows(SESSIONS, "list_factors add_factor confirm_factor remove_factor")
    | _rows(SESSIONS, "rename_space delete_space undelete_space transfer_space")
    | _rows(ADMINISTRATORS, "list_users get_user list_user_devices list_user_spaces get_policy list_audit_events")
    | _rows(ADMINISTRATORS, "invite_user suspend_user resume_user sign_out_user remove_user_factor set_administrator")
    | _rows(ADMINISTRATORS, "list_all_spaces get_any_space list_space_members set_space_owner")
    | _rows(ADMINISTRATORS, "set_user_quota set_space_quota")
    | _rows(SHARING, "set_member remove_member create_link revoke_link revoke_invitation")
    | _rows(SESSIONS, "accept_invitation decline_invitation")
    | _rows(PEOPLE, "session sign_out")
    | _rows(READING, "list_devices list_keys list_members list_links watch")
    | _rows(READING, "list_space_invitations list_invitations")
    | _rows(READING, "list_spaces list_deleted_spaces get_space get_usage get_notifications")
    | _rows(READING, "find_node get_node list_children search list_versions list_trash list_activity")
    | _rows(READING, "content node_content version_content node_archive archive")
    | _rows(WRITING, "create_space set_notifications")
    | _rows(WRITING, "create_folder move_node delete_node copy_node restore_version restore_node")
    | _rows(WRITING, "create_uploads seal_objects commit_changes")
    | _rows(VISITORS, "get_linked_node list_linked_children linked_content linked_archive")
)
"""The callers of each operation of the gateway, by its name: the `operationId`, or the name in logs and metrics."""

DAV: Final[Mapping[str, Callers]] = MappingProxyType(
    _rows(READING, "OPTIONS GET HEAD PROPFIND") | _rows(WRITING, "PROPPATCH PUT MKCOL DELETE MOVE COPY LOCK UNLOCK")
)
"""The callers of each method of WebDAV, by the HTTP method."""


def check_caller(kind: CallerKind, callers: Callers | None, *, scopes: Set[KeyScope] = frozenset()) -> None:
    """Raise PermissionDenied unless `callers`, those that an operation admits, include a caller of this kind. A program
    is admitted by `scopes`, those of its key. `callers` is None if the table has no such operation, which then admits
    nobody.
    """
    if callers is None:
        raise PermissionDenied("this is open to nobody")
    if kind is CallerKind.SESSION and CallerKind.ADMINISTRATOR in callers:
        return  # an operation of administrators asks for the account
    if kind is CallerKind.PROGRAM:
        if callers.isdisjoint(scopes):
            raise PermissionDenied(_program_refusal(callers))
    elif kind not in callers:
        raise PermissionDenied(_REFUSALS[kind])


def _program_refusal(callers: Callers) -> str:
    needed = [scope for scope in KeyScope if scope in callers]
    if not needed:
        return "no key of a program can do this; sign in"
    return without_scope(needed[0])


def without_scope(scope: KeyScope) -> str:
    """Return the error text for a program whose key does not have `scope`."""
    return f"this key is not for that; make one with the scope {scope.value!r}"


BEYOND_LINK: Final = "a public link opens what it links to, and nothing else; sign in"
ADMINISTRATORS_ONLY: Final = "only an administrator of this system can do this; ask one"
_REFUSALS: Final = {
    CallerKind.ANONYMOUS: "sign in to do this",
    CallerKind.SESSION: "only a public link can do this",
    CallerKind.VISITOR: BEYOND_LINK,
    CallerKind.SERVICE: "only a signed-in user can do this",
    CallerKind.ADMINISTRATOR: "an administrator cannot do this",
}
