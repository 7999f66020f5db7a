"""People at the API of one system for all of these tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.gateway.client import ASKED, Api, Person, sign_up


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """A system for nothing else: wrong passwords are counted, and some of these tests need to be among the first."""
    with running_stack() as running:
        yield running


@pytest.fixture
def ann(stack: Stack) -> Person:
    return sign_up(stack.endpoint, "ann")


@pytest.fixture
def ben(stack: Stack) -> Person:
    """A second person, who has nothing to do with Ann."""
    return sign_up(stack.endpoint, "ben")


@pytest.fixture(scope="package", autouse=True)
def _every_operation_is_asked(stack: Stack, request: pytest.FixtureRequest) -> Iterator[None]:
    """By some test of this folder, and done: an operation that nobody asks is not known to work."""
    description = Api(stack.endpoint).done("GET", "/openapi.json")
    ASKED.clear()  # tests of other folders have asked in this process, too
    yield
    chosen = {item.path.name for item in request.session.items if item.path.parent == Path(__file__).parent}
    needed = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    if needed - chosen or request.session.testsfailed:
        return  # not all of them had their turn
    missing = [
        f"{method.upper()} {path}"
        for path, operations in description["paths"].items()
        for method in operations
        if not any(
            asked == method.upper() and re.fullmatch(re.sub(r"\{[^}]+\}", "[^?]+", path), sent.partition("?")[0])
            for asked, sent in ASKED
        )
    ]
    assert missing == [], "no test asks these operations"
