"""A well-formed request for each operation: whoever is admitted is not refused for what the request says."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.message import Message

from syncline.admin.v1 import admin_pb2
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.identifiers import ROOT, new_request_id, new_text_id
from syncline.notify.v1 import notify_pb2
from tests.gateway.client import PASSWORD
from tests.permissions.scene import BYTES, Scene
from tests.support.passwords import WEAK

NOBODY: Final = "nobody@example.com"

_Make = Callable[[Scene], Message | list[Message]]

ENDING: Final = frozenset({"SignOut", "sign_out"})
"""The operations that end the device of their caller."""

DELETING: Final = frozenset({"DeleteSpace", "delete_space"})
"""The operations that delete the space, which has to be undeleted where they have been carried out."""


def _new_email(_scene: Scene) -> str:
    return f"new-{new_text_id()}@example.com"


def _in_an_hour() -> int:
    return int(time.time() * 1000) + 3_600_000


def _refresh_token(scene: Scene) -> str:
    return str(scene.session_of_owner()["tokens"]["refresh_token"])


def _checked(scene: Scene) -> list[Message]:
    opening = metadata_pb2.CheckVersionsOpen(space_id=scene.space)
    batch = metadata_pb2.CheckVersionsBatch(paths=["file.txt"], digests=scene.digest)
    return [metadata_pb2.CheckVersionsRequest(open=opening), metadata_pb2.CheckVersionsRequest(batch=batch)]


def _sealed(scene: Scene) -> Message:
    request = metadata_pb2.SealObjectsRequest(space_id=scene.space)
    request.objects.add(sha256=scene.digest, size=len(BYTES))
    return request


def _committed(scene: Scene) -> Message:
    request = metadata_pb2.CommitChangesRequest(space_id=scene.space, request_id=new_request_id())
    create = metadata_pb2.CreateNode(parent=ROOT, name=new_text_id(), kind=journal_pb2.NODE_KIND_DIRECTORY)
    request.mutations.add().create.CopyFrom(create)
    return request


RPCS: Final[Mapping[str, _Make]] = MappingProxyType(
    {
        "SignUp": lambda scene: auth_pb2.SignUpRequest(email=_new_email(scene), password=PASSWORD, device_name="new"),
        "SignIn": lambda scene: auth_pb2.SignInRequest(email=scene.owner.email, password=PASSWORD, device_name="new"),
        "RefreshToken": lambda scene: auth_pb2.RefreshTokenRequest(refresh_token=_refresh_token(scene)),
        "ExchangeKey": lambda scene: auth_pb2.ExchangeKeyRequest(key=scene.key()),
        "OpenLink": lambda scene: auth_pb2.OpenLinkRequest(token=scene.links["visitor"]["token"]),
        "GetJwks": lambda scene: auth_pb2.GetJwksRequest(),
        "CreateKey": lambda scene: auth_pb2.CreateKeyRequest(
            name="key", expires_at_ms=_in_an_hour(), request_id=new_request_id()
        ),
        "SignOut": lambda scene: auth_pb2.SignOutRequest(),
        "GetAccount": lambda scene: auth_pb2.GetAccountRequest(),
        "RequestProof": lambda scene: auth_pb2.RequestProofRequest(),
        "ProveAddress": lambda scene: auth_pb2.ProveAddressRequest(token="A" * 43),
        "ChangePassword": lambda scene: auth_pb2.ChangePasswordRequest(
            request_id=new_request_id(), current_password=PASSWORD, new_password=WEAK
        ),
        "ListFactors": lambda _: auth_pb2.ListFactorsRequest(),
        "AddTotp": lambda _: auth_pb2.AddTotpRequest(request_id=new_request_id(), password=PASSWORD),
        "ConfirmTotp": lambda _: auth_pb2.ConfirmTotpRequest(code="no code"),
        "RemoveFactor": lambda _: auth_pb2.RemoveFactorRequest(password=PASSWORD, code="no code"),
        "RequestReset": lambda scene: auth_pb2.RequestResetRequest(email=_new_email(scene)),
        "ResetPassword": lambda scene: auth_pb2.ResetPasswordRequest(token="A" * 43, new_password=PASSWORD),
        "ListDevices": lambda scene: auth_pb2.ListDevicesRequest(),
        "RevokeDevice": lambda scene: auth_pb2.RevokeDeviceRequest(device_id=new_text_id()),
        "CreateSpace": lambda scene: auth_pb2.CreateSpaceRequest(name=new_text_id(), request_id=new_request_id()),
        "ListSpaces": lambda scene: auth_pb2.ListSpacesRequest(),
        "ListMembers": lambda scene: auth_pb2.ListMembersRequest(space_id=scene.space),
        "SetMember": lambda scene: auth_pb2.SetMemberRequest(
            space_id=scene.space,
            email=scene.people["viewer"].email,
            role=auth_pb2.ROLE_VIEWER,
            request_id=new_request_id(),
        ),
        "RemoveMember": lambda scene: auth_pb2.RemoveMemberRequest(
            space_id=scene.space, email=scene.people["former"].email, request_id=new_request_id()
        ),
        "ListInvitations": lambda scene: auth_pb2.ListInvitationsRequest(space_id=scene.space),
        "RevokeInvitation": lambda scene: auth_pb2.RevokeInvitationRequest(
            space_id=scene.space, email=NOBODY, request_id=new_request_id()
        ),
        "AcceptInvitation": lambda scene: auth_pb2.AcceptInvitationRequest(
            space_id=scene.space, request_id=new_request_id()
        ),
        "DeclineInvitation": lambda scene: auth_pb2.DeclineInvitationRequest(
            space_id=scene.space, request_id=new_request_id()
        ),
        "GetInvitation": lambda _: auth_pb2.GetInvitationRequest(token="A" * 43),
        "RefuseInvitation": lambda _: auth_pb2.RefuseInvitationRequest(token="A" * 43),
        "RenameSpace": lambda scene: auth_pb2.RenameSpaceRequest(
            space_id=scene.space, name="team", request_id=new_request_id()
        ),
        "DeleteSpace": lambda scene: auth_pb2.DeleteSpaceRequest(space_id=scene.space, request_id=new_request_id()),
        "UndeleteSpace": lambda scene: auth_pb2.UndeleteSpaceRequest(space_id=scene.space, request_id=new_request_id()),
        "ListDeletedSpaces": lambda _: auth_pb2.ListDeletedSpacesRequest(),
        "TransferSpace": lambda scene: auth_pb2.TransferSpaceRequest(
            space_id=scene.space, email=NOBODY, keep_role=auth_pb2.ROLE_OWNER, request_id=new_request_id()
        ),
        "IssueCredentials": lambda scene: auth_pb2.IssueCredentialsRequest(
            space_id=scene.space, access=auth_pb2.ACCESS_WRITE
        ),
        "ListWrittenSpaces": lambda scene: auth_pb2.ListWrittenSpacesRequest(),
        "SetUploads": lambda scene: auth_pb2.SetUploadsRequest(space_id=scene.space, measured_at_ms=1),
        "ReserveBytes": lambda scene: auth_pb2.ReserveBytesRequest(space_id=scene.space),
        "CreateLink": lambda scene: auth_pb2.CreateLinkRequest(
            space_id=scene.space, node=bytes.fromhex(scene.folder), request_id=new_request_id()
        ),
        "ListLinks": lambda scene: auth_pb2.ListLinksRequest(space_id=scene.space),
        "RevokeLink": lambda scene: auth_pb2.RevokeLinkRequest(
            space_id=scene.space, link_id=new_text_id(), request_id=new_request_id()
        ),
        "CountLinkDownload": lambda scene: auth_pb2.CountLinkDownloadRequest(request_id=new_request_id()),
        "CheckAccess": lambda scene: auth_pb2.CheckAccessRequest(space_id=scene.space),
        "BatchCheckAccess": lambda scene: auth_pb2.BatchCheckAccessRequest(
            user_id=new_text_id(), space_ids=[scene.space]
        ),
        "CheckWriters": lambda scene: auth_pb2.CheckWritersRequest(space_id=scene.space, device_ids=[new_text_id()]),
        "GetSpace": lambda scene: metadata_pb2.GetSpaceRequest(space_id=scene.space),
        "FindMissingObjects": lambda scene: metadata_pb2.FindMissingObjectsRequest(
            space_id=scene.space, objects=scene.digest
        ),
        "SealObjects": _sealed,
        "CommitChanges": _committed,
        "RestoreVersion": lambda scene: metadata_pb2.RestoreVersionRequest(
            space_id=scene.space,
            node=bytes.fromhex(scene.file["id"]),
            version=1,
            base_version=2,
            request_id=new_request_id(),
        ),
        "RestoreNode": lambda scene: metadata_pb2.RestoreNodeRequest(
            space_id=scene.space, node=bytes.fromhex(scene.file["id"]), request_id=new_request_id()
        ),
        "ListChanges": lambda scene: metadata_pb2.ListChangesRequest(space_id=scene.space),
        "CheckVersions": _checked,
        "GetNode": lambda scene: metadata_pb2.GetNodeRequest(space_id=scene.space, node=bytes.fromhex(scene.inner)),
        "ListNodes": lambda scene: metadata_pb2.ListNodesRequest(
            space_id=scene.space, parent=bytes.fromhex(scene.folder)
        ),
        "ListVersions": lambda scene: metadata_pb2.ListVersionsRequest(
            space_id=scene.space, node=bytes.fromhex(scene.file["id"])
        ),
        "GetVersion": lambda scene: metadata_pb2.GetVersionRequest(
            space_id=scene.space, node=bytes.fromhex(scene.file["id"]), version=1
        ),
        "SearchNodes": lambda scene: metadata_pb2.SearchNodesRequest(space_id=scene.space, query="file"),
        "MeasureTree": lambda scene: metadata_pb2.MeasureTreeRequest(
            space_id=scene.space, nodes=[bytes.fromhex(scene.folder)], max_paths=100, max_path_bytes=10_000
        ),
        "ListActivity": lambda scene: metadata_pb2.ListActivityRequest(space_id=scene.space),
        "GetAnswer": lambda scene: metadata_pb2.GetAnswerRequest(space_id=scene.space, request_id=new_request_id()),
        "UndoCopy": lambda scene: metadata_pb2.UndoCopyRequest(
            space_id=scene.space, copy_request_id=new_request_id(), request_id=new_request_id()
        ),
        "ListTrash": lambda scene: metadata_pb2.ListTrashRequest(space_id=scene.space),
        "Watch": lambda scene: notify_pb2.WatchRequest(space_ids=[scene.space]),
        "GetPreference": lambda scene: notify_pb2.GetPreferenceRequest(space_id=scene.space),
        "SetPreference": lambda scene: notify_pb2.SetPreferenceRequest(
            space_id=scene.space, mode=notify_pb2.MAIL_MODE_OFF, request_id=new_request_id()
        ),
    }
)
"""A request of each rpc, or the messages of its stream, by the name of the method."""


def _user(scene: Scene) -> str:
    return str(scene.people["stranger"].account["account"]["user_id"])


ADMIN_RPCS: Final[Mapping[str, _Make]] = MappingProxyType(
    {
        "ListUsers": lambda _: admin_pb2.ListUsersRequest(),
        "GetUser": lambda scene: admin_pb2.GetUserRequest(user_id=_user(scene)),
        "ListUserDevices": lambda scene: admin_pb2.ListUserDevicesRequest(user_id=_user(scene)),
        "ListUserSpaces": lambda scene: admin_pb2.ListUserSpacesRequest(user_id=_user(scene)),
        "InviteUser": lambda scene: admin_pb2.InviteUserRequest(email=_new_email(scene), request_id=new_request_id()),
        "SuspendUser": lambda _: admin_pb2.SuspendUserRequest(user_id=new_text_id(), request_id=new_request_id()),
        "ResumeUser": lambda scene: admin_pb2.ResumeUserRequest(user_id=_user(scene), request_id=new_request_id()),
        "SignOutUser": lambda _: admin_pb2.SignOutUserRequest(user_id=new_text_id(), request_id=new_request_id()),
        "RemoveUserFactor": lambda scene: admin_pb2.RemoveUserFactorRequest(
            user_id=_user(scene), request_id=new_request_id()
        ),
        "SetAdministrator": lambda scene: admin_pb2.SetAdministratorRequest(
            user_id=_user(scene), request_id=new_request_id()
        ),
        "SetUserQuota": lambda scene: admin_pb2.SetUserQuotaRequest(user_id=_user(scene), request_id=new_request_id()),
        "ListSpaces": lambda _: admin_pb2.ListSpacesRequest(),
        "GetSpace": lambda scene: admin_pb2.GetSpaceRequest(space_id=scene.space),
        "ListSpaceMembers": lambda scene: admin_pb2.ListSpaceMembersRequest(space_id=scene.space),
        "SetSpaceOwner": lambda scene: admin_pb2.SetSpaceOwnerRequest(
            space_id=scene.spare_space, user_id=_user(scene), request_id=new_request_id()
        ),
        "SetSpaceQuota": lambda scene: admin_pb2.SetSpaceQuotaRequest(
            space_id=scene.spare_space, request_id=new_request_id()
        ),
        "GetPolicy": lambda _: admin_pb2.GetPolicyRequest(),
        "ListAuditEvents": lambda _: admin_pb2.ListAuditEventsRequest(),
    }
)
"""The same of AdminService."""

OF_SERVICES: Final[Mapping[str, _Make]] = MappingProxyType(
    {
        "CheckAccess": lambda scene: auth_pb2.CheckAccessRequest(
            space_id=scene.space, user_id=scene.owner.account["account"]["user_id"]
        )
    }
)
"""The requests of another service, where they differ: it asks about somebody else."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The parts of an HTTP request beside its method and path."""

    body: Any = None
    query: Mapping[str, str] | None = None
    path: Mapping[str, str] = field(default_factory=dict)
    """Values of parameters of the path, where the usual ones (`usual_parameters`) do not fit."""


def usual_parameters(scene: Scene) -> dict[str, str]:
    """The values of the parameters in paths of the API, by name."""
    return {
        "space": scene.space,
        "node": scene.inner,
        "link_id": scene.links["visitor"]["link_id"],
        "device_id": new_text_id(),
        "number": "1",
        "email": scene.people["viewer"].email,
        "path": "file.txt",
        "user_id": _user(scene),
    }


def _wanted(scene: Scene) -> dict[str, Any]:
    return {"objects": [{"sha256": hashlib.sha256(BYTES).hexdigest(), "size": len(BYTES)}]}


def _new_folder(_scene: Scene) -> dict[str, Any]:
    return {"parent": "root", "name": new_text_id()}


def _credentials(scene: Scene) -> dict[str, Any]:
    return {"email": scene.owner.email, "password": PASSWORD, "device_name": "new"}


ROUTES: Final[Mapping[str, Callable[[Scene], Asked]]] = MappingProxyType(
    {
        "sign_up": lambda scene: Asked(_credentials(scene) | {"email": _new_email(scene)}),
        "sign_in": lambda scene: Asked(_credentials(scene)),
        "refresh": lambda scene: Asked({"refresh_token": _refresh_token(scene)}),
        "open_link": lambda scene: Asked({"token": scene.links["visitor"]["token"]}),
        "prove_address": lambda scene: Asked({"token": "A" * 43}),
        "change_password": lambda scene: Asked({"current_password": PASSWORD, "new_password": WEAK}),
        "add_factor": lambda _: Asked({"password": PASSWORD}),
        "confirm_factor": lambda _: Asked({"code": "no code"}),
        "remove_factor": lambda _: Asked({"password": PASSWORD, "code": "no code"}),
        "request_reset": lambda scene: Asked({"email": _new_email(scene)}),
        "reset_password": lambda scene: Asked({"token": "A" * 43, "new_password": PASSWORD}),
        "create_key": lambda scene: Asked({"name": "key", "expires_at_ms": _in_an_hour()}),
        "create_space": lambda scene: Asked({"name": new_text_id()}),
        "set_member": lambda scene: Asked({"role": "viewer"}),
        "remove_member": lambda scene: Asked(path={"email": scene.people["former"].email}),
        "revoke_invitation": lambda _: Asked(path={"email": NOBODY}),
        "get_invitation": lambda _: Asked({"token": "A" * 43}),
        "refuse_invitation": lambda _: Asked({"token": "A" * 43}),
        "set_notifications": lambda scene: Asked({"mode": "off"}),
        "rename_space": lambda _: Asked({"name": "team"}),
        "transfer_space": lambda _: Asked({"email": NOBODY, "keep_role": "owner"}),
        "create_link": lambda scene: Asked({"node": scene.folder}),
        "revoke_link": lambda scene: Asked(path={"link_id": new_text_id()}),
        "find_node": lambda scene: Asked(query={"path": "file.txt"}),
        "search": lambda scene: Asked(query={"q": "file"}),
        "create_folder": lambda scene: Asked(_new_folder(scene)),
        "move_node": lambda scene: Asked({"name": "inner.txt"}),
        "delete_node": lambda scene: Asked(path={"node": scene.owner.folder(new_text_id())["id"]}),
        "copy_node": lambda scene: Asked(_new_folder(scene)),
        "list_children": lambda scene: Asked(path={"node": scene.folder}),
        "list_linked_children": lambda scene: Asked(path={"node": scene.folder}),
        "linked_archive": lambda scene: Asked(path={"node": scene.folder}),
        "node_archive": lambda scene: Asked(path={"node": scene.folder}),
        "archive": lambda scene: Asked(query={"node": scene.inner}),
        "version_content": lambda scene: Asked(path={"node": scene.file["id"]}),
        "restore_version": lambda scene: Asked(path={"node": scene.file["id"]}),
        "restore_node": lambda scene: Asked({}, path={"node": new_request_id().hex()}),
        "create_uploads": lambda scene: Asked(_wanted(scene)),
        "seal_objects": lambda scene: Asked(_wanted(scene)),
        "invite_user": lambda scene: Asked({"email": _new_email(scene)}),
        "suspend_user": lambda _: Asked({}, path={"user_id": new_text_id()}),
        "sign_out_user": lambda _: Asked({}, path={"user_id": new_text_id()}),
        "remove_user_factor": lambda _: Asked(path={"user_id": new_text_id()}),
        "set_administrator": lambda _: Asked({"admin": False}),
        "set_user_quota": lambda _: Asked({}),
        "set_space_owner": lambda scene: Asked(path={"space": scene.spare_space}),
        "set_space_quota": lambda scene: Asked({}, path={"space": scene.spare_space}),
        "commit_changes": lambda scene: Asked({"changes": [{"create": _new_folder(scene) | {"kind": "directory"}}]}),
    }
)
"""The requests of those operations of the API that need more than the usual parameters, by `operationId`."""

DAV: Final[Mapping[str, Callable[[str], tuple[str, dict[str, str], bytes | None]]]] = MappingProxyType(
    {
        "OPTIONS": lambda top: (f"{top}/", {}, None),
        "GET": lambda top: (f"{top}/file.txt", {}, None),
        "HEAD": lambda top: (f"{top}/file.txt", {}, None),
        "PROPFIND": lambda top: (f"{top}/file.txt", {"depth": "0"}, None),
        "PROPPATCH": lambda top: (
            f"{top}/file.txt",
            {},
            b'<propertyupdate xmlns="DAV:"><set><prop><x xmlns="urn:x">1</x></prop></set></propertyupdate>',
        ),
        "PUT": lambda top: (f"{top}/{new_text_id()}.txt", {}, BYTES),
        "MKCOL": lambda top: (f"{top}/{new_text_id()}", {}, None),
        "DELETE": lambda top: (f"{top}/{new_text_id()}", {}, None),
        "MOVE": lambda top: (f"{top}/{new_text_id()}", {"destination": f"{top}/{new_text_id()}"}, None),
        "COPY": lambda top: (f"{top}/file.txt", {"destination": f"{top}/{new_text_id()}.txt"}, None),
        "LOCK": lambda top: (
            f"{top}/{new_text_id()}",
            {"timeout": "Second-1"},
            b'<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>',
        ),
        "UNLOCK": lambda top: (
            f"{top}/file.txt",
            {"lock-token": "<urn:uuid:00000000-0000-0000-0000-000000000000>"},
            None,
        ),
    }
)
"""The path, the headers and the body of a request of each WebDAV method, for the path of the space."""
