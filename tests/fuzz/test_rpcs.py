"""Every rpc of the three services under generated calls, valid and hostile, over a whole system.

No answer says INTERNAL or UNKNOWN, each error carries ErrorInfo, no call takes more than five seconds, and no process
grows. A failure prints the call; `make fuzz N=... SEED=...` asks more, and the same again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import grpc
import pytest

from runtime.rpc.server import App, running
from stack.running import running_stack
from stack.up import Stack
from syncline.metadata.v1 import metadata_pb2
from tests.fuzz.calls import METHODS, Asked, Caller, run
from tests.fuzz.messages import MAX_BYTES, Generator
from tests.fuzz.world import VARIABLES

CALLS = 1250
"""The number of calls of each share: less than a minute, also on a machine that has other things to do."""
ONLY_REFUSED = {"DeclineInvitation"}
"""Methods that no call gets done: an invitation waits only for an account that has no room for one more space."""
SHARES = 8
"""The number of shares, so that several processes can take part."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system for nothing else: its processes are measured."""
    with running_stack(variables=VARIABLES) as running:
        yield running


@pytest.mark.parametrize("seed", range(1, SHARES + 1))
async def test_generated_calls_of_all_rpcs(stack: Stack, seed: int) -> None:
    report = await run(stack, calls=CALLS, seed=seed)
    print(report)
    assert not report.faults, "\n\n".join([*report.faults, str(report)])
    assert report.calls >= CALLS
    assert {method for method, _ in report.codes} == {method.name for _, method in METHODS}
    done = {method for method, code in report.codes if code == "OK"}
    never = {method.name for _, method in METHODS} - done
    assert never <= ONLY_REFUSED, f"never done, and so hardly tested: {never}"


def test_the_same_seed_makes_the_same_messages() -> None:
    def made(seed: int) -> list[bytes]:
        generator = Generator(random.Random(seed), {"space_id": ["a" * 26], "node": [bytes(16)]})
        kinds = [method.input_type for _, method in METHODS for _ in range(5)]
        messages = [generator.message(kind, hostile=0.5) for kind in kinds]
        return [
            raw for one in messages for raw in (one.SerializeToString(), generator.mutated(one).SerializeToString())
        ]

    assert made(7) == made(7)
    assert made(7) != made(8)
    assert sum(len(raw) <= MAX_BYTES for raw in made(7)) > len(made(7)) / 2


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("defect", "INTERNAL: internal error"),
        ("silence", "no answer within the time"),
        ("bare", "NOT_FOUND without ErrorInfo: gone"),
        ("fine", ""),
    ],
)
async def test_what_is_wrong_with_an_answer_is_seen(answer: str, fault: str) -> None:
    """The fuzz over a server that misbehaves."""

    async def handle(_request, context):
        match answer:
            case "defect":
                raise ValueError
            case "silence":
                await asyncio.sleep(60)
            case "bare":
                await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        return metadata_pb2.GetSpaceResponse().SerializeToString()

    method = metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"].methods_by_name["GetSpace"]
    handlers = grpc.method_handlers_generic_handler(
        method.containing_service.full_name, {"GetSpace": grpc.unary_unary_rpc_method_handler(handle)}
    )
    app = App(name="test", mounts=[lambda server: server.add_generic_rpc_handlers((handlers,))])
    async with running(app) as target:
        caller = Caller({"metadata": target}, seconds=3.0 if answer == "silence" else 60.0)
        outcome = await caller.ask(Asked("metadata", method, "nobody", "", [b""]))
        await caller.close()
    assert outcome.fault.startswith(fault)
    assert bool(outcome.fault) == bool(fault)
