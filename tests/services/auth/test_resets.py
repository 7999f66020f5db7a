"""A lost password is replaced by a mailed token, which nobody else learns anything from."""

import asyncio
from typing import Any

import pytest

from services.auth.records import HOUR_MS, PasswordMail, ProofMail, ResetMail
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import UserId
from syncline.model.limits import RESET_SECONDS
from tests.services.auth.support import PASSWORD, Person, Service, refused, serving
from tests.services.auth.test_password_changes import change, make_key, renew, trade
from tests.support.auth import InMemoryIdentityStore
from tests.support.passwords import OTHER_STRONG, WEAK

EMAIL, STRANGER = "ann@example.com", "nobody@example.com"
BROWSER = auth_pb2.DEVICE_KIND_BROWSER


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path) as service:
        yield service


@pytest.fixture
async def ann(auth):
    return await auth.sign_up(EMAIL)


def peer(number: int):
    return (("x-forwarded-for", f"192.0.2.{number}"),)


async def ask(auth: Service, email: str = EMAIL, metadata=None) -> auth_pb2.RequestResetResponse:
    return await auth.stub.RequestReset(auth_pb2.RequestResetRequest(email=email), metadata=metadata)


async def token_for(auth: Service, email: str = EMAIL) -> str:
    await ask(auth, email)
    mail = auth.mail.sent[-1]
    assert isinstance(mail, ResetMail)
    assert mail.token is not None
    return mail.token


async def spend(auth: Service, token: str, new: str = OTHER_STRONG) -> auth_pb2.ResetPasswordResponse:
    return await auth.stub.ResetPassword(auth_pb2.ResetPasswordRequest(token=token, new_password=new))


def invalid():
    return refused("INVALID_ARGUMENT", "RESET_INVALID")


async def test_the_mailed_token_changes_the_password_and_ends_all_devices_and_keys(auth, ann):
    browser = await auth.sign_in(EMAIL, kind=BROWSER)
    keys = [await make_key(auth, by, "key") for by in (ann, browser)]
    token = await token_for(auth)
    reset = auth.mail.sent[-1]
    assert (reset.to, reset.expires_at_ms) == (EMAIL, auth.clock.now + RESET_SECONDS * 1000)

    await spend(auth, token)
    for ended in (ann, browser):
        with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
            await renew(auth, ended)
    for key in keys:
        with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
            await trade(auth, key.key)
    with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
        await auth.sign_in(EMAIL)
    again = await auth.sign_in(EMAIL, password=OTHER_STRONG)
    assert again.account == ann.account
    assert await renew(auth, again)
    told = auth.mail.sent[-1]
    assert isinstance(told, PasswordMail)
    assert (told.to, told.by_reset) == (EMAIL, True)


async def test_only_the_digest_of_a_token_is_stored(auth, ann):
    token = await token_for(auth)
    assert token.encode() not in auth.store._resets
    assert token not in repr(auth.mail.sent[-1])


async def test_a_token_works_once(auth, ann):
    token = await token_for(auth)
    await spend(auth, token)
    with invalid():
        await spend(auth, token, PASSWORD)


async def test_a_token_works_for_an_hour(auth, ann):
    first, second = await token_for(auth), await token_for(auth)
    auth.clock.advance(RESET_SECONDS * 1000 - 1)
    await spend(auth, first)
    late = await token_for(auth)
    auth.clock.advance(RESET_SECONDS * 1000)
    for token in (second, late):
        with invalid():
            await spend(auth, token)


async def test_a_change_of_the_password_and_a_reset_end_all_other_resets(auth, ann):
    first, second = await token_for(auth), await token_for(auth)
    await change(auth, ann)
    with invalid():
        await spend(auth, first, PASSWORD)
    third, fourth = await token_for(auth), await token_for(auth)
    await spend(auth, third, PASSWORD)
    for token in (second, fourth):
        with invalid():
            await spend(auth, token)


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "é" * 43, "x" * 10_000], ids=["", "x", "43", "é", "long"])
async def test_what_is_no_token_resets_nothing(auth, ann, token):
    with invalid():
        await spend(auth, token)
    assert await auth.sign_in(EMAIL)


async def test_tokens_of_other_kinds_reset_nothing(tmp_path):
    async with serving(tmp_path, prove_addresses=True) as auth:
        await auth.sign_up(EMAIL)
        proof = auth.mail.sent[-1]
        assert isinstance(proof, ProofMail)
        assert proof.token is not None
        with invalid():
            await spend(auth, proof.token)


async def test_a_refused_password_does_not_spend_the_token(auth, ann):
    token = await token_for(auth)
    with refused("INVALID_ARGUMENT", "WEAK_PASSWORD"):
        await spend(auth, token, WEAK)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await spend(auth, token, "short")
    await spend(auth, token)


async def test_without_a_token_nobody_learns_whether_a_password_is_weak(auth, ann):
    with invalid():
        await spend(auth, "x" * 43, WEAK)


async def test_of_many_calls_with_one_token_one_changes_the_password(auth, ann):
    token = await token_for(auth)
    passwords = [f"{OTHER_STRONG} {number}" for number in range(4)]
    outcomes = await asyncio.gather(*(spend(auth, token, new) for new in passwords), return_exceptions=True)
    done = [new for new, outcome in zip(passwords, outcomes, strict=True) if not isinstance(outcome, BaseException)]
    assert len(done) == 1
    assert await auth.sign_in(EMAIL, password=done[0])


async def test_a_sign_in_with_the_former_password_that_ends_after_the_reset_adds_no_device(tmp_path):
    """Somebody who knows the former password signs in at the moment of the reset."""

    class Late(InMemoryIdentityStore):
        """A store in which the password is changed after a sign-in has compared it."""

        meanwhile: Any = None

        async def add_device(self, device, *, gates=(), login=None, events=()):
            if self.meanwhile is not None and login is not None:
                await self.meanwhile()
            return await super().add_device(device, gates=gates, login=login, events=events)

    store = Late()
    async with serving(tmp_path, store=store) as auth:
        ann = await auth.sign_up(EMAIL)
        token = await token_for(auth)
        store.meanwhile = lambda: spend(auth, token)
        with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
            await auth.sign_in(EMAIL)
        devices = await store.devices(UserId(ann.account.user_id))
        assert [one for one in devices if one.revoked_at_ms is None] == []


async def test_who_resets_signs_in_after_any_number_of_wrong_passwords(tmp_path):
    async with serving(tmp_path, sign_in_limit_per_peer=2) as auth:
        await auth.sign_up(EMAIL)
        for _ in range(2):
            with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
                await auth.sign_in(EMAIL, password="what was it")
        await spend(auth, await token_for(auth))
        assert await auth.sign_in(EMAIL, password=OTHER_STRONG)


# ---- accounts that are not proven


async def test_only_the_proven_account_of_an_address_is_reset(tmp_path):
    async with serving(tmp_path, prove_addresses=True) as auth:
        await auth.sign_up(EMAIL)
        await ask(auth)
        assert auth.mail.sent[-1].token is None
        assert await auth.sign_in(EMAIL)


async def test_a_squatter_keeps_the_account_and_the_owner_the_reset(tmp_path):
    async with serving(tmp_path, prove_addresses=True) as auth:
        ann = await auth.sign_up(EMAIL)
        token = auth.mail.sent[-1].token
        await auth.stub.ProveAddress(auth_pb2.ProveAddressRequest(token=token), metadata=ann.credentials)
        request = auth_pb2.SignUpRequest(email=EMAIL, password=f"{OTHER_STRONG} x", device_name="theirs")
        squatter = await auth.stub.SignUp(request)
        reset = await token_for(auth)
        await spend(auth, reset)
        assert (await auth.sign_in(EMAIL, password=OTHER_STRONG)).account.user_id == ann.account.user_id
        assert await renew(auth, Person(squatter.account, squatter.device, squatter.tokens))


# ---- what asking tells


class Watched(InMemoryIdentityStore):
    """Notes which methods are called, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    def __getattribute__(self, name: str):
        if not name.startswith("_") and name != "called":
            object.__getattribute__(self, "called").append(name)
        return super().__getattribute__(name)


async def test_the_answer_and_the_work_are_the_same_whether_the_address_has_an_account(tmp_path):
    store = Watched()
    async with serving(tmp_path, store=store) as auth:
        await auth.sign_up(EMAIL)
        answers, works, mails = [], [], []
        for email in (EMAIL, STRANGER):
            store.called, auth.mail.sent[:] = [], []
            answers.append((await ask(auth, email)).SerializeToString())
            works.append([name for name in store.called if name not in {"endings", "password_changes"}])
            mails += auth.mail.sent
        assert answers[0] == answers[1] == b""
        assert works[0] == works[1]
        assert works[0][-2:] == ["login", "add_reset"]
        assert [type(mail) for mail in mails] == [ResetMail, ResetMail]
        assert mails[0].expires_at_ms == mails[1].expires_at_ms
        assert (mails[0].token is None, mails[1].token is None) == (False, True)


async def test_an_outage_of_mail_is_told_whether_the_address_has_an_account_or_not(auth, ann):
    auth.mail.down = True
    for email in (EMAIL, STRANGER):
        with refused("UNAVAILABLE", "UNAVAILABLE"):
            await ask(auth, email)


async def test_resets_are_limited_by_address_before_any_work_and_whether_it_has_an_account(tmp_path):
    async with serving(tmp_path, resets_per_address=2, trusted_proxies=1) as auth:
        await auth.sign_up(EMAIL)
        for email in (EMAIL, STRANGER):
            for number in range(2):
                await ask(auth, email, peer(number))
            stored = len(auth.store._resets)
            with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
                await ask(auth, email, peer(9))
            assert len(auth.store._resets) == stored
        auth.clock.advance(HOUR_MS)
        await ask(auth)


async def test_resets_are_limited_by_network_and_in_total(tmp_path):
    async with serving(tmp_path, resets_per_network=2, resets_in_total=3, trusted_proxies=1) as auth:
        for number in range(2):
            await ask(auth, f"{number}@example.com", peer(1))
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await ask(auth, "other@example.com", peer(1))
        await ask(auth, "other@example.com", peer(2))
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await ask(auth, "another@example.com", peer(3))
        assert len(auth.mail.sent) == 3


@pytest.mark.parametrize("email", ["", "ann", "a@" + "b." * 200 + "c", "ann@example.com\nbcc: x@example.com"])
async def test_what_is_no_address_is_refused(auth, email):
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await ask(auth, email)
    assert auth.mail.sent == []
