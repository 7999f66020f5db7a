"""Reserving: versions of a space take bytes of quotas, which metadata reserves at auth before it commits them.

Auth reserves somewhat more than is asked for, and a process remembers what is reserved for a few seconds, so that most
commits ask for nothing. A smaller quota therefore takes effect within these seconds, a larger one at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from runtime.interruption import REMEMBERED_SECONDS
from syncline.model.identifiers import SpaceId


@dataclass(frozen=True, slots=True)
class ReservedBytes:
    """The bytes that are reserved for a space, and those that could be reserved at most: the quota of the space, or the
    rest of the quota of the owner for whom it counts. `whole_quota_bytes` is the smaller one of both quotas, whatever
    other spaces take.
    """

    reserved_bytes: int
    quota_bytes: int
    whole_quota_bytes: int


class Reserving(Protocol):
    """Port to auth, which reserves bytes of quotas for spaces."""

    async def reserve(self, space: SpaceId, *, used_bytes: int, wanted_bytes: int) -> ReservedBytes:
        """Reserve `wanted_bytes` in all for a space, or nothing more if they do not fit into the quotas, and return
        what is reserved then. `used_bytes` are the sizes of all versions of the space. Raise Unavailable if auth does
        not answer.
        """


_NOTHING: Final = ReservedBytes(0, 0, 0)


class SpaceReservation:
    """The bytes that are reserved for one space, as far as this process knows."""

    def __init__(
        self,
        space: SpaceId,
        reserving: Reserving,
        *,
        seconds: float = REMEMBERED_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seconds` is the time for which an answer is remembered, and `monotonic` returns seconds."""
        self._space = space
        self._reserving = reserving
        self._seconds = seconds
        self._monotonic = monotonic
        self._known = _NOTHING
        self._asked_at: float | None = None

    @property
    def reserved_bytes(self) -> int:
        """The bytes that the versions of the space may have in all without another call of `ask`."""
        return self._known.reserved_bytes

    @property
    def quota_bytes(self) -> int:
        """The bytes that the versions of the space may have in all after further calls of `ask`."""
        return self._known.quota_bytes

    @property
    def is_recent(self) -> bool:
        """True if the last answer of auth is not older than an answer is remembered."""
        return self._asked_at is not None and self._monotonic() - self._asked_at <= self._seconds

    async def ask(self, *, used_bytes: int, wanted_bytes: int = 0) -> None:
        """Ask auth to reserve `wanted_bytes` in all; 0 only asks what is reserved. Raise the errors of
        `Reserving.reserve`, which change nothing.
        """
        asked_at = self._monotonic()
        answer = await self._reserving.reserve(self._space, used_bytes=used_bytes, wanted_bytes=wanted_bytes)
        if self._asked_at is None or asked_at >= self._asked_at:  # otherwise a later question was answered first
            self._known, self._asked_at = answer, asked_at
