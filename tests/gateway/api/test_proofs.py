"""Proofs of addresses over the API."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.gateway.client import Person, browser, sign_up
from tests.support.mails import mailed_token


@pytest.fixture(scope="module")
def strict() -> Iterator[Stack]:
    """A system in which addresses have to be proven."""
    with running_stack(variables={"SYNCLINE_PROVE_ADDRESSES": "true"}) as stack:
        yield stack


def test_a_browser_proves_an_address_by_its_cookie_and_token(strict: Stack) -> None:
    ann = browser(strict.endpoint, "ann")
    assert ann.account["account"]["proven"] is False
    token = mailed_token(strict, ann.email, "prove")
    without = ann.ask("POST", "/v1/session/proof", {"token": token}, x_csrf_token="")
    without.refused(403, "CSRF")
    assert ann.done("POST", "/v1/session/proof", {"token": token})["proven"] is True
    assert ann.done("GET", "/v1/session")["account"]["proven"] is True


def test_where_addresses_count_as_proven_there_is_nothing_to_prove(ann: Person) -> None:
    assert ann.ask("POST", "/v1/session/proof/resend").status == 204
    ann.ask("POST", "/v1/session/proof", {"token": "x" * 43}).refused(400, "PROOF_INVALID")
    ann.ask("POST", "/v1/session/proof", {"token": ""}).refused(400, "INVALID_ARGUMENT")
    ann.signed_out().ask("POST", "/v1/session/proof/resend").refused(401, "UNAUTHENTICATED")


def test_a_program_proves_nothing(strict: Stack, ann: Person) -> None:
    until = int(time.time() * 1000) + 3_600_000
    key = ann.done("POST", "/v1/keys", {"name": "program", "expires_at_ms": until}, status=201)["key"]
    program = ann.signed_out()
    program.headers["authorization"] = f"Bearer {key}"
    program.ask("POST", "/v1/session/proof/resend").refused(403, "PERMISSION_DENIED")
    stranger = sign_up(strict.endpoint)
    stranger.ask("POST", "/v1/keys", {"name": "program", "expires_at_ms": until}).refused(403, "ADDRESS_UNPROVEN")
