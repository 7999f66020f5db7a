"""A request without an access token is counted by the network that it comes from, not by the gateway's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from runtime.network_tokens import NETWORK_KEY, NetworkTokens
from stack.running import running_stack
from stack.up import Stack
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.model.errors import RateExceeded
from syncline.model.identifiers import new_text_id
from syncline.rpc.errors import rpc_errors
from tests.gateway.client import Api, Person, sign_up

CALLS = 20
HERE, ELSEWHERE = "198.51.100.1", "198.51.100.2"
BEHIND_A_PROXY = {"SYNCLINE_TRUSTED_NETWORKS": "127.0.0.1/32"}
RATES = {"SYNCLINE_ANONYMOUS_CALLS_PER_NETWORK": str(CALLS / 10_000), "SYNCLINE_RATE_BURST_SECONDS": "10000"}


@pytest.fixture(scope="module")
def limited() -> Iterator[Stack]:
    """A system to which all come by a proxy on this machine."""
    with running_stack(variables=RATES | BEHIND_A_PROXY) as stack:
        yield stack


@pytest.fixture(scope="module")
def open_to_this_machine() -> Iterator[Stack]:
    with running_stack(variables=RATES) as stack:
        yield stack


@pytest.fixture(scope="module")
def ann(limited: Stack) -> Person:
    return sign_up(limited.endpoint)


@pytest.fixture
def key(ann: Person) -> str:
    until = int(time.time() * 1000) + 60_000_000
    made = ann.done("POST", "/v1/keys", {"name": "backup", "expires_at_ms": until}, status=201)
    return str(made["key"])


def made_up() -> str:
    return f"syk_{new_text_id()}{new_text_id()}{'x' * 17}"


def test_who_sends_made_up_keys_keeps_nobody_else_from_using_theirs(limited: Stack, key: str) -> None:
    stranger = Api(limited.endpoint, {"x-forwarded-for": HERE})
    answers = [stranger.ask("GET", "/v1/spaces", authorization=f"Bearer {made_up()}") for _ in range(CALLS + 3)]
    assert [answer.status for answer in answers] == [401] * CALLS + [429] * 3
    members = answers[-1].refused(429, "RATE_EXCEEDED")
    assert int(answers[-1].headers["retry-after"]) > 0, members
    holder = Api(limited.endpoint, {"authorization": f"Bearer {key}", "x-forwarded-for": ELSEWHERE})
    holder.done("GET", "/v1/spaces")


def test_the_same_holds_for_refresh_tokens_and_for_webdav(limited: Stack, ann: Person, key: str) -> None:
    stranger = Api(limited.endpoint, {"x-forwarded-for": "198.51.100.3"})
    token = f"{new_text_id()}.{'A' * 64}"
    answers = [stranger.ask("POST", "/v1/sessions/refresh", {"refresh_token": token}) for _ in range(CALLS + 3)]
    assert [answer.status for answer in answers][CALLS:] == [429] * 3
    mine = {"refresh_token": ann.account["tokens"]["refresh_token"]}
    Api(limited.endpoint, {"x-forwarded-for": ELSEWHERE}).done("POST", "/v1/sessions/refresh", mine)
    mounted = Api(limited.endpoint, {"authorization": f"Bearer {key}", "x-forwarded-for": ELSEWHERE})
    assert mounted.ask("PROPFIND", "/dav/", depth="0").status == 207


def test_nobody_on_this_machine_chooses_the_network_that_is_counted(open_to_this_machine: Stack) -> None:
    """Not at the gateway, and not at a service, past the gateway: both count on one account."""
    told = [f"198.51.{number}.1" for number in range(CALLS + 3)]
    answers = [
        Api(open_to_this_machine.endpoint, {"x-forwarded-for": network}).ask(
            "GET", "/v1/spaces", authorization=f"Bearer {made_up()}"
        )
        for network in told
    ]
    assert [answer.status for answer in answers] == [401] * CALLS + [429] * 3
    with grpc.insecure_channel(f"127.0.0.1:{open_to_this_machine.ports.auth}") as channel:
        stub: Any = AuthServiceStub(channel)
        for network in told:
            metadata = (("x-forwarded-for", network), (NETWORK_KEY, NetworkTokens("a guess" * 9).mint(network)))
            with pytest.raises(RateExceeded), rpc_errors():
                stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=made_up()), metadata=metadata, timeout=10)


def test_no_secret_and_no_proof_is_in_the_logs(limited: Stack, open_to_this_machine: Stack) -> None:
    for stack in (limited, open_to_this_machine):
        secrets = [path.read_text().strip() for path in (stack.data / "secrets").glob("*-secret")]
        assert len(secrets) == 2
        logs = {path: path.read_text() for path in (stack.data / "logs").iterdir()}
        assert any("ExchangeKey" in text for text in logs.values()), "somebody was there"
        for path, text in logs.items():
            for secret in (*secrets, "eyJhbGciOi", "x-syncline-network"):
                assert secret not in text, path
