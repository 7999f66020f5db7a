"""The policy of sign-up of a running system, as programs and people meet it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.gateway.client import PASSWORD, Api

DOMAINS = {"SYNCLINE_SIGN_UP_POLICY": "domains", "SYNCLINE_SIGN_UP_DOMAINS": "example.com,example.org"}


@pytest.fixture(scope="module")
def closed() -> Iterator[Stack]:
    """A system in which nobody makes an account unasked."""
    with running_stack(variables={"SYNCLINE_SIGN_UP_POLICY": "invited"}) as stack:
        yield stack


@pytest.fixture(scope="module")
def listed() -> Iterator[Stack]:
    """A system for people of two domains."""
    with running_stack(variables=DOMAINS) as stack:
        yield stack


def signup(stack: Stack, home: Path, email: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "syncline.cli", "signup", "--endpoint", stack.endpoint, "--email", email),
            "--password-stdin",
        ],
        env={"SYNCLINE_HOME": str(home), "PATH": ""},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def body(email: str) -> dict[str, str]:
    return {"email": email, "password": PASSWORD, "device_name": "laptop"}


def test_nobody_makes_an_account_unasked(closed: Stack, tmp_path: Path) -> None:
    api = Api(closed.endpoint)
    assert api.done("GET", "/.well-known/syncline")["sign_up"] == {"policy": "invited", "domains": []}
    told = api.ask("POST", "/v1/accounts", body("ann@example.com")).refused(403, "SIGN_UP_CLOSED")
    assert "ask whoever runs this system" in told["detail"]
    done = signup(closed, tmp_path, "ann@example.com")  # nothing is read from stdin
    assert done.returncode == 3
    assert "Nobody can make an account here without being invited; ask whoever runs" in done.stderr


def test_people_of_a_listed_domain_make_accounts_and_others_are_told_which(listed: Stack, tmp_path: Path) -> None:
    api = Api(listed.endpoint)
    offer = {"policy": "domains", "domains": ["example.com", "example.org"]}
    assert api.done("GET", "/.well-known/syncline")["sign_up"] == offer
    told = api.ask("POST", "/v1/accounts", body("ann@sub.example.com")).refused(403, "SIGN_UP_CLOSED")
    assert "example.com, example.org" in told["detail"]
    done = signup(listed, tmp_path, "ann@Example.COM", f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert "people with an e-mail address of example.com, example.org" in done.stderr
    done = signup(listed, tmp_path / "other", "ben@example.net", f"{PASSWORD}\n")
    assert (done.returncode, "can sign up" in done.stderr) == (3, True), done.stderr


def test_a_system_says_at_its_start_who_may_make_an_account(closed: Stack, listed: Stack) -> None:
    for stack, sentence in (
        (closed, "only people who are invited make accounts"),
        (listed, "people with an e-mail address of example.com, example.org may make an account"),
    ):
        assert sentence in (stack.data / "logs" / "stack.log").read_text()
