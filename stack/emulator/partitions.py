"""Queries of the emulator's tables that cost what they return.

The emulator answers a query by sorting all items of the partition, and by parsing and evaluating the key condition for
each of them, even if the page has one item. DynamoDB reads a partition in the order of its sort keys. Here a partition
keeps that order, and a query whose key condition has one of the usual shapes gets only the items of its page; the
emulator itself validates the request, applies filters and projections, and makes the answer. The emulator answers all
other queries as it always does.
"""

from __future__ import annotations

import functools
import importlib
import re
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

_KEY_CONDITION: Final = re.compile(
    r"(?P<pk>\w+) = (?P<partition>:\w+)"
    r"(?: AND (?:(?P<sk>\w+) (?P<operator><|<=|>|>=|=) (?P<value>:\w+)"
    r"|begins_with\((?P<begins>\w+), (?P<prefix>:\w+)\)))?"
)
"""The forms of key conditions that are answered here; the emulator answers all other queries by itself."""
_PAGE_BYTES: Final = 1_048_576
"""The emulator's maximum size of the items of a page."""


class Partition(dict[str, Any]):
    """The items of one partition, by sort key. The sort keys can also be read in order without sorting them again after
    each change.
    """

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        super().__init__(items or {})
        self._order: list[str] | None = None

    def __setitem__(self, key: str, item: Any) -> None:
        if self._order is not None and key not in self:
            insort(self._order, key)
        super().__setitem__(key, item)

    def pop(self, key: str, *default: Any) -> Any:
        if self._order is not None and key in self:
            del self._order[bisect_left(self._order, key)]
        return super().pop(key, *default)

    def ordered(self) -> list[str]:
        """Return the sort keys of the items, ascending. The result is the list that the partition itself uses; the
        caller must not change it.
        """
        # The length differs if items were changed by other methods than the two above.
        if self._order is None or len(self._order) != len(self):
            self._order = sorted(self)
        return self._order

    def values(self) -> Any:
        """Return the items. During a query of which only one page is wanted, return the items of that page, because the
        emulator evaluates all items that this method returns.
        """
        page = _page.get()
        return super().values() if page is None else list(page.items(self))


class Partitions(defaultdict[str, Partition]):
    """The partitions of a table by their partition keys."""

    def setdefault(self, key: str, _default: Any = None) -> Partition:
        return self[key]


@dataclass(frozen=True, slots=True)
class _Page:
    """The page that a query asks for: the items of a partition whose sort key fits the condition, after `start`, and at
    most `limit` of them.
    """

    operator: str
    """The comparison of the sort key with `value`: `<`, `<=`, `>`, `>=`, `=` or `begins_with`; empty if the query has
    no condition for the sort key.
    """
    value: str
    is_forward: bool
    start: str | None
    """The sort key after which the page begins, in the direction of the query; None for the first page."""
    limit: int | None
    size_of: Callable[[Any], int]
    """Returns the size in bytes of an item."""

    def items(self, partition: Partition) -> Iterator[Any]:
        """Yield the items of the page, in the direction of the query, and one more if the page ends by its size in
        bytes. The emulator itself then ends the page.
        """
        keys = partition.ordered()
        first, end = self._slice(keys)
        if self.start is not None and self.is_forward:
            first = max(first, bisect_right(keys, self.start))
        elif self.start is not None:
            end = min(end, bisect_left(keys, self.start))
        if self.limit is not None and self.is_forward:
            end = min(end, first + self.limit)
        elif self.limit is not None:
            first = max(first, end - self.limit)
        total = 0
        for at in range(first, end) if self.is_forward else range(end - 1, first - 1, -1):
            item = partition[keys[at]]
            yield item
            total += self.size_of(item)
            if total > _PAGE_BYTES:
                return

    def _slice(self, keys: list[str]) -> tuple[int, int]:
        match self.operator:
            case "<":
                return 0, bisect_left(keys, self.value)
            case "<=":
                return 0, bisect_right(keys, self.value)
            case ">":
                return bisect_right(keys, self.value), len(keys)
            case ">=":
                return bisect_left(keys, self.value), len(keys)
            case "=":
                return bisect_left(keys, self.value), bisect_right(keys, self.value)
            case "begins_with":
                first = bisect_left(keys, self.value)
                return first, bisect_left(keys, True, first, key=lambda key: not key.startswith(self.value))
            case _:
                return 0, len(keys)


_page: ContextVar[_Page | None] = ContextVar("page", default=None)


def answer_queries_in_order() -> None:
    """Replace the functions of the emulator's DynamoDB that store items and answer queries; to be called once, before
    any request.
    """
    # The emulator is untyped, and parts of it are replaced, so its module is Any.
    dynamodb: Any = importlib.import_module("ministack.services.dynamodb")
    query, set_item, evaluate = dynamodb._query, dynamodb._set_item, dynamodb._evaluate_condition

    @functools.wraps(set_item)
    def put(table: Any, pk: Any, sk: Any, item: Any) -> Any:
        _adopt(table)
        return set_item(table, pk, sk, item)

    @functools.wraps(query)
    def query_in_order(request: Any) -> Any:
        page = _wanted(dynamodb, request)
        if page is None:
            return query(request)
        token = _page.set(page)
        try:
            return query(request)
        finally:
            _page.reset(token)

    @functools.wraps(evaluate)
    def evaluate_unless_known(
        expression: Any, item: Any, values: Any, names: Any, slot: str = "ConditionExpression"
    ) -> Any:
        if slot == "KeyConditionExpression" and _page.get() is not None:
            return True  # the page has only items that meet the condition
        return evaluate(expression, item, values, names, slot)

    dynamodb._query, dynamodb._set_item, dynamodb._evaluate_condition = query_in_order, put, evaluate_unless_known


def _adopt(table: Any) -> None:
    """Replace the items of a table, which the emulator may have made anew, by Partitions; do nothing if they are
    Partitions already.
    """
    if not isinstance(table["items"], Partitions):
        table["items"] = Partitions(Partition, {key: Partition(items) for key, items in table["items"].items()})


def _wanted(dynamodb: Any, request: Any) -> _Page | None:
    """Return the page that a request of the operation Query asks for. Return None if the form of the request is not
    supported here, or if it is invalid; then the emulator has to answer by itself.
    """
    if not isinstance(request, dict) or request.get("IndexName") or request.get("KeyConditions"):
        return None
    name, condition = request.get("TableName"), request.get("KeyConditionExpression")
    values = request.get("ExpressionAttributeValues")
    if not (isinstance(name, str) and isinstance(condition, str) and isinstance(values, dict)):
        return None
    table = dynamodb._tables.get(dynamodb._normalize_table_name(name))
    found = _KEY_CONDITION.fullmatch(condition)
    if not table or not found or not table["sk_name"] or dynamodb._get_attr_type(table, table["sk_name"]) != "S":
        return None
    sk = found["sk"] or found["begins"]
    if found["pk"] != table["pk_name"] or sk not in {None, table["sk_name"]}:
        return None
    value = _text(values.get(found["value"] or found["prefix"])) if sk else ""
    start, limit = request.get("ExclusiveStartKey"), request.get("Limit")
    after = _text(start.get(table["sk_name"])) if isinstance(start, dict) else None
    if value is None or (start and after is None) or not (limit is None or (isinstance(limit, int) and limit > 0)):
        return None
    operator = found["operator"] or ("begins_with" if found["begins"] else "")
    page = _Page(operator, value, bool(request.get("ScanIndexForward", True)), after, limit, dynamodb._item_size_bytes)
    if after is not None and page._slice([after]) != (0, 1):
        return None  # the emulator refuses a start outside of the condition
    _adopt(table)
    return page


def _text(value: Any) -> str | None:
    """Return the string of an attribute value of the type S; None for all others."""
    text = value.get("S") if isinstance(value, dict) and len(value) == 1 else None
    return text if isinstance(text, str) else None
