"""Bounded concurrency: many calls, a few at a time."""

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
    """Call each function in `calls`, at most `at_once` at the same time, and return all results in the order of
    `calls`. After a failure no further call is started, the calls in progress are cancelled, and the error of the
    failed call is raised.

    `at_once` workers make the calls one after the other. `place` returns a context manager that a worker enters before
    each call, for example a slot of a shared pool; entering it may wait.

    With an `account`, each worker first waits for a turn on the event loop that is charged to the account, and takes
    the next call out of `calls` in this turn. It waits for the turn before it enters `place`: slots are few, and no
    worker holds one while it waits for a turn, or without a call to make. At most one turn finds that no calls are
    left.
    """
    results: dict[int, T] = {}
    waiting = enumerate(calls)
    taking = asyncio.Lock()
    is_over = False

    async def taken() -> tuple[int, Callable[[], Awaitable[T]]] | None:
        nonlocal is_over
        # One worker at a time waits for a turn: otherwise each worker would wait for a last turn at the end.
        async with taking:
            if not is_over and account is not None:
                await turn(account)
            found = None if is_over else next(waiting, None)
            is_over = found is None
            return found

    async def worker() -> None:
        while (found := await taken()) is not None:
            number, call = found
            async with place():
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
