"""A person who is invited makes an account, whatever the policy is, and nobody else does by the invitation."""

import pytest

from services.auth.invitations import Invitations
from services.auth.passwords import Passwords
from services.auth.records import DAY_MS, Account, InvitationMail
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import AccountExists, InvitationInvalid, Unavailable
from syncline.model.limits import INVITATION_DAYS
from tests.services.auth.support import PASSWORD, Person, Service, refused, serving
from tests.services.auth.test_accounts import World
from tests.services.auth.test_proofs import request_proof
from tests.support.auth import InMemoryIdentityStore

EMAIL = "ann@example.com"


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path, sign_up_policy="invited", prove_addresses=True) as service:
        yield service


def invitations(auth: Service) -> Invitations:
    """Invitations as the operator makes them, on the store of the service."""
    return Invitations(auth.store, auth.store, clock=auth.clock)


async def join(auth: Service, token: str, email: str = EMAIL) -> Person:
    request = auth_pb2.SignUpRequest(email=email, password=PASSWORD, device_name="laptop", invitation=token)
    answer = await auth.stub.SignUp(request)
    return Person(answer.account, answer.device, answer.tokens, answer.key)


async def test_an_invited_account_is_proven_at_once_and_the_first_is_the_administrators(auth):
    ann = await join(auth, await invitations(auth).invite(EMAIL), "Ann@Example.com")
    assert (ann.account.email, ann.account.unproven, ann.account.admin) == (EMAIL, False, True)
    assert auth.mail.sent == []
    assert await request_proof(auth, ann), "there is nothing to prove"
    await auth.create_space(ann)
    ben = await join(auth, await invitations(auth).invite("ben@example.com"), "ben@example.com")
    assert (ben.account.unproven, ben.account.admin) == (False, False)
    for person, admin in ((ann, True), (ben, False)):
        found = await auth.stub.GetAccount(auth_pb2.GetAccountRequest(), metadata=person.credentials)
        assert found.account.admin is admin
        assert (await auth.sign_in(person.account.email)).account.admin is admin


async def test_an_invitation_is_for_its_address_works_once_and_for_a_week(auth):
    first = await invitations(auth).invite(EMAIL)
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await join(auth, first, "eve@example.com")
    await join(auth, first)
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await join(auth, first)
    second = await invitations(auth).invite("ben@example.com")
    auth.clock.advance(INVITATION_DAYS * DAY_MS)
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await join(auth, second, "ben@example.com")


@pytest.mark.parametrize("token", ["x", "x" * 43, "é" * 43], ids=["x", "43", "é"])
async def test_what_is_no_invitation_admits_nobody(auth, token):
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await join(auth, token)


async def test_without_an_invitation_the_policy_holds(auth):
    with refused("PERMISSION_DENIED", "SIGN_UP_CLOSED"):
        await join(auth, "")


async def test_the_first_account_states_its_address_and_is_the_only_one_that_does(auth):
    one, two = await invitations(auth).invite_first(), await invitations(auth).invite_first()
    assert one
    assert two
    ann = await join(auth, one)
    assert ann.account.admin
    for token in (one, two):
        with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
            await join(auth, token, "eve@example.com")
    assert await invitations(auth).invite_first() is None


class Late(InMemoryIdentityStore):
    """A store whose administrator is seen late."""

    async def has_admin(self) -> bool:
        return False


async def test_an_administrator_who_comes_during_a_sign_up_leaves_no_second_one():
    """The check is made again where the account is stored."""
    world = World()
    world.store = Late()
    made = Invitations(world.store, world.store, clock=world.clock)

    async def join_as(email: str, token: str | None) -> Account:
        assert token is not None
        signed_in = await accounts.sign_up(
            email=email, password=PASSWORD, device_name="laptop", peer="192.0.2.1", invitation=token
        )
        return signed_in.account

    with Passwords(memory_kib=64, passes=1) as passwords:
        accounts = world.accounts(passwords)
        assert (await join_as(EMAIL, await made.invite(EMAIL))).admin
        with pytest.raises(InvitationInvalid):
            await join_as("eve@example.com", await made.invite_first())
        assert not (await join_as("ben@example.com", await made.invite("ben@example.com"))).admin


async def test_the_owner_of_an_address_is_not_invited(auth):
    await join(auth, await invitations(auth).invite(EMAIL))
    with pytest.raises(AccountExists):
        await invitations(auth).invite(EMAIL)


async def test_two_invitations_of_an_address_make_one_account(auth):
    one, two = await invitations(auth).invite(EMAIL), await invitations(auth).invite(EMAIL)
    await join(auth, one)
    with refused("ALREADY_EXISTS", "ACCOUNT_EXISTS"):
        await join(auth, two)


async def test_an_invitation_is_mailed_and_only_its_digest_is_stored(auth):
    token = await invitations(auth).invite(EMAIL, mail=auth.mail)
    (mail,) = auth.mail.sent
    assert isinstance(mail, InvitationMail)
    assert (mail.to, mail.token) == (EMAIL, token)
    assert token not in repr(mail)
    assert token.encode() not in auth.store._invitations
    auth.mail.down = True
    with pytest.raises(Unavailable):
        await invitations(auth).invite("ben@example.com", mail=auth.mail)
