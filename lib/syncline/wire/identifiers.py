"""Identifiers as they travel.

Each function returns the id, or raises InvalidArgument that names the field and says whether it is missing or wrong.
Protobuf does not tell an absent id from an empty one, so neither ever stands for a particular thing, such as the root.
"""

from __future__ import annotations

from syncline.model.identifiers import DeviceId, LinkId, NodeId, RequestId, SpaceId, UserId, parse_id, parse_text_id


def space_id_from_wire(text: str, *, what: str = "space_id") -> SpaceId:
    return SpaceId(parse_text_id(text, what=what))


def user_id_from_wire(text: str) -> UserId:
    return UserId(parse_text_id(text, what="user_id"))


def device_id_from_wire(text: str, *, what: str = "device_id") -> DeviceId:
    return DeviceId(parse_text_id(text, what=what))


def link_id_from_wire(text: str) -> LinkId:
    return LinkId(parse_text_id(text, what="link_id"))


def node_id_from_wire(raw: bytes, *, what: str = "node") -> NodeId:
    """The root is sixteen zero bytes, never an empty field."""
    return NodeId(parse_id(raw, what=what))


def request_id_from_wire(raw: bytes) -> RequestId:
    return RequestId(parse_id(raw, what="request_id"))
