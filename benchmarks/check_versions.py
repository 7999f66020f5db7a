"""The speed at which one core of the metadata service compares local checksums with the table.

One stream over `FILES` files in `DIRECTORIES` directories, by path and by node id: cold (nothing in the service's
memory) and warm. The speed per core is the number of files in one CPU second of the service.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.report import ReportTable, mib
from benchmarks.scale import sized
from stack.running import embedded_aws
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.blocks import DIGEST_BYTES
from syncline.model.identifiers import ROOT, RequestId, SpaceId, created_node_id, new_request_id
from syncline.model.tree import MAX_CHECK_FILES
from syncline.rpc.channel import sync_channel
from tests.e2e.processes import running, system

FILES = sized(50_000, short=10_000)
DIRECTORIES = sized(500, short=20)
ROUNDS = sized(5, short=3)
EMPTY_DIGEST = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

Batches = Callable[[], Iterator[metadata_pb2.CheckVersionsBatch]]


@dataclass
class CommittedTree:
    """The files that were committed: their paths and their node ids, in the same order."""

    space: str
    paths: list[str]
    ids: list[bytes]

    def by_path(self) -> Iterator[metadata_pb2.CheckVersionsBatch]:
        for at in range(0, len(self.paths), MAX_CHECK_FILES):
            paths = self.paths[at : at + MAX_CHECK_FILES]
            yield metadata_pb2.CheckVersionsBatch(paths=paths, digests=EMPTY_DIGEST * len(paths))

    def by_id(self) -> Iterator[metadata_pb2.CheckVersionsBatch]:
        for at in range(0, len(self.ids), MAX_CHECK_FILES):
            ids = self.ids[at : at + MAX_CHECK_FILES]
            yield metadata_pb2.CheckVersionsBatch(node_ids=b"".join(ids), digests=EMPTY_DIGEST * len(ids))


def commit_tree(
    stub: MetadataServiceStub, space: str, *, files: int = FILES, directories: int = DIRECTORIES
) -> CommittedTree:
    """Commit `files` empty files, evenly distributed over `directories` directories, to the space with the id `space`,
    by the metadata service behind `stub`. One request makes one directory with its files. Return the files.
    """
    tree = CommittedTree(space, [], [])
    per_directory = files // directories
    content = journal_pb2.Content(digest=EMPTY_DIGEST)
    for d in range(directories):
        request = new_request_id()
        parent = created_node_id(SpaceId(space), RequestId(request), 0)
        directory = metadata_pb2.CreateNode(parent=ROOT, name=f"directory-{d:04}", kind=journal_pb2.NODE_KIND_DIRECTORY)
        creates = [
            metadata_pb2.CreateNode(
                parent=parent, name=f"file-{f:04}.txt", kind=journal_pb2.NODE_KIND_FILE, content=content
            )
            for f in range(per_directory)
        ]
        mutations = [metadata_pb2.Mutation(create=create) for create in (directory, *creates)]
        stub.CommitChanges(metadata_pb2.CommitChangesRequest(space_id=space, request_id=request, mutations=mutations))
        tree.paths += [f"{directory.name}/{file.name}" for file in creates]
        tree.ids += [created_node_id(SpaceId(space), RequestId(request), 1 + f) for f in range(per_directory)]
    return tree


def check_all(stub: MetadataServiceStub, space: str, batches: Batches) -> int:
    """Check the versions of `batches`, each a list of files with their digests, by one CheckVersions stream. Return the
    number of files that differ from the current versions in the space.
    """

    def messages() -> Iterator[metadata_pb2.CheckVersionsRequest]:
        yield metadata_pb2.CheckVersionsRequest(open=metadata_pb2.CheckVersionsOpen(space_id=space))
        for batch in batches():
            yield metadata_pb2.CheckVersionsRequest(batch=batch)

    answers = list(stub.CheckVersions(messages()))
    assert answers[-1].complete, "the check broke off"
    return sum(len(answer.indexes) for answer in answers)


def main() -> None:
    table = ReportTable("files", "seconds", "files/s", "files/s/core of the service", "service MiB", "client MiB")
    with (
        embedded_aws() as aws,
        tempfile.TemporaryDirectory() as scratch,
        system(aws, Path(scratch), processes=1) as serving,
    ):
        person = serving.sign_up()
        with sync_channel(serving.metadata[0].target, authorization=lambda: person.token) as channel:
            tree = commit_tree(MetadataServiceStub(channel), person.space)
        with (
            running("metadata", aws, auth_target=serving.auth.target) as fresh,
            sync_channel(fresh.target, authorization=lambda: person.token) as channel,
        ):
            stub = MetadataServiceStub(channel)
            service, client = psutil.Process(fresh.child.pid), psutil.Process()
            for what, batches, rounds in (
                ("by path, cold", tree.by_path, 1),
                ("by path, warm", tree.by_path, ROUNDS),
                ("by node id, warm", tree.by_id, ROUNDS),
            ):
                began, cpu = time.perf_counter(), _cpu_seconds(service)
                for _ in range(rounds):
                    differences = check_all(stub, tree.space, batches)
                    assert differences == 0, f"{differences} of {FILES} files were said to differ"
                seconds, cpu = time.perf_counter() - began, _cpu_seconds(service) - cpu
                files = FILES * rounds
                table.row(
                    what,
                    f"{files:,}",
                    f"{seconds:.2f}",
                    f"{files / seconds:,.0f}",
                    f"{files / cpu:,.0f}",
                    mib(service.memory_info().rss),
                    mib(client.memory_info().rss),
                )
    table.print(
        "CheckVersions: local checksums against the table, batches of "
        f"{MAX_CHECK_FILES:,} with {DIGEST_BYTES}-byte digests"
    )


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
