from collections.abc import Iterator

import pytest

from stack.running import EmbeddedAws, embedded_aws


@pytest.fixture(scope="session")
def aws() -> Iterator[EmbeddedAws]:
    """One embedded AWS with the template deployed, for all tests here; spaces keep them apart."""
    with embedded_aws() as running:
        yield running
