"""Metadata asks auth about a caller, and an answer is good for a while."""

from __future__ import annotations

import asyncio

import pytest

from runtime.identity import Identity
from services.metadata.access import CallerRight, RoleCache
from syncline.model.accounts import Role
from syncline.model.errors import DeviceRevoked, NoSuchSpace, PermissionDenied, SpaceDeleted, Unavailable
from syncline.model.identifiers import DeviceId, SpaceId, UserId

SPACE = SpaceId("s" * 26)
BEN = Identity(user=UserId("b" * 26), device=DeviceId("d" * 26))


class SlowAuth:
    """Looks a grant up when it is asked, and answers when it is told to."""

    def __init__(self) -> None:
        self.has: CallerRight | Exception = CallerRight(Role.EDITOR, 5)
        self.asked = 0
        self.answers = asyncio.Event()

    async def right(self, space: SpaceId, caller: Identity) -> CallerRight:
        self.asked += 1
        found = self.has
        await self.answers.wait()
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def auth() -> SlowAuth:
    return SlowAuth()


def requiring(access: RoleCache) -> asyncio.Task[CallerRight]:
    return asyncio.create_task(access.require(SPACE, BEN, Role.EDITOR, now=True))


async def until_asked(auth: SlowAuth, times: int) -> None:
    async with asyncio.timeout(60):
        while auth.asked < times:
            await asyncio.sleep(0)


async def test_who_comes_while_a_question_is_under_way_shares_the_next(auth: SlowAuth) -> None:
    access = RoleCache(auth)
    first = requiring(access)
    await until_asked(auth, 1)
    auth.has = CallerRight(Role.VIEWER)
    late = [requiring(access) for _ in range(20)]
    await asyncio.sleep(0)
    auth.answers.set()
    assert (await first).writes_since_ms == 5
    for outcome in await asyncio.gather(*late, return_exceptions=True):
        assert isinstance(outcome, PermissionDenied)
    assert auth.asked == 2
    auth.has = CallerRight(Role.EDITOR, 7)
    assert (await requiring(access)).writes_since_ms == 7
    assert auth.asked == 3


async def test_who_gives_up_takes_the_answer_from_nobody(auth: SlowAuth) -> None:
    access = RoleCache(auth)
    first, second, third = (requiring(access) for _ in range(3))
    await until_asked(auth, 1)
    for one in (first, second):
        one.cancel()
    await asyncio.wait([first, second])
    auth.answers.set()
    assert (await third).role is Role.EDITOR
    assert auth.asked == 1


@pytest.mark.parametrize("error", [Unavailable(), DeviceRevoked()])
async def test_an_error_is_for_those_who_asked(auth: SlowAuth, error: Exception) -> None:
    access = RoleCache(auth)
    auth.answers.set()
    auth.has = error
    both = await asyncio.gather(requiring(access), requiring(access), return_exceptions=True)
    assert all(outcome is error for outcome in both)
    auth.has = CallerRight(Role.EDITOR)
    assert (await requiring(access)).role is Role.EDITOR


async def test_what_was_found_ended_is_not_read_either(auth: SlowAuth) -> None:
    access = RoleCache(auth)
    auth.answers.set()
    await requiring(access)
    auth.has = CallerRight(None)
    await access.require(SPACE, BEN, Role.VIEWER)  # the answer is remembered
    with pytest.raises(NoSuchSpace):
        await requiring(access)
    with pytest.raises(NoSuchSpace):
        await access.require(SPACE, BEN, Role.VIEWER)


async def test_a_deleted_space_is_refused_with_its_date_and_not_read_either(auth: SlowAuth) -> None:
    access = RoleCache(auth)
    auth.answers.set()
    await requiring(access)
    auth.has = SpaceDeleted.since(SPACE, at_ms=1_000, until_ms=2_000)
    await access.require(SPACE, BEN, Role.VIEWER)  # the answer is remembered
    for now in (True, False):
        with pytest.raises(SpaceDeleted, match="1970-01-01"):
            await access.require(SPACE, BEN, Role.VIEWER, now=now)
    with pytest.raises(SpaceDeleted):
        await access.writes_since_ms(SPACE, BEN)
