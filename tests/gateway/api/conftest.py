"""People at the API of the system that all tests share."""

from __future__ import annotations

import pytest

from stack.up import Stack
from tests.gateway.client import Person, sign_up


@pytest.fixture
def ann(stack: Stack) -> Person:
    return sign_up(stack.endpoint, "ann")


@pytest.fixture
def ben(stack: Stack) -> Person:
    """Somebody else."""
    return sign_up(stack.endpoint, "ben")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whether every operation was asked is known when everybody has asked."""
    items.sort(key=lambda item: item.name == "test_every_operation_was_asked_by_a_test")
