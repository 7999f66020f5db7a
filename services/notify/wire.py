"""Conversion between protobuf messages and notify's values."""

from __future__ import annotations

from collections.abc import Sequence

from syncline.model.accounts import MailMode
from syncline.model.doorbell import Doorbell
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import SpaceId
from syncline.model.limits import MAX_WATCHED_SPACES
from syncline.notify.v1 import notify_pb2
from syncline.wire.identifiers import space_id_from_wire


def space_ids_from_wire(texts: Sequence[str]) -> tuple[SpaceId, ...]:
    """Return the distinct spaces of a watch. Raise InvalidArgument for none, for more than MAX_WATCHED_SPACES, and for
    a text that is no id.
    """
    if not 1 <= len(texts) <= MAX_WATCHED_SPACES:
        raise InvalidArgument(f"space_ids must name 1 to {MAX_WATCHED_SPACES} spaces, not {len(texts)}")
    named = (space_id_from_wire(text, what=f"space_ids[{position}]") for position, text in enumerate(texts))
    return tuple(dict.fromkeys(named))


def mode_from_wire(pb: notify_pb2.MailMode.ValueType) -> MailMode:
    try:
        return MailMode(pb)
    except ValueError:
        raise InvalidArgument("mode must be MAIL_MODE_INSTANT or MAIL_MODE_OFF") from None


def mode_to_wire(mode: MailMode) -> notify_pb2.MailMode.ValueType:
    return notify_pb2.MailMode.ValueType(mode.value)


def doorbell_to_wire(doorbell: Doorbell | None) -> notify_pb2.WatchResponse:
    """Return the message for a doorbell, or a heartbeat for None."""
    if doorbell is None:
        return notify_pb2.WatchResponse(heartbeat=notify_pb2.Heartbeat())
    return notify_pb2.WatchResponse(doorbell=notify_pb2.Doorbell(space_id=doorbell.space, seq=doorbell.seq))
