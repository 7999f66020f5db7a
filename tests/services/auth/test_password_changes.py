"""A changed password ends all that the former one opened, whatever happens in between, and the owner is told."""

import asyncio
from dataclasses import replace

import pytest

from runtime.pool import Share
from services.auth.attempts import AttemptLimits, Attempts
from services.auth.confirmation import Confirmation
from services.auth.endings import Endings
from services.auth.password_changes import LISTED_SECONDS, PasswordChanges
from services.auth.password_strength import PasswordStrength
from services.auth.passwords import Passwords
from services.auth.records import DAY_MS, SECOND_MS, Login, PasswordMail
from syncline.auth.v1 import auth_pb2
from syncline.model.accounts import DeviceKind
from syncline.model.errors import Unavailable
from syncline.model.identifiers import DeviceId, new_request_id
from tests.services.auth.support import (
    PASSWORD,
    Clock,
    Person,
    Service,
    new_account,
    new_device,
    new_key_device,
    refused,
    serving,
)
from tests.support.auth import InMemoryIdentityStore, InMemoryMailRequests
from tests.support.passwords import OTHER_STRONG, WEAK

EMAIL = "ann@example.com"
BROWSER = auth_pb2.DEVICE_KIND_BROWSER


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path) as service:
        yield service


@pytest.fixture
async def ann(auth):
    return await auth.sign_up(EMAIL)


async def change(
    auth: Service, by: Person, *, current: str = PASSWORD, new: str = OTHER_STRONG, request: bytes = b""
) -> auth_pb2.ChangePasswordResponse:
    asked = auth_pb2.ChangePasswordRequest(
        request_id=request or new_request_id(), current_password=current, new_password=new
    )
    return await auth.stub.ChangePassword(asked, metadata=by.credentials)


async def make_key(auth: Service, by: Person, name: str):
    until = auth.clock() + 10 * DAY_MS
    request = auth_pb2.CreateKeyRequest(request_id=new_request_id(), name=name, expires_at_ms=until)
    return await auth.stub.CreateKey(request, metadata=by.credentials)


async def renew(auth: Service, person: Person) -> auth_pb2.Tokens:
    if person.key:
        return (await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=person.key))).tokens
    request = auth_pb2.RefreshTokenRequest(refresh_token=person.tokens.refresh_token)
    return (await auth.stub.RefreshToken(request)).tokens


async def trade(auth: Service, key: str):
    return await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=key))


async def test_the_new_password_signs_in_and_the_former_one_does_not(auth, ann):
    await change(auth, ann)
    with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
        await auth.sign_in(EMAIL)
    assert (await auth.sign_in(EMAIL, password=OTHER_STRONG)).account == ann.account


async def test_all_other_devices_and_their_keys_end_and_the_calling_one_stays_with_its_keys(auth, ann):
    phone, browser = await auth.sign_in(EMAIL), await auth.sign_in(EMAIL, kind=BROWSER)
    own, theirs, left = [await make_key(auth, by, name) for by, name in ((ann, "own"), (phone, "its"), (browser, "b"))]
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=browser.credentials)  # a sign-out leaves its key

    answer = await change(auth, ann)
    assert [one.device_id for one in answer.ended_devices] == [phone.device.device_id]
    assert {key.device_id for key in answer.ended_keys} == {theirs.device.device_id, left.device.device_id}
    assert [key.device_id for key in answer.remaining_keys] == [own.device.device_id]
    assert (answer.ended_device_count, answer.ended_key_count, answer.remaining_key_count) == (1, 2, 1)
    assert not answer.unfinished

    for ended in (phone, browser):
        with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
            await renew(auth, ended)
        with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
            await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(), metadata=ended.credentials)
    for key in (theirs, left):
        with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
            await trade(auth, key.key)
    assert await renew(auth, ann)
    assert await trade(auth, own.key)


async def test_a_second_change_ends_what_came_after_the_first_and_keeps_the_calling_device(auth, ann):
    await change(auth, ann)
    phone = await auth.sign_in(EMAIL, password=OTHER_STRONG)
    answer = await change(auth, phone, current=OTHER_STRONG, new=PASSWORD)
    assert [one.device_id for one in answer.ended_devices] == [ann.device.device_id]
    assert await renew(auth, phone)


async def test_the_owner_is_told(auth, ann):
    await change(auth, ann)
    (mail,) = auth.mail.sent
    assert isinstance(mail, PasswordMail)
    assert (mail.user, mail.to, mail.by_reset, mail.changed_at_ms) == (
        ann.account.user_id,
        EMAIL,
        False,
        auth.clock.now,
    )


async def test_a_wrong_current_password_changes_nothing_and_counts_as_an_attempt(tmp_path):
    async with serving(tmp_path, sign_in_limit_per_peer=2) as auth:
        ann, phone = await auth.sign_up(EMAIL), await auth.sign_in(EMAIL)
        for _ in range(2):
            with refused("PERMISSION_DENIED", "WRONG_CURRENT_PASSWORD"):
                await change(auth, ann, current="not the password")
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await change(auth, ann)
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await auth.sign_in(EMAIL)
        assert await renew(auth, phone)
        assert auth.mail.sent == []


async def test_new_passwords_that_are_refused_change_nothing(auth, ann):
    phone = await auth.sign_in(EMAIL)
    with refused("INVALID_ARGUMENT", "WEAK_PASSWORD"):
        await change(auth, ann, new=WEAK)
    with refused("INVALID_ARGUMENT", "WEAK_PASSWORD"):
        await change(auth, ann, new="ann@example.com1")
    for new in ("", "1234567", "x" * 1025):
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
            await change(auth, ann, new=new)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", field="new_password"):
        await change(auth, ann, new=PASSWORD)
    assert await renew(auth, phone)
    assert await auth.sign_in(EMAIL)


async def test_a_repeated_request_is_carried_out_once(auth, ann):
    request = new_request_id()
    await change(auth, ann, request=request)
    phone = await auth.sign_in(EMAIL, password=OTHER_STRONG)
    answer = await change(auth, ann, request=request)
    assert (answer.ended_device_count, len(auth.mail.sent)) == (0, 1)
    assert await renew(auth, phone)
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED"):
        await change(auth, ann, request=request, new="a third one that nobody knows")


async def test_who_may_not_change_a_password(auth, ann):
    key = await make_key(auth, ann, "program")
    program = (await trade(auth, key.key)).tokens
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
        await change(auth, Person(ann.account, key.device, program))
    phone = await auth.sign_in(EMAIL)
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=phone.credentials)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await change(auth, phone)


async def test_an_account_that_is_not_proven_proves_its_address_first(tmp_path):
    async with serving(tmp_path, prove_addresses=True) as auth:
        ann = await auth.sign_up(EMAIL)
        with refused("PERMISSION_DENIED", "ADDRESS_UNPROVEN"):
            await change(auth, ann)


async def test_a_change_is_done_though_the_mail_cannot_be_asked_for_and_the_mail_comes_later(auth, ann):
    auth.mail.down = True
    answer = await change(auth, ann)
    assert not answer.unfinished
    assert auth.mail.sent == []
    auth.mail.down = False
    auth.clock.advance(LISTED_SECONDS * SECOND_MS)
    async with asyncio.timeout(60):
        while not auth.mail.sent:  # the service itself goes on
            await asyncio.sleep(0.05)


# ---- races and crashes, with several processes over one store


class Killed(BaseException):
    """The process is killed."""


class Fragile(InMemoryIdentityStore):
    """A store whose process can be killed or cut off at a method, and whose list of devices can lag."""

    def __init__(self) -> None:
        super().__init__()
        self.killed_at = ""
        self.down_at = ""
        self.unlisted: set[DeviceId] = set()

    def at(self, method: str) -> None:
        if self.killed_at == method:
            self.killed_at = ""
            raise Killed
        if self.down_at == method:
            raise Unavailable

    async def devices(self, user, *, including=None):
        self.at("devices")
        return [one for one in await super().devices(user, including=including) if one.device not in self.unlisted]

    async def revoke_device(self, device, *, at_ms, events=()):
        self.at("revoke_device")
        await super().revoke_device(device, at_ms=at_ms, events=events)

    async def update_change(self, change, to):
        self.at("update_change")
        return await super().update_change(change, to)


class World:
    """An account with two clients, a browser, and a key of the browser; and processes over its store."""

    def __init__(self) -> None:
        self.store, self.clock, self.mail = Fragile(), Clock(), InMemoryMailRequests()
        self.account = new_account(EMAIL)
        self.here = new_device(self.account.user, now=self.clock.now)
        self.phone = new_device(self.account.user, now=self.clock.now)
        self.browser = new_key_device(self.account.user, now=self.clock.now)
        self.passwords = Passwords(memory_kib=64, passes=1)
        self.strength = PasswordStrength()
        self.share = Share(EMAIL, "192.0.2.1")

    async def prepare(self) -> None:
        login = Login(self.account, await self.passwords.hash(PASSWORD, self.share))
        await self.store.create_account(login, device=self.here)
        for device in (self.phone, self.browser):
            await self.store.add_device(device)

    def process(self) -> PasswordChanges:
        endings = Endings(self.store, self.store, self.store, self.store, clock=self.clock)
        attempts = Attempts(self.store, AttemptLimits(), clock=self.clock)
        return PasswordChanges(
            self.store,
            self.store,
            self.mail,
            confirmation=Confirmation(self.store, passwords=self.passwords, attempts=attempts),
            passwords=self.passwords,
            strength=self.strength,
            endings=endings,
            clock=self.clock,
        )

    async def login(self) -> Login:
        login = await self.store.login(EMAIL)
        assert login is not None
        return login

    async def change(self, process: PasswordChanges):
        return await process.replace(
            await self.login(), OTHER_STRONG, share=self.share, keep=self.here.device, done=None
        )

    async def signed_in(self) -> set[DeviceId]:
        found = await self.store.devices(self.account.user)
        return {one.device for one in found if one.revoked_at_ms is None}

    def close(self) -> None:
        self.passwords._threads.shutdown()
        self.strength._thread.shutdown()


@pytest.fixture
async def world():
    world = World()
    await world.prepare()
    yield world
    world.close()


@pytest.mark.parametrize("point", ["devices", "revoke_device", "update_change"])
async def test_a_process_that_is_killed_after_the_change_is_replaced_by_another(world, point):
    world.store.killed_at = point
    with pytest.raises(Killed):
        await world.change(world.process())
    assert (await world.login()).password_changes == 1
    assert len(await world.store.password_changes()) == 1

    other = world.process()
    assert await other.sweep() == 0  # the first process may still be at work
    world.clock.advance(3 * SECOND_MS)
    await other.sweep()
    assert await world.signed_in() == {world.here.device}
    assert {mail.ident for mail in world.mail.sent} == {one.ident for one in await world.store.password_changes()}

    world.clock.advance(LISTED_SECONDS * SECOND_MS)
    assert await other.sweep() == 1
    assert await world.store.password_changes() == []


async def test_what_cannot_be_ended_is_told_and_ended_later(world):
    world.store.down_at = "revoke_device"
    ended = await world.change(world.process())
    assert not ended.complete
    assert await world.signed_in() == {world.here.device, world.phone.device, world.browser.device}
    world.store.down_at = ""
    world.clock.advance(3 * SECOND_MS)
    assert await world.process().sweep() == 1
    assert await world.signed_in() == {world.here.device}


async def test_a_device_that_the_list_lacks_at_first_ends_before_the_record_goes(world):
    world.store.unlisted = {world.phone.device}
    assert (await world.change(world.process())).complete
    world.store.unlisted = set()
    assert await world.signed_in() == {world.here.device, world.phone.device}
    world.clock.advance(LISTED_SECONDS * SECOND_MS)
    await world.process().sweep()
    assert await world.signed_in() == {world.here.device}
    assert await world.store.password_changes() == []


async def test_a_device_that_signs_in_after_the_change_stays(world):
    await world.change(world.process())
    login = await world.login()
    assert login.password_changes == 1
    late = replace(new_device(world.account.user, now=world.clock.now), password_changes=1)
    await world.store.add_device(late, login=login)
    world.clock.advance(LISTED_SECONDS * SECOND_MS)
    await world.process().sweep()
    assert await world.signed_in() == {world.here.device, late.device}


async def test_two_changes_at_once_make_one(world):
    login = await world.login()
    changes = [
        world.process().replace(login, new, share=world.share, keep=world.here.device)
        for new in (OTHER_STRONG, "a third one that nobody knows")
    ]
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Contended", "EndedDevices"]
    assert (await world.login()).password_changes == 1


async def test_a_key_of_the_kept_device_stays_and_one_without_a_known_maker_ends(world):
    own = new_key_device(world.account.user, now=world.clock.now, kind=DeviceKind.PROGRAM)
    old = new_key_device(world.account.user, now=world.clock.now, kind=DeviceKind.PROGRAM)
    own = replace(own, made_by=world.here.device)
    for key in (own, old):
        await world.store.add_device(key)
    ended = await world.change(world.process())
    assert [key.device for key in ended.keys] == [old.device]
    assert await world.signed_in() == {world.here.device, own.device}
