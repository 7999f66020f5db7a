"""The fixtures that tests of more than one part share."""

import signal
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from runtime.imports import uncollected
from runtime.logs import structlog
from stack.running import EmbeddedAws, embedded_aws, running_stack
from stack.up import Stack
from tests.schedule import pytest_xdist_make_scheduler  # noqa: F401 - a hook of pytest

# Programs that a shell starts in the background, or nohup, ignore these; so would all that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# A property is not judged by the time that its examples take on a machine that others use too.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Take the collected tests and the modules that they loaded out of the garbage collector's sight.

    They are millions of objects that live until the process ends. Every full collection would look through all of
    them again, those during the collection of tests as well, which took more CPU time than some of the tests.
    """
    with uncollected():
        return (yield)


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
    """A test that changes the logs, by reading wrong settings for one, changes them for itself only."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
