"""Passwords over the API: changed on a signed-in device, and chosen anew by a mailed token."""

from __future__ import annotations

import time
from typing import Any

from stack.up import Stack
from tests.gateway.client import PASSWORD, Answer, Person, browser, sign_up
from tests.support.mails import mailed_token
from tests.support.passwords import OTHER_STRONG, WEAK

CHANGE = "/v1/account/password"


def change(person: Person, *, current: str = PASSWORD, new: str = OTHER_STRONG, **more: Any) -> Answer:
    return person.ask("POST", CHANGE, {"current_password": current, "new_password": new}, **more)


def sign_in(person: Person, password: str) -> Answer:
    body = {"email": person.email, "password": password, "device_name": "other"}
    return person.signed_out().ask("POST", "/v1/sessions", body)


def test_a_changed_password_ends_other_devices_and_tells_what_ended(stack: Stack) -> None:
    ann = sign_up(stack.endpoint, "ann")
    other = sign_in(ann, PASSWORD).json
    until = int(time.time() * 1000) + 3_600_000
    own = ann.done("POST", "/v1/keys", {"name": "own", "expires_at_ms": until}, status=201)

    told = change(ann)
    assert told.status == 200
    assert [one["device_id"] for one in told.json["ended_devices"]] == [other["device"]["device_id"]]
    assert [key["device_id"] for key in told.json["remaining_keys"]] == [own["device"]["device_id"]]
    assert (told.json["ended_device_count"], told.json["ended_key_count"], told.json["unfinished"]) == (1, 0, False)
    sign_in(ann, PASSWORD).refused(401, "WRONG_PASSWORD")
    assert sign_in(ann, OTHER_STRONG).status == 201
    other_api = ann.signed_out()
    refresh = {"refresh_token": other["tokens"]["refresh_token"]}
    other_api.ask("POST", "/v1/sessions/refresh", refresh).refused(401, "DEVICE_REVOKED")


def test_a_change_that_is_refused_says_why(stack: Stack) -> None:
    ann = sign_up(stack.endpoint, "ann")
    change(ann, current="not the password").refused(403, "WRONG_CURRENT_PASSWORD")
    weak = change(ann, new=WEAK).refused(400, "WEAK_PASSWORD")
    assert "common password" in weak["detail"]
    change(ann, new="short").refused(400, "INVALID_ARGUMENT")
    change(ann, new=PASSWORD).refused(400, "INVALID_ARGUMENT")
    ann.ask("POST", CHANGE, {"new_password": OTHER_STRONG}).refused(400, "INVALID_ARGUMENT")
    assert sign_in(ann, PASSWORD).status == 201


def test_a_repetition_by_the_same_key_changes_nothing_more(stack: Stack) -> None:
    ann = sign_up(stack.endpoint, "ann")
    assert change(ann, idempotency_key="k").status == 200
    assert change(ann, idempotency_key="k").status == 200
    change(ann, new="a third one that nobody knows", idempotency_key="k").refused(400, "REQUEST_ID_REUSED")
    assert sign_in(ann, OTHER_STRONG).status == 201


def test_a_browser_changes_its_password_by_its_cookie_and_token_and_stays_signed_in(stack: Stack) -> None:
    ann = browser(stack.endpoint, "ann")
    change(ann, x_csrf_token="").refused(403, "CSRF")
    assert change(ann).status == 200
    assert ann.done("GET", "/v1/session")["account"]["email"] == ann.email


def test_programs_and_strangers_change_no_password(stack: Stack) -> None:
    ann = sign_up(stack.endpoint, "ann")
    until = int(time.time() * 1000) + 3_600_000
    key = ann.done("POST", "/v1/keys", {"name": "program", "expires_at_ms": until}, status=201)["key"]
    body = {"current_password": PASSWORD, "new_password": OTHER_STRONG}
    program = ann.signed_out()
    program.headers["authorization"] = f"Bearer {key}"
    program.ask("POST", CHANGE, body).refused(403, "PERMISSION_DENIED")
    ann.signed_out().ask("POST", CHANGE, body).refused(401, "UNAUTHENTICATED")


def test_a_mailed_token_chooses_a_new_password_once(stack: Stack) -> None:
    ann = sign_up(stack.endpoint, "ann")
    stranger = ann.signed_out()
    answers = [stranger.ask("POST", "/v1/resets", {"email": email}) for email in (ann.email, "nobody@example.com")]
    assert [(answer.status, answer.body) for answer in answers] == [(204, b"")] * 2
    names = [sorted(name.lower() for name in answer.headers) for answer in answers]
    assert names[0] == names[1]
    token = mailed_token(stack, ann.email, "reset")

    body = {"token": token, "new_password": WEAK}
    stranger.ask("POST", "/v1/resets/password", body).refused(400, "WEAK_PASSWORD")
    body["new_password"] = OTHER_STRONG
    stranger.ask("POST", "/v1/resets/password", body, origin="https://evil.example.com").refused(403, "CSRF")
    assert stranger.ask("POST", "/v1/resets/password", body).status == 204
    stranger.ask("POST", "/v1/resets/password", body).refused(400, "RESET_INVALID")
    refresh = {"refresh_token": ann.account["tokens"]["refresh_token"]}
    stranger.ask("POST", "/v1/sessions/refresh", refresh).refused(401, "DEVICE_REVOKED")
    assert sign_in(ann, OTHER_STRONG).status == 201


def test_what_is_no_reset_is_refused(stack: Stack, ann: Person) -> None:
    stranger = ann.signed_out()
    for token in ("x", "x" * 43):
        body = {"token": token, "new_password": OTHER_STRONG}
        stranger.ask("POST", "/v1/resets/password", body).refused(400, "RESET_INVALID")
    for bad in ({"token": "", "new_password": OTHER_STRONG}, {"token": "x" * 200, "new_password": OTHER_STRONG}, {}):
        stranger.ask("POST", "/v1/resets/password", bad).refused(400, "INVALID_ARGUMENT")
    for email in ("", "ann", "x" * 300):
        stranger.ask("POST", "/v1/resets", {"email": email}).refused(400, "INVALID_ARGUMENT")
