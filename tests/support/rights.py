"""The rights of callers, for what asks for them again and again."""

from __future__ import annotations

from syncline.model.errors import NoSuchSpace, PermissionDenied
from syncline.model.identifiers import SpaceId


class Rights:
    """Implement `AskRight`: the caller may do everything until a test takes that away. Counts the questions."""

    def __init__(self) -> None:
        self.reads = True
        self.writes = True
        self.asked: list[bool] = []
        """The questions so far: True for those about writing."""

    async def __call__(self, space: SpaceId, *, writes: bool) -> None:
        self.asked.append(writes)
        if not self.reads:
            raise NoSuchSpace(space_id=space)
        if writes and not self.writes:
            raise PermissionDenied("you may only read in this space")
