"""The doorbell: the message that notifies a watching device of a change in a space."""

from __future__ import annotations

from dataclasses import dataclass

from syncline.model.identifiers import SpaceId


@dataclass(frozen=True, slots=True)
class Doorbell:
    """Message that the head of a space is now at sequence number `seq`. The changes themselves are always pulled from
    the journal.
    """

    space: SpaceId
    seq: int
