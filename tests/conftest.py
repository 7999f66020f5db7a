"""What tests of more than one part share."""

from collections.abc import Iterator

import pytest

from stack.running import EmbeddedAws, embedded_aws, running_stack
from stack.up import Stack


@pytest.fixture(scope="session")
def aws() -> Iterator[EmbeddedAws]:
    """One embedded AWS with the template deployed, for all tests that ask for it; fresh ids keep them apart."""
    with embedded_aws() as running:
        yield running


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """One whole system for all tests that ask for it; fresh people keep them apart."""
    with running_stack() as running:
        yield running
