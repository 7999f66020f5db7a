"""The doorbell: the message that notifies a watching device of a change in a space."""

from __future__ import annotations

from dataclasses import dataclass

from syncline.model.identifiers import SpaceId


@dataclass(frozen=True, slots=True)
class Doorbell:
    """Message that the journal of `space` now ends at sequence number `seq`. It carries no changes; the client requests
    those from the metadata service.
    """

    space: SpaceId
    seq: int
