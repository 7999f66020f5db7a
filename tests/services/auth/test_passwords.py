"""Passwords are hashed beside the event loop, in bounded memory, and an unknown account looks like any other."""

import asyncio
import os
import sys
import threading

import argon2
import pytest

from runtime.pool import Share, TooMuchAtOnce
from runtime.thread_priority import NICENESS
from services.auth.passwords import ARGON2_PASSES, MEMORY_KIB, PasswordCheck, Passwords, check_password
from syncline.model.errors import InvalidArgument

ME = Share("me@example.com", "192.0.2.9")


@pytest.fixture
def passwords():
    with Passwords(memory_kib=64, passes=1) as created:
        yield created


async def test_right_and_wrong(passwords):
    stored = await passwords.hash("correct horse", ME)
    assert stored.startswith("$argon2id$")
    assert "horse" not in stored
    assert await passwords.verify("correct horse", stored, ME) is PasswordCheck.RIGHT
    assert await passwords.verify("correct horsf", stored, ME) is PasswordCheck.WRONG
    assert await passwords.verify("", stored, ME) is PasswordCheck.WRONG


async def test_other_parameters_make_a_hash_outdated(passwords):
    with Passwords(memory_kib=128, passes=2) as newer:
        stored = await passwords.hash("correct horse", ME)
        assert await newer.verify("correct horse", stored, ME) is PasswordCheck.RIGHT_BUT_OUTDATED
        assert await newer.verify("wrong", stored, ME) is PasswordCheck.WRONG
        assert await newer.verify("correct horse", await newer.hash("correct horse", ME), ME) is PasswordCheck.RIGHT


async def test_letters_are_the_same_however_they_are_composed(passwords):
    stored = await passwords.hash("pässwörter", ME)
    assert await passwords.verify("pa\u0308sswo\u0308rter", stored, ME) is PasswordCheck.RIGHT


async def test_a_password_is_not_cut(passwords):
    longest = "x" * 1024
    stored = await passwords.hash(longest, ME)
    assert await passwords.verify(longest, stored, ME) is PasswordCheck.RIGHT
    assert await passwords.verify(longest + "y", stored, ME) is PasswordCheck.WRONG
    assert await passwords.verify(longest[:-1], stored, ME) is PasswordCheck.WRONG


async def test_without_an_account_the_same_work_is_done():
    with Passwords() as passwords:
        assert await passwords.verify("whatever", None, ME) is PasswordCheck.WRONG
        real = argon2.extract_parameters(await passwords.hash("whatever", ME))
        assert argon2.extract_parameters(passwords._nobody) == real
        assert (real.memory_cost, real.time_cost, real.parallelism) == (MEMORY_KIB, ARGON2_PASSES, 1)
        assert real.type is argon2.Type.ID


async def test_the_event_loop_goes_on_while_hashing():
    with Passwords(memory_kib=64 * 1024, passes=4) as passwords:
        hashing, turns = asyncio.create_task(passwords.hash("correct horse", ME)), 0
        while not hashing.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 100, "a hash that held the event loop up would take one turn"
        assert (await hashing).startswith("$argon2id$")


async def test_more_than_can_be_served_soon_are_told_at_once_to_come_back():
    """Calls that wait are counted: no more than there are places, and one network leaves some to others."""
    with Passwords(workers=1, places=10, memory_kib=1024, passes=1) as passwords:
        crowd = [Share(f"{i}@example.com", "192.0.2.1") for i in range(50)]
        outcomes = await asyncio.gather(
            *(passwords.hash("correct horse", one) for one in crowd),
            passwords.hash("correct horse", Share("ann@example.com", "192.0.2.2")),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [str] * 8 + [TooMuchAtOnce] * 42 + [str]
        refused = outcomes[20]
        assert isinstance(refused, TooMuchAtOnce)
        assert refused.retry_after_seconds
        assert await passwords.hash("correct horse", ME)


async def test_one_account_leaves_half_of_the_places():
    with Passwords(workers=1, places=10, memory_kib=1024, passes=1) as passwords:
        outcomes = await asyncio.gather(
            *(passwords.hash("correct horse", Share("ann@example.com", f"192.0.2.{i}")) for i in range(50)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [str] * 5 + [TooMuchAtOnce] * 45


async def test_a_network_with_many_requests_gets_a_turn_and_then_the_next_network_does():
    release, order = threading.Event(), []
    with Passwords(workers=1, places=32) as passwords:

        async def one(caller: str, network: str) -> None:
            await passwords._in_thread(release.wait, Share(caller, network))
            order.append(caller)

        crowd = [asyncio.create_task(one(f"crowd {i}", "192.0.2.1")) for i in range(10)]
        await asyncio.sleep(0)
        others = [asyncio.create_task(one(name, "192.0.2.2")) for name in ("ann", "ben")]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(*crowd, *others)
    assert [order.index(name) for name in ("crowd 0", "ann", "ben")] == [0, 2, 4]


async def test_a_thread_is_taken_until_its_work_ends_although_its_caller_has_gone():
    release, running = threading.Event(), threading.Event()

    def work() -> bool:
        running.set()
        return release.wait()

    with Passwords(workers=1, places=32) as passwords:
        gone = asyncio.create_task(passwords._in_thread(work, ME))
        assert await asyncio.to_thread(running.wait, 60)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert (passwords._places.taken(), passwords._idle) == (1, 0)
        waiting = asyncio.create_task(passwords._in_thread(lambda: "done", ME))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(passwords._in_thread(lambda: "never", ME))
        await asyncio.sleep(0)
        leaving.cancel()
        assert passwords._idle == 0
        release.set()
        assert await waiting == "done"
        async with asyncio.timeout(60):
            while passwords._places.taken():
                await asyncio.sleep(0)
        assert passwords._idle == 1


async def test_a_request_that_is_cancelled_as_its_turn_comes_passes_the_turn_on():
    with Passwords(workers=1, places=32) as passwords:
        leaving = asyncio.create_task(passwords._in_thread(lambda: "never", ME))
        await asyncio.sleep(0)
        assert passwords._idle == 0
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert (passwords._places.taken(), passwords._idle) == (0, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux only")
async def test_hashing_has_a_lower_priority_than_everything_else():
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    usual = niceness()
    with Passwords() as passwords:
        assert await passwords._in_thread(niceness, ME) == min(usual + NICENESS, 19)
    assert niceness() == usual


async def test_a_request_that_no_thread_can_take_returns_its_place_and_its_thread():
    with Passwords(workers=1, places=32) as passwords:
        pass
    # The threads have ended, so that they take no request, as after the failure of one of them.
    async with asyncio.timeout(60):
        outcomes = await asyncio.gather(
            *(passwords.hash("correct horse", ME) for _ in range(3)), return_exceptions=True
        )
    assert [type(outcome) for outcome in outcomes] == [RuntimeError] * 3
    assert (passwords._places.taken(), passwords._idle) == (0, 1)


@pytest.mark.parametrize("text", ["", "1234567", "x" * 1025])
def test_too_short_or_too_long(text):
    with pytest.raises(InvalidArgument, match="8 to 1024") as caught:
        check_password(text)
    assert not text or text not in str(caught.value)
