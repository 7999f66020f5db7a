"""The words and the JSON by which `syncline devices revoke` tells what has ended with a device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from syncline.auth.v1 import auth_pb2
from syncline.cli.accounts import devices
from tests.clients.sdk.conftest import enter
from tests.clients.sdk.servicers import running

DEVICE, KEY, LINK, SPACE = (letter * 26 for letter in "dkls")


def link() -> auth_pb2.Link:
    return auth_pb2.Link(link_id=LINK, space_id=SPACE, created_at_ms=5, made_by=DEVICE)


def revoke(home: Path, monkeypatch: pytest.MonkeyPatch, answer: auth_pb2.RevokeDeviceResponse, *options: str) -> str:
    """The output of the command for this answer of the service, and a check of what was asked for."""
    monkeypatch.setenv("SYNCLINE_HOME", str(home))
    with running() as services:
        services.auth.revocation = answer
        enter(services, home).close()
        done = CliRunner().invoke(devices, ["revoke", DEVICE, *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        wanted = auth_pb2.RevokeDeviceRequest(device_id=DEVICE, end_links="--end-links" in options)
        assert services.auth.requests[-1] == wanted
    return done.output


ANSWER = auth_pb2.RevokeDeviceResponse(
    ended_keys=[auth_pb2.Device(device_id=KEY, name="backup", kind=auth_pb2.DEVICE_KIND_PROGRAM, made_by=DEVICE)],
    remaining_links=[link()],
    ended_key_count=1,
    remaining_link_count=1,
)


def test_keys_that_ended_and_links_that_remain_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, key, links = revoke(tmp_path / "home", monkeypatch, ANSWER).splitlines()
    assert device == f"revoked {DEVICE}"
    assert key == f"revoked the key backup that it had made ({KEY})"
    assert links.startswith("1 public link that it had made can still be opened; end them by `syncline devices revoke")


def test_links_that_ended_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = auth_pb2.RevokeDeviceResponse(ended_links=[link()], ended_link_count=1500)
    told = revoke(tmp_path / "home", monkeypatch, answer, "--end-links").splitlines()
    assert told == [f"revoked {DEVICE}", "ended 1500 public links that it had made"]


def test_all_of_it_is_one_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads(revoke(tmp_path / "home", monkeypatch, ANSWER, "--json"))
    assert told["device"] == DEVICE
    assert [(key["id"], key["kind"], key["made_by"]) for key in told["ended_keys"]] == [(KEY, "program", DEVICE)]
    assert told["remaining_links"] == [{"id": LINK, "space": SPACE, "created_at_ms": 5}]
    assert (told["ended_key_count"], told["ended_link_count"], told["remaining_link_count"]) == (1, 0, 1)
