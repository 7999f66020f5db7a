"""Attacks in short: nobody is stopped by what somebody else does.

`make abuse` makes all of them, for longer, and also demands that nobody is slowed down much, which a machine that runs
other tests meanwhile cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.abuse.attacks import ATTACKS
from tests.abuse.run import VARIABLES, Siege

SECONDS = 2.0
SHORT = ("giant-path", "refusals-that-tell-much", "guessed-links", "unread-changes", "slow-visitors")
"""Some attacks of each section of attacks.py."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system for nothing else: its processes are measured."""
    with running_stack(variables=VARIABLES) as running:
        yield running


@pytest.fixture(scope="module")
def siege(stack: Stack) -> Iterator[Siege]:
    opened = Siege(stack, seconds=SECONDS, attempts=1)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", SHORT)
def test_nobody_is_stopped(siege: Siege, name: str) -> None:
    result = siege.attack(name)
    print(result)
    assert not result.harm, result


def test_every_attack_is_described() -> None:
    assert [name for name, attack in ATTACKS.items() if not attack.__doc__] == []
