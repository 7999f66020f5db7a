"""Identifiers: their form, and the derivation of a node's id from the request that creates the node.

| id | form |
|---|---|
| node | 16 bytes; the root of every space is sixteen zero bytes |
| request | 16 random bytes chosen by the client |
| space, user, device, link | 26 lower-case base32 characters (128 random bits) |
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import NewType

from syncline.model.errors import InvalidArgument

NodeId = NewType("NodeId", bytes)
RequestId = NewType("RequestId", bytes)
SpaceId = NewType("SpaceId", str)
UserId = NewType("UserId", str)
DeviceId = NewType("DeviceId", str)
LinkId = NewType("LinkId", str)

ID_BYTES = 16
ROOT = NodeId(bytes(ID_BYTES))

_TEXT_ID = re.compile(r"[a-z2-7]{26}")


def new_text_id() -> str:
    """Return 128 random bits as 26 characters of lower-case base32: a space, user, device or link id."""
    return base64.b32encode(secrets.token_bytes(ID_BYTES)).decode().rstrip("=").lower()


def new_request_id() -> RequestId:
    """Return 16 random bytes that identify one mutation request."""
    return RequestId(secrets.token_bytes(ID_BYTES))


def created_node_id(space: SpaceId, request: RequestId, index: int) -> NodeId:
    """Return the id of the node that mutation `index` of a request creates; `index` is counted from 0.

    The id is derived from `space` and `request`, so that

    - later mutations of the same request can refer to the node,
    - a repeated request creates the same node, and
    - nobody can choose the id of another user's node.

    Ids are evenly distributed over the first byte, which selects the table partition.
    """
    seed = b"syncline node\0" + space.encode() + b"\0" + request + index.to_bytes(4, "big")
    return NodeId(hashlib.sha256(seed).digest()[:ID_BYTES])


def derived_request_id(request: RequestId, index: int) -> RequestId:
    """Return the id of the request number `index` (from 0) of several that together carry out `request`: always the
    same for equal arguments, so that a repetition is recognised.
    """
    return RequestId(hashlib.sha256(request + index.to_bytes(4, "big")).digest()[:ID_BYTES])


def parse_text_id(text: str, *, what: str) -> str:
    """Return `text` unchanged if it has the form of a space, user, device or link id. Raise InvalidArgument otherwise;
    its text calls the field `what`.
    """
    if not text:
        raise InvalidArgument(f"{what} is missing", field=what)
    if not _TEXT_ID.fullmatch(text):
        raise InvalidArgument(f"{what} is not a valid id: 26 characters of a-z and 2-7", field=what)
    return text


def parse_id(raw: bytes, *, what: str) -> bytes:
    """Return `raw` unchanged if it has the form of a node or request id, which is 16 bytes. Raise InvalidArgument
    otherwise; its text calls the field `what`.
    """
    if not raw:
        raise InvalidArgument(f"{what} is missing: {ID_BYTES} bytes", field=what)
    if len(raw) != ID_BYTES:
        raise InvalidArgument(f"{what} must be {ID_BYTES} bytes, not {len(raw)}", field=what)
    return raw
