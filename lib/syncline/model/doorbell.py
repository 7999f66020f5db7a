"""The doorbell: the message that tells a watching device that a space has changed."""

from __future__ import annotations

from dataclasses import dataclass

from syncline.model.identifiers import SpaceId


@dataclass(frozen=True, slots=True)
class Doorbell:
    """The space is now at sequence number `seq`. The changes themselves are always pulled from the journal."""

    space: SpaceId
    seq: int
