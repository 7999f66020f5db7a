"""The first day of a system: its operator makes the first account, and invites others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.running import running_stack
from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.e2e.command_line import CommandLine
from tests.gateway.administrators import operator_command
from tests.gateway.client import PASSWORD, Api
from tests.support.mails import mails

REAL = {"SYNCLINE_SIGN_UP_POLICY": "invited", "SYNCLINE_PROVE_ADDRESSES": "true"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system for invited people, without any account."""
    with running_stack(variables=REAL) as stack:
        yield stack


def test_the_operator_makes_the_first_account_and_invites_others(stack: Stack, tmp_path: Path) -> None:
    ben = f"ben-{new_text_id()[:6]}@example.com"
    ann, eve = (CommandLine(stack, tmp_path / name, f"{name}@example.com") for name in ("ann", "eve"))
    link = stack.first_account
    assert re.fullmatch(rf"{stack.endpoint}/join#[A-Za-z0-9_-]{{43}}", link)
    token = link.partition("#")[2]
    for log in (stack.data / "logs").iterdir():
        assert token not in log.read_text(), log

    assert f"signed in as {ann.email}" in ann.enter("signup", "--invitation", link)
    told = ann.json("account", "show")
    assert (told["proven"], told["admin"]) == (True, True)
    assert "who runs this system" in ann.run("account")
    assert "This invitation was used" in eve.enter("signup", "--invitation", link, status=1)
    assert operator_command(stack, "invite", "--first").stdout == ""

    done = operator_command(
        stack, "invite", ben.upper().replace("EXAMPLE", "example"), "--mail", "--url", stack.endpoint
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.strip()
    (mail,) = mails(stack, ben)
    assert printed in mail["BodyText"]

    eve.enter("signup", "--invitation", printed, status=1)
    body = {"email": ben, "password": PASSWORD, "device_name": "laptop"}
    Api(stack.endpoint).ask("POST", "/v1/accounts", body).refused(403, "SIGN_UP_CLOSED")
    answer = Api(stack.endpoint).done(
        "POST", "/v1/accounts", body | {"invitation": printed.partition("#")[2]}, status=201
    )
    assert (answer["account"]["proven"], answer["account"]["admin"]) == (True, False)
    assert ann.json("spaces", "create", "team")
    assert "There is an account" in operator_command(stack, "invite", ben).stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "required"),
        (("nonsense",), "not a valid e-mail address"),
        (("--first", "--mail"), "--mail needs EMAIL"),
        (("--first", "ann@example.com"), "not allowed"),
    ],
    ids=["nothing", "nonsense", "first-mail", "both"],
)
def test_what_is_wrong_with_an_invitation_is_said(stack: Stack, arguments: tuple[str, ...], complaint: str) -> None:
    done = operator_command(stack, "invite", *arguments)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_up_prints_the_link_of_the_first_account(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SYNCLINE_")}
    command = (*(sys.executable, "-m", "syncline.cli", "up"), *("--port", "0", "--policy", "invited"))
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        try:
            endpoint = process.stdout.readline().removeprefix("syncline is up: ").strip()
            second = process.stdout.readline()
        finally:
            process.terminate()
            _, err = process.communicate(timeout=120)
    assert second.startswith(f"make the first account within a week: {endpoint}/join#"), err
    assert "only people who are invited make accounts" in err
