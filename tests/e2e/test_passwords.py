"""A person changes a password, loses it, and recovers by the mails of a running system; a thief keeps nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.running import running_stack
from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.e2e.command_line import CommandLine
from tests.gateway.client import PASSWORD, Api
from tests.support.mails import eventually, mailed_token, mails, token_in
from tests.support.passwords import OTHER_STRONG, WEAK

THIRD = "velvet gravel orbit minnow"


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system in which addresses have to be proven."""
    with running_stack(variables={"SYNCLINE_PROVE_ADDRESSES": "true"}) as stack:
        yield stack


class Device(CommandLine):
    """A device of somebody."""

    def reset(self, *arguments: str, stdin: str = "", status: int = 0) -> str:
        return self.run("reset", *arguments, "--endpoint", self.stack.endpoint, stdin=stdin, status=status)


@pytest.fixture
def laptop(stack: Stack, tmp_path: Path) -> Device:
    """A device of a new person who has proven the address."""
    device = Device(stack, tmp_path / "laptop", f"ann-{new_text_id()[:8]}@example.com")
    device.enter("signup")
    device.run("account", "prove", mailed_token(stack, device.email, "prove"))
    return device


@pytest.fixture
def phone(stack: Stack, tmp_path: Path, laptop: Device) -> Device:
    """Another device of the same person."""
    device = Device(stack, tmp_path / "phone", laptop.email)
    device.enter("login")
    return device


def test_a_changed_password_ends_other_devices_and_is_told_by_mail(stack: Stack, laptop: Device, phone: Device) -> None:
    two = f"{PASSWORD}\n{OTHER_STRONG}\n"
    assert "current password is wrong" in laptop.run(
        "password", "--password-stdin", stdin=f"no\n{OTHER_STRONG}\n", status=3
    )
    told = laptop.run("password", "--password-stdin", stdin=f"{PASSWORD}\n{WEAK}\n", status=1)
    assert "easily guessed" in told
    assert "common password" in told
    assert "the current password" in laptop.run(
        "password", "--password-stdin", stdin=f"{PASSWORD}\n{PASSWORD}\n", status=1
    )
    done = json.loads(laptop.run("password", "--password-stdin", "--json", stdin=two))
    assert [one["name"] for one in done["ended_devices"]] == ["phone"]
    assert (done["ended_key_count"], done["unfinished"]) == (0, False)

    assert laptop.email in laptop.run("whoami")
    phone.run("spaces", status=3)
    assert "password is wrong" in phone.enter("login", status=3)
    phone.enter("login", password=OTHER_STRONG)
    (mail,) = mails(stack, laptop.email, about="Your Syncline password was changed")
    assert "on a device that was signed in" in mail["BodyText"]
    assert f"{stack.endpoint}/reset" in mail["BodyText"]


def test_a_lost_password_is_replaced_by_a_mail_and_all_devices_end(stack: Stack, laptop: Device, phone: Device) -> None:
    until = int(time.time() * 1000) + 3_600_000
    body = {"email": laptop.email, "password": PASSWORD, "device_name": "api"}
    tokens = Api(stack.endpoint).done("POST", "/v1/sessions", body, status=201)["tokens"]
    api = Api(stack.endpoint, {"authorization": f"Bearer {tokens['access_token']}"})
    key = api.done("POST", "/v1/keys", {"name": "backup", "expires_at_ms": until}, status=201)["key"]
    program = Api(stack.endpoint, {"authorization": f"Bearer {key}"})
    program.done("GET", "/v1/spaces")

    nobody = f"nobody-{new_text_id()[:8]}@example.com"
    told = [phone.reset(email).replace(email, "ADDRESS") for email in (laptop.email, nobody)]
    assert told[0] == told[1]
    assert json.loads(phone.reset(laptop.email, "--json")) == {"email": laptop.email, "requested": True}
    first, second = mails(stack, laptop.email, about="Choose a new password", count=2)
    assert "command: syncline reset --endpoint" in first["BodyText"]

    code = token_in(first, "reset")
    choose = ("--code", f"{stack.endpoint}/reset#{code}", "--password-stdin")
    assert "easily guessed" in phone.reset(*choose, stdin=f"{WEAK}\n", status=1)
    assert "sign in by `syncline login`" in phone.reset(*choose, stdin=f"{OTHER_STRONG}\n")
    for spent in (code, token_in(second, "reset"), "x" * 43, "garbage"):
        told_why = phone.reset("--code", spent, "--password-stdin", stdin=f"{THIRD}\n", status=1)
        assert "was used, has expired" in told_why or "that is no reset" in told_why

    for device in (laptop, phone):
        device.run("spaces", status=3)
    eventually(lambda: program.ask("GET", "/v1/spaces").status == 401)
    assert "password is wrong" in laptop.enter("login", status=3)
    laptop.enter("login", password=OTHER_STRONG)
    (mail,) = mails(stack, laptop.email, about="Your Syncline password was changed")
    assert "by a link that was mailed to this address" in mail["BodyText"]
    assert not any(mail["To"] == [nobody] for mail in stack.aws.mails())


def test_a_reset_that_was_mailed_before_a_change_is_worth_nothing(stack: Stack, laptop: Device) -> None:
    laptop.reset(laptop.email)
    (mail,) = mails(stack, laptop.email, about="Choose a new password")
    laptop.run("password", "--password-stdin", stdin=f"{PASSWORD}\n{OTHER_STRONG}\n")
    told = laptop.reset("--code", token_in(mail, "reset"), "--password-stdin", stdin=f"{THIRD}\n", status=1)
    assert "the password was changed since" in told
    assert laptop.email in laptop.run("whoami")


def test_usage_is_explained(laptop: Device) -> None:
    assert "state your EMAIL" in laptop.reset(status=2)
    assert "state your EMAIL" in laptop.reset(laptop.email, "--code", "x", status=2)
    for command in ("password", "reset"):
        assert "Examples:" in laptop.run(command, "--help")


def test_who_signs_up_with_a_weak_password_is_told_why(stack: Stack, tmp_path: Path) -> None:
    email = f"{new_text_id()[:8]}@example.com"
    device = Device(stack, tmp_path / "laptop", email)
    assert "easily guessed" in device.enter("signup", password=WEAK, status=1)
    assert "easily guessed" in device.enter("signup", password=email, status=1)
