"""The administrator of a system that tests run, made as an operator makes one: by an invitation."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import psutil

from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.gateway.client import PASSWORD, Api, Person

_ADMINISTRATORS: Final[dict[str, str]] = {}
"""The address of the administrator of each system, by the endpoint of the system."""


def operator_command(stack: Stack, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the operator, a module of auth, in the environment of auth."""
    return subprocess.run(
        [sys.executable, "-P", "-m", f"services.auth.{name}", *arguments],
        env=psutil.Process(stack.pids["auth"]).environ(),
        capture_output=True,
        text=True,
        check=False,
    )


def invite(stack: Stack, email: str) -> str:
    """The token of an invitation for an address, by the command of the operator."""
    done = operator_command(stack, "invite", email)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def sign_in(stack: Stack, email: str) -> Person:
    """A new session of somebody who has an account."""
    body = {"email": email, "password": PASSWORD, "device_name": "console"}
    answer = Api(stack.endpoint).done("POST", "/v1/sessions", body, status=201)
    headers = {"authorization": f"Bearer {answer['tokens']['access_token']}"}
    return Person(stack.endpoint, headers, email, answer["account"]["personal_space_id"], answer)


def join(stack: Stack, email: str, token: str) -> Person:
    """Somebody who makes an account by an invitation."""
    body = {"email": email, "password": PASSWORD, "device_name": "program", "invitation": token}
    answer = Api(stack.endpoint).done("POST", "/v1/accounts", body, status=201)
    headers = {"authorization": f"Bearer {answer['tokens']['access_token']}"}
    return Person(stack.endpoint, headers, email, answer["account"]["personal_space_id"], answer)


def administrator(stack: Stack) -> Person:
    """A session of the administrator of a system, who is made first if nobody is yet."""
    email = _ADMINISTRATORS.get(stack.endpoint)
    if email is None:
        email = f"root-{new_text_id()}@example.com"
        assert join(stack, email, invite(stack, email)).account["account"]["admin"], "somebody else was the first"
        _ADMINISTRATORS[stack.endpoint] = email
    return sign_in(stack, email)
