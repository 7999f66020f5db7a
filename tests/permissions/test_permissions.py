"""docs/permissions.md says who may do what, and a running system answers so: every operation, asked by everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from runtime.permissions import DAV, ROUTES
from stack.up import Stack
from tests.permissions import asking
from tests.permissions.document import DOCUMENT, YES, heads, tables, word_of
from tests.permissions.scene import CALLERS, Scene, build

RPCS_HEADING: Final = "Calls over gRPC"
ROUTES_HEADING: Final = "Operations over HTTP"
DAV_HEADING: Final = "WebDAV"
NO_ROUTES: Final = frozenset({"syncline", "keys", "healthz", "readyz", "openapi", "page", "asset", "watch"})
"""Names in the table of the gateway that are no operations of the API, and the event stream, for which Watch stands."""


@pytest.fixture(scope="module")
def scene(stack: Stack) -> Scene:
    return build(stack)


@pytest.fixture(scope="module")
def written() -> dict[str, dict[str, dict[str, str]]]:
    return tables(DOCUMENT.read_text())


def test_the_tables_name_all_callers() -> None:
    found = heads(DOCUMENT.read_text())
    assert found == [list(CALLERS)] * 3


def test_the_tables_name_all_operations(written: dict[str, dict[str, dict[str, str]]]) -> None:
    rpcs = {f"{prefix}{method.name}" for _, service, prefix in asking.SERVICES for method in service.methods}
    assert set(written[RPCS_HEADING]) == rpcs
    assert set(written[ROUTES_HEADING]) == set(ROUTES) - NO_ROUTES
    assert set(written[DAV_HEADING]) == set(DAV)


def test_somebody_may_carry_out_each_operation(written: dict[str, dict[str, dict[str, str]]]) -> None:
    """Otherwise a request that everybody is refused for another reason would prove nothing."""
    for rows in written.values():
        assert [operation for operation, row in rows.items() if YES not in row.values()] == []


@pytest.mark.parametrize(
    ("heading", "ask"),
    [(RPCS_HEADING, asking.rpcs), (ROUTES_HEADING, asking.routes), (DAV_HEADING, asking.dav)],
    ids=["rpcs", "routes", "webdav"],
)
def test_a_running_system_answers_as_the_tables_say(
    scene: Scene,
    written: dict[str, dict[str, dict[str, str]]],
    heading: str,
    ask: Callable[[Scene], dict[str, dict[str, str]]],
) -> None:
    found = ask(scene)
    wrong = {
        (operation, caller): f"{found[operation][caller]} instead of {word}"
        for operation, row in written[heading].items()
        for caller, word in row.items()
        if found[operation][caller] != word
    }
    assert wrong == {}


def test_reasons_are_told_apart() -> None:
    assert [word_of(reason) for reason in (None, "PERMISSION_DENIED", "NO_SUCH_SPACE", "DEVICE_REVOKED")] == [
        YES,
        "no",
        "unseen",
        "ended",
    ]
