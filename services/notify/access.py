"""Access to the doorbells of a space: the right is checked with auth, and cached for a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Final

from cachetools import TTLCache

from runtime.interruption import REMEMBERED_SECONDS
from services.notify.ports import MemberDirectory
from services.notify.records import PersonAccess
from syncline.model.errors import DeviceRevoked, NoSuchSpace, TokenExpired
from syncline.model.identifiers import DeviceId, SpaceId, UserId
from syncline.model.limits import MAX_CHECKED_RIGHTS

_MAX_CACHED_ANSWERS: Final = 100_000


@dataclass(slots=True)
class _Question:
    """The spaces and devices of one person that several calls ask about; they are collected while the person's request
    before is in flight.
    """

    spaces: set[SpaceId] = field(default_factory=set)
    devices: set[DeviceId] = field(default_factory=set)
    answer: asyncio.Task[PersonAccess] | None = None


@dataclass(frozen=True, slots=True)
class _SignedIn:
    """A device that is signed in: its user, and the only spaces that its key opens, None for all spaces of the user."""

    user: UserId
    spaces: Set[SpaceId] | None


class GrantCache:
    """Cache of grants and signed-in devices, each valid for `seconds`. Negative answers are not cached.

    A grant belongs to the person, whichever device asks, so all Watch calls of one person share it; the spaces to
    which a program's key is limited are cached with the device. One request per person is in flight
    at a time; questions that arrive while it is in flight form the next request.

    Auth is asked with this service's own token about a user whose token was verified when the call began. When that
    token expires, the server ends the call, see `runtime.rpc.interceptors.StreamsEnd`.
    """

    def __init__(self, directory: MemberDirectory, *, seconds: float = REMEMBERED_SECONDS) -> None:
        self._directory = directory
        self._granted: TTLCache[tuple[SpaceId, UserId], bool] = TTLCache(_MAX_CACHED_ANSWERS, seconds)
        self._signed_in: TTLCache[DeviceId, _SignedIn] = TTLCache(_MAX_CACHED_ANSWERS, seconds)
        self._waiting: dict[UserId, _Question] = {}
        self._under_way: dict[UserId, asyncio.Task[PersonAccess]] = {}

    async def require(self, *spaces: SpaceId, user: UserId, device: DeviceId) -> None:
        """Check that `user`, who calls with `device`, may receive the doorbells of all of `spaces`:

        - Raise NoSuchSpace for a space in which the user has no grant, or which the key of the device does not open.
        - Raise SpaceDeleted for a space that is deleted.
        - Raise DeviceRevoked if the device was revoked.
        - Raise TokenExpired if the device has expired.
        - Raise Unavailable if auth does not answer.
        """
        unknown = [space for space in spaces if (space, user) not in self._granted]
        known = self._signed_in.get(device)
        if known is None or known.user != user or unknown:
            answer = await self._ask(unknown, user=user, device=device)
            if device in answer.revoked:
                raise DeviceRevoked
            if device in answer.expired:
                raise TokenExpired
            _check_opened(spaces, answer.limited.get(device))
            for space in unknown:
                if space in answer.deleted:
                    raise answer.deleted[space]
                if space not in answer.spaces:
                    raise _unseen(space)
        else:
            _check_opened(spaces, known.spaces)

    async def _ask(self, spaces: Iterable[SpaceId], *, user: UserId, device: DeviceId) -> PersonAccess:
        question = self._waiting.setdefault(user, _Question())
        question.spaces.update(spaces)
        question.devices.add(device)
        if question.answer is None:
            question.answer = asyncio.create_task(self._answer(question, user, after=self._under_way.get(user)))
            question.answer.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # all callers may have been cancelled
        return await asyncio.shield(question.answer)

    async def _answer(
        self, question: _Question, user: UserId, *, after: asyncio.Task[PersonAccess] | None
    ) -> PersonAccess:
        if after is not None:
            await asyncio.wait([after])
        del self._waiting[user]
        assert question.answer is not None
        self._under_way[user] = question.answer
        try:
            return await self._checked(question, user)
        finally:
            del self._under_way[user]

    async def _checked(self, question: _Question, user: UserId) -> PersonAccess:
        """Return auth's answer to the questions about one person. Parts of it that are in the cache are not asked for
        again.
        """
        known = {space for space in question.spaces if (space, user) in self._granted}
        spaces, devices = sorted(question.spaces - known), sorted(question.devices)
        parts = [
            await self._directory.check(
                spaces[start : start + MAX_CHECKED_RIGHTS],
                user=user,
                devices=devices[start : start + MAX_CHECKED_RIGHTS],
            )
            for start in range(0, max(len(spaces), len(devices)), MAX_CHECKED_RIGHTS)
        ]
        answer = PersonAccess(
            spaces=known.union(*(part.spaces for part in parts)),
            revoked=frozenset().union(*(part.revoked for part in parts)),
            expired=frozenset().union(*(part.expired for part in parts)),
            deleted={space: error for part in parts for space, error in part.deleted.items()},
            limited={device: spaces for part in parts for device, spaces in part.limited.items()},
        )
        self._granted.update(((space, user), True) for space in answer.spaces - known)
        self._signed_in.update(
            (device, _SignedIn(user, answer.limited.get(device)))
            for device in question.devices - answer.revoked - answer.expired
        )
        return answer


def _check_opened(spaces: Iterable[SpaceId], opened: Set[SpaceId] | None) -> None:
    """Raise NoSuchSpace for a space that the key of a device does not open. `opened` has the spaces that it opens; None
    if it opens all spaces of its user.
    """
    for space in spaces:
        if opened is not None and space not in opened:
            raise _unseen(space)


def _unseen(space: SpaceId) -> NoSuchSpace:
    return NoSuchSpace(f"there is no space {space}, or you are not a member of it", space_id=space)
