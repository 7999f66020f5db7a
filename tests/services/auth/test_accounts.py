"""Signing in: which hash is kept, and when the password is looked at."""

import asyncio
from collections import Counter

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.auth.accounts import AccountRegistry, SignedIn
from services.auth.admission import Admission
from services.auth.attempts import AttemptLimits, Attempts
from services.auth.confirmation import Confirmation
from services.auth.derived import DerivedSecrets
from services.auth.devices import DeviceLists
from services.auth.endings import Endings
from services.auth.factor_changes import FactorChanges
from services.auth.factors import Factors
from services.auth.holdings import HoldingLimits
from services.auth.invitations import Invitations
from services.auth.keys import Keys
from services.auth.password_strength import PasswordStrength
from services.auth.passwords import Passwords
from services.auth.proofs import Proofs
from services.auth.sessions import Sessions
from services.auth.tokens import AccessTokens, SigningKeys
from syncline.model.accounts import SignUpPolicy
from syncline.model.errors import TooManyAttempts, Unavailable, WrongPassword
from tests.services.auth.support import PASSWORD, Clock, new_space_invitations
from tests.support.auth import InMemoryIdentityStore, InMemoryMailRequests
from tests.support.passwords import OTHER_STRONG

EMAIL = "ann@example.com"
KEYS = SigningKeys.of(Ed25519PrivateKey.generate())
PEER = "192.0.2.1"


class Counting(Passwords):
    """Tells how often a password was looked at."""

    looked = 0

    async def verify(self, password, stored, share):
        self.looked += 1
        return await super().verify(password, stored, share)


class World:
    def __init__(self) -> None:
        self.store = InMemoryIdentityStore()
        self.clock = Clock()
        self.policy = SignUpPolicy.OPEN
        self.mail = InMemoryMailRequests()
        self.strength = PasswordStrength()

    def accounts(self, passwords: Passwords, *, proves: bool = False, **limits: int) -> AccountRegistry:
        access_tokens = AccessTokens(KEYS, clock=self.clock)
        endings = Endings(self.store, self.store, self.store, self.store, clock=self.clock)
        sessions = Sessions(self.store, access_tokens, endings=endings, clock=self.clock)
        attempts = Attempts(self.store, AttemptLimits(**{"per_peer": 3, **limits}), clock=self.clock)
        return AccountRegistry(
            self.store,
            self.store,
            admission=Admission(self.policy),
            passwords=passwords,
            strength=self.strength,
            attempts=attempts,
            factors=Factors(
                self.store,
                FactorChanges(self.store, self.mail, clock=self.clock),
                confirmation=Confirmation(self.store, passwords=passwords, attempts=attempts),
                attempts=attempts,
                derived=DerivedSecrets("secret"),
                clock=self.clock,
            ),
            sessions=sessions,
            keys=Keys(
                self.store,
                self.store,
                self.store,
                access_tokens,
                derived=DerivedSecrets("secret"),
                holdings=HoldingLimits(),
                lists=DeviceLists(self.store, HoldingLimits(), clock=self.clock),
                clock=self.clock,
            ),
            lists=DeviceLists(self.store, HoldingLimits(), clock=self.clock),
            invitations=Invitations(self.store, self.store, clock=self.clock),
            space_invitations=new_space_invitations(self.store, clock=self.clock, policy=self.policy),
            clock=self.clock,
            proofs=Proofs(self.store, self.store, self.mail, attempts=attempts, clock=self.clock) if proves else None,
        )

    async def stored_hash(self) -> str:
        login = await self.store.login(EMAIL)
        assert login is not None
        return login.password_hash


@pytest.fixture
def world():
    world = World()
    with world.strength:
        yield world


@pytest.fixture
def passwords():
    with Counting(memory_kib=64, passes=1) as created:
        yield created


async def sign_in(accounts: AccountRegistry, password: str = PASSWORD, email: str = EMAIL, peer: str = PEER):
    return await accounts.sign_in(email=email, password=password, device_name="phone", peer=peer)


async def test_a_right_password_renews_an_outdated_hash(world, passwords):
    await world.accounts(passwords).sign_up(email=EMAIL, password=PASSWORD, device_name="laptop", peer=PEER)
    old = await world.stored_hash()
    with Passwords(memory_kib=128, passes=2) as stronger:
        accounts = world.accounts(stronger)
        with pytest.raises(WrongPassword):
            await sign_in(accounts, "wrong password")
        assert await world.stored_hash() == old
        await sign_in(accounts)
        new = await world.stored_hash()
        assert "m=128,t=2" in new
        await sign_in(accounts)
        assert await world.stored_hash() == new


async def test_an_unknown_address_costs_as_much_as_a_known_one(world, passwords):
    with pytest.raises(WrongPassword):
        await sign_in(world.accounts(passwords))
    assert passwords.looked == 1


async def test_a_refused_password_costs_the_same_whatever_accounts_the_address_has(world, passwords):
    """Either of two accounts may have the password: a claim is looked at as often as there is none."""
    accounts = world.accounts(passwords, proves=True)
    proven = world.accounts(passwords)
    claimed, both, neither = "claimed@example.com", "both@example.com", "neither@example.com"
    await proven.sign_up(email=EMAIL, password=PASSWORD, device_name="laptop", peer=PEER)
    await proven.sign_up(email=both, password=PASSWORD, device_name="laptop", peer=PEER)
    for email in (claimed, both):
        await accounts.sign_up(email=email, password=OTHER_STRONG, device_name="laptop", peer=PEER)
    looked = {}
    for email in (EMAIL, claimed, both, neither):
        before = passwords.looked
        with pytest.raises(WrongPassword):
            await sign_in(accounts, "wrong password", email)
        looked[email] = passwords.looked - before
    assert set(looked.values()) == {2}


async def test_beyond_the_limit_no_password_is_looked_at(world, passwords):
    accounts = world.accounts(passwords)
    for _ in range(3):
        with pytest.raises(WrongPassword):
            await sign_in(accounts)
    with pytest.raises(TooManyAttempts) as caught:
        await sign_in(accounts)
    assert caught.value.details == {"retry_after_seconds": "900"}
    assert passwords.looked == 3


# ---- one password, many addresses


async def test_one_network_does_not_try_a_password_at_every_address(world, passwords):
    """A password beyond the limit is not even looked at; other networks sign in as ever."""
    accounts = world.accounts(passwords, per_network=5)
    await accounts.sign_up(email=EMAIL, password=PASSWORD, device_name="laptop", peer="192.0.2.2")
    outcomes = await asyncio.gather(
        *(sign_in(accounts, "a wrong password", f"{i}@example.com") for i in range(50)), return_exceptions=True
    )
    kinds = Counter(type(outcome) for outcome in outcomes)
    assert kinds == {WrongPassword: 5, TooManyAttempts: 45}
    assert passwords.looked == 5
    with pytest.raises(TooManyAttempts) as caught:
        await sign_in(accounts)
    assert caught.value.retry_after_seconds == 900
    assert await sign_in(accounts, peer="192.0.2.2")
    world.clock.advance(900_000)
    assert await sign_in(accounts)


async def test_those_who_know_their_password_do_not_use_their_network_up(world, passwords):
    accounts = world.accounts(passwords, per_network=3)
    await accounts.sign_up(email=EMAIL, password=PASSWORD, device_name="laptop", peer=PEER)
    for _ in range(10):
        assert await sign_in(accounts)
    # A person with an account cannot begin the count of the network anew with it.
    for i in range(3):
        with pytest.raises(WrongPassword):
            await sign_in(accounts, "a wrong password", f"{i}@example.com")
        if i < 2:
            assert await sign_in(accounts)
    with pytest.raises(TooManyAttempts):
        await sign_in(accounts)


async def test_one_network_does_not_make_accounts_without_end(world, passwords):
    accounts = world.accounts(passwords, accounts=3)
    made = [
        accounts.sign_up(email=f"{i}@example.com", password=PASSWORD, device_name="x", peer=PEER) for i in range(10)
    ]
    outcomes = await asyncio.gather(*made, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [SignedIn] * 3 + [TooManyAttempts] * 7
    assert await accounts.sign_up(email=EMAIL, password=PASSWORD, device_name="x", peer="192.0.2.2")


async def test_a_right_password_counts_as_right_although_the_list_of_devices_stays_long(world, passwords):
    class Failing(InMemoryIdentityStore):
        fails = False

        async def devices(self, user, *, including=None):
            if self.fails:
                raise Unavailable("the identity table does not answer; try again")
            return await super().devices(user, including=including)

    world.store = Failing()
    accounts = world.accounts(passwords)
    await accounts.sign_up(email=EMAIL, password=PASSWORD, device_name="laptop", peer=PEER)
    world.store.fails = True
    for _ in range(5):  # three of these could fail
        signed_in = await sign_in(accounts)
        assert await world.store.device(signed_in.device.device) == signed_in.device
