"""A DynamoDB client with somebody in between, who may refuse a call, answer in its place, or count it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from botocore.exceptions import ClientError

Call = Callable[..., Awaitable[Any]]


def interposed(client: Any, between: Callable[[str, Call, dict[str, Any]], Awaitable[Any]]) -> Any:
    """Like the client, but each call of an operation goes to `between(operation, call, arguments)`."""
    return _Interposed(client, between)


class _Interposed:
    def __init__(self, client: Any, between: Callable[[str, Call, dict[str, Any]], Awaitable[Any]]) -> None:
        self._client = client
        self._between = between

    def __getattr__(self, operation: str) -> Call:
        async def call(**arguments: Any) -> Any:
            return await self._between(operation, getattr(self._client, operation), arguments)

        return call


class Faults:
    """Refuses the first calls of an operation, one for each error in its list, and records all calls."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[ClientError]] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def __call__(self, operation: str, call: Call, arguments: dict[str, Any]) -> Any:
        self.calls.append((operation, arguments))
        if self.waiting.get(operation):
            raise self.waiting[operation].pop(0)
        return await call(**arguments)

    def of(self, operation: str) -> list[dict[str, Any]]:
        """The arguments of an operation's calls."""
        return [arguments for name, arguments in self.calls if name == operation]


def refusal(code: str, **more: Any) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "injected"}, **more}
    return ClientError(answer, "operation")


def cancelled(*reasons: str) -> ClientError:
    return refusal("TransactionCanceledException", CancellationReasons=[{"Code": reason} for reason in reasons])
