"""Many calls, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

from runtime.turns import turn

T = TypeVar("T")


async def results_of(
    calls: Iterable[Callable[[], Awaitable[T]]],
    *,
    at_once: int,
    account: str | None = None,
    place: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> list[T]:
    """The results of all calls, in order. After a failure no further one is begun, and none is still under way.

    Each call is made within a `place` of its own, which may have to be waited for. With an `account`, each call is made
    and begun in a turn of its own.
    """
    results: dict[int, T] = {}
    waiting = enumerate(calls)

    async def worker() -> None:
        while True:
            async with place():
                if account is not None:
                    await turn(account)
                number, call = next(waiting, (-1, None))
                if call is None:
                    return
                results[number] = await call()

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(at_once):
                workers.create_task(worker())
    except BaseExceptionGroup as failures:
        failure = failures.exceptions[0]
    else:
        return [results[number] for number in range(len(results))]
    raise failure
