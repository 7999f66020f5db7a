"""What tests of more than one part share."""

import signal
from collections.abc import Iterator

import pytest

from runtime.logs import structlog
from stack.running import EmbeddedAws, embedded_aws, running_stack
from stack.up import Stack
from tests.schedule import pytest_xdist_make_scheduler  # noqa: F401 - a hook of pytest

# What is started in the background of a shell or by nohup ignores these; so would all programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


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


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """What a test makes of the logs, by reading wrong settings for one, ends with it: they would go where it wrote."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
