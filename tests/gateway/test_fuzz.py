"""The API under generated requests, valid and not: it answers as its description says, and never fails.

Path parameters are mostly those of things that exist, so that requests get beyond the first check.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from runtime.permissions import ADMINISTRATORS, ROUTES
from stack.running import running_stack
from stack.up import Stack
from tests.gateway.administrators import administrator
from tests.gateway.client import PASSWORD, Person, sign_up

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
AT_LEAST: Final = 2000
"""Cases of all shares."""
SHARES: Final = 4
"""The number of shares, so that several processes can take part."""
EXAMPLES: Final = int(os.environ.get("SYNCLINE_FUZZ_EXAMPLES", "20"))
"""The number of examples for each operation and each of both modes."""
ENDS_SESSIONS: Final = {"sign_out"}
OF_SHARED_SPACES: Final = {"rename_space", "undelete_space", "transfer_space", "delete_space"}
"""Operations that are never done with a personal space, and so take the shared one first."""


@dataclass
class World:
    """A person who has one of everything that the API names, and the statuses that were answered.

    The first value of each name is one with which most operations are done: the first case that Hypothesis makes of an
    operation takes these, whatever the others are.
    """

    person: Person
    admin: Person
    """An administrator of the system, who asks what only administrators may."""
    values: dict[str, list[Any]] = field(default_factory=dict)
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system for nothing else: whoever signs in wrongly so often is kept waiting."""
    with running_stack() as running:
        yield running


@pytest.fixture
def world(stack: Stack) -> World:
    """Return a world of its own for each share, since operations delete what those of another share need."""
    ann = sign_up(stack.endpoint, "fuzz")
    docs = ann.folder("docs")
    node = ann.file("a.txt", b"first", docs["id"])
    ann.update(node, b"second")
    gone = ann.file("gone", b"x")
    ann.done("DELETE", f"{ann.top}/nodes/{gone['id']}", status=204)
    shared = ann.done("POST", "/v1/spaces", {"name": "shared"}, status=201)["space_id"]
    link = ann.done("POST", f"{ann.top}/links", {"node": docs["id"]}, status=201)
    other = sign_up(stack.endpoint)
    body = {"email": ann.email, "password": PASSWORD, "device_name": "spare"}
    spare = ann.signed_out().done("POST", "/v1/sessions", body, status=201)["device"]["device_id"]
    return World(
        ann,
        administrator(stack),
        {
            "user_id": [other.account["account"]["user_id"]],
            "space": [ann.space, ann.space, ann.space, shared, other.space],
            "node": [node["id"], docs["id"], gone["id"], "root"],
            "number": [1, 2, 3],
            "link_id": [link["link_id"]],
            "email": [ann.email, other.email],
            "device_id": [spare, other.account["device"]["device_id"]],
            "path": ["docs/a.txt", "docs", ".."],
        },
    )


def headers_of(world: World, name: str) -> dict[str, str]:
    """The caller's; somebody else's where the request may sign them out."""
    if ROUTES[name.removesuffix("_head")] == ADMINISTRATORS:
        return world.admin.headers
    if name not in ENDS_SESSIONS:
        return world.person.headers
    body = {"email": world.person.email, "password": PASSWORD, "device_name": "short-lived"}
    made = world.person.signed_out().done("POST", "/v1/sessions", body, status=201)
    return {"authorization": f"Bearer {made['tokens']['access_token']}"}


def ask_all(world: World, session: requests.Session, operation: Any, mode: GenerationMode) -> None:
    """Ask one operation in many ways."""
    name = operation.definition.raw["operationId"]
    known = [parameter.name for parameter in operation.path_parameters if parameter.name in world.values]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def ask(case: Any, data: st.DataObject) -> None:
        path = case.meta.components.get(ParameterLocation.PATH) if case.meta is not None else None
        if data.draw(st.integers(0, 3)) < 3 and (path is None or path.mode is GenerationMode.POSITIVE):
            for parameter in known:
                values = world.values[parameter]
                if parameter == "space" and name in OF_SHARED_SPACES:
                    values = values[::-1][1:] + values[-1:]  # the shared one is the last but one
                case.path_parameters[parameter] = data.draw(st.sampled_from(values))
        if name == "watch":  # a watch that is not refused never ends: only its beginning is looked at
            sent = case.as_transport_kwargs(headers=headers_of(world, name))
            with session.request(**sent, timeout=60, stream=True) as begun:
                status = begun.status_code
            assert status in (200, 400, 404)
        else:
            response = case.call(session=session, headers=headers_of(world, name), timeout=20)
            case.validate_response(response, checks=CHECKS)
            status = response.status_code
        world.seen[name, status] += 1

    ask()


@pytest.mark.parametrize("share", range(SHARES))
def test_generated_requests_are_answered_as_described(world: World, stack: Stack, share: int):
    schema = schemathesis.openapi.from_url(f"{stack.endpoint}/openapi.json")
    # An address that is too long is refused before anything in it is looked at.
    schema.config.checks.negative_data_rejection.expected_statuses += ["414"]
    described = list(schema.get_all_operations())
    operations = [result.ok() for result in described if isinstance(result, Ok)]
    assert len(operations) == len(described)
    # Operations that delete come last, so that the others find what they ask about.
    ours = sorted(operations[share::SHARES], key=lambda operation: operation.method.upper() == "DELETE")
    failures = []
    with requests.Session() as session:
        for operation, mode in itertools.product(ours, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)):
            try:
                ask_all(world, session, operation, mode)
            except AssertionError as error:
                failures.append(f"{operation.label}, {mode.value}: {error}")
            except ExceptionGroup as group:
                failures += [f"{operation.label}, {mode.value}: {error}" for error in group.exceptions]
    names = {operation.definition.raw["operationId"] for operation in ours}
    statuses = Counter[int]()
    for (name, status), count in world.seen.items():
        if name in names:
            statuses[status] += count
    print(f"{statuses.total()} cases of {len(ours)} operations: {dict(sorted(statuses.items()))}")
    assert not failures, "\n\n".join(failures)
    assert statuses.total() >= AT_LEAST * len(ours) / len(operations)
    done = {name for name, status in world.seen if status < 400} & names
    assert len(done) > len(ours) / 2, "what is never done is hardly tested"
