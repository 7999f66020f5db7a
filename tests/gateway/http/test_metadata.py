"""Headers of which something goes on to the services: each has a bound before, so that none is a defect of ours."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from runtime.claims import MAX_TOKEN_CHARACTERS
from stack.up import Stack
from tests.gateway.client import Api

LINK = "a" * 26
TARGETS = ("/v1/spaces", "/dav/", f"/v1/links/{LINK}/nodes/root/children", f"/v1/events?space={LINK}")


def basic(letters: str) -> str:
    return "Basic " + base64.b64encode(f"ann@example.com:syk_{letters}".encode()).decode()


@pytest.mark.parametrize("size", [MAX_TOKEN_CHARACTERS + 1, 15_000, 17_000, 30_000])
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("authorization", "Bearer {}"),
        ("authorization", "Bearer syk_{}"),
        ("authorization", "Basic"),
        ("cookie", "__Host-syncline={}"),
        ("cookie", f"__Host-link-{LINK}={{}}"),
    ],
)
def test_a_token_that_is_longer_than_any_of_ours_is_none(stack: Stack, name: str, form: str, size: int) -> None:
    value = basic("a" * (size * 2 // 3)) if form == "Basic" else form.format("a" * size)
    sent: dict[str, Any] = {name: value}
    for target in TARGETS:
        answer = Api(stack.endpoint).ask("GET", target, **sent)
        assert answer.status == 401, (target, answer.status, answer.body)


@pytest.mark.parametrize("value", ["a" * 30_000, "1.1.1.1," * 3_500], ids=["one", "many"])
@pytest.mark.parametrize(
    "header",
    ["x_forwarded_for", "forwarded", "user_agent", "x_request_id", "traceparent", "tracestate", "if_match", "origin"],
)
def test_a_long_header_is_no_defect(stack: Stack, header: str, value: str) -> None:
    stranger, long = Api(stack.endpoint), dict[str, Any]({header: value})
    for target, body in (
        ("/v1/links/open", {"token": "a" * 22}),
        ("/v1/sessions/refresh", {"refresh_token": "a" * 22}),
    ):
        answer = stranger.ask("POST", target, body, **long)
        assert 400 <= answer.status < 500, (target, answer.status, answer.body)
    answer = stranger.ask("GET", "/v1/spaces", authorization="Bearer syk_" + "a" * 20, **long)
    assert answer.status == 401, answer.body
