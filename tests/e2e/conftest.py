"""Devices in the system that all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.demo import DemoDevice
from stack.running import running_stack
from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.support.passwords import STRONG

PASSWORD = STRONG
RATES = {
    "READS": 20,
    "LISTS": 10,
    "SEARCHES": 1,
    "COMMITS": 1,
    "SEALS": 5,
    "STREAMS": 2,
    "CREDENTIALS": 2,
    "SHARES": 2,
    "MAKES": 1,
    "BURST_SECONDS": 1,
}


@pytest.fixture(scope="module")
def slow() -> Iterator[Stack]:
    """A system in which everybody is held to tiny rates."""
    variables = {f"SYNCLINE_RATE_{name}": str(rate) for name, rate in RATES.items()}
    with running_stack(variables=variables) as running:
        yield running


@pytest.fixture
def new_device(stack: Stack, tmp_path: Path) -> Callable[..., DemoDevice]:
    """Makes a signed-in device: of a new person, or another one of `owner`."""

    def make(name: str, owner: str | None = None, *, endpoint: str = stack.endpoint) -> DemoDevice:
        device = DemoDevice(owner or f"person-{new_text_id()}", name, tmp_path / name)
        device.run(
            *("login" if owner else "signup", "--endpoint", endpoint, "--email", device.email),
            *("--password-stdin", "--device", name),
            stdin=f"{PASSWORD}\n",
        )
        device.folder.mkdir(parents=True)
        return device

    return make
