"""People with browsers, in one whole system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.web.people import PATIENCE_MS, Person
from tests.web.upload.cloud import find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]

NewPerson = Callable[..., Person]


@pytest.fixture(scope="session")
def executable() -> str:
    """The program of the browser; whoever asks for it is skipped where there is none."""
    found = find_chromium()
    if found is None:
        pytest.skip("there is no Chromium at /usr/bin/chromium")
    pytest.importorskip("playwright.sync_api", reason="Chromium is driven by playwright, which is missing")
    return found


@pytest.fixture(scope="module")
def chromium(executable: str) -> Iterator[Browser]:
    """One browser for the tests of a file.

    It ends with them: Playwright's event loop runs in this thread in the meantime, so that no test may have one of its
    own, and other tests may follow in this process.
    """
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def stack(executable: str) -> Iterator[Stack]:
    """The system; only where there is a browser to use it with."""
    with running_stack() as stack:
        yield stack


@pytest.fixture
def new_person(chromium: Browser, stack: Stack) -> Iterator[NewPerson]:
    """Makes somebody with a browser of their own. At the end nothing may have gone wrong in any of these."""
    people: list[Person] = []

    def make(name: str = "ann", **context: Any) -> Person:
        window = {"viewport": {"width": 1280, "height": 800}} | context
        person = Person(name, chromium.new_context(**window), stack.endpoint)
        people.append(person)
        return person

    yield make
    for person in people:
        person.context.close()
    assert [trouble for person in people for trouble in person.troubles] == []


@pytest.fixture
def ann(new_person: NewPerson) -> Person:
    """Somebody who has just signed up."""
    ann = new_person("ann")
    ann.sign_up()
    return ann
