"""Attacks in short: nobody is stopped by what somebody else does. `make abuse` makes all of them, for longer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.abuse.attacks import ATTACKS
from tests.abuse.run import VARIABLES, Siege

SECONDS = 2.0
SHORT = ("path-of-slashes", "refusals-that-tell-much", "pages-of-one", "many-long-paths")
"""Of each kind some."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system for nothing else: its processes are measured."""
    with running_stack(variables=VARIABLES) as running:
        yield running


@pytest.fixture(scope="module")
def siege(stack: Stack) -> Iterator[Siege]:
    opened = Siege(stack, seconds=SECONDS)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", SHORT)
def test_nobody_is_stopped(siege: Siege, name: str) -> None:
    result = siege.attack(name)
    print(result)
    assert not result.faults, result


def test_there_are_enough_attacks() -> None:
    assert len(ATTACKS) >= 30
