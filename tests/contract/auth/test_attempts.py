"""A guesser with many networks is stopped, and does not shut the owner out."""

import pytest

from services.auth.attempts import KNOWN_DAYS, AttemptLimits, Attempts
from services.auth.records import DAY_MS
from syncline.model.errors import TooManyAttempts
from syncline.model.identifiers import new_text_id
from tests.contract.auth.conftest import IN_MEMORY, MINISTACK, MOTO
from tests.services.auth.support import Clock

pytestmark = pytest.mark.parametrize("backend", [IN_MEMORY, MINISTACK, MOTO], indirect=True)

LIMITS = AttemptLimits(per_peer=3, per_network=1000, per_address=10, window_ms=60_000)
HOME = "192.0.2.1"


class Account:
    """An address at which attempts are made."""

    def __init__(self, store) -> None:
        self.subject = f"{new_text_id()}@example.com"
        self.clock = Clock()
        self.attempts = Attempts(store, LIMITS, clock=self.clock)

    async def fail(self, peer: str) -> bool:
        """Return True if a password that comes from `peer` would be looked at."""
        try:
            await self.attempts.admit(subject=self.subject, peer=peer)
        except TooManyAttempts:
            return False
        return True

    async def sign_in(self, peer: str) -> bool:
        if not await self.fail(peer):
            return False
        await self.attempts.succeeded(subject=self.subject, peer=peer)
        return True

    async def attack(self, first: int = 0) -> int:
        """Return how many passwords are looked at that come from networks of which each tries one."""
        return sum([await self.fail(f"198.51.100.{first + number}") for number in range(20)])


@pytest.fixture
def account(store):
    return Account(store)


async def test_the_owner_signs_in_from_a_network_that_is_known_whatever_others_try(account):
    assert await account.sign_in(HOME)
    assert await account.attack() == 10
    assert await account.attack(first=50) == 0
    assert not await account.fail("203.0.113.9")  # from where nobody has ever signed in
    assert await account.sign_in(HOME)


async def test_a_network_that_is_known_is_held_to_its_own_limit(account):
    assert await account.sign_in(HOME)
    await account.attack()
    assert [await account.fail(HOME) for _ in range(5)] == [True, True, True, False, False]


async def test_a_network_is_known_to_one_account_only(account, store):
    other = Account(store)
    assert await other.sign_in(HOME)
    await account.attack()
    assert not await account.fail(HOME)


async def test_a_network_is_forgotten_after_a_while(account):
    assert await account.sign_in(HOME)
    account.clock.advance(KNOWN_DAYS * DAY_MS - 1)
    await account.attack()
    assert await account.fail(HOME)
    account.clock.advance(1)
    assert not await account.fail(HOME)
