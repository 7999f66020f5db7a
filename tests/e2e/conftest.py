"""Devices in the system that all tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from core.identifiers import new_text_id
from stack.demo import Device
from stack.up import Stack

PASSWORD = "a long password"


@pytest.fixture
def new_device(stack: Stack, tmp_path: Path) -> Callable[..., Device]:
    """Makes a signed-in device: of a new person, or another one of `owner`."""

    def make(name: str, owner: str | None = None, *, endpoint: str = stack.endpoint) -> Device:
        device = Device(owner or f"person-{new_text_id()}", name, tmp_path / name)
        device.run(
            *("login" if owner else "signup", "--endpoint", endpoint, "--email", device.email),
            *("--password-stdin", "--device", name),
            stdin=f"{PASSWORD}\n",
        )
        device.folder.mkdir(parents=True)
        return device

    return make
