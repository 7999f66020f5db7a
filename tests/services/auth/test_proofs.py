"""Addresses are proven by mail, and an account that is not proven is alone."""

import pytest

from services.auth.attempts import KNOWN_DAYS
from services.auth.records import DAY_MS, HOUR_MS, ProofMail
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import ROOT, new_request_id
from syncline.model.limits import PROOF_SECONDS
from tests.services.auth.support import PASSWORD, Person, Service, refused, serving
from tests.support.passwords import OTHER_STRONG

EMAIL = "ann@example.com"
OTHER_PASSWORD = OTHER_STRONG


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path, prove_addresses=True) as service:
        yield service


async def sign_up(auth: Service, email: str = EMAIL, *, password: str = PASSWORD) -> Person:
    request = auth_pb2.SignUpRequest(email=email, password=password, device_name="laptop")
    answer = await auth.stub.SignUp(request)
    return Person(answer.account, answer.device, answer.tokens, answer.key)


async def prove(auth: Service, person: Person, token: str) -> auth_pb2.Account:
    request = auth_pb2.ProveAddressRequest(token=token)
    return (await auth.stub.ProveAddress(request, metadata=person.credentials)).account


async def request_proof(auth: Service, person: Person) -> bool:
    return (await auth.stub.RequestProof(auth_pb2.RequestProofRequest(), metadata=person.credentials)).proven


def last_token(auth: Service) -> str:
    sent = auth.mail.sent[-1]
    assert isinstance(sent, ProofMail)
    token = sent.token
    assert token is not None
    return token


async def proven(auth: Service, email: str = EMAIL) -> Person:
    person = await sign_up(auth, email)
    await prove(auth, person, last_token(auth))
    return person


async def test_the_mailed_token_proves_the_address(auth):
    ann = await sign_up(auth, "Ann@Example.com")
    assert ann.account.unproven
    (mail,) = auth.mail.sent
    assert (mail.user, mail.to, mail.expires_at_ms) == (
        ann.account.user_id,
        EMAIL,
        auth.clock.now + PROOF_SECONDS * 1000,
    )
    answer = await prove(auth, ann, last_token(auth))
    assert (answer.user_id, answer.unproven) == (ann.account.user_id, False)
    assert not (await auth.sign_in(EMAIL)).account.unproven
    found = await auth.stub.GetAccount(auth_pb2.GetAccountRequest(), metadata=ann.credentials)
    assert not found.account.unproven
    assert await request_proof(auth, ann)
    assert len(auth.mail.sent) == 1


async def test_only_the_digest_of_a_token_is_stored(auth):
    await sign_up(auth)
    assert last_token(auth).encode() not in auth.store._proofs
    assert last_token(auth) not in repr(auth.mail.sent[-1])


async def test_who_is_not_proven_signs_in_and_uses_the_personal_space(auth):
    await sign_up(auth)
    ann = await auth.sign_in(EMAIL)
    assert ann.account.unproven
    await auth.credentials(ann.account.personal_space_id, ann, auth_pb2.ACCESS_WRITE)


async def test_who_is_not_proven_makes_nothing_that_others_notice(auth):
    ann = await sign_up(auth)
    with refused("PERMISSION_DENIED", "ADDRESS_UNPROVEN"):
        await auth.create_space(ann)
    key = auth_pb2.CreateKeyRequest(request_id=new_request_id(), name="program", expires_at_ms=auth.clock.now + HOUR_MS)
    with refused("PERMISSION_DENIED", "ADDRESS_UNPROVEN"):
        await auth.stub.CreateKey(key, metadata=ann.credentials)
    link = auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=ann.account.personal_space_id, node=ROOT)
    with refused("PERMISSION_DENIED", "ADDRESS_UNPROVEN"):
        await auth.stub.CreateLink(link, metadata=ann.credentials)
    await prove(auth, ann, last_token(auth))
    await auth.create_space(ann)
    await auth.stub.CreateKey(key, metadata=ann.credentials)
    await auth.stub.CreateLink(link, metadata=ann.credentials)


async def test_nothing_is_shared_with_who_is_not_proven(auth):
    ben = await proven(auth, "ben@example.com")
    space = await auth.create_space(ben)
    ann = await sign_up(auth)
    token = last_token(auth)
    assert not (await auth.share(space, ben, EMAIL, auth_pb2.ROLE_EDITOR)).user_id, "the address is invited"
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await auth.credentials(space, ann)
    await prove(auth, ann, token)
    member = await auth.share(space, ben, EMAIL, auth_pb2.ROLE_EDITOR)
    assert member.user_id == ann.account.user_id


async def test_the_token_of_another_account_proves_nothing(auth):
    """Somebody makes an account with an address of another person, who follows the link in the mail."""
    squatter = await sign_up(auth, password=OTHER_PASSWORD)
    planted = last_token(auth)
    ann = await sign_up(auth)
    with refused("INVALID_ARGUMENT", "PROOF_INVALID"):
        await prove(auth, ann, planted)
    await prove(auth, ann, last_token(auth))
    with refused("ALREADY_EXISTS", "ADDRESS_TAKEN"):
        await prove(auth, squatter, planted)
    assert (await auth.sign_in(EMAIL)).account.user_id == ann.account.user_id


async def test_an_earlier_account_loses_its_password_and_can_still_be_proven(auth):
    ann = await sign_up(auth)
    token = last_token(auth)
    await sign_up(auth, password=OTHER_PASSWORD)
    with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
        await auth.sign_in(EMAIL)
    await prove(auth, ann, token)
    assert (await auth.sign_in(EMAIL)).account.user_id == ann.account.user_id


async def test_a_token_works_once_and_for_a_day(auth):
    ann = await sign_up(auth)
    first = last_token(auth)
    await request_proof(auth, ann)
    auth.clock.advance(PROOF_SECONDS * 1000 - 1)
    ann = await auth.sign_in(EMAIL)
    await prove(auth, ann, first)
    for token in (first, last_token(auth)):
        with refused("INVALID_ARGUMENT", "PROOF_INVALID"):
            await prove(auth, ann, token)


async def test_an_expired_token_proves_nothing(auth):
    await sign_up(auth)
    auth.clock.advance(PROOF_SECONDS * 1000)
    ann = await auth.sign_in(EMAIL)
    with refused("INVALID_ARGUMENT", "PROOF_INVALID"):
        await prove(auth, ann, last_token(auth))


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "é" * 43, "x" * 10_000], ids=["", "x", "43", "é", "long"])
async def test_what_is_no_token_proves_nothing(auth, token):
    ann = await sign_up(auth)
    with refused("INVALID_ARGUMENT", "PROOF_INVALID"):
        await prove(auth, ann, token)


# ---- what a sign-up tells


async def test_a_sign_up_tells_nothing_of_the_account_of_the_address(auth):
    ann = await proven(auth)
    answer = await sign_up(auth, password=OTHER_PASSWORD)
    assert answer.account.unproven
    assert answer.account.user_id != ann.account.user_id
    assert auth.mail.sent[-1].to == EMAIL
    assert auth.mail.sent[-1].token is None, "the owner is told, and nobody can prove anything"
    assert (await auth.sign_in(EMAIL)).account.user_id == ann.account.user_id
    assert (await auth.sign_in(EMAIL, password=OTHER_PASSWORD)).account.user_id == answer.account.user_id


async def test_guessing_is_not_forgotten_by_the_password_of_a_claim(tmp_path):
    """The person who claims an address knows one password that signs in there, and begins no count anew with it."""
    async with serving(tmp_path, prove_addresses=True, sign_in_limit_per_peer=4) as auth:
        await proven(auth)
        await sign_up(auth, password=OTHER_PASSWORD)
        for attempt in range(4):
            if attempt % 2:
                assert (await auth.sign_in(EMAIL, password=OTHER_PASSWORD)).account.unproven
            else:
                with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
                    await auth.sign_in(EMAIL, password=f"guess number {attempt}")
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await auth.sign_in(EMAIL, password="guess number 5")
        known = {(email, peer) for email, peer in auth.store._known if email == EMAIL}
        assert not known, f"a network is known for {KNOWN_DAYS} days"


async def test_sign_ups_at_an_address_are_limited(tmp_path):
    async with serving(tmp_path, prove_addresses=True, sign_in_limit_per_peer=2) as auth:
        for _ in range(2):
            await sign_up(auth)
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await sign_up(auth)
        await sign_up(auth, "ben@example.com")


# ---- mail


async def test_mails_are_limited_by_account_and_by_address_and_a_sign_up_does_not_fail_by_that(tmp_path):
    async with serving(tmp_path, prove_addresses=True, proof_mails_per_account=2, proof_mails_per_address=3) as auth:
        ann = await sign_up(auth)
        await request_proof(auth, ann)
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await request_proof(auth, ann)
        other = await sign_up(auth, password=OTHER_PASSWORD)
        assert len(auth.mail.sent) == 3
        await sign_up(auth)
        assert len(auth.mail.sent) == 3
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await request_proof(auth, other)
        auth.clock.advance(DAY_MS // 24)
        other = await auth.sign_in(EMAIL)
        await request_proof(auth, other)


async def test_an_outage_of_mail_fails_no_sign_up_and_the_person_asks_again(auth):
    auth.mail.down = True
    ann = await sign_up(auth)
    with refused("UNAVAILABLE", "UNAVAILABLE"):
        await request_proof(auth, ann)
    auth.mail.down = False
    await request_proof(auth, ann)
    await prove(auth, ann, last_token(auth))


async def test_a_revoked_device_proves_nothing(auth):
    ann = await sign_up(auth)
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=ann.credentials)
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await prove(auth, ann, last_token(auth))


async def test_where_addresses_count_as_proven_a_claim_signs_nobody_in(tmp_path):
    async with serving(tmp_path) as auth:
        ann = await sign_up(auth)
        assert not ann.account.unproven
        assert auth.mail.sent == []
        with refused("ALREADY_EXISTS", "ACCOUNT_EXISTS"):
            await sign_up(auth)
