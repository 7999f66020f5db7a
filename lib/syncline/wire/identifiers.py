"""Conversion of identifiers on the wire.

Each function returns the id, or raises InvalidArgument with the name of the field and whether it is missing or
malformed. Protobuf does not distinguish an absent id from an empty one, so no id is ever empty, not even that of the
root.
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
    """Return the node id in the field `what` of a message, whose value is `raw`. The id of the root is sixteen zero
    bytes. Raise InvalidArgument for another length than 16 bytes, also for an empty field.
    """
    return NodeId(parse_id(raw, what=what))


def request_id_from_wire(raw: bytes, *, what: str = "request_id") -> RequestId:
    return RequestId(parse_id(raw, what=what))
