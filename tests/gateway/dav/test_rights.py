"""Records of WebDAV, which no service guards, are read and written by the right as it stands at that moment."""

import asyncio
from typing import Any

import pytest

from gateway.dav import properties
from gateway.dav.locks import Locks
from gateway.dav.refusals import DavRefused
from gateway.dav.session import WRITING_SECONDS, DavSession, DavSpace, Person
from gateway.identity.caller import Caller
from runtime.interruption import ASK_SECONDS
from syncline.model.identifiers import DeviceId, NodeId, SpaceId, UserId
from tests.support.records import InMemoryRecords
from tests.support.rights import Rights

SPACE = DavSpace(SpaceId("a" * 26), "team", True)
NODE = NodeId(bytes(range(16)))
ROOT = "/team/a"
TAG = ("{x}tag", '<tag xmlns="x">text</tag>')


class World:
    """One request after the other of one person, whose right a test takes away."""

    def __init__(self) -> None:
        self.records, self.rights = InMemoryRecords(), Rights()
        self.now = 0.0
        self.session = self.request()

    def request(self) -> DavSession:
        """A request that begins now."""
        person = Person(UserId("ann"), DeviceId("laptop"), Caller("token"), {SPACE.name: SPACE})
        nobody: Any = None  # no service is asked
        return DavSession(
            nobody,
            self.records,
            person,
            asyncio.get_running_loop(),
            ask_right=self.rights,
            monotonic=lambda: self.now,
        )

    async def set_property(self) -> None:
        await asyncio.to_thread(properties.change, self.session, SPACE, NODE, [TAG])

    async def read_properties(self) -> object:
        return await asyncio.to_thread(properties.read_properties, self.session, SPACE, NODE)

    async def lock(self, path: str = ROOT) -> dict[str, Any]:
        return await asyncio.to_thread(
            Locks(self.session, home=path).acquire,
            url=path,
            lock_type="write",
            lock_scope="exclusive",
            lock_depth="0",
            lock_owner=b"",
            timeout=60,
            principal="ann",
            token_list=[],
        )

    async def refresh(self, token: str) -> None:
        await asyncio.to_thread(Locks(self.session, home=ROOT).refresh, token)

    async def unlock(self, token: str) -> None:
        await asyncio.to_thread(Locks(self.session, home=ROOT).release, token)


@pytest.fixture
async def world() -> World:
    return World()


async def test_whoever_lost_the_right_sets_no_property(world):
    world.rights.writes = False
    with pytest.raises(DavRefused) as caught:
        await world.set_property()
    assert caught.value.reason == "PERMISSION_DENIED"
    assert await world.read_properties() == {}


async def test_whoever_lost_the_right_takes_keeps_and_gives_up_no_lock(world):
    lock = await world.lock()
    world.now += 2 * WRITING_SECONDS
    world.rights.reads = world.rights.writes = False
    world.session = world.request()
    for change, what in ((world.lock, "/team/b"), (world.refresh, lock["token"]), (world.unlock, lock["token"])):
        with pytest.raises(DavRefused) as caught:
            await change(what)
        assert caught.value.reason == "NO_SUCH_SPACE"


async def test_a_request_that_lasts_asks_again_before_it_reads(world):
    await world.set_property()
    world.session = world.request()
    asked = len(world.rights.asked)
    assert TAG[0] in await world.read_properties()
    assert len(world.rights.asked) == asked  # the person was found out when the request began
    world.rights.reads = False
    world.session.forget(SPACE, [f"properties/{NODE.hex()}"])
    world.now += 2 * ASK_SECONDS
    with pytest.raises(DavRefused) as caught:
        await world.read_properties()
    assert caught.value.reason == "NO_SUCH_SPACE"
    with pytest.raises(DavRefused):
        await asyncio.to_thread(world.session.read_all, SPACE, "properties/")


async def test_several_records_of_one_change_are_one_question(world):
    for _ in range(5):
        await world.set_property()
        await asyncio.to_thread(world.session.write, SPACE, "another", b"record")
        world.session.forget(SPACE, ["another"])
        world.session.hold(SPACE, ["another"], await world.records.read(SPACE.id, ["another"]))
    assert world.rights.asked == [True]
