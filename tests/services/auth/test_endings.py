"""A device takes along the things that it has made, however many these are and whoever waits for that."""

import asyncio
import itertools
from collections import Counter
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.auth.audit.events import AuditKind
from services.auth.endings import Endings
from services.auth.records import DAY_MS
from services.auth.sessions import RefreshToken, Sessions
from services.auth.tokens import AccessTokens, SigningKeys
from syncline.auth.v1 import auth_pb2
from syncline.model.accounts import DeviceKind
from syncline.model.errors import DeviceRevoked, NoSuchDevice, Unavailable
from syncline.model.identifiers import ROOT, DeviceId, LinkId, UserId, new_request_id, new_text_id
from tests.services.auth.support import (
    Clock,
    Person,
    bearer,
    new_account,
    new_device,
    new_key_device,
    new_link,
    refused,
    serving,
)
from tests.support.auth import InMemoryIdentityStore

EMAIL = "ann@example.com"
BROWSER = auth_pb2.DEVICE_KIND_BROWSER
MANY = 250


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path, rate_makes=1000, rate_shares=1000) as service:
        yield service


@pytest.fixture
async def ann(auth):
    return await auth.sign_up(EMAIL)


@pytest.fixture
async def stolen(auth, ann):
    return await auth.sign_in(EMAIL, device="stolen", kind=BROWSER)


async def make_key(auth, by: Person, name: str = "backup"):
    until = auth.clock() + 10 * DAY_MS
    request = auth_pb2.CreateKeyRequest(request_id=new_request_id(), name=name, expires_at_ms=until)
    return await auth.stub.CreateKey(request, metadata=by.credentials)


async def make_link(auth, by: Person, **given):
    space = by.account.personal_space_id
    request = auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=space, node=ROOT, **given)
    return await auth.stub.CreateLink(request, metadata=by.credentials)


async def revoke(auth, device: str, by: Person, *, end_links: bool = False):
    request = auth_pb2.RevokeDeviceRequest(device_id=device, end_links=end_links)
    return await auth.stub.RevokeDevice(request, metadata=by.credentials)


async def trade(auth, key: str):
    return (await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=key))).tokens


async def open_link(auth, token: str):
    return await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=token))


async def links(auth, by: Person) -> list[auth_pb2.Link]:
    request = auth_pb2.ListLinksRequest(space_id=by.account.personal_space_id)
    return list((await auth.stub.ListLinks(request, metadata=by.credentials)).links)


async def test_the_keys_of_a_device_end_with_it_and_no_others(auth, ann, stolen):
    own, theirs = await make_key(auth, ann, "own"), await make_key(auth, stolen, "theirs")
    assert (own.device.made_by, theirs.device.made_by) == (ann.device.device_id, stolen.device.device_id)
    used = await trade(auth, theirs.key)
    answer = await revoke(auth, stolen.device.device_id, ann)
    assert [key.device_id for key in answer.ended_keys] == [theirs.device.device_id]
    assert answer.ended_key_count == 1
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await trade(auth, theirs.key)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(), metadata=bearer(used.access_token))
    assert await trade(auth, own.key)


async def test_links_of_a_device_are_told_and_end_if_that_is_asked_for(auth, ann, stolen):
    own, theirs = await make_link(auth, ann), await make_link(auth, stolen)
    told = {link.link_id: (link.made_by, link.space_id) for link in await links(auth, ann)}
    space = ann.account.personal_space_id
    assert told[own.link.link_id] == (ann.device.device_id, space)
    assert told[theirs.link.link_id] == (stolen.device.device_id, space)
    answer = await revoke(auth, stolen.device.device_id, ann)
    assert ([link.link_id for link in answer.remaining_links], answer.remaining_link_count) == (
        [theirs.link.link_id],
        1,
    )
    assert (list(answer.ended_links), answer.ended_link_count) == ([], 0)
    assert await open_link(auth, theirs.token)
    answer = await revoke(
        auth, stolen.device.device_id, ann, end_links=True
    )  # the device has ended, its links have not
    assert ([link.link_id for link in answer.ended_links], answer.ended_link_count) == ([theirs.link.link_id], 1)
    assert (list(answer.remaining_links), answer.remaining_link_count) == ([], 0)
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await open_link(auth, theirs.token)
    assert await open_link(auth, own.token)


async def test_links_that_a_key_of_a_device_has_made_end_with_the_device(auth, ann, stolen):
    """The key is ended before: its links must be found all the same."""
    request = auth_pb2.CreateKeyRequest(
        request_id=new_request_id(),
        name="sharing",
        expires_at_ms=auth.clock() + 10 * DAY_MS,
        scopes=[auth_pb2.KEY_SCOPE_SHARE],
    )
    made = await auth.stub.CreateKey(request, metadata=stolen.credentials)
    program = bearer((await trade(auth, made.key)).access_token)
    link = auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=ann.account.personal_space_id, node=ROOT)
    theirs = await auth.stub.CreateLink(link, metadata=program)
    assert theirs.link.made_by == made.device.device_id
    answer = await revoke(auth, stolen.device.device_id, ann)
    assert [one.link_id for one in answer.remaining_links] == [theirs.link.link_id]
    answer = await revoke(auth, stolen.device.device_id, ann, end_links=True)
    assert [one.link_id for one in answer.ended_links] == [theirs.link.link_id]
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await open_link(auth, theirs.token)


async def test_links_that_do_not_open_any_more_do_not_remain(auth, ann, stolen):
    await make_link(auth, stolen, expires_at_ms=auth.clock() + DAY_MS)
    auth.clock.advance(2 * DAY_MS)
    fresh = await auth.sign_in(EMAIL)
    assert (await revoke(auth, stolen.device.device_id, fresh)).remaining_link_count == 0


async def test_what_a_device_has_made_ends_also_after_it_has_signed_itself_out(auth, ann, stolen):
    theirs = await make_key(auth, stolen)
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=stolen.credentials)
    assert await trade(auth, theirs.key)  # programs go on
    assert (await revoke(auth, stolen.device.device_id, ann)).ended_key_count == 1
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await trade(auth, theirs.key)


async def test_a_device_that_ends_itself_ends_all_that_it_has_made(auth, ann):
    key, link = await make_key(auth, ann), await make_link(auth, ann)
    answer = await revoke(auth, ann.device.device_id, ann, end_links=True)
    assert (answer.ended_key_count, answer.ended_link_count) == (1, 1)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await trade(auth, key.key)
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await open_link(auth, link.token)


async def test_a_copy_of_a_refresh_token_ends_the_keys_of_the_device(auth, ann):
    key = await make_key(auth, ann)
    latest = await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=ann.tokens.refresh_token))
    await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=latest.tokens.refresh_token))
    with refused("UNAUTHENTICATED", "REFRESH_TOKEN_REUSED"):
        await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=ann.tokens.refresh_token))
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await trade(auth, key.key)


# ---- how much, and what fails


class Stumbling(InMemoryIdentityStore):
    """The first attempt to end a link fails, as if somebody else was at it; each waits until a test lets it go on. So
    does what ends a key; attempts to end certain devices or links fail as often as a test says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stumbled = set[LinkId]()
        self.fails = False
        self.for_ever = False
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.failing = dict[str, list[Exception]]()
        """The errors of the next attempts to end a device or link, by its id."""
        self.unnoted = False

    def fail(self, item: DeviceId | LinkId) -> None:
        if self.failing.get(item):
            raise self.failing[item].pop()

    async def begin_ending(self, ending):
        if self.unnoted:
            raise Unavailable("the table does not answer")
        await super().begin_ending(ending)

    async def revoke_device(self, device, *, at_ms, events=()):
        found = await self.device(device)
        if found is not None and found.made_by is not None:
            await self.may_go_on.wait()
        self.fail(device)
        await super().revoke_device(device, at_ms=at_ms, events=events)

    async def revoke_link(self, link, *, at_ms, events=()):
        await self.may_go_on.wait()
        self.fail(link.link)
        if self.for_ever or (self.fails and link.link not in self.stumbled):
            self.stumbled.add(link.link)
            raise Unavailable("the link is used at this moment")
        await super().revoke_link(link, at_ms=at_ms, events=events)


class World:
    def __init__(self) -> None:
        self.store, self.clock = Stumbling(), Clock()
        self.endings = Endings(self.store, self.store, self.store, self.store, clock=self.clock)
        self.account = new_account()
        self.stolen, self.other = (new_device(self.account.user, now=self.clock()) for _ in range(2))

    async def prepare(self) -> None:
        for device in (self.stolen, self.other):
            await self.store.add_device(device)
        for _ in range(MANY):
            await self.store.add_link(self.link(self.stolen.device))
        await self.store.add_link(self.link(self.other.device))
        await self.store.add_link(self.link(None))

    def link(self, maker: DeviceId | None):
        new = new_link(self.account.personal_space, self.account.user)
        return replace(new, link=LinkId(new_text_id()), made_by=maker)

    async def add_key(self, maker: DeviceId) -> DeviceId:
        program = new_key_device(self.account.user, now=self.clock(), kind=DeviceKind.PROGRAM)
        program = replace(program, made_by=maker)
        await self.store.add_device(program)
        return program.device

    async def has_ended(self, device: DeviceId) -> bool:
        found = await self.store.device(device)
        assert found is not None
        return found.revoked_at_ms is not None

    async def revoke(self, *, calling: DeviceId):
        return await self.endings.revoke(self.stolen.device, user=self.account.user, calling=calling, end_links=True)

    async def left(self) -> list[DeviceId | None]:
        return [link.made_by for link in await self.store.links_of(self.account.user)]


@pytest.fixture
async def world() -> World:
    world = World()
    await world.prepare()
    return world


@pytest.mark.parametrize("itself", [False, True])
async def test_very_many_links_end_though_some_fail_at_first(world, itself):
    world.store.fails = True
    ended = await world.revoke(calling=world.stolen.device if itself else world.other.device)
    assert len(ended.links) == MANY
    assert await world.left() == [world.other.device, None]
    assert (await world.store.device(world.stolen.device)).revoked_at_ms


@pytest.mark.parametrize("itself", [False, True])
async def test_what_was_begun_is_done_to_its_end_though_nobody_waits(world, itself):
    world.store.may_go_on.clear()
    calling = asyncio.create_task(world.revoke(calling=world.stolen.device if itself else world.other.device))
    while not asyncio.all_tasks() - {asyncio.current_task(), calling}:
        await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    world.store.may_go_on.set()
    async with asyncio.timeout(60):
        while (
            await world.left() != [world.other.device, None]
            or not (await world.store.device(world.stolen.device)).revoked_at_ms
        ):
            await asyncio.sleep(0.01)


async def test_what_cannot_be_ended_keeps_a_device_from_ending_itself_and_no_other_from_ending_it(world):
    world.store.for_ever = True
    with pytest.raises(Unavailable, match="revoke it again"):
        await world.revoke(calling=world.stolen.device)
    assert not (await world.store.device(world.stolen.device)).revoked_at_ms
    with pytest.raises(Unavailable, match="revoke it again"):
        await world.revoke(calling=world.other.device)
    assert (await world.store.device(world.stolen.device)).revoked_at_ms
    world.store.for_ever = False
    assert len((await world.revoke(calling=world.other.device)).links) == MANY


BROKEN = RuntimeError("the store answers nonsense")
MET = Unavailable("somebody else is at it")


@pytest.mark.parametrize("error", [MET, BROKEN])
async def test_what_cannot_be_ended_keeps_nothing_else_from_being_ended(world, error):
    key, other_key = [await world.add_key(world.stolen.device) for _ in range(2)]
    first_link = (await world.store.links_of(world.account.user))[0]
    world.store.failing = {key: [error] * 100, first_link.link: [error] * 100}
    with pytest.raises(type(error)):
        await world.revoke(calling=world.other.device)
    assert await world.has_ended(world.stolen.device)
    assert await world.has_ended(other_key)
    assert await world.left() == [world.stolen.device, world.other.device, None]
    world.store.failing.clear()
    ended = await world.revoke(calling=world.other.device)
    assert ([one.device for one in ended.keys], ended.links) == ([key], [first_link])


async def test_a_device_at_which_a_transaction_is_ends_all_the_same(world):
    world.store.failing = {world.stolen.device: [MET]}
    await world.revoke(calling=world.other.device)
    assert await world.has_ended(world.stolen.device)


async def test_a_device_that_cannot_be_revoked_loses_what_it_has_made(world):
    key = await world.add_key(world.stolen.device)
    world.store.failing = {world.stolen.device: [MET] * 100}
    with pytest.raises(Unavailable, match="revoke it again"):
        await world.revoke(calling=world.other.device)
    assert await world.has_ended(key)
    assert await world.left() == [world.other.device, None]


async def test_what_a_device_has_made_ends_when_its_record_has_expired(world):
    key, other_key = await world.add_key(world.stolen.device), await world.add_key(world.other.device)
    del world.store._devices[world.stolen.device]
    stranger = new_device(UserId(new_text_id()), now=world.clock())
    with pytest.raises(NoSuchDevice):
        await world.endings.revoke(world.stolen.device, user=stranger.user, calling=stranger.device, end_links=True)
    for keys in ([key], []):  # the call may be repeated
        assert [one.device for one in (await world.revoke(calling=world.other.device)).keys] == keys
        assert await world.has_ended(key)
        assert await world.left() == [world.other.device, None]
    assert not await world.has_ended(other_key)
    nobody = DeviceId(new_text_id())
    with pytest.raises(NoSuchDevice):
        await world.endings.revoke(nobody, user=world.account.user, calling=world.other.device, end_links=True)


class Copied(World):
    """A device with a key, and a refresh token of the device that was spent long ago."""

    def __init__(self) -> None:
        super().__init__()
        tokens = AccessTokens(SigningKeys.of(Ed25519PrivateKey.generate()), clock=self.clock)
        self.sessions = Sessions(self.store, tokens, endings=self.endings, clock=self.clock)

    async def prepare(self) -> None:
        self.stolen, tokens = self.sessions.open(user=self.account.user, name="laptop")
        await self.store.add_device(self.stolen)
        self.key = await self.add_key(self.stolen.device)
        self.spent = token = RefreshToken.parse(tokens.refresh)
        for _ in range(2):
            token = RefreshToken.parse((await self.sessions.refresh(token)).refresh)
        self.current = token


@pytest.fixture
async def copied() -> Copied:
    world = Copied()
    await world.prepare()
    return world


async def test_whoever_brings_a_copy_and_goes_away_keeps_no_key(copied):
    copied.store.may_go_on.clear()
    thief = asyncio.create_task(copied.sessions.refresh(copied.spent))
    while not await copied.has_ended(copied.stolen.device):
        await asyncio.sleep(0)
    thief.cancel()
    with pytest.raises(asyncio.CancelledError):
        await thief
    copied.store.may_go_on.set()
    async with asyncio.timeout(60):
        while not await copied.has_ended(copied.key):
            await asyncio.sleep(0.01)


async def test_keys_that_outlived_a_copied_device_end_when_the_copy_comes_again(copied):
    copied.store.failing = {copied.key: [MET] * 5}
    with pytest.raises(Unavailable):
        await copied.sessions.refresh(copied.spent)
    assert await copied.has_ended(copied.stolen.device)
    assert not await copied.has_ended(copied.key)
    copied.store.failing.clear()
    with pytest.raises(DeviceRevoked):
        await copied.sessions.refresh(copied.spent)
    assert await copied.has_ended(copied.key)


async def test_a_copy_that_comes_after_the_device_has_signed_out_ends_its_keys(copied):
    await copied.store.revoke_device(copied.stolen.device, at_ms=copied.clock())
    with pytest.raises(DeviceRevoked):
        await copied.sessions.refresh(copied.current)
    assert not await copied.has_ended(copied.key)  # programs go on, since no copy has shown itself
    with pytest.raises(DeviceRevoked):
        await copied.sessions.refresh(copied.spent)
    assert await copied.has_ended(copied.key)


# ---- who comes next


class Killed(BaseException):
    """The process is gone: nothing of it goes on, and nothing is caught."""


class Process:
    """A store as a process sees it that is killed at one of its writes, before it or right after it."""

    WRITES = frozenset({"begin_ending", "take_ending", "forget_ending", "revoke_device", "revoke_link"})

    def __init__(self, store: InMemoryIdentityStore, *, dies_at: int, after: bool) -> None:
        """`dies_at` is the number of the write, from 1; with `after` the write is still done."""
        self._store = store
        self._dies_at = dies_at
        self._after = after
        self._writes = 0
        self._is_dead = False

    def __getattr__(self, name: str):
        method = getattr(self._store, name)

        async def called(*args, **given):
            self._writes += name in self.WRITES
            is_last = name in self.WRITES and self._writes == self._dies_at
            self._die(is_last and not self._after)
            result = await method(*args, **given)
            self._die(is_last)
            return result

        return called

    def _die(self, now: bool) -> None:
        self._is_dead |= now
        if self._is_dead:
            raise Killed


class Few(World):
    """A stolen device that has made two keys and two links."""

    async def prepare(self) -> None:
        for device in (self.stolen, self.other):
            await self.store.add_device(device)
        self.keys = [await self.add_key(self.stolen.device) for _ in range(2)]
        for _ in range(2):
            await self.store.add_link(self.link(self.stolen.device))

    def process(self, store) -> Endings:
        return Endings(store, store, store, store, clock=self.clock)

    async def end(self, how: str, endings: Endings) -> None:
        if how == "a copy":
            await endings.revoke_copied(self.stolen)
            return
        calling = self.stolen if how == "itself" else self.other
        await endings.revoke(self.stolen.device, user=self.account.user, calling=calling.device, end_links=True)

    async def good(self, how: str) -> tuple[int, int]:
        """Return how many devices and keys, and how many links that end with them, have not ended."""
        links = 0 if how == "a copy" else len(await self.left())
        return [await self.has_ended(one) for one in (self.stolen.device, *self.keys)].count(False), links


def ended(how: str) -> dict[str, int]:
    """The events of the end of a device with two keys and two links, by kind."""
    if how == "a copy":
        return {AuditKind.DEVICE_COPIED: 1, AuditKind.KEY_ENDED: 2}
    return {AuditKind.DEVICE_ENDED: 1, AuditKind.KEY_ENDED: 2, AuditKind.LINK_ENDED: 2}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("how", ["by another device", "itself", "a copy"])
async def test_at_whatever_write_a_process_is_killed_the_next_one_goes_on(how, after):
    for number in itertools.count(1):
        world = Few()
        await world.prepare()
        before = await world.good(how)
        try:
            await world.end(how, world.process(Process(world.store, dies_at=number, after=after)))
        except Killed:
            pass
        else:
            break
        next_one = world.process(world.store)
        assert await next_one.sweep() == 0  # the other process may be at it
        world.clock.advance(3_000)
        await next_one.sweep()
        has_begun = number > 1 or after  # nobody was told that it had, and a caller asks again
        assert await world.good(how) == ((0, 0) if has_begun else before)
        assert await world.store.endings() == []
        assert Counter(event.kind for event in world.store.audit.events) == (ended(how) if has_begun else {})
    assert number == (5 if how == "a copy" else 7) + 1  # the note, the device, its keys and links, and the note again


@pytest.mark.parametrize("after", [False, True])
async def test_at_whatever_write_the_next_one_is_killed_too_another_one_goes_on(after):
    for number in itertools.count(1):
        world = Few()
        await world.prepare()
        with pytest.raises(Killed):
            await world.end("by another device", world.process(Process(world.store, dies_at=2, after=False)))
        world.clock.advance(3_000)
        try:
            await world.process(Process(world.store, dies_at=number, after=after)).sweep()
        except Killed:
            world.clock.advance(6_000)
            await world.process(world.store).sweep()
        else:
            break
        assert await world.good("by another device") == (0, 0)
        assert await world.store.endings() == []
        assert Counter(event.kind for event in world.store.audit.events) == ended("by another device")
    assert number == 7 + 1


async def test_what_could_not_be_ended_is_tried_again_by_itself_ever_more_seldom(world):
    key = await world.add_key(world.stolen.device)
    world.store.failing = {key: [BROKEN] * 3}
    with pytest.raises(RuntimeError):
        await world.revoke(calling=world.other.device)
    for seconds, has_ended in ((3, False), (3, False), (3, False), (6, True)):
        assert not await world.has_ended(key)
        world.clock.advance(seconds * 1000)
        await world.endings.sweep()
        assert await world.has_ended(key) is has_ended
    assert await world.store.endings() == []


async def test_a_process_does_not_take_over_from_itself(world):
    key = await world.add_key(world.stolen.device)
    world.store.may_go_on.clear()
    calling = asyncio.create_task(world.revoke(calling=world.other.device))
    while not await world.store.endings():
        await asyncio.sleep(0)
    world.clock.advance(60_000)
    assert await world.endings.sweep() == 0
    (ending,) = await world.store.endings()
    assert ending.attempts == 0
    world.store.may_go_on.set()
    await calling
    assert await world.has_ended(key)
    assert await world.store.endings() == []


async def test_a_note_that_cannot_be_written_keeps_nothing_from_being_ended(world):
    key = await world.add_key(world.stolen.device)
    world.store.unnoted = True
    await world.revoke(calling=world.other.device)
    assert await world.has_ended(key)


async def test_a_device_that_is_revoked_meanwhile_makes_nothing(auth, ann, stolen):
    """However calls and the end of the device lie to each other: what was made has ended with it."""

    async def making():
        while True:
            await make_key(auth, stolen)
            await make_link(auth, stolen)

    makers = [asyncio.create_task(making()) for _ in range(3)]
    await asyncio.sleep(0)
    await revoke(auth, stolen.device.device_id, ann, end_links=True)
    for maker in makers:
        with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
            await maker
    assert [link for link in await links(auth, ann) if link.made_by == stolen.device.device_id] == []
    assert all(key.revoked_at_ms for key in await auth.store.keys_of(DeviceId(stolen.device.device_id)))
