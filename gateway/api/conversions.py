"""Conversion of the services' answers to messages of the API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from starlette.responses import Response

from gateway.api import models
from gateway.api.identifiers import node_text
from gateway.content.file_headers import content_type
from gateway.services.calls import in_turns, known_node
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.tree import Node, NodeKind

_KINDS: Final[dict[NodeKind, models.KindName]] = {
    NodeKind.FILE: "file",
    NodeKind.DIRECTORY: "directory",
    NodeKind.SYMLINK: "symlink",
}
_ROLES: Final[dict[int, models.RoleName]] = {
    auth_pb2.ROLE_VIEWER: "viewer",
    auth_pb2.ROLE_EDITOR: "editor",
    auth_pb2.ROLE_OWNER: "owner",
}
ROLES: Final = {name: auth_pb2.Role.ValueType(role) for role, name in _ROLES.items()}
_NANOSECONDS: Final = 1_000_000

Item = TypeVar("Item")
Shape = TypeVar("Shape")


def node_etag(node: Node) -> str:
    """Return the entity tag of a node's present state: each change of the node gives it another sequence number, which
    the tag contains.
    """
    return f'"{node.seq}"'


def node(found: Node) -> models.Node:
    """Return a node in the form of the API."""
    return models.Node.model_validate(_node_fields(found))


def located(found: Node, path: str) -> models.Located:
    """Return a node and its path in the form of the API."""
    return models.Located.model_validate(_node_fields(found) | {"path": path})


def with_etag(response: Response, found: Node) -> models.Node:
    """Return a node in the form of the API, for the body of a response, and set the response's header ETag."""
    response.headers["etag"] = node_etag(found)
    return node(found)


async def each(items: Sequence[Item], shape: Callable[[Item], Shape], *, token: str) -> list[Shape]:
    """Return the items of a long answer in the form of the API, in order; `shape` converts one item. The work is done
    in slices, each in a turn that is charged to the person or public link of the access token `token`.
    """
    return [shape(one) async for some in in_turns(items, token) for one in some]


async def nodes_page(answer: metadata_pb2.ListNodesResponse, *, token: str) -> models.Nodes:
    """Return the page of nodes in an answer of ListNodes, in the form of the API. The work is charged to the person or
    public link of the access token `token`.
    """
    return models.Nodes(
        nodes=await each(answer.nodes, node_of, token=token), next_page_token=answer.next_page_token or None
    )


def node_of(pb: journal_pb2.Node) -> models.Node:
    """Return a node in the form of the API, converted from the message of a service."""
    return node(known_node(pb))


def _node_fields(found: Node) -> dict[str, object]:
    content = found.content
    is_file = found.kind is NodeKind.FILE
    return {
        "id": node_text(found.id),
        "parent": node_text(found.parent),
        "name": found.name,
        "kind": _KINDS[found.kind],
        "version": found.version,
        "etag": node_etag(found),
        "seq": found.seq,
        "size": content.size if content and is_file else None,
        "digest": content.digest.hex() if content and is_file else None,
        "mtime_ms": content.mtime_ns // _NANOSECONDS if content else None,
        "executable": bool(content and content.executable),
        "target": content.target if content and found.kind is NodeKind.SYMLINK else None,
        "media_type": content_type(found.name) if is_file else None,
        "user_id": found.user,
        "device_id": found.device,
        "committed_at_ms": found.committed_at_ms,
        "deleted_at_ms": found.deleted_at_ms or None,
    }


def version(pb: metadata_pb2.Version) -> models.Version:
    """Return a version in the form of the API."""
    return models.Version(
        version=pb.version,
        size=pb.content.size,
        digest=pb.content.digest.hex(),
        mtime_ms=pb.content.mtime_ns // _NANOSECONDS,
        user_id=pb.user_id,
        device_id=pb.device_id,
        committed_at_ms=pb.committed_at_ms,
    )


def activity(pb: metadata_pb2.Activity) -> models.Activity:
    """Return a change in the form of the API."""
    return models.Activity(
        seq=pb.seq,
        change=cast("models.ChangeName", journal_pb2.Change.Name(pb.change).removeprefix("CHANGE_").lower()),
        node=node_of(pb.node),
        from_name=pb.from_name if pb.from_parent else None,
        from_parent=node_text(pb.from_parent) if pb.from_parent else None,
        user_id=pb.user_id,
        device_id=pb.device_id,
        committed_at_ms=pb.committed_at_ms,
    )


def account(pb: auth_pb2.Account) -> models.Account:
    """Return an account in the form of the API."""
    return models.Account(
        user_id=pb.user_id,
        email=pb.email,
        personal_space_id=pb.personal_space_id,
        proven=not pb.unproven,
        admin=pb.admin,
        guest=pb.guest,
    )


def usage(pb: auth_pb2.UserUsage) -> models.UserUsage:
    return models.UserUsage(
        quota_bytes=pb.quota_bytes if pb.HasField("quota_bytes") else None, reserved_bytes=pb.reserved_bytes
    )


def device(pb: auth_pb2.Device, *, current: str) -> models.Device:
    """Return a device in the form of the API; `current` is the id of the calling device."""
    kind = auth_pb2.DeviceKind.Name(pb.kind or auth_pb2.DEVICE_KIND_CLIENT).removeprefix("DEVICE_KIND_").lower()
    return models.Device(
        device_id=pb.device_id,
        name=pb.name,
        kind=kind,  # type: ignore[arg-type]  # the names of the wire
        created_at_ms=pb.created_at_ms,
        last_seen_at_ms=pb.last_seen_at_ms,
        expires_at_ms=pb.expires_at_ms or None,
        revoked_at_ms=pb.revoked_at_ms or None,
        current=pb.device_id == current,
        made_by=pb.made_by or None,
        scopes=[_scope(scope) for scope in pb.scopes] or None,
        spaces=list(pb.space_ids) or None,
    )


def scope_to_wire(name: models.Scope) -> auth_pb2.KeyScope.ValueType:
    """Return the scope of a key on the wire."""
    return auth_pb2.KeyScope.Value(f"KEY_SCOPE_{name.upper()}")


def _scope(pb: auth_pb2.KeyScope.ValueType) -> models.Scope:
    return auth_pb2.KeyScope.Name(pb).removeprefix("KEY_SCOPE_").lower()  # type: ignore[return-value]  # as the wire


def device_end(pb: auth_pb2.RevokeDeviceResponse, *, current: str) -> models.DeviceEnd:
    """Return the keys and links that were revoked with a device, in the form of the API; `current` is the id of the
    calling device.
    """
    return models.DeviceEnd(
        ended_keys=[device(key, current=current) for key in pb.ended_keys],
        ended_links=[link(one) for one in pb.ended_links],
        remaining_links=[link(one) for one in pb.remaining_links],
        ended_key_count=pb.ended_key_count,
        ended_link_count=pb.ended_link_count,
        remaining_link_count=pb.remaining_link_count,
    )


def changed_password(pb: auth_pb2.ChangePasswordResponse, *, current: str) -> models.PasswordChanged:
    """Return what was ended with a change of the password, in the form of the API; `current` is the id of the calling
    device.
    """
    return models.PasswordChanged(
        ended_devices=[device(one, current=current) for one in pb.ended_devices],
        ended_keys=[device(key, current=current) for key in pb.ended_keys],
        remaining_keys=[device(key, current=current) for key in pb.remaining_keys],
        ended_device_count=pb.ended_device_count,
        ended_key_count=pb.ended_key_count,
        remaining_key_count=pb.remaining_key_count,
        unfinished=pb.unfinished,
    )


def tokens(pb: auth_pb2.Tokens) -> models.Tokens:
    """Return tokens in the form of the API."""
    return models.Tokens(
        access_token=pb.access_token, access_expires_at_ms=pb.access_expires_at_ms, refresh_token=pb.refresh_token
    )


def space(pb: auth_pb2.Space) -> models.Space:
    """Return a space in the form of the API."""
    return models.Space(
        space_id=pb.space_id,
        name=pb.name,
        role=_ROLES[pb.role],
        personal=pb.personal,
        alias=pb.alias or pb.space_id,
        deleted_at_ms=pb.deleted_at_ms or None,
        restorable_until_ms=pb.restorable_until_ms or None,
    )


def member(pb: auth_pb2.Member) -> models.Member:
    """Return a member in the form of the API."""
    return models.Member(user_id=pb.user_id, email=pb.email, role=_ROLES[pb.role])


def invitation(pb: auth_pb2.Invitation) -> models.Invitation:
    """Return an invitation to a space in the form of the API."""
    return models.Invitation(
        space_id=pb.space_id,
        space_name=pb.space_name,
        email=pb.email,
        role=_ROLES[pb.role],
        invited_by=pb.invited_by,
        created_at_ms=pb.created_at_ms,
        expires_at_ms=pb.expires_at_ms,
    )


def presented_invitation(pb: auth_pb2.GetInvitationResponse) -> models.PresentedInvitation:
    """Return an invitation whose token was presented, in the form of the API."""
    told = pb.invitation
    return models.PresentedInvitation(
        email=told.email or None,
        expires_at_ms=told.expires_at_ms,
        space=invitation(told) if told.space_id else None,
        guest=pb.guest,
    )


def link(pb: auth_pb2.Link) -> models.Link:
    """Return a public link in the form of the API."""
    return models.Link(
        link_id=pb.link_id,
        space_id=pb.space_id,
        node=node_text(pb.node),
        user_id=pb.user_id,
        created_at_ms=pb.created_at_ms,
        expires_at_ms=pb.expires_at_ms or None,
        has_password=pb.has_password,
        max_downloads=pb.max_downloads or None,
        downloads=pb.downloads,
        made_by=pb.made_by or None,
    )
