"""Easily guessed passwords are refused with the reason, whoever chooses them, and measuring takes bounded time."""

import time

import pytest

from runtime.pool import Share, TooMuchAtOnce
from services.auth.password_strength import MAX_MEASURED_CHARACTERS, PasswordStrength, weakness
from services.auth.passwords import Passwords
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import WeakPassword
from syncline.model.limits import MAX_PASSWORD_CHARACTERS
from tests.services.auth.support import refused, serving
from tests.support.passwords import OTHER_STRONG, STRONG, WEAK

EMAIL = "ann.lee@example.com"


@pytest.mark.parametrize("password", [STRONG, OTHER_STRONG, "q7#Vp2!xLm9", "größer als ein Wal im Teich"])
def test_a_strong_password_is_taken(password):
    assert weakness(password, EMAIL) == ""


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        (WEAK, "common password"),
        ("aaaaaaaaaaaa", "Repeats"),
        ("abcdefgh", "Sequences"),
        ("qwertyuiop", "password"),
        ("1987-05-23", "Dates"),
        ("ann.lee@example.com", ""),
        ("annleeexample", ""),
        ("syncline1", ""),
        ("a" * MAX_PASSWORD_CHARACTERS, "Repeats"),
    ],
)
def test_an_easily_guessed_password_is_refused_with_the_reason_and_advice(password, reason):
    told = weakness(password, EMAIL)
    assert reason in told
    assert told.endswith(".")
    assert password not in told
    assert ".." not in told


def test_what_is_known_of_the_account_makes_a_password_weak():
    unusual = "tundraowl47"
    assert weakness(unusual, "somebody@example.com") == ""
    assert weakness(unusual, f"{unusual}@example.com") != ""


HOSTILE = {
    "substitutions": "4@8({[<369!1|70$5+%2" * 60,
    "digits": "19871988198919901991" * 60,
    "words": "passwordmonkeydragonletmein" * 60,
    "repeats": "ab" * 512,
    "keyboard": "qwertyuiop[]asdfghjkl;'" * 60,
    "astral": "\U0001f600" * MAX_PASSWORD_CHARACTERS,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_time_is_bounded_whatever_the_password_is(kind):
    weakness("warm up", EMAIL)
    best = min(_seconds(HOSTILE[kind][:MAX_PASSWORD_CHARACTERS], "a.b" * 84 + "@x") for _ in range(3))
    assert best < 1.0, f"{kind}: {best:.2f} s"
    assert MAX_MEASURED_CHARACTERS < MAX_PASSWORD_CHARACTERS


def _seconds(password: str, email: str) -> float:
    began = time.perf_counter()
    weakness(password, email)
    return time.perf_counter() - began


async def test_one_caller_leaves_places_to_others():
    with PasswordStrength() as strength:
        share, other = Share("ann@example.com", "192.0.2.1"), Share("ben@example.com", "198.51.100.1")
        while strength._places.try_take(1, share):
            pass
        with pytest.raises(TooMuchAtOnce):
            await strength.check(STRONG, email=EMAIL, share=share)
        await strength.check(STRONG, email=EMAIL, share=other)
        with pytest.raises(WeakPassword, match="easily guessed"):
            await strength.check(WEAK, email=EMAIL, share=other)


async def test_a_sign_up_with_a_weak_password_is_refused_and_makes_nothing(tmp_path):
    async with serving(tmp_path) as auth:
        weak = auth_pb2.SignUpRequest(email=EMAIL, password=WEAK, device_name="laptop")
        with refused("INVALID_ARGUMENT", "WEAK_PASSWORD") as told:
            await auth.stub.SignUp(weak)
        assert "common password" in (told.value.details() or "")
        assert await auth.store.login(EMAIL) is None
        assert (await auth.sign_up(EMAIL)).account.email == EMAIL


async def test_a_weak_password_from_before_signs_in(tmp_path):
    async with serving(tmp_path) as auth:
        await auth.sign_up(EMAIL)
        login = await auth.store.login(EMAIL)
        assert login is not None
        hashed = await _hash_of(WEAK)
        await auth.store.replace_password_hash(EMAIL, old=login.password_hash, new=hashed)
        assert (await auth.sign_in(EMAIL, password=WEAK)).account.email == EMAIL


async def _hash_of(password: str) -> str:
    with Passwords() as passwords:
        return await passwords.hash(password, Share("test", "192.0.2.1"))
