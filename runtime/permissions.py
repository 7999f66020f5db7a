"""The rights and rates of operations: one table has the kinds of callers that each operation admits, and another one
the kind of work of each operation. An operation that is missing in the table of callers is open to nobody.

| kind of caller | is known by |
|---|---|
| anonymous | nothing |
| session | the access token of a device, or of a browser's key |
| program | the access token of a program's key |
| visitor | the access token of an opened public link, whether the link limits its downloads or not |
| service | the token of another service |

The table decides who may call an operation at all; the operation itself decides what the caller may do. A program's key
may read and write files. It may change neither members, links, devices nor keys: otherwise a stolen key could be made
permanent, or could shut its owner out. It may end itself, by signing out.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from syncline.model.errors import PermissionDenied

CallerKind = Enum("CallerKind", "ANONYMOUS SESSION PROGRAM VISITOR SERVICE")
"""The kind of a caller, as in the table above."""

Callers = frozenset[CallerKind]

ANYBODY: Final = Callers(CallerKind)
"""All callers, authenticated or not. The token of an authenticated caller is not checked."""
SESSIONS: Final = Callers({CallerKind.SESSION})
PEOPLE: Final = SESSIONS | {CallerKind.PROGRAM}
READERS: Final = PEOPLE | {CallerKind.VISITOR}
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
        RefreshToken=ANYBODY,
        ExchangeKey=ANYBODY,
        OpenLink=ANYBODY,
        GetJwks=ANYBODY,
        CreateKey=SESSIONS,
        SignOut=PEOPLE,
        GetAccount=PEOPLE,
        ListDevices=PEOPLE,
        RevokeDevice=SESSIONS,
        CreateSpace=PEOPLE,
        ListSpaces=PEOPLE,
        ListMembers=PEOPLE | {CallerKind.SERVICE},
        SetMember=SESSIONS,
        RemoveMember=SESSIONS,
        IssueCredentials=PEOPLE,
        ListWrittenSpaces=SERVICES,
        SetUploads=SERVICES,
        CreateLink=SESSIONS,
        ListLinks=PEOPLE,
        RevokeLink=SESSIONS,
        CountLinkDownload=VISITORS,
        CheckAccess=READERS | {CallerKind.SERVICE},
        BatchCheckAccess=SERVICES,
        CheckWriters=PEOPLE,
    )
    | _rpcs(
        "syncline.metadata.v1.MetadataService",
        GetSpace=PEOPLE,
        FindMissingObjects=PEOPLE,
        SealObjects=PEOPLE,
        CommitChanges=PEOPLE,
        RestoreVersion=PEOPLE,
        RestoreNode=PEOPLE,
        ListChanges=PEOPLE,
        CheckVersions=PEOPLE,
        GetNode=READERS,
        ListNodes=READERS,
        ListVersions=PEOPLE,
        GetVersion=PEOPLE,
        SearchNodes=PEOPLE,
        MeasureTree=READERS,
        ListActivity=PEOPLE,
        GetAnswer=PEOPLE,
        UndoCopy=PEOPLE,
        ListTrash=PEOPLE,
    )
    | _rpcs("syncline.notify.v1.NotifyService", Watch=PEOPLE, GetPreference=PEOPLE, SetPreference=PEOPLE)
)
"""The kinds of callers of each rpc, by the full name of the method."""

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
            Work.READ: "SignOut GetAccount CheckAccess CountLinkDownload",
            Work.LIST: "ListDevices ListSpaces ListMembers ListLinks CheckWriters",
            Work.CREDENTIAL: "IssueCredentials",
            Work.SHARE: "SetMember RemoveMember RevokeLink RevokeDevice",
            Work.MAKE: "CreateSpace CreateKey CreateLink",
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


def _rows(callers: Callers, operations: str) -> dict[str, Callers]:
    return dict.fromkeys(operations.split(), callers)


ROUTES: Final[Mapping[str, Callers]] = MappingProxyType(
    _rows(ANYBODY, "syncline keys healthz readyz openapi page asset")
    | _rows(ANYBODY, "sign_up sign_in refresh open_link")
    | _rows(SESSIONS, "create_key revoke_device set_member remove_member create_link revoke_link")
    | _rows(PEOPLE, "session sign_out list_devices list_keys list_members list_links watch")
    | _rows(PEOPLE, "list_spaces create_space get_space get_usage get_notifications set_notifications")
    | _rows(PEOPLE, "find_node get_node list_children search list_versions list_trash list_activity")
    | _rows(PEOPLE, "content node_content version_content node_archive archive")
    | _rows(PEOPLE, "create_folder move_node delete_node copy_node restore_version restore_node")
    | _rows(PEOPLE, "create_uploads seal_objects commit_changes")
    | _rows(VISITORS, "get_linked_node list_linked_children linked_content linked_archive")
)
"""The kinds of callers of each operation of the gateway, by its name: the `operationId`, or the name in logs and
metrics.
"""

DAV: Final[Mapping[str, Callers]] = MappingProxyType(
    _rows(PEOPLE, "OPTIONS GET HEAD PROPFIND PROPPATCH PUT MKCOL DELETE MOVE COPY LOCK UNLOCK")
)
"""The kinds of callers of each method of WebDAV, by the HTTP method."""


def check_caller(kind: CallerKind, callers: Callers | None) -> None:
    """Raise PermissionDenied unless `callers`, the kinds of callers that an operation admits, includes `kind`.
    `callers` is None if the table has no such operation, which then admits nobody.
    """
    if callers is None:
        raise PermissionDenied("this is open to nobody")
    if kind not in callers:
        raise PermissionDenied(_REFUSALS[kind])


BEYOND_LINK: Final = "a public link opens what it links to, and nothing else; sign in"
_REFUSALS: Final = {
    CallerKind.ANONYMOUS: "sign in to do this",
    CallerKind.SESSION: "only a public link can do this",
    CallerKind.PROGRAM: "a key of a program cannot change members, links, devices or keys; sign in",
    CallerKind.VISITOR: BEYOND_LINK,
    CallerKind.SERVICE: "only a signed-in user can do this",
}
