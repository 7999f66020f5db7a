"""Keys of browsers and programs, as their holders meet them."""

import json
from datetime import datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime.logs import structlog
from services.auth.derived import DerivedSecrets
from services.auth.devices import DeviceLists
from services.auth.holdings import HoldingLimits
from services.auth.keys import Keys
from services.auth.opaque_tokens import token_digest
from services.auth.records import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, DeviceRecord
from services.auth.tokens import AccessTokens, SigningKeys
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import UserId, new_request_id, new_text_id
from syncline.model.limits import BROWSER_KEY_IDLE_DAYS, PROGRAM_KEY_DAYS
from tests.services.auth.support import PASSWORD, Clock, Person, bearer, refused, serving
from tests.support.auth import InMemoryIdentityStore

CLIENT, BROWSER, PROGRAM = auth_pb2.DEVICE_KIND_CLIENT, auth_pb2.DEVICE_KIND_BROWSER, auth_pb2.DEVICE_KIND_PROGRAM
EMAIL = "ann@example.com"


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path) as service:
        yield service


async def exchange(auth, key: str):
    return (await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=key))).tokens


async def create(auth, by: Person, *, days: float = 10, name: str = "backup"):
    until = auth.clock() + int(days * DAY_MS)
    request = auth_pb2.CreateKeyRequest(request_id=new_request_id(), name=name, expires_at_ms=until)
    return await auth.stub.CreateKey(request, metadata=by.credentials)


async def devices(auth, by: Person) -> dict[str, auth_pb2.Device]:
    answer = await auth.stub.ListDevices(auth_pb2.ListDevicesRequest(), metadata=by.credentials)
    return {device.device_id: device for device in answer.devices}


async def device_of(auth, tokens):
    answer = await auth.stub.GetAccount(auth_pb2.GetAccountRequest(), metadata=bearer(tokens.access_token))
    return answer.device.device_id


# ---- browsers


@pytest.mark.parametrize("enter", ["sign_up", "sign_in"])
async def test_a_browser_gets_a_key_in_place_of_a_refresh_token(auth, enter):
    if enter == "sign_in":
        await auth.sign_up(EMAIL)
    browser = await getattr(auth, enter)(EMAIL, kind=BROWSER)
    assert browser.tokens.refresh_token == ""
    assert browser.key.startswith(f"syk_{browser.device.device_id}")
    assert (browser.device.kind, browser.device.expires_at_ms) == (
        BROWSER,
        auth.clock() + BROWSER_KEY_IDLE_DAYS * DAY_MS,
    )
    assert await device_of(auth, browser.tokens) == browser.device.device_id
    tokens = await exchange(auth, browser.key)
    assert (tokens.refresh_token, tokens.access_expires_at_ms) == ("", auth.clock() + 15 * MINUTE_MS)
    assert await device_of(auth, tokens) == browser.device.device_id


async def test_who_does_not_say_what_it_is_is_a_client(auth):
    for person in (await auth.sign_up(EMAIL), await auth.sign_in(EMAIL, kind=CLIENT)):
        assert person.device.kind == CLIENT
        assert person.key == ""
        assert person.tokens.refresh_token
    assert person.device.expires_at_ms == auth.clock() + 60 * DAY_MS


@pytest.mark.parametrize("kind", [PROGRAM, 17])
async def test_a_program_does_not_sign_in(auth, kind):
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await auth.sign_up(EMAIL, kind=kind)
    await auth.sign_up(EMAIL)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await auth.sign_in(EMAIL, kind=kind)


async def test_a_browser_that_comes_back_within_30_days_stays_signed_in(auth):
    browser = await auth.sign_up(EMAIL, kind=BROWSER)
    for _ in range(3):
        auth.clock.advance(30 * DAY_MS - 1)
        await exchange(auth, browser.key)
    auth.clock.advance(30 * DAY_MS)
    with refused("UNAUTHENTICATED", "TOKEN_EXPIRED"):
        await exchange(auth, browser.key)


# ---- programs


async def test_a_program_has_a_device_of_its_own(auth):
    ann = await auth.sign_up(EMAIL)
    made = await create(auth, ann, name="  backup ")
    assert made.device == auth_pb2.Device(
        device_id=made.device.device_id,
        name="backup",
        created_at_ms=auth.clock(),
        last_seen_at_ms=auth.clock(),
        kind=PROGRAM,
        expires_at_ms=auth.clock() + 10 * DAY_MS,
        made_by=ann.device.device_id,
        scopes=[auth_pb2.KEY_SCOPE_READ, auth_pb2.KEY_SCOPE_WRITE],
    )
    assert await devices(auth, ann) == {device.device_id: device for device in (made.device, ann.device)}
    assert await device_of(auth, await exchange(auth, made.key)) == made.device.device_id


async def test_a_programs_key_never_slides_and_its_tokens_do_not_outlive_it(auth):
    ann = await auth.sign_up(EMAIL)
    made = await create(auth, ann, days=2)
    auth.clock.advance(2 * DAY_MS - MINUTE_MS)
    tokens = await exchange(auth, made.key)
    assert tokens.access_expires_at_ms == made.device.expires_at_ms
    auth.clock.advance(MINUTE_MS)
    with refused("UNAUTHENTICATED", "TOKEN_EXPIRED"):
        await exchange(auth, made.key)
    with refused("UNAUTHENTICATED", "TOKEN_EXPIRED"):
        await device_of(auth, tokens)
    again = await auth.sign_in(EMAIL)
    assert set(await devices(auth, again)) == {ann.device.device_id, again.device.device_id}


async def test_the_device_of_an_expired_key_can_do_nothing_more(auth):
    ann = await auth.sign_up(EMAIL)
    made = await create(auth, ann, days=1)
    space, device = ann.account.personal_space_id, made.device.device_id

    async def state_of_key():
        service, user = auth.as_service(), ann.account.user_id
        one = auth_pb2.CheckAccessRequest(space_id=space, user_id=user, device_id=device)
        many = auth_pb2.BatchCheckAccessRequest(user_id=user, device_ids=[device])
        found = await auth.stub.BatchCheckAccess(many, metadata=service)
        again = await auth.sign_in(EMAIL)
        writers = await auth.stub.CheckWriters(
            auth_pb2.CheckWritersRequest(space_id=space, device_ids=[device]), metadata=again.credentials
        )
        return (
            (await auth.stub.CheckAccess(one, metadata=service)).device_expired,
            list(found.expired_device_ids),
            list(writers.device_ids),
        )

    auth.clock.advance(DAY_MS - 1)
    assert await state_of_key() == (False, [], [device])
    auth.clock.advance(1)
    assert await state_of_key() == (True, [device], [])


async def test_credentials_of_a_key_end_with_it(auth):
    """STS gives none for less than a quarter of an hour, so they permit nothing from then on."""
    ann = await auth.sign_up(EMAIL)
    made = await create(auth, ann, days=1)
    program = Person(ann.account, made.device, await exchange(auth, made.key))
    issued = await auth.credentials(ann.account.personal_space_id, program)
    assert issued.expires_at_ms < made.device.expires_at_ms
    assert "Condition" not in auth.source.policies[-1]
    auth.clock.advance(DAY_MS - 4 * MINUTE_MS)
    program = Person(ann.account, made.device, await exchange(auth, made.key))
    for _ in range(2):
        issued = await auth.credentials(ann.account.personal_space_id, program)
        assert issued.expires_at_ms == made.device.expires_at_ms
    assert len(auth.source.policies) == 2
    (statement,) = json.loads(auth.source.policies[-1])["Statement"]
    until = datetime.fromisoformat(statement["Condition"]["DateLessThan"]["aws:CurrentTime"]).timestamp()
    assert made.device.expires_at_ms - 1000 < until * 1000 <= made.device.expires_at_ms


@pytest.mark.parametrize(
    "wrong", [{"days": 0}, {"days": -1}, {"days": PROGRAM_KEY_DAYS + 1 / DAY_MS}, {"name": " "}, {"name": "x" * 101}]
)
async def test_keys_that_cannot_be(auth, wrong):
    ann = await auth.sign_up(EMAIL)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await create(auth, ann, **wrong)
    assert len(await devices(auth, ann)) == 1
    assert (await create(auth, ann, days=PROGRAM_KEY_DAYS)).key


async def test_only_people_make_keys(auth):
    browser = await auth.sign_up(EMAIL, kind=BROWSER)
    program = await create(auth, browser)
    acting = Person(browser.account, program.device, await exchange(auth, program.key))
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
        await create(auth, acting)
    assert len(await devices(auth, browser)) == 2


async def test_whoever_was_signed_out_makes_no_keys(auth):
    ann = await auth.sign_up(EMAIL)
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=ann.credentials)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await create(auth, ann)


# ---- the end of a key


async def test_a_key_is_no_good_after_signing_out(auth):
    browser = await auth.sign_up(EMAIL, kind=BROWSER)
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=browser.credentials)
    for _ in range(2):
        with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
            await exchange(auth, browser.key)
    again = await auth.sign_in(EMAIL, kind=BROWSER)
    assert again.key != browser.key
    assert (await devices(auth, again))[browser.device.device_id].revoked_at_ms == auth.clock()


async def test_a_programs_key_can_be_revoked(auth):
    ann = await auth.sign_up(EMAIL)
    made = await create(auth, ann)
    tokens = await exchange(auth, made.key)
    await auth.stub.RevokeDevice(
        auth_pb2.RevokeDeviceRequest(device_id=made.device.device_id), metadata=ann.credentials
    )
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await exchange(auth, made.key)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await device_of(auth, tokens)


async def test_a_key_that_is_none(auth):
    browser = await auth.sign_up(EMAIL, kind=BROWSER)
    client = await auth.sign_in(EMAIL)
    secret = browser.key[-43:]
    for wrong in (
        "",
        "syk_",
        "x" + browser.key[1:],
        browser.key[:-1],
        browser.key + "A",
        browser.key + "\n",
        client.tokens.refresh_token,
        browser.tokens.access_token,
    ):
        with refused("UNAUTHENTICATED", "TOKEN_MALFORMED"):
            await exchange(auth, wrong)
    for wrong in (
        browser.key[:-1] + ("A" if browser.key[-1] != "A" else "B"),
        f"syk_{new_text_id()}{secret}",
        f"syk_{client.device.device_id}{secret}",
    ):
        with refused("UNAUTHENTICATED", "TOKEN_INVALID"):
            await exchange(auth, wrong)
    # A person who only knows which devices there are does not even learn that one was revoked.
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=browser.credentials)
    with refused("UNAUTHENTICATED", "TOKEN_INVALID"):
        await exchange(auth, f"syk_{browser.device.device_id}{'A' * 43}")


async def test_a_key_is_no_refresh_token(auth):
    browser = await auth.sign_up(EMAIL, kind=BROWSER)
    forged = f"{browser.device.device_id}.{'A' * 64}"
    for text, reason in ((browser.key, "TOKEN_MALFORMED"), (forged, "TOKEN_INVALID")):
        with refused("UNAUTHENTICATED", reason):
            await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=text))
    assert await exchange(auth, browser.key)


# ---- what is written


class Counting(InMemoryIdentityStore):
    """Counts reads and writes of devices."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.writes = 0

    async def device(self, device):
        self.reads += 1
        return await super().device(device)

    async def key_used(self, *args, **kwargs):
        self.writes += 1
        await super().key_used(*args, **kwargs)


class World:
    def __init__(self) -> None:
        self.clock, self.store = Clock(), Counting()
        tokens = AccessTokens(SigningKeys.of(Ed25519PrivateKey.generate()), clock=self.clock)
        self.keys = Keys(
            self.store,
            self.store,
            self.store,
            tokens,
            derived=DerivedSecrets("secret"),
            holdings=HoldingLimits(),
            lists=DeviceLists(self.store, HoldingLimits(), clock=self.clock),
            clock=self.clock,
        )

    async def browser(self) -> tuple[DeviceRecord, str]:
        device, key, _ = self.keys.open(user=UserId(new_text_id()), name="browser")
        await self.store.add_device(device)
        return device, key


async def test_trading_a_key_is_one_read_and_at_most_hourly_a_write():
    world = World()
    device, key = await world.browser()
    for minutes, written in ((0, 0), (59, 0), (1, 1), (59, 1), (1, 2)):
        world.clock.advance(minutes * MINUTE_MS)
        reads = world.store.reads
        await world.keys.exchange(key)
        assert (world.store.reads - reads, world.store.writes) == (1, written)
    found = await world.store.device(device.device)
    assert found is not None
    assert (found.last_seen_at_ms, found.expires_at_ms) == (
        world.clock(),
        world.clock() + BROWSER_KEY_IDLE_DAYS * DAY_MS,
    )
    assert found.last_seen_at_ms - device.last_seen_at_ms == 2 * HOUR_MS


async def test_a_program_is_seen_too():
    world = World()
    device, _ = await world.browser()
    until = world.clock() + 10 * DAY_MS
    program, key = await world.keys.create(
        request=new_request_id(), name="p", expires_at_ms=until, user=device.user, device=device.device
    )
    world.clock.advance(HOUR_MS)
    await world.keys.exchange(key)
    found = await world.store.device(program.device)
    assert found is not None
    assert (found.last_seen_at_ms, found.expires_at_ms) == (world.clock(), until)


async def test_only_the_digest_is_stored():
    world = World()
    device, key = await world.browser()
    assert device.key is not None
    assert device.key.digest == token_digest(key)
    assert key[-43:] not in repr(device)
    assert str(device.key.digest) not in repr(device)


async def test_no_key_is_logged(tmp_path):
    with structlog.testing.capture_logs() as logs:
        async with serving(tmp_path) as auth:
            browser = await auth.sign_up(EMAIL, kind=BROWSER)
            made = await create(auth, browser)
            tokens = [await exchange(auth, key) for key in (browser.key, made.key)]
            auth.clock.advance(11 * DAY_MS)
            for key, reason in ((made.key, "TOKEN_EXPIRED"), (made.key + "A", "TOKEN_MALFORMED")):
                with refused("UNAUTHENTICATED", reason) as caught:
                    await exchange(auth, key)
                assert made.key not in str(caught.value)
            browser = await auth.sign_in(EMAIL, kind=BROWSER)
            await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=browser.credentials)
            with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
                await exchange(auth, browser.key)
    assert {entry["event"] for entry in logs} >= {"key created", "device revoked"}
    for secret in (PASSWORD, browser.key[-43:], made.key[-43:], *(token.access_token for token in tokens)):
        assert secret not in repr(logs)


async def test_tokens_end_on_a_whole_second_before_their_key():
    world = World()
    device, _ = await world.browser()
    until = world.clock() + 90 * SECOND_MS + 1
    _, key = await world.keys.create(
        request=new_request_id(), name="p", expires_at_ms=until, user=device.user, device=device.device
    )
    assert (await world.keys.exchange(key)).access.expires_at_ms == until - 1
