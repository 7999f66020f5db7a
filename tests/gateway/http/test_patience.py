"""A service's limit ends a request for one thing with its word, and makes one that has begun wait."""

# ruff: noqa: N802 # grpc names the methods

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from typing_extensions import override

from gateway.dav.refusals import error_page, refused_by
from gateway.services.calls import PATIENCE_SECONDS, CallPatience, ask, set_patience
from runtime.pool import TooMuchAtOnce
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import LimitReached, NoSuchNode, RateExceeded, SynclineError
from syncline.model.tree import NodeKind
from tests.gateway.fakes import SPACE, TOKEN, Answer, FakeAuth, FakeMetadata, World, gateway

MANY = 10
"""More requests of one caller at once than it has turns of workers alone."""
DEADLINE = 60.0


def late(seconds: float = 0.02) -> RateExceeded:
    return RateExceeded(work="read", retry_after_seconds=f"{seconds:.3f}")


class Limited:
    """An rpc that answers with these errors first."""

    def __init__(self, *errors: SynclineError | None) -> None:
        self.asked = 0
        self._errors = list(errors)

    async def __call__(self, _request: Any, *, metadata: Any) -> str:
        self.asked += 1
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error
        return "done"


async def test_the_first_call_of_a_request_is_answered_at_once() -> None:
    set_patience(CallPatience())
    method = Limited(late())
    with pytest.raises(RateExceeded):
        await ask(method, None, token=TOKEN)
    assert method.asked == 1


@pytest.mark.parametrize("first", [None, NoSuchNode()])
async def test_what_has_begun_waits(first: SynclineError | None) -> None:
    set_patience(CallPatience())
    method = Limited(first, late(), late())
    with contextlib.suppress(NoSuchNode):
        await ask(method, None, token=TOKEN)
    assert await ask(method, None, token=TOKEN) == "done"
    assert method.asked == 4


async def test_nobody_waits_who_is_not_known() -> None:
    """A key that is tried too often is limited in the same way."""
    set_patience(CallPatience(begun=True))
    method = Limited(late())
    with pytest.raises(RateExceeded):
        await ask(method, None)
    assert method.asked == 1


@pytest.mark.parametrize("first", [None, NoSuchNode()])
async def test_a_call_of_the_gateway_s_own_begins_nothing(first: SynclineError | None) -> None:
    """Such as for the token of a key: whoever asks for one thing is told at once, with a new key too."""
    set_patience(CallPatience())
    method = Limited(first, late())
    with contextlib.suppress(NoSuchNode):
        await ask(method, None)
    with pytest.raises(RateExceeded):
        await ask(method, None, token=TOKEN)
    assert method.asked == 2


@pytest.mark.parametrize(
    ("request_", "error", "asked"),
    [
        (auth_pb2.OpenLinkRequest(), TooMuchAtOnce(retry_after_seconds="0.02"), 1),
        (auth_pb2.OpenLinkRequest(), late(), 2),
        (auth_pb2.CountLinkDownloadRequest(), TooMuchAtOnce(retry_after_seconds="0.02"), 2),
        (metadata_pb2.GetNodeRequest(), TooMuchAtOnce(retry_after_seconds="0.02"), 2),
    ],
    ids=["an attempt, perhaps counted", "an attempt that was not admitted", "a download, counted once", "a read"],
)
async def test_what_may_be_done_already_is_done_once(request_: Any, error: SynclineError, asked: int) -> None:
    set_patience(CallPatience(begun=True))
    method = Limited(error)
    with contextlib.suppress(TooMuchAtOnce):
        assert await ask(method, request_, token=TOKEN) == "done"
    assert method.asked == asked


async def test_patience_ends() -> None:
    set_patience(CallPatience(begun=True))
    method = Limited(late(PATIENCE_SECONDS + 1))
    with pytest.raises(RateExceeded):
        await ask(method, None, token=TOKEN)
    assert method.asked == 1


async def test_nobody_waits_for_a_limit_that_waiting_does_not_help_against() -> None:
    set_patience(CallPatience(begun=True))
    method = Limited(LimitReached("you own 100 spaces"))
    with pytest.raises(LimitReached, match="you own 100 spaces"):
        await ask(method, None, token=TOKEN)
    assert method.asked == 1


@pytest.mark.parametrize(
    ("error", "header"), [(late(1.2), "2"), (LimitReached(), None)], ids=["too fast", "as many as one may have"]
)
def test_webdav_says_when_to_come_again_if_that_helps(error: SynclineError, header: str | None) -> None:
    status, body, headers = error_page(refused_by(error))
    assert status == 429
    assert headers.get("retry-after") == header
    assert f"<s:exception>{error.reason}</s:exception>".encode() in body


class OneSpace(FakeAuth):
    """Everybody has one space."""

    @override
    async def ListSpaces(self, request, _context):
        space = auth_pb2.Space(space_id=SPACE, name="Project", alias="Project", role=auth_pb2.ROLE_OWNER)
        return auth_pb2.ListSpacesResponse(spaces=[space])


class Slow(FakeMetadata):
    """Admits nobody who lists until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open = False
        self.refused: Counter[str] = Counter()

    async def ListNodes(self, request, _context):
        if not self.open:
            self.refused[request.parent.hex()] += 1
            raise late(0.05)
        return metadata_pb2.ListNodesResponse()


SLOW: type[Any] = Slow
ONE_SPACE: type[Any] = OneSpace
"""For mypy they are abstract, since they have only the methods that are called."""


async def listings(world: World, count: int) -> list[asyncio.Task[Answer]]:
    """Return `count` PROPFINDs of directories, under way."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(count))  # in which they are sent
    for number in range(count):
        world.add(f"d{number}", None, NodeKind.DIRECTORY)
    headers = {"authorization": f"Bearer {TOKEN}", "depth": "1"}
    return [
        asyncio.create_task(world.ask(f"/dav/Project/d{number}", method="PROPFIND", **headers))
        for number in range(count)
    ]


async def test_requests_of_webdav_that_wait_for_a_rate_hold_no_turns():
    """One caller alone has half of the turns, so that not all of these would be at work at the same time."""
    slow = SLOW()
    async with gateway(World(auth=ONE_SPACE(), metadata=slow)) as world:
        asked = await listings(world, MANY)
        async with asyncio.timeout(DEADLINE):
            while len(slow.refused) < MANY:
                await asyncio.sleep(0.05)
        slow.open = True
        assert {answer.status for answer in await asyncio.gather(*asked)} == {207}


async def test_only_so_many_requests_of_webdav_wait_for_a_rate():
    slow = SLOW()
    async with gateway(World(auth=ONE_SPACE(), metadata=slow)) as world:
        asked = await listings(world, 3 * MANY)
        async with asyncio.timeout(DEADLINE):
            while len(slow.refused) < 3 * MANY:  # requests that find no place are told to come again
                await asyncio.sleep(0.05)
        slow.open = True
        answers = Counter(answer.status for answer in await asyncio.gather(*asked))
        assert answers[207] >= MANY
        assert answers[429] == 3 * MANY - answers[207] > 0
