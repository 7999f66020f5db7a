"""Streams end when the right ends with which they were opened."""

import asyncio

import pytest

from runtime.interruption import ASK_SECONDS, REMEMBERED_SECONDS, asked_again
from syncline.model.errors import LimitReached, NoSuchSpace, RateExceeded, Unavailable
from syncline.model.limits import REVOCATION_SECONDS

OFTEN = 0.01


class Auth:
    """Says what it is told to, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


async def endless():
    while True:
        yield 1
        await asyncio.sleep(0)


async def silent():
    yield 1
    await asyncio.Event().wait()


async def through(items, ask, **more):
    async with asyncio.timeout(60), asked_again(ask, seconds=OFTEN, **more) as ending:
        async for _ in ending.until(items()):
            pass


@pytest.mark.parametrize("items", [endless, silent])
async def test_a_stream_ends_with_the_reason(items):
    auth = Auth()
    auth.error = NoSuchSpace("gone")
    with pytest.raises(NoSuchSpace, match="gone"):
        await through(items, auth)
    assert auth.asked == 1


async def test_it_goes_on_while_the_right_stands():
    auth = Auth()
    async with asked_again(auth, seconds=OFTEN) as ending:
        async for _ in ending.until(endless()):
            if auth.asked >= 3:
                break
    asked = auth.asked
    await asyncio.sleep(5 * OFTEN)
    assert auth.asked == asked, "nobody asks when the stream has ended"


async def test_an_outage_is_outlived_and_a_long_one_is_not():
    auth = Auth()
    async with asked_again(auth, seconds=OFTEN, patience=60) as ending:
        auth.error = Unavailable()
        async for _ in ending.until(endless()):
            if auth.asked >= 3:
                break
    with pytest.raises(Unavailable):
        await through(silent, auth, patience=5 * OFTEN)


async def test_an_auth_that_does_not_answer_at_all_is_an_outage():
    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Unavailable):
        await through(silent, hang, patience=5 * OFTEN)


def test_it_is_asked_often_enough():
    """Once in vain, and once more, within what is promised."""
    assert 2 * ASK_SECONDS < REVOCATION_SECONDS


def test_what_is_remembered_is_forgotten_early_enough():
    """A stream that a remembered right opens at the last moment is asked about within what is promised."""
    assert REMEMBERED_SECONDS + ASK_SECONDS < REVOCATION_SECONDS


def late() -> RateExceeded:
    return RateExceeded(work="read", retry_after_seconds="0.010")


async def test_a_question_that_came_too_fast_says_nothing_about_the_right():
    auth = Auth()
    async with asyncio.timeout(60), asked_again(auth, seconds=OFTEN) as ending:
        auth.error = late()
        while auth.asked < 5:
            await asyncio.sleep(OFTEN)
        auth.error = None
        while auth.asked < 10:
            await asyncio.sleep(OFTEN)
        assert ending.error is None


async def test_a_right_that_cannot_be_asked_about_for_long_is_not_known_to_stand():
    auth = Auth()
    auth.error = late()
    with pytest.raises(RateExceeded):
        await through(silent, auth, patience=100 * OFTEN)
    assert auth.asked >= 2


async def test_a_limit_that_waiting_does_not_help_against_is_an_answer():
    auth = Auth()
    auth.error = LimitReached()
    with pytest.raises(LimitReached):
        await through(silent, auth)
    assert auth.asked == 1
