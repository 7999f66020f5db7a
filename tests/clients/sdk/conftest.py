from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncline.sdk.account import sign_up
from syncline.sdk.session import Session
from tests.clients.sdk.servicers import PASSWORD, Running, running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def services() -> Iterator[Running]:
    with running() as services:
        yield services


@pytest.fixture
def session(services: Running, home: Path) -> Iterator[Session]:
    """A device that has signed up."""
    with enter(services, home) as session:
        yield session


def enter(services: Running, home: Path) -> Session:
    return sign_up(home, endpoint=services.endpoint, email="ann@example.com", password=PASSWORD, device_name="laptop")
