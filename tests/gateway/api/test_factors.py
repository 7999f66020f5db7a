"""A second factor over the API: added, needed at the sign-in, and removed."""

from __future__ import annotations

import time
from typing import Any
from xml.etree import ElementTree

import pyotp

from stack.up import Stack
from tests.gateway.administrators import administrator
from tests.gateway.client import PASSWORD, Answer, Person, browser, sign_up

FACTORS = "/v1/factors"


def enter(person: Person, **more: Any) -> Answer:
    body = {"email": person.email, "password": PASSWORD, "device_name": "other", **more}
    return person.signed_out().ask("POST", "/v1/sessions", body)


def add(person: Person, *, password: str = PASSWORD, **more: Any) -> Answer:
    return person.ask("POST", FACTORS, {"password": password}, **more)


def added(person: Person) -> tuple[pyotp.TOTP, list[str]]:
    """Add an app; return it and the recovery codes."""
    app = pyotp.TOTP(add(person).json["secret"])
    return app, person.done("POST", f"{FACTORS}/confirm", {"code": app.now()})["recovery_codes"]


def later(app: pyotp.TOTP) -> str:
    """The code of the next time step, which is right already and was not used."""
    return app.at(int(time.time()) + 30)


def test_an_app_is_added_and_its_codes_are_needed(stack: Stack) -> None:
    ann = sign_up(stack.endpoint, "ann")
    assert ann.done("GET", FACTORS) == {"factors": []}
    made = add(ann)
    assert made.status == 201
    picture = ElementTree.fromstring(made.json["qr"])
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert made.json["uri"].startswith("otpauth://totp/Syncline:ann")
    assert enter(ann).status == 201
    app = pyotp.TOTP(made.json["secret"])
    ann.ask("POST", f"{FACTORS}/confirm", {"code": "000000"}).refused(403, "WRONG_CODE")
    codes = ann.done("POST", f"{FACTORS}/confirm", {"code": app.now()})["recovery_codes"]
    assert len(codes) == 10
    (factor,) = ann.done("GET", FACTORS)["factors"]
    assert factor["recovery_codes_left"] == 10
    add(ann).refused(409, "FACTOR_EXISTS")

    enter(ann).refused(401, "SECOND_FACTOR_NEEDED")
    enter(ann, code="000000").refused(403, "WRONG_CODE")
    code = later(app)
    assert enter(ann, code=code).status == 201
    enter(ann, code=code).refused(403, "WRONG_CODE")
    assert enter(ann, code=codes[0]).status == 201
    (factor,) = ann.done("GET", FACTORS)["factors"]
    assert factor["recovery_codes_left"] == 9


def test_a_repetition_by_the_same_key_has_the_same_secret(stack: Stack) -> None:
    ann = sign_up(stack.endpoint, "ann")
    first = add(ann, idempotency_key="k").json
    assert add(ann, idempotency_key="k").json == first
    assert add(ann).json["secret"] != first["secret"]


def test_an_app_is_removed_by_password_and_code(stack: Stack) -> None:
    ann = browser(stack.endpoint, "ann")
    add(ann, x_csrf_token="").refused(403, "CSRF")
    add(ann, password="not the password").refused(403, "WRONG_CURRENT_PASSWORD")
    _, codes = added(ann)
    at = f"{FACTORS}/remove"
    ann.ask("POST", at, {"password": "not the password", "code": codes[0]}).refused(403, "WRONG_CURRENT_PASSWORD")
    ann.ask("POST", at, {"password": PASSWORD, "code": "000000"}).refused(403, "WRONG_CODE")
    ann.ask("POST", at, {"password": PASSWORD}).refused(400, "INVALID_ARGUMENT")
    ann.done("POST", at, {"password": PASSWORD, "code": codes[0]}, status=204)
    ann.ask("POST", at, {"password": PASSWORD, "code": codes[1]}).refused(404, "NO_SUCH_FACTOR")
    ann.ask("POST", f"{FACTORS}/confirm", {"code": "123456"}).refused(404, "NO_SUCH_FACTOR")
    assert enter(ann).status == 201


def test_programs_and_strangers_change_no_factor(stack: Stack) -> None:
    ann = sign_up(stack.endpoint, "ann")
    until = int(time.time() * 1000) + 3_600_000
    key = ann.done("POST", "/v1/keys", {"name": "k", "expires_at_ms": until}, status=201)["key"]
    program = Person(ann.endpoint, {"authorization": f"Bearer {key}"}, ann.email, ann.space, ann.account)
    add(program).refused(403, "PERMISSION_DENIED")
    program.ask("GET", FACTORS).refused(403, "PERMISSION_DENIED")
    ann.signed_out().ask("GET", FACTORS).refused(401, "UNAUTHENTICATED")


def test_an_administrator_helps_whoever_has_lost_everything(stack: Stack) -> None:
    admin, ann = administrator(stack), sign_up(stack.endpoint, "ann")
    added(ann)
    at = f"/v1/admin/users/{ann.account['account']['user_id']}/factor"
    ann.ask("DELETE", at).refused(403, "PERMISSION_DENIED")
    assert admin.done("DELETE", at) == {"removed": True}
    assert admin.done("DELETE", at) == {"removed": False}
    own = f"/v1/admin/users/{admin.done('GET', '/v1/session')['account']['user_id']}/factor"
    admin.ask("DELETE", own).refused(403, "PERMISSION_DENIED")
    admin.ask("DELETE", f"/v1/admin/users/{'a' * 26}/factor").refused(404, "NO_SUCH_ACCOUNT")
    assert enter(ann).status == 201
