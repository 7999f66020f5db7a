"""A person protects an account by an authenticator app, at the command line of a running system."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pyotp
import pytest

from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.e2e.command_line import CommandLine
from tests.gateway.administrators import administrator, operator_command
from tests.gateway.client import PASSWORD
from tests.support.mails import mails

DEADLINE_SECONDS = 90.0


class Device(CommandLine):
    """A device of somebody."""

    def at_terminal(self, *arguments: str, answers: list[tuple[str, str]]) -> tuple[int, str]:
        """Run a command at a terminal, and type an answer whenever its prompt is shown. An answer may name the group of
        a pattern in what was shown: `{secret}` becomes a code of that secret.
        """
        main, side = pty.openpty()
        running = subprocess.Popen(
            [*self.command, *arguments], env={**self.environment, "TERM": "dumb"}, stdin=side, stdout=side, stderr=side
        )
        os.close(side)
        shown, deadline = "", time.monotonic() + DEADLINE_SECONDS
        try:
            while time.monotonic() < deadline:
                if select.select([main], [], [], 0.2)[0]:
                    try:
                        shown += os.read(main, 65536).decode(errors="replace")
                    except OSError:  # the other end is closed
                        break
                if answers and answers[0][0] in shown:
                    _, answer = answers.pop(0)
                    if answer == "{code}":
                        answer = pyotp.TOTP(secret_in(shown)).now()
                    os.write(main, f"{answer}\n".encode())
            return running.wait(DEADLINE_SECONDS), shown
        finally:
            running.kill()
            running.wait()
            os.close(main)


def secret_in(text: str) -> str:
    found = re.search(r"secret: ([A-Z2-7]{32})", text)
    assert found, text
    return found[1]


def later(app: pyotp.TOTP, steps: int = 1) -> str:
    """The code of the next time step, which is right already and was not used."""
    return app.at(int(time.time()) + 30 * steps)


@pytest.fixture
def laptop(stack: Stack, tmp_path: Path) -> Device:
    device = Device(stack, tmp_path / "laptop", f"ann-{new_text_id()[:8]}@example.com")
    device.enter("signup")
    return device


@pytest.fixture
def phone(stack: Stack, tmp_path: Path, laptop: Device) -> Device:
    return Device(stack, tmp_path / "phone", laptop.email)


def test_a_script_adds_an_app_signs_in_by_its_codes_and_removes_it(laptop: Device, phone: Device) -> None:
    assert laptop.json("factors") == []
    assert "The current password is wrong" in laptop.run("factors", "add", "--password-stdin", stdin="x\n", status=3)
    made = laptop.json("factors", "add", "--password-stdin", stdin=f"{PASSWORD}\n")
    app = pyotp.TOTP(made["secret"])
    assert made["uri"] == app.provisioning_uri(name=laptop.email, issuer_name="Syncline")
    assert "this code is wrong" in laptop.run("factors", "confirm", "000000", status=3)
    codes = laptop.json("factors", "confirm", app.now())["recovery_codes"]
    (factor,) = laptop.json("factors", "list")
    assert (factor["kind"], factor["recovery_codes_left"]) == ("totp", 10)

    assert "state a code of your authenticator app by --code" in phone.enter("login", status=2)
    assert "This code is wrong" in phone.enter("login", "--code", "000000", status=3)
    phone.enter("login", "--code", later(app))
    phone.run("logout")
    phone.enter("login", "--code", codes[0].upper())
    assert "9 recovery codes left" in phone.run("factors")

    stated = ("factors", "remove", "--password-stdin", "--code")
    assert "This code is wrong" in phone.run(*stated, codes[0], stdin=f"{PASSWORD}\n", status=3)
    phone.run(*stated, codes[1], stdin=f"{PASSWORD}\n")
    assert "your password alone signs in" in laptop.run("factors")
    phone.run("logout")
    phone.enter("login")


def test_a_person_is_asked_at_the_terminal(laptop: Device, phone: Device) -> None:
    status, shown = laptop.at_terminal(
        "factors", "add", answers=[("Your password", PASSWORD), ("Code of your authenticator app", "{code}")]
    )
    assert status == 0, shown
    assert "\u2588" in shown  # the QR code
    codes = re.findall(r"^  ([a-z2-7]{4}(?:-[a-z2-7]{4}){3})\r?$", shown, re.MULTILINE)
    assert len(codes) == 10
    where = ("--endpoint", phone.stack.endpoint, "--email", phone.email)
    status, shown = phone.at_terminal(
        "login",
        *where,
        answers=[
            ("Password", PASSWORD),
            ("Code of your authenticator app", "000000"),
            ("This code is wrong", codes[3]),
        ],
    )
    assert status == 0, shown
    assert f"signed in as {phone.email}" in shown


def test_the_owner_is_told_and_an_administrator_helps(
    stack: Stack, laptop: Device, phone: Device, tmp_path: Path
) -> None:
    made = laptop.json("factors", "add", "--password-stdin", stdin=f"{PASSWORD}\n")
    laptop.run("factors", "confirm", pyotp.TOTP(made["secret"]).now())
    operator = Device(stack, tmp_path / "operator", administrator(stack).email)
    operator.enter("login")
    refused = laptop.run("admin", "users", "remove-factor", laptop.email, "--yes", status=3)
    assert "only an administrator" in refused
    assert f"the second factor of {laptop.email} is removed" in operator.run(
        "admin", "users", "remove-factor", laptop.email, "--yes"
    )
    told = operator.json("admin", "users", "remove-factor", laptop.email, "--yes")
    assert told["removed"] is False
    phone.enter("login")

    sent = mails(stack, laptop.email, about="second factor", count=2)
    told_of = ("A second factor was added to", "The second factor was removed from")
    assert all(text in mail["BodyText"] for text, mail in zip(told_of, sent, strict=True))
    assert not any(made["secret"] in str(mail) for mail in sent)


def test_the_operator_helps_where_no_administrator_can(stack: Stack, laptop: Device, phone: Device) -> None:
    made = laptop.json("factors", "add", "--password-stdin", stdin=f"{PASSWORD}\n")
    laptop.run("factors", "confirm", pyotp.TOTP(made["secret"]).now())
    for email, status, told in (
        ("nobody@example.com", 1, "no account has proven that address"),
        ("nonsense", 1, "not a valid e-mail address"),
        (laptop.email.replace("@example", "@EXAMPLE"), 0, "the second factor is removed"),
        (laptop.email, 0, "the account has no second factor"),
    ):
        done = operator_command(stack, "remove_factor", email)
        assert done.returncode == status, done.stderr
        assert told in done.stdout + done.stderr
    phone.enter("login")
