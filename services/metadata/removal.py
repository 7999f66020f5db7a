"""The removal of an object that is not sealed, of which the same bytes may be sealed at any moment.

The etag does not tell such an object from one with the same bytes that somebody puts and seals meanwhile. So the
removal is recorded where the seal would be, before the object is removed; ObjectIndex says what sealing does then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from services.metadata.ports import ObjectIndex, ObjectStorage
from syncline.model.blocks import Digest
from syncline.model.identifiers import SpaceId

T = TypeVar("T")

_REMOVAL_MS: Final = 86_400_000
"""After which a removal is over, whatever became of its process: S3 refuses what was signed fifteen minutes before."""
_STALLED_MS: Final = 3_600_000
"""A removal that was recorded longer ago, by a process that was suspended since, is given up before its request."""


async def remove_unsealed(
    index: ObjectIndex,
    storage: ObjectStorage,
    space: SpaceId,
    digest: Digest,
    *,
    etag: str,
    now_ms: Callable[[], int],
) -> bool:
    """Remove the object if it has this etag and is not sealed by now; True if it was removed.

    The removal is over when storage has answered the only request for it. Where that is not known, it counts as under
    way for a day, and the object cannot be sealed until then. So it goes on if the caller of this goes away. `now_ms`
    tells milliseconds since 1970.
    """

    async def remove() -> bool:
        began_ms = now_ms()
        number = await index.begin_removal(space, digest, now_ms=began_ms, until_ms=began_ms + _REMOVAL_MS)
        if number is None:
            return False
        if now_ms() - began_ms > _STALLED_MS:  # a request sent now might be under way when the day is over
            await index.end_removal(space, digest, number)
            return False
        deletion = await storage.remove_once(space, digest.hex(), etag=etag)
        if deletion.is_over:
            await index.end_removal(space, digest, number)
        return deletion.removed

    return await _to_its_end(remove())


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await work that is not to be broken off."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
