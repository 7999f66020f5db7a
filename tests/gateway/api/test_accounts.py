"""Accounts, sessions, devices and keys over HTTP."""

import time
from typing import Any

import pytest

from tests.gateway.client import PASSWORD, Api, Person, browser, sign_up


def test_a_program_signs_up_in_and_out(ann: Person):
    session = ann.done("GET", "/v1/session")
    assert session["account"]["email"] == ann.email
    assert session["device"]["current"]
    assert session["csrf_token"] is None
    again = Api(ann.endpoint).done(
        "POST", "/v1/sessions", {"email": ann.email, "password": PASSWORD, "device_name": "other"}, status=201
    )
    tokens = Api(ann.endpoint).done("POST", "/v1/sessions/refresh", {"refresh_token": again["tokens"]["refresh_token"]})
    other = Api(ann.endpoint, {"authorization": f"Bearer {tokens['access_token']}"})
    assert [device["name"] for device in other.done("GET", "/v1/devices")["devices"]] == ["other", "program"]
    other.done("DELETE", "/v1/session", status=204)
    other.ask("GET", "/v1/session").refused(401, "DEVICE_REVOKED")
    ann.done("GET", "/v1/session")


def test_what_is_wrong_with_a_sign_up_or_sign_in(ann: Person):
    stranger = ann.signed_out()
    body = {"email": ann.email, "password": PASSWORD, "device_name": "x"}
    stranger.ask("POST", "/v1/accounts", body).refused(409, "ACCOUNT_EXISTS")
    stranger.ask("POST", "/v1/accounts", body | {"email": "nonsense"}).refused(400, "INVALID_ARGUMENT")
    stranger.ask("POST", "/v1/accounts", body | {"email": "new@example.com", "password": "short"}).refused(
        400, "INVALID_ARGUMENT"
    )
    told = stranger.ask("POST", "/v1/accounts", body | {"surprise": 1}).refused(400, "INVALID_ARGUMENT")
    assert "surprise" in told["detail"]
    assert PASSWORD not in str(told)
    stranger.ask("POST", "/v1/sessions", body | {"password": "a wrong password"}).refused(401, "WRONG_PASSWORD")
    stranger.ask("POST", "/v1/sessions/refresh", {"refresh_token": "nonsense"}).refused(401, "TOKEN_MALFORMED")


def test_guessing_passwords_is_slowed_down(ann: Person):
    body = {"email": ann.email, "password": "a wrong password", "device_name": "x"}
    for _ in range(30):
        answer = ann.signed_out().ask("POST", "/v1/sessions", body)
        if answer.status == 429:
            break
        answer.refused(401, "WRONG_PASSWORD")
    answer.refused(429, "TOO_MANY_ATTEMPTS")
    assert int(answer.headers["retry-after"]) > 0


def test_a_browser_has_a_cookie_and_no_tokens(stack):
    ben = browser(stack.endpoint, "ben")
    assert ben.account["tokens"] is None
    assert ben.account["device"]["kind"] == "browser"
    session = ben.done("GET", "/v1/session")
    assert session["csrf_token"] == ben.headers["x-csrf-token"]
    answer = ben.signed_out().ask(
        "POST", "/v1/sessions", {"email": ben.email, "password": PASSWORD, "device_name": "b", "browser": True}
    )
    attributes = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "secure", "samesite=strict", "path=/"} <= attributes
    assert not any(part.startswith("domain") for part in attributes)
    gone = ben.ask("DELETE", "/v1/session")
    assert gone.status == 204
    assert "max-age=0" in gone.headers["set-cookie"].lower()
    ben.ask("GET", "/v1/session").refused(401, "DEVICE_REVOKED")


def test_a_change_by_cookie_needs_what_only_our_pages_know(stack):
    ben = browser(stack.endpoint, "ben")
    token = ben.headers.pop("x-csrf-token")
    folder = {"parent": "root", "name": "f"}
    wrongs: list[dict[str, Any]] = [
        {},
        {"x_csrf_token": ""},
        {"x_csrf_token": "nonsense"},
        {"x_csrf_token": token[:-1]},
    ]
    for wrong in wrongs:
        ben.ask("POST", f"{ben.top}/folders", folder, **wrong).refused(403, "CSRF")
    elsewheres: list[dict[str, Any]] = [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec_fetch_site": "cross-site"},
    ]
    for elsewhere in elsewheres:
        ben.ask("POST", f"{ben.top}/folders", folder, x_csrf_token=token, **elsewhere).refused(403, "CSRF")
    assert ben.children() == []
    # A token of another session, or of an earlier one of the same person, is refused.
    ben.headers["x-csrf-token"] = token
    ben.done("DELETE", "/v1/session", status=204)
    body = {"email": ben.email, "password": PASSWORD, "device_name": "b", "browser": True}
    again = ben.signed_out().ask("POST", "/v1/sessions", body)
    ben.headers["cookie"] = again.headers["set-cookie"].partition(";")[0]
    ben.ask("POST", f"{ben.top}/folders", folder).refused(403, "CSRF")
    ben.headers["x-csrf-token"] = again.json["csrf_token"]
    ben.done("POST", f"{ben.top}/folders", folder, status=201)


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        *((none, "UNAUTHENTICATED") for none in ("", "Bearer", "Bearer ", "Basic YTpi")),
        *((f"Bearer {bad}", "TOKEN_MALFORMED") for bad in ("a b", "nonsense", "a.b.c", "syk_nonsense")),
    ],
)
def test_a_token_that_is_none(stack, authorization, reason):
    answer = Api(stack.endpoint).ask("GET", "/v1/spaces", authorization=authorization)
    answer.refused(401, reason)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_forged_token(ann: Person):
    head, claims, signature = ann.headers["authorization"].removeprefix("Bearer ").split(".")
    other = sign_up(ann.endpoint)
    _, claims_of_another, _ = other.headers["authorization"].removeprefix("Bearer ").split(".")
    unsigned = "eyJhbGciOiJub25lIn0"
    for token, reason in (
        (f"{head}.{claims_of_another}.{signature}", "TOKEN_INVALID"),
        (f"{unsigned}.{claims}.", "TOKEN_MALFORMED"),  # the token names no key
        (f"{head}.{claims}.{signature[:-4]}AAAA", "TOKEN_INVALID"),
    ):
        answer = ann.signed_out().ask("GET", "/v1/spaces", authorization=f"Bearer {token}")
        answer.refused(401, reason)


def test_keys_are_made_listed_used_and_revoked(ann: Person):
    later = int(time.time() * 1000) + 86_400_000
    made = ann.done("POST", "/v1/keys", {"name": "backup", "expires_at_ms": later}, status=201)
    program = Api(ann.endpoint, {"authorization": f"Bearer {made['key']}"})
    assert program.done("GET", "/v1/session")["device"]["kind"] == "program"
    (listed,) = ann.done("GET", "/v1/keys")["devices"]
    assert (listed["name"], listed["expires_at_ms"]) == ("backup", later)
    assert made["key"] not in str(ann.done("GET", "/v1/devices"))
    program.ask("POST", "/v1/keys", {"name": "more", "expires_at_ms": later}).refused(403, "PERMISSION_DENIED")
    assert listed["made_by"] == ann.account["device"]["device_id"]
    ann.done("DELETE", f"/v1/devices/{listed['device_id']}")
    fresh = Api(ann.endpoint, {"authorization": f"Bearer {made['key']}"})
    fresh.ask("GET", "/v1/devices").refused(401, "DEVICE_REVOKED")
    assert ann.done("GET", "/v1/keys")["devices"] == []


def test_what_a_device_has_made_is_told_and_ends_with_it(ann: Person):
    device = ann.account["device"]["device_id"]
    later = int(time.time() * 1000) + 86_400_000
    key = ann.done("POST", "/v1/keys", {"name": "backup", "expires_at_ms": later}, status=201)
    link = ann.done("POST", f"{ann.top}/links", {"node": "root"}, status=201)
    (listed,) = ann.done("GET", f"{ann.top}/links")["links"]
    assert (listed["made_by"], listed["space_id"]) == (device, ann.space)
    other = Api(ann.endpoint)
    signing_in = {"email": ann.email, "password": PASSWORD, "device_name": "other"}
    tokens = other.done("POST", "/v1/sessions", signing_in, status=201)["tokens"]
    other.headers["authorization"] = f"Bearer {tokens['access_token']}"
    end = other.done("DELETE", f"/v1/devices/{device}")
    assert [one["device_id"] for one in end["ended_keys"]] == [key["device"]["device_id"]]
    assert [one["link_id"] for one in end["remaining_links"]] == [link["link_id"]]
    assert (end["ended_key_count"], end["ended_link_count"], end["remaining_link_count"]) == (1, 0, 1)
    program = Api(ann.endpoint, {"authorization": f"Bearer {key['key']}"})
    program.ask("GET", "/v1/devices").refused(401, "DEVICE_REVOKED")
    Api(ann.endpoint).done("POST", "/v1/links/open", {"token": link["token"]})
    end = other.done("DELETE", f"/v1/devices/{device}", query={"end_links": "true"})
    assert [one["link_id"] for one in end["ended_links"]] == [link["link_id"]]
    assert (end["ended_link_count"], end["remaining_link_count"]) == (1, 0)
    Api(ann.endpoint).ask("POST", "/v1/links/open", {"token": link["token"]}).refused(404, "NO_SUCH_LINK")


def test_a_key_or_link_is_made_once_by_a_repeated_request(ann: Person):
    key = {"name": "once", "expires_at_ms": int(time.time() * 1000) + 86_400_000}
    first, second = (ann.done("POST", "/v1/keys", key, status=201, idempotency_key="k") for _ in range(2))
    assert first == second
    other = ann.done("POST", "/v1/keys", key | {"name": "other"}, status=201, idempotency_key="k")
    assert other["key"] != first["key"]
    links = [ann.done("POST", f"{ann.top}/links", {"node": "root"}, status=201, idempotency_key="k") for _ in range(2)]
    assert links[0] == links[1]
    assert len(ann.done("GET", f"{ann.top}/links")["links"]) == 1


def test_keys_that_cannot_be(ann: Person):
    now = int(time.time() * 1000)
    for expires_at_ms in (0, now - 1000, now + 400 * 86_400_000):
        ann.ask("POST", "/v1/keys", {"name": "k", "expires_at_ms": expires_at_ms}).refused(400, "INVALID_ARGUMENT")


def test_another_persons_device_does_not_exist(ann: Person):
    other = sign_up(ann.endpoint)
    ident = other.account["device"]["device_id"]
    ann.ask("DELETE", f"/v1/devices/{ident}").refused(404, "NO_SUCH_DEVICE")
    other.done("GET", "/v1/session")
