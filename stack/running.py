"""The stack, or the embedded AWS alone, as a context manager: for tests and demonstrations.

    with running_stack() as stack: ...        stack.endpoint, stack.aws, stack.pids
    with embedded_aws() as aws: ...           aws.endpoint, aws.root, aws.resources, aws.client("s3")

Both run on a thread with an event loop of its own, so that they can outlive the event loop of a single test.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from stack.data_directory import new_root
from stack.deploy import Resources, deploy_embedded
from stack.embedded_aws import HOST, READY_SECONDS, Aws, emulator, listen
from stack.output import Output
from stack.services import service_children
from stack.supervisor import Supervisor
from stack.up import MakeChildren, Stack, stack

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EmbeddedAws(Aws):
    """The embedded AWS with our resources deployed."""

    resources: Resources = field(kw_only=True)


@contextmanager
def running_stack(
    *,
    port: int = 0,
    data: Path | None = None,
    variables: Mapping[str, str] | None = None,
    children: MakeChildren = service_children,
    durable: bool = True,
) -> Iterator[Stack]:
    """Provide the whole stack, ready, and stop it at the end of the context.

    - `port` is the first of its five ports; 0 takes free ones.
    - `data` is the data directory. With None, the data are in a temporary directory, which is removed at the end.
    - `variables` are added to the environment of every service.
    - `children` makes the descriptions of the services' processes.
    - Without `durable`, the embedded AWS stores nothing on disk except the bytes of objects.

    Raise StackError if the stack cannot start.
    """
    opening = stack(port=port, data=data, variables=variables, children=children, durable=durable)
    with _in_background(opening) as running:
        yield running


@contextmanager
def embedded_aws(*, data: Path | None = None, also: tuple[str, ...] = ()) -> Iterator[EmbeddedAws]:
    """Provide the embedded AWS alone, with the template deployed; with `data`, it continues with the state in that
    directory.

    `also` names additional services of AWS.
    """
    with _in_background(_embedded_aws(data, also)) as aws:
        yield aws


@asynccontextmanager
async def _embedded_aws(data: Path | None, also: tuple[str, ...]) -> AsyncIterator[EmbeddedAws]:
    with tempfile.TemporaryDirectory(prefix="syncline-aws-") as temporary, listen(0, "embedded AWS") as listener:
        directory = data or Path(temporary)
        with Output(directory / "logs", terminal=None) as output:
            async with Supervisor(output) as supervisor:
                aws = Aws(endpoint=f"http://{HOST}:{listener.getsockname()[1]}", root=new_root())
                await supervisor.start(emulator(listener, directory, aws.root, also=also), within=READY_SECONDS)
                yield EmbeddedAws(aws.endpoint, aws.root, aws.region, resources=await deploy_embedded(aws))


@contextmanager
def _in_background(opening: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Context with the value of the asynchronous context manager `opening`, which is entered on a thread of its own,
    and left on that thread at the end.

    One thread enters and leaves `opening`, and lives in between: for the kernel, the thread and not the process is the
    children's parent.
    """
    entered: Future[T] = Future()
    left: Future[None] = Future()
    ended: Future[None] = Future()

    async def hold() -> None:
        try:
            async with opening as value:
                entered.set_result(value)
                await asyncio.wrap_future(left)
        except BaseException as error:
            if entered.done():
                raise
            entered.set_exception(error)

    def run() -> None:
        try:
            ended.set_result(asyncio.run(hold()))
        except BaseException as error:  # raised again in the waiting thread
            ended.set_exception(error)

    thread = threading.Thread(target=run, name="stack", daemon=True)
    thread.start()
    try:
        yield entered.result()
    finally:
        left.set_result(None)
        thread.join()
        ended.result()
