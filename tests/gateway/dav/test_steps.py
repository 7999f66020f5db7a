"""All processes remember the steps of a client, with a bound, and not for ever."""

import asyncio
from typing import Any

from gateway.dav import steps
from gateway.dav.session import DavSession, DavSpace, Person
from gateway.dav.steps import StepKind
from gateway.identity.caller import Caller
from gateway.records.ports import MAX_RECORD_BYTES
from syncline.model.identifiers import DeviceId, SpaceId, UserId
from tests.support.records import InMemoryRecords
from tests.support.rights import Rights

SPACE = DavSpace(SpaceId("a" * 26), "Docs", True)


class Slow(InMemoryRecords):
    """These records let others have their turn between reading and writing."""

    async def read(self, space, names):
        found = await super().read(space, names)
        await asyncio.sleep(0.001)
        return found


def session(records, device="key"):
    person = Person(UserId("ann"), DeviceId(device), Caller("token"), {SPACE.name: SPACE})
    nobody: Any = None  # no service is asked
    return DavSession(nobody, records, person, asyncio.get_running_loop(), ask_right=Rights())


async def test_a_step_is_seen_by_the_next_request_of_the_client_alone():
    records = InMemoryRecords()

    def story():
        steps.remember(first, SPACE, StepKind.TAKEN_AWAY, ("a", "b"), {"node": "1"})
        assert steps.remembered(next_, SPACE, StepKind.TAKEN_AWAY, ("a", "b")) == {"node": "1"}
        for other, what, key in (
            (stranger, StepKind.TAKEN_AWAY, ("a", "b")),
            (next_, StepKind.MOVED_HERE, ("a", "b")),
            (next_, StepKind.TAKEN_AWAY, ("a/b",)),
            (next_, StepKind.TAKEN_AWAY, ("a",)),
        ):
            assert steps.remembered(other, SPACE, what, key) is None
        steps.remember(next_, SPACE, StepKind.TAKEN_AWAY, ("a", "b"), {"node": "2"})
        steps.remember(next_, SPACE, StepKind.MOVED_HERE, ("a", "b"), {"node": "3"})
        assert steps.remembered(next_, SPACE, StepKind.TAKEN_AWAY, ("a", "b")) == {"node": "2"}
        steps.forget_step(next_, SPACE, StepKind.TAKEN_AWAY, ("a", "b"))
        assert steps.remembered(next_, SPACE, StepKind.TAKEN_AWAY, ("a", "b")) is None
        assert steps.remembered(next_, SPACE, StepKind.MOVED_HERE, ("a", "b")) == {"node": "3"}

    first, next_, stranger = session(records), session(records), session(records, "another key")
    await asyncio.to_thread(story)


async def test_a_step_counts_for_a_minute_before_a_request_that_may_take_longer():
    records = InMemoryRecords()

    def story():
        steps.remember(early, SPACE, StepKind.TAKEN_AWAY, ("a",), {"node": "1"})
        late.began += steps.SAVE_SECONDS + 1
        assert steps.remembered(early, SPACE, StepKind.TAKEN_AWAY, ("a",)) == {"node": "1"}
        assert steps.remembered(late, SPACE, StepKind.TAKEN_AWAY, ("a",)) is None

    early, late = session(records), session(records)
    await asyncio.to_thread(story)


async def test_what_is_remembered_has_a_bound_whatever_a_client_does():
    records = InMemoryRecords()

    def story():
        for number in range(2000):
            large = {"node": "x" * (20_000 if number % 50 == 0 else 10)}
            steps.remember(session_, SPACE, StepKind.TAKEN_AWAY, (f"{number}",), large)
        steps.remember(session_, SPACE, StepKind.TAKEN_AWAY, ("huge",), {"node": "x" * 500_000})
        assert steps.remembered(session_, SPACE, StepKind.TAKEN_AWAY, ("1999",)) is not None
        assert steps.remembered(session_, SPACE, StepKind.TAKEN_AWAY, ("0",)) is None
        return records.read_all(SPACE.id, "saving/"), [
            records.read(SPACE.id, [steps.slot(session_, (f"{number}",))]) for number in range(2000)
        ]

    session_ = session(records)
    everything, each = await asyncio.to_thread(story)
    await everything
    slots = {name: record for one in each for name, record in (await one).items()}
    assert len(slots) <= steps.SLOTS
    assert max(len(record.data) for record in slots.values()) < MAX_RECORD_BYTES


async def test_what_requests_remember_at_once_is_all_remembered():
    records = Slow()

    def remember(number):
        steps.remember(sessions[number], SPACE, StepKind.TAKEN_AWAY, (f"{number}",), {"node": f"{number}"})

    sessions = [session(records) for _ in range(16)]
    await asyncio.gather(*(asyncio.to_thread(remember, number) for number in range(16)))
    last = session(records)
    found = await asyncio.to_thread(
        lambda: [steps.remembered(last, SPACE, StepKind.TAKEN_AWAY, (f"{number}",)) for number in range(16)]
    )
    assert found == [{"node": f"{number}"} for number in range(16)]
