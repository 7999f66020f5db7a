"""Repetitions of mutation requests: a request is carried out once for each user and request id."""

from __future__ import annotations

import hashlib

from services.auth.ports import RequestStore
from services.auth.records import Done
from syncline.model.errors import RequestIdReused
from syncline.model.identifiers import RequestId, UserId


def done_by(user: UserId, request: RequestId, *asked: str, at_ms: int) -> Done:
    """Return the record of a user's mutation request that asks for `asked`, texts that together distinguish it from all
    other requests. `at_ms` is the present time in milliseconds since 1970.
    """
    return Done(user, request, hashlib.sha256("\0".join(asked).encode()).digest(), at_ms)


async def is_repetition(requests: RequestStore, done: Done) -> bool:
    """Return True if the request of `done` was carried out before. Raise RequestIdReused if its id was used for a
    request that asked for something else.
    """
    known = await requests.done(done.user, done.request)
    if known is not None and known != done.fingerprint:
        raise RequestIdReused
    return known is not None
