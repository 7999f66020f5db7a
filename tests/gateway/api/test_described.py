"""The API and its description are the same."""

from __future__ import annotations

import re

import pytest

from tests.gateway.client import ASKED, Api


@pytest.fixture(scope="module")
def description(stack):
    return Api(stack.endpoint).done("GET", "/openapi.json")


def test_it_is_openapi_31_and_says_who_may_ask(description):
    assert description["openapi"].startswith("3.1")
    public = {
        operation["operationId"]
        for operations in description["paths"].values()
        for operation in operations.values()
        if "security" not in operation
    }
    assert public == {"sign_up", "sign_in", "refresh", "open_link", *(n for n in public if n.startswith(LINKED))}


LINKED = ("get_linked_node", "list_linked_children", "linked_content", "linked_archive")


def test_operations_have_names_of_their_own(description):
    names = [one["operationId"] for operations in description["paths"].values() for one in operations.values()]
    assert len(names) == len(set(names)) > 40
    for operations in description["paths"].values():
        for operation in operations.values():
            assert operation["description"]
            for status, response in operation["responses"].items():
                assert response["description"]
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"]


def test_every_operation_was_asked_by_a_test(description, request):
    """Asked and done, by the tests of this folder, which come before."""
    here = {item.path.name for item in request.session.items if "tests/gateway/api" in item.path.as_posix()}
    if not {"test_accounts.py", "test_links.py", "test_nodes.py", "test_spaces.py", "test_uploads.py"} <= here:
        pytest.skip("only some tests of this folder were chosen")
    missing = [
        f"{method.upper()} {path}"
        for path, operations in description["paths"].items()
        for method in operations
        if not any(
            asked == method.upper() and re.fullmatch(re.sub(r"\{[^}]+\}", "[^?]+", path), sent.partition("?")[0])
            for asked, sent in ASKED
        )
    ]
    assert missing == []
