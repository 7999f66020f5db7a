"""Removal of an unsealed object while an object with the same bytes may be sealed concurrently.

The etag does not distinguish the unsealed object from one with the same bytes that a client uploads and seals in the
meantime. The removal is therefore recorded in the object index before the object is removed; ObjectIndex describes how
sealing reacts.
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
"""Milliseconds after which a removal is certainly over, even if its process died: S3 refuses requests whose signature
is older than fifteen minutes.
"""
_STALLED_MS: Final = 3_600_000
"""Milliseconds after which a recorded removal is abandoned if its request has not been sent yet, because the process
was suspended.
"""


async def remove_unsealed(
    index: ObjectIndex,
    storage: ObjectStorage,
    space: SpaceId,
    digest: Digest,
    *,
    etag: str,
    now_ms: Callable[[], int],
) -> bool:
    """Remove the object named `digest` of a space if it has this etag and is not sealed. Return True if it was removed.

    The removal has ended when S3 has answered its only request. If the answer is lost, the removal counts as in
    progress for a day, and the object cannot be sealed until then. The removal is therefore completed even if the
    calling task is cancelled. `now_ms` returns milliseconds since 1970.
    """

    async def remove() -> bool:
        began_ms = now_ms()
        number = await index.begin_removal(space, digest, now_ms=began_ms, until_ms=began_ms + _REMOVAL_MS)
        if number is None:
            return False
        if now_ms() - began_ms > _STALLED_MS:  # a request sent now might still be in flight when the day is over
            await index.end_removal(space, digest, number)
            return False
        deletion = await storage.remove_once(space, digest.hex(), etag=etag)
        if deletion.is_over:
            await index.end_removal(space, digest, number)
        return deletion.removed

    return await _to_its_end(remove())


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and return its result. If the calling task is cancelled, `work` runs to its end all the same, and
    only then is CancelledError raised.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
