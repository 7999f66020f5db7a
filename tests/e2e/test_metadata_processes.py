"""Several metadata processes over one table: what is acknowledged is there, once, whoever dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from services.metadata.adapters.dynamodb_journal import DynamoJournal
from services.metadata.entry import JournalEntry, replay
from services.metadata.wire import entry_from_bytes
from stack.running import EmbeddedAws, embedded_aws
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.identifiers import ROOT, NodeId, RequestId, SpaceId, created_node_id, new_request_id
from syncline.model.tree import Node
from syncline.rpc.channel import aio_channel
from tests.e2e.items import scan
from tests.e2e.processes import Person, System, system

WRITERS = 8
COMMITS = 1000
PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with embedded_aws() as aws:
        yield aws


def directory_named(name: str, parent: bytes = ROOT) -> metadata_pb2.Mutation:
    return metadata_pb2.Mutation(
        create=metadata_pb2.CreateNode(parent=parent, name=name, kind=journal_pb2.NODE_KIND_DIRECTORY)
    )


async def journal_of(aws: EmbeddedAws, space: str) -> list[JournalEntry]:
    async with aws.client("dynamodb") as dynamodb:
        journal = DynamoJournal(dynamodb, table=aws.resources.metadata_table_name)
        return [
            await entry_from_bytes(seq, blob, account=space)
            for seq, blob in await journal.read(SpaceId(space), 0, 1 << 30)
        ]


async def projected(aws: EmbeddedAws, space: str) -> dict[NodeId, tuple[NodeId, str]]:
    """Return the place of each node according to the table, once it has caught up and no mark is left."""
    head = len(await journal_of(aws, space))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            items = await scan(aws, aws.resources, space)
            state = next(item for item in items if item["sk"]["S"] == "STATE")
            if int(state["projected_seq"]["N"]) == int(state["announced_seq"]["N"]) == head and "dirty_pk" not in state:
                break
            await asyncio.sleep(0.2)
    nodes = [journal_pb2.Node.FromString(item["node"]["B"]) for item in items if "#N#" in item["pk"]["S"]]
    names = {
        (item["pk"]["S"].rpartition("#")[2], item["sk"]["S"]): item["node"]["B"]
        for item in items
        if "#D#" in item["pk"]["S"] and "node" in item
    }
    assert names == {(node.parent.hex(), node.name): node.id for node in nodes if not node.deleted_at_ms}
    return {NodeId(node.id): (NodeId(node.parent), node.name) for node in nodes}


class Writers:
    """Eight at once, spread over the processes; each commit is a new directory or a name that others want too."""

    def __init__(self, running: System, person: Person, space: str) -> None:
        self.space = space
        self.targets = [process.target for process in running.metadata]
        self.token = person.token
        self.acknowledged: dict[RequestId, metadata_pb2.CommitChangesResponse] = {}
        self.left = COMMITS

    def request(self) -> metadata_pb2.CommitChangesRequest:
        name = f"contended-{random.randrange(COMMITS)}" if random.random() < 0.5 else f"own-{self.left}"
        return metadata_pb2.CommitChangesRequest(
            space_id=self.space, request_id=new_request_id(), mutations=[directory_named(name)]
        )

    async def write(self, which: int) -> None:
        channels = [aio_channel(target, authorization=lambda: self.token) for target in self.targets]
        stubs = [MetadataServiceStub(channel) for channel in channels]
        at = which

        async def commit(request: metadata_pb2.CommitChangesRequest) -> metadata_pb2.CommitChangesResponse:
            nonlocal at
            while True:
                try:
                    return await stubs[at % len(stubs)].CommitChanges(request, timeout=PATIENCE_SECONDS)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
                        raise
                    at += 1  # to the other process, with the same request
                    await asyncio.sleep(0.05)

        while self.left > 0:
            self.left -= 1
            request = self.request()
            answer = await commit(request)
            self.acknowledged[RequestId(request.request_id)] = answer
            if random.random() < 0.05:
                repeated = await commit(request)
                if accepted(answer):
                    assert repeated == answer, "a repeated request gets the first answer"
        for channel in channels:
            await channel.close()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for which in range(WRITERS):
                group.create_task(self.write(which))


def accepted(answer: metadata_pb2.CommitChangesResponse) -> bool:
    return answer.results[0].verdict == journal_pb2.VERDICT_ACCEPTED


def check_journal(entries: list[JournalEntry], writers: Writers) -> dict[NodeId, Node]:
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1)), "the journal has a gap"
    recorded = [commit.request for entry in entries for commit in entry.commits]
    assert len(recorded) == len(set(recorded)), "a request was applied twice"
    yes = {request for request, answer in writers.acknowledged.items() if accepted(answer)}
    assert yes == set(recorded), "the journal has exactly the accepted changes"
    nodes = replay(entries)
    for request, answer in writers.acknowledged.items():
        if accepted(answer):
            node = nodes[created_node_id(SpaceId(writers.space), request, 0)]
            assert (node.name, node.seq) == (answer.results[0].node.name, answer.seq)
        else:
            taken = nodes[NodeId(answer.results[0].node.id)]
            assert answer.results[0].verdict == journal_pb2.VERDICT_NAME_TAKEN
            assert taken.seq <= answer.seq
    names = [node.name for node in nodes.values()]
    assert len(names) == len(set(names)), "two nodes have one name"
    return nodes


async def test_eight_writers_in_two_processes_make_a_thousand_commits(aws: EmbeddedAws, tmp_path: Path) -> None:
    with system(aws, tmp_path) as running:
        person = running.sign_up()
        writers = Writers(running, person, running.new_space(person))
        await writers.run()
        assert len(writers.acknowledged) == COMMITS
        nodes = check_journal(await journal_of(aws, writers.space), writers)
        assert await projected(aws, writers.space) == {node.id: (node.parent, node.name) for node in nodes.values()}


async def test_a_killed_process_loses_nothing_and_the_other_finishes_its_work(aws: EmbeddedAws, tmp_path: Path) -> None:
    with system(aws, tmp_path, sweep_seconds="0.5", lease_seconds="2") as running:
        person = running.sign_up()
        writers = Writers(running, person, running.new_space(person))

        async def kill() -> None:
            while writers.left > COMMITS * 2 // 3:
                await asyncio.sleep(0.01)
            running.metadata[0].kill()

        await asyncio.gather(writers.run(), kill())
        assert len(writers.acknowledged) == COMMITS
        nodes = check_journal(await journal_of(aws, writers.space), writers)
        assert await projected(aws, writers.space) == {node.id: (node.parent, node.name) for node in nodes.values()}


async def test_what_a_killed_process_left_is_finished_by_another(aws: EmbeddedAws, tmp_path: Path) -> None:
    with system(aws, tmp_path, processes=1, coalesce_seconds="10", lease_seconds="2") as running:
        person = running.sign_up()
        space = running.new_space(person)
        async with aio_channel(running.metadata[0].target, authorization=lambda: person.token) as channel:
            request = metadata_pb2.CommitChangesRequest(
                space_id=space, request_id=new_request_id(), mutations=[directory_named("docs")]
            )
            assert accepted(await MetadataServiceStub(channel).CommitChanges(request))
        # The process waits for further changes before it announces, and dies.
        running.metadata[0].kill()
        assert not [item for item in await scan(aws, aws.resources, space) if "#N#" in item["pk"]["S"]]
        with system(aws, tmp_path, processes=1, sweep_seconds="0.2"):
            assert [name for _, name in (await projected(aws, space)).values()] == ["docs"]
