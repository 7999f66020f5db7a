"""A second factor: a sign-in needs a code, each code works once, and whoever lacks one stays out."""

import asyncio
from dataclasses import replace
from urllib.parse import parse_qs, unquote, urlsplit

import pyotp
import pytest

from services.auth import telling
from services.auth.factors import PENDING_SECONDS, RECOVERY_CODES
from services.auth.records import FactorChange, FactorMail
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import new_request_id
from tests.services.auth.support import PASSWORD, Person, Service, reason_of, refused, serving
from tests.support.passwords import OTHER_STRONG

EMAIL = "ann@example.com"
STEP_MS = 30_000


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path) as service:
        yield service


@pytest.fixture
async def ann(auth):
    return await auth.sign_up(EMAIL)


async def add(auth: Service, by: Person, *, password: str = PASSWORD, request: bytes = b"") -> auth_pb2.AddTotpResponse:
    asked = auth_pb2.AddTotpRequest(request_id=request or new_request_id(), password=password)
    return await auth.stub.AddTotp(asked, metadata=by.credentials)


async def confirm(auth: Service, by: Person, code: str) -> list[str]:
    answer = await auth.stub.ConfirmTotp(auth_pb2.ConfirmTotpRequest(code=code), metadata=by.credentials)
    return list(answer.recovery_codes)


async def remove(auth: Service, by: Person, code: str, *, password: str = PASSWORD) -> None:
    await auth.stub.RemoveFactor(auth_pb2.RemoveFactorRequest(password=password, code=code), metadata=by.credentials)


async def factors(auth: Service, by: Person) -> list[auth_pb2.Factor]:
    return list((await auth.stub.ListFactors(auth_pb2.ListFactorsRequest(), metadata=by.credentials)).factors)


async def enter(auth: Service, code: str = "", *, password: str = PASSWORD) -> auth_pb2.SignInResponse:
    asked = auth_pb2.SignInRequest(email=EMAIL, password=password, device_name="phone", code=code)
    return await auth.stub.SignIn(asked)


class App:
    """The authenticator app of a person."""

    def __init__(self, auth: Service, secret: str) -> None:
        self._auth, self._totp = auth, pyotp.TOTP(secret)

    def code(self, *, steps: int = 0) -> str:
        """The code of the present time step, or of one that is so many steps later."""
        return self._totp.at(self._auth.clock() // 1000 + 30 * steps)

    def later(self, steps: int = 1) -> str:
        """Wait for so many time steps; return the code of then."""
        self._auth.clock.advance(steps * STEP_MS)
        return self.code()


async def added(auth: Service, by: Person) -> tuple[App, list[str]]:
    app = App(auth, (await add(auth, by)).secret)
    return app, await confirm(auth, by, app.code())


async def test_a_sign_in_needs_the_code_as_well_as_the_password(auth, ann):
    assert await enter(auth)
    app, _ = await added(auth, ann)
    with refused("UNAUTHENTICATED", "SECOND_FACTOR_NEEDED"):
        await enter(auth)
    with refused("PERMISSION_DENIED", "WRONG_CODE"):
        await enter(auth, "000000")
    with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
        await enter(auth, app.later(), password="not the password at all")
    assert (await enter(auth, app.code())).account.email == EMAIL


async def test_nothing_changes_until_the_app_is_confirmed(auth, ann):
    first = await add(auth, ann)
    assert await enter(auth)
    assert await factors(auth, ann) == []
    second = await add(auth, ann)
    assert first.secret != second.secret
    with refused("PERMISSION_DENIED", "WRONG_CODE"):
        await confirm(auth, ann, App(auth, first.secret).code())
    assert len(await confirm(auth, ann, App(auth, second.secret).code())) == RECOVERY_CODES
    (factor,) = await factors(auth, ann)
    assert (factor.added_at_ms, factor.recovery_codes_left) == (auth.clock(), RECOVERY_CODES)


async def test_a_repeated_request_has_the_same_secret_and_codes(auth, ann):
    request = new_request_id()
    made = await add(auth, ann, request=request)
    assert await add(auth, ann, request=request) == made
    app = App(auth, made.secret)
    code = app.code()
    codes = await confirm(auth, ann, code)
    assert await confirm(auth, ann, code) == codes
    with refused("PERMISSION_DENIED", "WRONG_CODE"):
        await confirm(auth, ann, app.code(steps=1))
    with refused("ALREADY_EXISTS", "FACTOR_EXISTS"):
        await add(auth, ann)
    await enter(auth, app.later())
    with refused("ALREADY_EXISTS", "FACTOR_EXISTS"):
        await confirm(auth, ann, code)


async def test_a_code_of_a_sign_in_gives_no_recovery_codes(auth, ann):
    app, _ = await added(auth, ann)
    code = app.later(20)
    phone = await enter(auth, code)
    for person in (ann, Person(phone.account, phone.device, phone.tokens)):
        with refused("ALREADY_EXISTS", "FACTOR_EXISTS"):
            await confirm(auth, person, code)


async def test_the_recovery_codes_are_told_again_for_two_minutes_and_on_the_same_device(auth, ann):
    phone = await auth.sign_in(EMAIL)
    app = App(auth, (await add(auth, ann)).secret)
    code = app.code()
    codes = await confirm(auth, ann, code)
    with refused("ALREADY_EXISTS", "FACTOR_EXISTS"):
        await confirm(auth, phone, code)
    auth.clock.advance(STEP_MS)
    assert await confirm(auth, ann, code) == codes
    auth.clock.advance(3 * STEP_MS)
    with refused("ALREADY_EXISTS", "FACTOR_EXISTS"):
        await confirm(auth, ann, code)


async def test_a_factor_is_confirmed_where_it_was_added_and_soon(auth, ann):
    phone = await auth.sign_in(EMAIL)
    app = App(auth, (await add(auth, ann)).secret)
    with refused("NOT_FOUND", "NO_SUCH_FACTOR"):
        await confirm(auth, phone, app.code())
    auth.clock.advance(PENDING_SECONDS * 1000)
    renewed = await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=ann.tokens.refresh_token))
    with refused("NOT_FOUND", "NO_SUCH_FACTOR"):
        await confirm(auth, replace(ann, tokens=renewed.tokens), app.code())
    assert await enter(auth)


async def test_a_factor_that_was_added_with_a_former_password_is_not_confirmed(auth, ann):
    app = App(auth, (await add(auth, ann)).secret)
    asked = auth_pb2.ChangePasswordRequest(
        request_id=new_request_id(), current_password=PASSWORD, new_password=OTHER_STRONG
    )
    await auth.stub.ChangePassword(asked, metadata=ann.credentials)
    with refused("NOT_FOUND", "NO_SUCH_FACTOR"):
        await confirm(auth, ann, app.code())


async def test_a_session_alone_neither_learns_codes_nor_uses_them_up(auth, ann):
    app, recovery = await added(auth, ann)
    thief = Person(ann.account, ann.device, ann.tokens)
    for _ in range(20):
        assert await reason_of(confirm(auth, thief, "000000")) in {"WRONG_CODE", "FACTOR_EXISTS", "TOO_MANY_ATTEMPTS"}
    assert await enter(auth, app.later())
    with refused("PERMISSION_DENIED", "WRONG_CURRENT_PASSWORD"):
        await remove(auth, thief, recovery[0], password="not the password at all")


async def test_a_removed_factor_does_not_come_back_with_its_request(auth, ann):
    request = new_request_id()
    first = App(auth, (await add(auth, ann, request=request)).secret)
    recovery = await confirm(auth, ann, first.code())
    await remove(auth, ann, recovery[0])
    second = App(auth, (await add(auth, ann, request=request)).secret)
    codes = await confirm(auth, ann, second.later())
    assert not set(codes) & set(recovery)
    with refused("PERMISSION_DENIED", "WRONG_CODE"):
        await enter(auth, recovery[1])
    with refused("PERMISSION_DENIED", "WRONG_CODE"):
        await enter(auth, first.later())


async def test_the_uri_is_that_of_the_app(auth, ann):
    made = await add(auth, ann)
    uri = urlsplit(made.uri)
    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", f"/Syncline:{EMAIL}")
    assert parse_qs(uri.query) == {"secret": [made.secret], "issuer": ["Syncline"]}


@pytest.mark.parametrize("steps", [-1, 0, 1])
async def test_the_codes_beside_the_present_one_are_right(auth, ann, steps):
    app, _ = await added(auth, ann)
    auth.clock.advance(10 * STEP_MS)
    assert await enter(auth, app.code(steps=steps))


@pytest.mark.parametrize("steps", [-2, 2, 10])
async def test_the_codes_outside_of_the_window_are_wrong(auth, ann, steps):
    app, _ = await added(auth, ann)
    auth.clock.advance(20 * STEP_MS)
    with refused("PERMISSION_DENIED", "WRONG_CODE"):
        await enter(auth, app.code(steps=steps))


async def test_a_code_works_once_and_no_earlier_one_after_it(auth, ann):
    app, _ = await added(auth, ann)
    with refused("PERMISSION_DENIED", "WRONG_CODE"):
        await enter(auth, app.code())  # the code that has confirmed the app
    code = app.later(5)
    await enter(auth, code)
    for used in (code, app.code(steps=-1)):
        with refused("PERMISSION_DENIED", "WRONG_CODE"):
            await enter(auth, used)
    assert await enter(auth, app.code(steps=1))


async def test_of_many_at_once_with_one_code_one_signs_in(auth, ann):
    app, recovery = await added(auth, ann)
    for code in (app.later(), recovery[3]):
        reasons = await asyncio.gather(*(reason_of(enter(auth, code)) for _ in range(5)))
        assert sorted(reasons) == ["OK", *["WRONG_CODE"] * 4]


async def test_a_recovery_code_works_once_however_it_is_written(auth, ann):
    _, recovery = await added(auth, ann)
    assert len(set(recovery)) == RECOVERY_CODES
    await enter(auth, f"  {recovery[0].upper().replace('-', ' ')} ")
    with refused("PERMISSION_DENIED", "WRONG_CODE"):
        await enter(auth, recovery[0])
    await enter(auth, recovery[9].replace("-", ""))
    (factor,) = await factors(auth, ann)
    assert factor.recovery_codes_left == RECOVERY_CODES - 2
    assert [mail.change for mail in auth.mail.sent if isinstance(mail, FactorMail)] == [
        FactorChange.ADDED,
        FactorChange.RECOVERY_CODE_USED,
        FactorChange.RECOVERY_CODE_USED,
    ]


@pytest.mark.parametrize(
    "code", [" ", "12345", "1234567", "abcdef", "\u0661\u0662\u0663\u0664\u0665\u0666", "-" * 60, "9" * 1_000]
)
async def test_a_text_that_is_no_code_is_wrong(auth, ann, code):
    await added(auth, ann)
    with refused("PERMISSION_DENIED", "WRONG_CODE"):
        await enter(auth, code)


async def test_guesses_at_codes_are_limited_from_all_networks_and_right_ones_do_not_count(tmp_path):
    # Wrong passwords of one network are limited as well, and earlier than guesses that come from many networks.
    async with serving(tmp_path, sign_in_limit_per_peer=100) as auth:
        app, recovery = await added(auth, await auth.sign_up(EMAIL))
        for _ in range(12):
            await enter(auth, app.later())
        refusals = [await reason_of(enter(auth, "000000")) for _ in range(10)]
        assert refusals == ["WRONG_CODE"] * 10
        assert await reason_of(enter(auth, app.later())) == "TOO_MANY_ATTEMPTS"
        assert await enter(auth, recovery[0])
        auth.clock.advance(15 * 60 * 1000)
        assert await enter(auth, app.code())


async def test_guesses_at_codes_are_limited_in_a_day(auth, ann):
    app, recovery = await added(auth, ann)
    for _ in range(5):
        auth.clock.advance(15 * 60 * 1000)
        refusals = [await reason_of(enter(auth, "000000")) for _ in range(10)]
        assert refusals == ["WRONG_CODE"] * 10
    auth.clock.advance(15 * 60 * 1000)
    assert await reason_of(enter(auth, app.code())) == "TOO_MANY_ATTEMPTS"
    assert await enter(auth, recovery[0])
    auth.clock.advance(24 * 60 * 60 * 1000)
    assert await enter(auth, app.code())


async def test_a_sign_in_in_two_steps_does_not_use_the_network_up(tmp_path):
    async with serving(tmp_path, sign_in_limit_per_network=8, sign_in_limit_per_peer=6) as auth:
        ann = await auth.sign_up(EMAIL)
        app, _ = await added(auth, ann)
        for _ in range(10):
            assert await reason_of(enter(auth)) == "SECOND_FACTOR_NEEDED"
            await enter(auth, app.later())


async def test_guesses_with_the_password_alone_are_limited_as_wrong_passwords_are(auth, ann):
    await added(auth, ann)
    refusals = [await reason_of(enter(auth)) for _ in range(12)]
    assert refusals[:9] == ["SECOND_FACTOR_NEEDED"] * 9
    assert refusals[-1] == "TOO_MANY_ATTEMPTS"


async def test_a_removed_factor_is_needed_no_more(auth, ann):
    app, recovery = await added(auth, ann)
    with refused("PERMISSION_DENIED", "WRONG_CURRENT_PASSWORD"):
        await remove(auth, ann, app.later(), password="not the password at all")
    with refused("PERMISSION_DENIED", "WRONG_CODE"):
        await remove(auth, ann, "000000")
    await remove(auth, ann, app.code())
    with refused("NOT_FOUND", "NO_SUCH_FACTOR"):
        await remove(auth, ann, app.later())
    assert await factors(auth, ann) == []
    assert await enter(auth)
    # A factor that is added later has no code of the former one.
    other, codes = await added(auth, ann)
    assert not set(codes) & set(recovery)
    with refused("PERMISSION_DENIED", "WRONG_CODE"):
        await enter(auth, app.later())
    await remove(auth, ann, codes[0])
    assert [mail.change for mail in auth.mail.sent if isinstance(mail, FactorMail)] == [
        FactorChange.ADDED,
        FactorChange.REMOVED,
        FactorChange.ADDED,
        FactorChange.REMOVED,
    ]
    assert other.code()


async def test_a_changed_password_keeps_the_factor(auth, ann):
    app, _ = await added(auth, ann)
    asked = auth_pb2.ChangePasswordRequest(
        request_id=new_request_id(), current_password=PASSWORD, new_password=OTHER_STRONG
    )
    await auth.stub.ChangePassword(asked, metadata=ann.credentials)
    with refused("UNAUTHENTICATED", "SECOND_FACTOR_NEEDED"):
        await enter(auth, password=OTHER_STRONG)
    assert await enter(auth, app.later(), password=OTHER_STRONG)


async def test_what_is_there_goes_on_without_a_code(auth, ann):
    until = auth.clock() + 10 * 86_400_000
    request = auth_pb2.CreateKeyRequest(request_id=new_request_id(), name="program", expires_at_ms=until)
    key = await auth.stub.CreateKey(request, metadata=ann.credentials)
    await added(auth, ann)
    assert await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=key.key))
    assert await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=ann.tokens.refresh_token))


async def test_wrong_confirmations_are_refused(auth, ann):
    with refused("NOT_FOUND", "NO_SUCH_FACTOR"):
        await confirm(auth, ann, "123456")
    with refused("PERMISSION_DENIED", "WRONG_CURRENT_PASSWORD"):
        await add(auth, ann, password="not the password at all")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await add(auth, ann, request=b"short")
    with refused("NOT_FOUND", "NO_SUCH_FACTOR"):
        await remove(auth, ann, "123456")


async def test_the_audit_log_has_each_change_once_and_how_somebody_signed_in(auth, ann):
    app, recovery = await added(auth, ann)
    await enter(auth, app.later())
    await enter(auth, recovery[0])
    assert await reason_of(remove(auth, ann, "000000")) == "WRONG_CODE"
    await remove(auth, ann, recovery[1])
    kinds = [event.kind for event in auth.store.audit.events if event.kind.startswith("factor.")]
    assert kinds == ["factor.added", "factor.recovery_code_used", "factor.removed"]
    entered = [
        event.details.get("second_factor") for event in auth.store.audit.events if event.kind == "sign_in.succeeded"
    ]
    assert entered == ["totp", "recovery code"]
    told = str(auth.store.audit.events)
    assert not any(code in told for code in recovery)


async def test_the_owner_is_told_also_if_the_call_is_broken_off(auth, ann):
    app = App(auth, (await add(auth, ann)).secret)
    sending = asyncio.Event()
    send = auth.mail.send

    async def slowly(mail):
        sending.set()
        await asyncio.sleep(0.2)
        await send(mail)

    auth.mail.send = slowly
    confirming = asyncio.ensure_future(confirm(auth, ann, app.code()))
    await sending.wait()
    confirming.cancel()
    async with asyncio.timeout(60):
        while not any(isinstance(mail, FactorMail) for mail in auth.mail.sent):
            await asyncio.sleep(0.01)
    assert len(await factors(auth, ann)) == 1


async def test_a_queue_of_mail_that_does_not_answer_keeps_nobody_out(auth, ann, monkeypatch):
    monkeypatch.setattr(telling, "_MAIL_SECONDS", 0.05)
    _, recovery = await added(auth, ann)

    async def never(_mail):
        await asyncio.sleep(3600)

    auth.mail.send = never
    assert await enter(auth, recovery[0])
