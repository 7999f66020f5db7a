"""Queries in the order of a partition, held against the emulator's own answers."""

from __future__ import annotations

import copy
import importlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.emulator.partitions import answer_queries_in_order

TABLE = "partitions"
LARGE = 200_000
"""The size in bytes of values of which a page holds only some."""


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[tuple[Any, Any]]:
    """The emulator's module, and its own function that answers queries."""
    module: Any = importlib.import_module("ministack.services.dynamodb")
    names = ("_query", "_set_item", "_evaluate_condition")
    own = {name: getattr(module, name) for name in names}
    answer_queries_in_order()
    yield module, own["_query"]
    for name, function in own.items():
        setattr(module, name, function)


@contextmanager
def a_table(module: Any) -> Iterator[None]:
    keys = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    types = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")]
    module._create_table(
        {"TableName": TABLE, "KeySchema": keys, "AttributeDefinitions": types, "BillingMode": "PAY_PER_REQUEST"}
    )
    try:
        yield
    finally:
        module._delete_table({"TableName": TABLE})


def put(module: Any, pk: str, sk: str, **more: str) -> None:
    item = {"pk": {"S": pk}, "sk": {"S": sk}, **{name: {"S": value} for name, value in more.items()}}
    status, _, body = module._put_item({"TableName": TABLE, "Item": item})
    assert status == 200, body


def request(sort: str = "", value: str = "", **more: Any) -> dict[str, Any]:
    values = {":pk": {"S": "p"}} | ({":sk": {"S": value}} if sort else {})
    condition = f"pk = :pk AND {sort}" if sort else "pk = :pk"
    return {"TableName": TABLE, "KeyConditionExpression": condition, "ExpressionAttributeValues": values, **more}


def answers(query: Any, asked: dict[str, Any]) -> list[Any]:
    """The pages of a query, or its refusal."""
    pages: list[Any] = []
    while True:
        status, _, body = query(asked)
        page = json.loads(body)
        pages.append((status, page))
        if status != 200 or "LastEvaluatedKey" not in page:
            return pages
        asked = {**asked, "ExclusiveStartKey": page["LastEvaluatedKey"]}


SORTS = ("", "sk < :sk", "sk <= :sk", "sk > :sk", "sk >= :sk", "sk = :sk", "begins_with(sk, :sk)")
KEYS = st.text(st.sampled_from("ab/\u00e9\uffff\U0001f600\U0010ffff"), min_size=1, max_size=4)


@given(
    there=st.lists(KEYS, max_size=25),
    removed=st.sets(st.integers(0, 24)),
    sort=st.sampled_from(SORTS),
    value=KEYS,
    limit=st.sampled_from((None, 1, 2, 7, 100)),
    is_forward=st.booleans(),
    is_filtered=st.booleans(),
)
def test_every_page_is_the_emulators_own(
    dynamodb: tuple[Any, Any],
    *,
    there: list[str],
    removed: set[int],
    sort: str,
    value: str,
    limit: int | None,
    is_forward: bool,
    is_filtered: bool,
) -> None:
    module, own = dynamodb
    asked = request(sort, value, ScanIndexForward=is_forward, **({"Limit": limit} if limit else {}))
    if is_filtered:
        asked["FilterExpression"], asked["ExpressionAttributeValues"][":n"] = "n = :n", {"S": "1"}
    with a_table(module):
        put(module, "other", "a")
        for number, key in enumerate(there):
            put(module, "p", key, n=str(number % 2))
            if number % 5 == 0:  # the order is there, and has to be kept up from now on
                assert answers(module._query, asked) == answers(own, asked)
            if number in removed:
                gone = {"pk": {"S": "p"}, "sk": {"S": there[number // 2]}}
                module._delete_item({"TableName": TABLE, "Key": gone})
        assert answers(module._query, asked) == answers(own, asked)


@pytest.mark.parametrize("is_forward", [True, False])
def test_pages_end_by_their_size(dynamodb: tuple[Any, Any], is_forward: bool) -> None:
    module, own = dynamodb
    asked = request("sk > :sk", "03", ScanIndexForward=is_forward)
    with a_table(module):
        for number in range(17):
            put(module, "p", f"{number:02}", text="x" * LARGE)
        pages = answers(module._query, asked)
        assert pages == answers(own, asked)
    assert [page["Count"] for _, page in pages] == [5, 5, 3]


@pytest.mark.parametrize(
    "change",
    [
        {"ExclusiveStartKey": {"pk": {"S": "p"}, "sk": {"S": "a"}}},
        {"ExclusiveStartKey": {"pk": {"S": "p"}, "sk": {"N": "1"}}},
        {"ExclusiveStartKey": {"pk": {"S": "p"}}},
        {"ExclusiveStartKey": "p"},
        {"Limit": 0},
        {"Limit": "1"},
        {"KeyConditionExpression": "sk > :sk"},
        {"KeyConditionExpression": "pk = :pk AND n > :sk"},
        {"KeyConditionExpression": "(pk = :pk) AND (sk > :sk)"},
        {"KeyConditionExpression": "pk = :pk AND sk BETWEEN :sk AND :sk"},
        {"ExpressionAttributeValues": {":pk": {"S": "p"}}},
        {"ExpressionAttributeValues": {":pk": {"S": "p"}, ":sk": {"N": "1"}}},
        {"ExpressionAttributeValues": {":pk": {"S": "p"}, ":sk": {"S": ""}}},
        {"ExpressionAttributeValues": {":pk": {"S": "nobody"}, ":sk": {"S": "b"}}},
        {"TableName": "none"},
        {"IndexName": "none"},
    ],
    ids=str,
)
def test_other_requests_are_answered_by_the_emulator(dynamodb: tuple[Any, Any], change: dict[str, Any]) -> None:
    module, own = dynamodb
    asked = {**request("sk > :sk", "b"), **change}
    with a_table(module):
        for key in "abcdef":
            put(module, "p", key)
        status, _, body = module._query(asked)
        assert (status, body) == (own(asked)[0], own(asked)[2])


def test_a_page_of_one_of_thousands_looks_at_one(dynamodb: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    module, own = dynamodb
    sizes, evaluations = Counter[str](), Counter[str]()
    size_of, evaluate = module._item_size_bytes, module._ExprEval
    monkeypatch.setattr(module, "_item_size_bytes", lambda item: (sizes.update(["item"]), size_of(item))[1])
    monkeypatch.setattr(module, "_ExprEval", lambda *of: (evaluations.update(["item"]), evaluate(*of))[1])
    with a_table(module):
        for number in range(2_000):
            module._set_item(
                module._tables.get(TABLE), "p", f"{number:05}", {"pk": {"S": "p"}, "sk": {"S": f"{number:05}"}}
            )
        asked = request("sk > :sk", "01000", Limit=1)
        module._query(asked)
        assert (sizes.total(), evaluations.total()) == (2, 0)
        own(asked)
        assert evaluations.total() == 2_000


def test_tables_can_still_be_copied(dynamodb: tuple[Any, Any]) -> None:
    """The emulator saves copies of its tables."""
    module, own = dynamodb
    asked = request()
    with a_table(module):
        for key in "cab":
            put(module, "p", key)
        before = answers(module._query, asked)
        table = module._tables.get(TABLE)
        table["items"] = copy.deepcopy(table["items"])
        assert answers(module._query, asked) == answers(own, asked) == before
        put(module, "p", "aa")
        assert answers(module._query, asked) == answers(own, asked) != before
