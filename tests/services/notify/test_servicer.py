"""NotifyService over a real connection, in memory behind."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest

from runtime.identity import LinkScope
from runtime.interruption import ASK_SECONDS
from runtime.rpc.server import App, running
from runtime.tokens import mint_service_token
from services.notify.bootstrap import NotifyAdapters, bootstrap
from syncline.model.errors import (
    DeviceRevoked,
    Draining,
    InvalidArgument,
    NoSuchSpace,
    PermissionDenied,
    RateExceeded,
    RequestIdReused,
    SpaceDeleted,
    TokenExpired,
    Unauthenticated,
    Unavailable,
)
from syncline.model.identifiers import ROOT, LinkId, new_request_id, new_text_id
from syncline.notify.v1 import notify_pb2
from syncline.notify.v1.notify_pb2_grpc import NotifyServiceStub
from syncline.rpc.channel import aio_channel
from syncline.rpc.errors import error_from_rpc
from tests.services.notify.fakes import SECRET, FakeAuth, Person, commit, event, eventually, fake_auth, settings
from tests.services.refusals import methods_open_to
from tests.support.notify import InMemoryMailSender, InMemoryNotifyStore, InMemoryQueue, InMemoryTopic

ANN, BOB, EVE = Person("ann@example.com"), Person("bob@example.com"), Person("eve@example.com")
HEARTBEAT = notify_pb2.WatchResponse(heartbeat=notify_pb2.Heartbeat())


def doorbell(space, seq):
    return notify_pb2.WatchResponse(doorbell=notify_pb2.Doorbell(space_id=space, seq=seq))


@dataclass
class World:
    auth: FakeAuth
    topic: InMemoryTopic
    sender: InMemoryMailSender
    app: App
    target: str

    @asynccontextmanager
    async def stub(self, person, token=None):
        given = token or self.auth.token(person)
        async with aio_channel(self.target, authorization=lambda: given) as channel:
            yield NotifyServiceStub(channel)

    def announce(self, space, seq, author=BOB):
        self.topic.publish(event(space, commit(seq, author, "a.txt")))


@asynccontextmanager
async def serving(access_seconds=10.0, ask_seconds=ASK_SECONDS, **more):
    auth, topic, sender, mail_queue = fake_auth(), InMemoryTopic(), InMemoryMailSender(), InMemoryQueue()
    topic.subscribed.append(mail_queue)
    async with auth.serving() as auth_target:
        used = settings(auth_target, **more)
        adapters = NotifyAdapters(InMemoryNotifyStore(), mail_queue, topic, sender)
        async with (
            bootstrap(used, adapters, access_seconds=access_seconds, ask_seconds=ask_seconds) as app,
            running(app, used) as target,
        ):
            yield World(auth, topic, sender, app, target)


@pytest.fixture
async def world():
    async with serving() as world:
        yield world


async def read(call):
    async with asyncio.timeout(60):
        return await call.read()


async def failure(call):
    """The error that the call ends with."""
    try:
        while await read(call) is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error_from_rpc(error)
    return None


# -- watch


async def test_a_watch_begins_with_a_heartbeat_and_rings(world):
    space, other = world.auth.space(ANN, BOB), world.auth.space(ANN)
    async with world.stub(ANN) as stub:
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=[space, other, space]))
        assert await read(call) == HEARTBEAT
        world.announce(other, 3, author=ANN)
        assert await read(call) == doorbell(other, 3)
        world.announce(space, 8)
        assert await read(call) == doorbell(space, 8)
        call.cancel()


async def test_one_watch_does_not_hear_another_space(world):
    mine, theirs = world.auth.space(ANN), world.auth.space(EVE)
    async with world.stub(ANN) as stub:
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=[mine]))
        assert await read(call) == HEARTBEAT
        world.announce(theirs, 1)
        world.announce(mine, 2)
        assert await read(call) == doorbell(mine, 2)
        call.cancel()


async def test_heartbeats_go_on():
    async with serving(heartbeat_seconds=0.05) as world, world.stub(ANN) as stub:
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=[world.auth.space(ANN)]))
        for _ in range(4):
            assert await read(call) == HEARTBEAT
        call.cancel()
    assert world.auth.asked.count("check") == 1  # the grant is remembered meanwhile


async def test_a_slow_watcher_gets_the_latest_only(world):
    space = world.auth.space(ANN)
    async with world.stub(ANN) as stub:
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=[space]))
        assert await read(call) == HEARTBEAT
        for seq in range(1, 2001):
            world.announce(space, seq)
        heard = [await read(call)]
        while heard[-1] != doorbell(space, 2000):
            heard.append(await read(call))
        seqs = [one.doorbell.seq for one in heard]
        assert seqs == sorted(set(seqs))
        call.cancel()


@pytest.mark.parametrize("spaces", [[], ["a" * 26] * 101, ["../etc"], [""]])
async def test_malformed_watches_are_refused(world, spaces):
    async with world.stub(ANN) as stub:
        assert isinstance(await failure(stub.Watch(notify_pb2.WatchRequest(space_ids=spaces))), InvalidArgument)


async def test_no_watch_without_a_grant_in_each_space(world):
    mine, theirs = world.auth.space(ANN), world.auth.space(EVE)
    async with world.stub(ANN) as stub:
        for spaces in ([theirs], [mine, theirs], ["z" * 26]):
            error = await failure(stub.Watch(notify_pb2.WatchRequest(space_ids=spaces)))
            assert isinstance(error, NoSuchSpace)
    assert world.topic.queues


async def test_no_watch_for_a_revoked_device(world):
    space = world.auth.space(ANN)
    world.auth.revoked.add(ANN.device)
    async with world.stub(ANN) as stub:
        error = await failure(stub.Watch(notify_pb2.WatchRequest(space_ids=[space])))
    assert isinstance(error, DeviceRevoked)


async def test_no_watch_while_auth_does_not_answer(world):
    space = world.auth.space(ANN)
    async with world.stub(ANN) as stub:
        await stub.GetPreference(notify_pb2.GetPreferenceRequest(space_id=space))  # the keys are known
        world.auth.down = True
        error = await failure(stub.Watch(notify_pb2.WatchRequest(space_ids=[world.auth.space(ANN)])))
    assert isinstance(error, Unavailable)


@pytest.mark.parametrize("token", ["forged", "", mint_service_token("notify", SECRET)])
async def test_nobody_watches_without_an_access_token(world, token):
    space = world.auth.space(ANN)
    async with world.stub(ANN, token=token or "x") as stub:
        error = await failure(stub.Watch(notify_pb2.WatchRequest(space_ids=[space])))
    assert isinstance(error, Unauthenticated | PermissionDenied)


async def test_a_removed_member_does_not_hear_the_next_change():
    async with serving(access_seconds=0.001) as world, world.stub(ANN) as stub:
        space = world.auth.space(ANN, BOB)
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=[space]))
        assert await read(call) == HEARTBEAT
        world.auth.members_of[space] = [BOB]
        await asyncio.sleep(0.01)
        world.announce(space, 1)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await read(call)  # no doorbell before it
        assert isinstance(error_from_rpc(refused.value), NoSuchSpace)


@pytest.mark.parametrize(("revoked", "expected"), [(False, NoSuchSpace), (True, DeviceRevoked)])
async def test_a_watch_that_is_over_ends_with_a_heartbeat(revoked, expected):
    async with serving(access_seconds=0.001, heartbeat_seconds=0.05) as world, world.stub(ANN) as stub:
        spaces = [world.auth.space(ANN), world.auth.space(ANN)]
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=spaces))
        assert await read(call) == HEARTBEAT
        if revoked:
            world.auth.revoked.add(ANN.device)
        else:
            del world.auth.members_of[spaces[1]]
        assert isinstance(await failure(call), expected)


async def test_a_watch_of_a_deleted_space_ends_and_says_until_when_it_can_be_undeleted():
    async with serving(access_seconds=0.001, heartbeat_seconds=0.05) as world, world.stub(ANN) as stub:
        spaces = [world.auth.space(ANN), world.auth.space(ANN)]
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=spaces))
        assert await read(call) == HEARTBEAT
        del world.auth.members_of[spaces[1]]
        world.auth.deleted[spaces[1]] = SpaceDeleted.since(spaces[1], at_ms=1_000, until_ms=2_000)
        error = await failure(call)
        assert isinstance(error, SpaceDeleted)
        assert error.details == {"space_id": spaces[1], "deleted_at_ms": "1000", "restorable_until_ms": "2000"}


async def test_a_watch_ends_with_the_key_of_its_device():
    async with serving(access_seconds=0.001, ask_seconds=0.02) as world, world.stub(ANN) as stub:
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=[world.auth.space(ANN)]))
        assert await read(call) == HEARTBEAT
        world.auth.expired.add(ANN.device)
        assert isinstance(await failure(call), TokenExpired)


async def test_watches_of_one_person_share_their_questions():
    """Thirty devices and forty spaces: one question about all of them, not twelve hundred."""
    devices = [Person("ann@example.com", user=ANN.user) for _ in range(30)]
    async with serving(access_seconds=60, ask_seconds=0.5) as world, AsyncExitStack() as opened:
        world.auth.slow_seconds = 0.5
        spaces = [world.auth.space(ANN) for _ in range(40)]
        stubs = [await opened.enter_async_context(world.stub(device)) for device in devices]
        calls = [stub.Watch(notify_pb2.WatchRequest(space_ids=spaces)) for stub in stubs]
        for call in calls:
            assert await read(call) == HEARTBEAT
        asked = [space for named, _ in world.auth.questions for space in named]
        assert sorted(asked) == sorted(spaces)  # each once, whichever device it was asked for
        assert {device for _, named in world.auth.questions for device in named} == {one.device for one in devices}
        for call in calls:
            call.cancel()


async def test_a_question_that_nobody_waits_for_any_more_harms_nobody():
    """One of many spaces is none of Ann's: her watch ends at once, and with nothing else than the reason."""
    async with serving() as world, world.stub(ANN) as stub:
        world.auth.slow_seconds = 0.2
        spaces = [world.auth.space(ANN), world.auth.space(EVE)]
        given_up = stub.Watch(notify_pb2.WatchRequest(space_ids=spaces))
        lasting = stub.Watch(notify_pb2.WatchRequest(space_ids=spaces[:1]))
        wrong = stub.Watch(notify_pb2.WatchRequest(space_ids=spaces))
        given_up.cancel()
        assert isinstance(await failure(wrong), NoSuchSpace)
        assert await read(lasting) == HEARTBEAT
        lasting.cancel()


async def test_one_person_watches_so_many_spaces_in_all():
    async with serving(watched_per_person=100) as world, world.stub(ANN) as stub, world.stub(BOB) as other:
        spaces = [world.auth.space(ANN, BOB) for _ in range(60)]
        first = stub.Watch(notify_pb2.WatchRequest(space_ids=spaces))
        assert await read(first) == HEARTBEAT
        refused = await failure_or_heartbeat(stub, spaces)
        assert isinstance(refused, RateExceeded)
        assert refused.retry_after_seconds
        theirs = other.Watch(notify_pb2.WatchRequest(space_ids=spaces))
        assert await read(theirs) == HEARTBEAT
        first.cancel()
        async with asyncio.timeout(60):
            while isinstance(await failure_or_heartbeat(stub, spaces), RateExceeded):
                await asyncio.sleep(0.05)
        theirs.cancel()


async def failure_or_heartbeat(stub, spaces):
    """Return the reason that a watch could not be opened; None if it was."""
    call = stub.Watch(notify_pb2.WatchRequest(space_ids=spaces))
    try:
        assert await read(call) == HEARTBEAT
    except grpc.aio.AioRpcError as error:
        return error_from_rpc(error)
    call.cancel()
    return None


async def test_a_watch_of_quiet_spaces_ends_with_the_right_before_its_next_heartbeat():
    heartbeat_seconds = 50
    async with (
        serving(access_seconds=0.001, ask_seconds=0.02, heartbeat_seconds=heartbeat_seconds) as world,
        world.stub(ANN) as stub,
    ):
        spaces = [world.auth.space(ANN), world.auth.space(ANN)]
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=spaces))
        assert await read(call) == HEARTBEAT
        del world.auth.members_of[spaces[1]]
        async with asyncio.timeout(0.8 * heartbeat_seconds):
            assert isinstance(await failure(call), NoSuchSpace)


async def test_heartbeats_outlive_an_outage_of_auth():
    async with serving(access_seconds=0.001, heartbeat_seconds=0.02) as world, world.stub(ANN) as stub:
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=[world.auth.space(ANN)]))
        assert await read(call) == HEARTBEAT
        world.auth.down = True
        assert await read(call) == HEARTBEAT
        call.cancel()


async def test_a_watch_ends_only_with_an_error(world):
    """Draining or an interruption: the watcher is told that changes may go unannounced from now on."""
    space = world.auth.space(ANN)
    async with world.stub(ANN) as stub:
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=[space]))
        assert await read(call) == HEARTBEAT
        watched(world).interrupt()
        assert isinstance(await failure(call), Unavailable)
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=[space]))
        assert await read(call) == HEARTBEAT
        world.app.drain.begin()
        assert isinstance(await failure(call), Draining)
        late = stub.Watch(notify_pb2.WatchRequest(space_ids=[space]))
        assert isinstance(await failure(late), Draining)


async def test_a_watcher_who_leaves_is_forgotten(world):
    space = world.auth.space(ANN)
    async with world.stub(ANN) as stub:
        doorbells = watched(world)
        call = stub.Watch(notify_pb2.WatchRequest(space_ids=[space]))
        assert await read(call) == HEARTBEAT
        assert len(doorbells._watchers) == 1
        call.cancel()
        await eventually(lambda: not doorbells._watchers)


def watched(world):
    (mount,) = world.app.mounts
    return mount.args[0]._watches._doorbells


# -- preferences


async def test_preferences(world):
    space, other = world.auth.space(ANN, BOB), world.auth.space(ANN)
    off, instant = notify_pb2.MAIL_MODE_OFF, notify_pb2.MAIL_MODE_INSTANT

    async def mode(stub, space):
        return (await stub.GetPreference(notify_pb2.GetPreferenceRequest(space_id=space))).mode

    async def change(stub, mode):
        request = notify_pb2.SetPreferenceRequest(request_id=new_request_id(), space_id=space, mode=mode)
        return (await stub.SetPreference(request)).mode

    async with world.stub(ANN) as ann, world.stub(BOB) as bob:
        assert await mode(ann, space) == instant
        assert await change(ann, off) == off
        assert [await mode(ann, space), await mode(ann, other), await mode(bob, space)] == [off, instant, instant]
        assert await change(ann, instant) == instant
        assert await mode(ann, space) == instant


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mode": notify_pb2.MAIL_MODE_UNSPECIFIED}, InvalidArgument),
        ({"mode": 99}, InvalidArgument),
        ({"request_id": b"short"}, InvalidArgument),
        ({"space_id": "nonsense"}, InvalidArgument),
        ({"space_id": "z" * 26}, NoSuchSpace),
    ],
)
async def test_wrong_preferences_are_refused(world, changes, expected):
    right = {"request_id": new_request_id(), "space_id": world.auth.space(ANN), "mode": notify_pb2.MAIL_MODE_OFF}
    async with world.stub(ANN) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SetPreference(notify_pb2.SetPreferenceRequest(**(right | changes)))
    assert isinstance(error_from_rpc(caught.value), expected)


async def test_preferences_are_for_members(world):
    space = world.auth.space(EVE)
    async with world.stub(ANN) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetPreference(notify_pb2.GetPreferenceRequest(space_id=space))
    assert isinstance(error_from_rpc(caught.value), NoSuchSpace)


# -- mail


async def test_mail_goes_to_others_as_they_want_it(world):
    space = world.auth.space(ANN, BOB, EVE)
    async with world.stub(EVE) as stub:
        await stub.SetPreference(
            notify_pb2.SetPreferenceRequest(request_id=new_request_id(), space_id=space, mode=notify_pb2.MAIL_MODE_OFF)
        )
    world.announce(space, 1, author=BOB)
    await eventually(lambda: bool(world.sender.sent))
    assert [mail.to for mail in world.sender.sent] == [ANN.email]
    assert world.auth.asked.count("members") == 3, "once, in three pages"


async def test_every_method_refuses_who_opened_a_public_link(world):
    scope = LinkScope(LinkId(new_text_id()), world.auth.space(ANN), ROOT)
    credentials = (("authorization", f"Bearer {world.auth.link_token(scope)}"),)
    async with aio_channel(world.target) as channel:
        service = notify_pb2.DESCRIPTOR.services_by_name["NotifyService"]
        assert await methods_open_to(channel, service, credentials) == set()


async def test_of_many_spaces_the_one_that_is_not_there_is_named(world):
    spaces = [world.auth.space(ANN) for _ in range(99)]
    unknown = world.auth.space(BOB)
    async with world.stub(ANN) as stub:
        asked = notify_pb2.WatchRequest(space_ids=[*spaces[:50], unknown, *spaces[50:]])
        error = await failure(stub.Watch(asked))
        assert isinstance(error, NoSuchSpace)
        assert error.details == {"space_id": unknown}
        assert unknown in str(error)
        malformed = await failure(stub.Watch(notify_pb2.WatchRequest(space_ids=[spaces[0], "x", spaces[1]])))
        assert isinstance(malformed, InvalidArgument)
        assert malformed.details == {"field": "space_ids[1]"}


async def test_a_repeated_choice_does_not_undo_what_came_after_it(world):
    space = world.auth.space(ANN)
    off, instant = notify_pb2.MAIL_MODE_OFF, notify_pb2.MAIL_MODE_INSTANT

    async def change(stub, mode, request):
        asked = notify_pb2.SetPreferenceRequest(request_id=request, space_id=space, mode=mode)
        return (await stub.SetPreference(asked)).mode

    async with world.stub(ANN) as ann:
        request = new_request_id()
        assert await change(ann, off, request) == off
        assert await change(ann, instant, new_request_id()) == instant
        assert await change(ann, off, request) == off
        assert (await ann.GetPreference(notify_pb2.GetPreferenceRequest(space_id=space))).mode == instant
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await change(ann, instant, request)
        assert isinstance(error_from_rpc(caught.value), RequestIdReused)
