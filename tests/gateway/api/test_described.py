"""The API and its description are the same."""

from __future__ import annotations

import re

import pytest

from tests.gateway.client import Api


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
    anonymous = {"sign_up", "sign_in", "refresh", "open_link", "get_invitation", "refuse_invitation"}
    anonymous |= {"request_reset", "reset_password"}
    assert public == anonymous | {name for name in public if name.startswith(LINKED)}


def test_no_secret_stands_in_an_address(description):
    """Balancers and proxies keep addresses in their logs, and browsers in their histories."""
    names = {
        parameter["name"]
        for operations in description["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] in {"path", "query"}
    }
    assert {"page_token", "space"} <= names  # the token of a page opens nothing
    assert not [
        name for name in names - {"page_token"} if re.search("token|password|secret|signature|credential", name)
    ]


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
