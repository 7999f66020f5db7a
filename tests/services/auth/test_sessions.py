"""Refresh tokens: one chain for each device, and a copy is found out."""

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from services.auth.endings import Endings
from services.auth.ports import ChainMoved
from services.auth.records import DAY_MS, DeviceRecord
from services.auth.sessions import RefreshToken, Sessions
from services.auth.tokens import AccessTokens, SigningKeys
from syncline.model.errors import DeviceRevoked, RefreshTokenReused, SynclineError, Unauthenticated, Unavailable
from syncline.model.identifiers import UserId, new_text_id
from syncline.model.limits import REFRESH_TOKEN_IDLE_DAYS
from tests.services.auth.support import Clock
from tests.support.auth import InMemoryIdentityStore

KEYS = SigningKeys.of(Ed25519PrivateKey.generate())


class World:
    def __init__(self, store: InMemoryIdentityStore | None = None) -> None:
        self.clock = Clock()
        self.store = store or InMemoryIdentityStore()
        endings = Endings(self.store, self.store, self.store, self.store, clock=self.clock)
        self.sessions = Sessions(self.store, AccessTokens(KEYS, clock=self.clock), endings=endings, clock=self.clock)

    async def sign_in(self) -> tuple[DeviceRecord, str]:
        device, tokens = self.sessions.open(user=UserId(new_text_id()), name="laptop")
        await self.store.add_device(device)
        return device, tokens.refresh

    async def refresh(self, token: str) -> str:
        return (await self.sessions.refresh(RefreshToken.parse(token))).refresh

    async def stored(self, device: DeviceRecord) -> DeviceRecord:
        found = await self.store.device(device.device)
        assert found is not None
        return found


@pytest.fixture
def world() -> World:
    return World()


async def test_each_token_is_traded_for_the_next(world):
    device, token = await world.sign_in()
    for _ in range(5):
        world.clock.advance(DAY_MS)
        token = await world.refresh(token)
    found = await world.stored(device)
    assert found.last_seen_at_ms == world.clock()
    assert found.chain.expires_at_ms == world.clock() + REFRESH_TOKEN_IDLE_DAYS * DAY_MS


async def test_a_lost_answer_may_be_asked_for_again_and_again(world):
    _, first = await world.sign_in()
    await world.refresh(first)
    await world.refresh(first)
    third = await world.refresh(first)
    assert await world.refresh(third)


async def test_the_successor_that_was_replaced_is_a_copy(world):
    _, first = await world.sign_in()
    replaced = await world.refresh(first)
    kept = await world.refresh(first)
    with pytest.raises(RefreshTokenReused):
        await world.refresh(replaced)
    with pytest.raises(DeviceRevoked):
        await world.refresh(kept)


async def test_a_spent_token_signs_the_device_out(world):
    device, first = await world.sign_in()
    second = await world.refresh(first)
    third = await world.refresh(second)
    with pytest.raises(RefreshTokenReused):
        await world.refresh(first)
    assert (await world.stored(device)).revoked_at_ms == world.clock()
    for token in (first, second, third):
        with pytest.raises(DeviceRevoked):
            await world.refresh(token)


async def test_a_made_up_token_does_no_harm(world):
    device, token = await world.sign_in()
    made_up = RefreshToken.first(device.device)
    with pytest.raises(Unauthenticated):
        await world.refresh(str(made_up))
    assert await world.refresh(token)


DEVICE = "d" * 26


@pytest.mark.parametrize("text", ["", ".", "x", f"{DEVICE}.", f"{DEVICE}.####", f"{DEVICE}.AAAA"])
async def test_a_malformed_token_is_refused(world, text):
    with pytest.raises(Unauthenticated):
        await world.refresh(text)


async def test_a_token_of_an_unknown_device_is_refused(world):
    _, token = await World().sign_in()
    with pytest.raises(Unauthenticated):
        await world.refresh(token)


async def test_a_revoked_device_is_told_so_at_once(world):
    device, token = await world.sign_in()
    await world.store.revoke_device(device.device, at_ms=world.clock())
    with pytest.raises(DeviceRevoked):
        await world.refresh(token)


async def test_a_device_that_stays_away_for_60_days_signs_in_again(world):
    _, token = await world.sign_in()
    world.clock.advance(REFRESH_TOKEN_IDLE_DAYS * DAY_MS - 1)
    token = await world.refresh(token)
    world.clock.advance(REFRESH_TOKEN_IDLE_DAYS * DAY_MS)
    with pytest.raises(Unauthenticated, match="60 days"):
        await world.refresh(token)


async def test_only_digests_are_stored_and_nothing_shows_in_a_repr(world):
    device, text = await world.sign_in()
    token = RefreshToken.parse(text)
    stored = (await world.stored(device)).chain
    assert token.secret not in stored.current
    assert token.family not in stored.family
    _, tokens = world.sessions.open(user=device.user, name="phone")
    for secret in (tokens.refresh, tokens.access.text):
        assert secret not in repr(tokens)
    assert str(token.secret) not in repr(token)
    assert str(stored.current) not in repr(device)


class Overtaken(InMemoryIdentityStore):
    """Another process refreshes the device between our reading and our writing."""

    async def advance_chain(self, *args, **kwargs) -> None:
        raise ChainMoved


async def test_the_one_who_comes_second_gets_nothing_and_may_ask_again():
    world = World(Overtaken())
    _, token = await world.sign_in()
    with pytest.raises(Unavailable):
        await world.refresh(token)


@given(st.lists(st.integers(0, 3), max_size=30))
def test_any_sequence_of_presented_tokens_does_what_the_rule_says(choices: list[int]):
    """Each choice presents the token issued so many before the last."""

    async def story() -> None:
        world = World()
        _, token = await world.sign_in()
        issued, current, previous, revoked = [token], token, None, False
        for choice in choices:
            presented = issued[max(0, len(issued) - 1 - choice)]
            outcome: str | type[SynclineError]
            try:
                outcome = await world.refresh(presented)
            except SynclineError as error:
                outcome = type(error)
            if revoked:
                assert outcome is DeviceRevoked
            elif presented not in (current, previous):
                assert outcome is RefreshTokenReused
                revoked = True
            else:
                assert isinstance(outcome, str)
                issued.append(outcome)
                previous, current = presented, outcome

    asyncio.run(story())
