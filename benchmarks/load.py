"""The load that one core carries, for each service; and the load that two processes of the service carry, each on a
core of its own.

The service that is measured has its cores to itself; the emulator, the other services and the load share the rest. What
carries over to other machines is the CPU time of one operation and its inverse, the operations in one CPU second of the
service. Operations in a second of the clock also depend on the backends of the service, here an emulated DynamoDB and
S3 of a single process, which is often the bottleneck.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import random
import tempfile
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import psutil

from benchmarks import generator
from benchmarks.check_versions import CommittedTree, commit_tree
from benchmarks.generator import Load, Parties, Watched, Writer, pin
from benchmarks.report import ReportTable, mib
from benchmarks.scale import sized
from stack.running import EmbeddedAws, embedded_aws
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.blocks import KIB, object_key
from syncline.model.identifiers import ROOT, SpaceId, UserId, new_request_id
from syncline.model.tree import MAX_CHECK_FILES
from syncline.rpc.channel import sync_channel
from tests.e2e.processes import Process, System, running, system
from tests.support.passwords import STRONG

P = ParamSpec("P")
T = TypeVar("T")

SECONDS: Final = sized(4.0, short=0.5)
PROCESSES: Final = (1, 2)
WRITERS: Final = sized(16, short=4)
FILES_PER_COMMIT: Final = 25
MOST_COMMITS: Final = sized(100, short=20)
"""Maximum number of commits of each writer; the measurement also waits until all commits are projected to the
emulator's table.
"""
MOST_COMMITS_IN_MEMORY: Final = sized(300, short=20)
CHECKED_FILES: Final = sized(10_000, short=1_000)
CHECKED_DIRECTORIES: Final = sized(100, short=10)
CHECKERS: Final = 8
BROWSERS: Final = sized(16, short=4)
BLOCK_BYTES: Final = 4 * KIB
RANGE_BYTES: Final = KIB
WATCHES: Final = sized(4_000, short=400)
WATCHES_PER_CONNECTION: Final = 100
"""Watches on one connection, as behind a balancer, which multiplexes the calls of many devices on few connections."""
DEVICES: Final = sized(10, short=2)
DOORBELLS: Final = sized(5, short=1)
HEARTBEAT_SECONDS: Final = sized(5.0, short=1.0)
"""Interval of heartbeats in seconds, instead of 25, so that each watch has heartbeats during the measurement."""
IDLE_SECONDS: Final = sized(8.0, short=2.0)
GIB: Final = 1 << 30
UNLIMITED: Final = {
    **{f"rate_{work}": "1e9" for work in ("reads", "lists", "commits", "seals", "streams", "credentials", "makes")},
    "streams_open": "1000000",
}
"""Settings of the services without rate limits, because one person causes all the load."""
PROMISED_WATCHES_PER_GIB: Final = 20_000


@dataclass
class Machine:
    """The machine, and the cores on which each process runs."""

    aws: int
    """Process id of the emulator."""
    cores: Sequence[int] = field(default_factory=lambda: sorted(os.sched_getaffinity(0)))

    def place(self, service: Sequence[Process], behind: Sequence[Process]) -> Parties:
        """Pin each process of `service` to a core of its own as far as possible. Pin the emulator, the processes
        `behind`, which the service calls, and this benchmark to the remaining cores, or to all if none remain. Return
        the ids of the processes, and the cores on which the load runs.
        """
        own = [self.cores[-1 - number % len(self.cores)] for number in range(len(service))]
        rest = self._rest(own)
        for process, core in zip(service, own, strict=True):
            pin(process.child.pid, {core})
        others = (self.aws, *(process.child.pid for process in behind))
        for pid in (*others, os.getpid()):
            pin(pid, rest)
        return Parties(tuple(process.child.pid for process in service), others, rest)

    def describe(self, processes: int) -> str:
        own = self.cores[-processes:]
        rest = self._rest(own)
        return f"the service on {_cores(own)}, everything else on {_cores(rest)}"

    def _rest(self, own: Sequence[int]) -> frozenset[int]:
        return frozenset(self.cores).difference(own) or frozenset(self.cores)


@dataclass(frozen=True)
class LoadPack:
    """One object of small blocks, each of which is the content of one file."""

    blocks: Sequence[bytes]

    @property
    def data(self) -> bytes:
        return b"".join(self.blocks)

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.data).digest()

    def declaration(self) -> metadata_pb2.ObjectDeclaration:
        entries = metadata_pb2.PackEntries(
            blocks=b"".join(hashlib.sha256(block).digest() for block in self.blocks),
            offsets=[number * BLOCK_BYTES for number in range(len(self.blocks))],
            lengths=[len(block) for block in self.blocks],
        )
        return metadata_pb2.ObjectDeclaration(sha256=self.digest, size=len(self.data), pack=entries)

    def contents(self) -> list[journal_pb2.Content]:
        pack = self.digest
        return [
            journal_pb2.Content(
                digest=digest,
                size=len(block),
                mtime_ns=1_700_000_000_000_000_000 + number,
                manifest=journal_pb2.Manifest(
                    blocks=digest,
                    lengths=[len(block)],
                    objects=pack,
                    object_index=[0],
                    offsets=[number * BLOCK_BYTES],
                ),
            )
            for number, block in enumerate(self.blocks)
            for digest in (hashlib.sha256(block).digest(),)
        ]


@dataclass
class Results:
    """The table of results that the benchmark prints, one line for each load."""

    table: ReportTable = field(
        default_factory=lambda: ReportTable(
            "a second",
            "p50 ms",
            "p99 ms",
            "CPU ms each",
            "per CPU second",
            "service busy",
            "behind ms each",
            "load ms each",
            "growth: clock",
            "CPU",
        )
    )
    _first: Load | None = None

    def add(self, what: str, processes: int, load: Load, *, items: int = 0) -> None:
        """Add the line of a load, described by `what`, on `processes` processes of the service. With two processes, the
        line includes the growth over the preceding line, which has one process. If `items` is given, an operation has
        so many files, and a second line counts files instead of operations.
        """
        cpu, count = load.cpu, load.operations
        wall, clock = load.seconds, ""
        efficiency = ""
        if processes == 1:
            self._first = load
        elif self._first is not None:
            first = self._first
            clock = f"{count / wall / (first.operations / first.seconds):.2f}x"
            efficiency = f"{processes * (count / cpu.service) / (first.operations / first.cpu.service):.2f}x"
        self.table.row(
            f"{what}, {processes} process{'es' if processes > 1 else ''}",
            f"{count / wall:,.0f}",
            f"{1000 * load.percentile(50):.1f}",
            f"{1000 * load.percentile(99):.1f}",
            f"{1000 * cpu.service / count:.2f}",
            f"{count / cpu.service:,.0f}",
            f"{cpu.service / wall / processes:.0%}",
            f"{1000 * cpu.behind / count:.2f}",
            f"{1000 * cpu.generator / count:.2f}",
            clock,
            efficiency,
        )
        if items:
            self.table.row(
                "  its files",
                f"{items * count / wall:,.0f}",
                *[""] * 3,
                f"{items * count / cpu.service:,.0f}",
                *[""] * 5,
            )


class Bench:
    """Carries out the measurements: makes the accounts, spaces and files that they need, and applies the loads."""

    def __init__(self, aws: EmbeddedAws, serving: System, machine: Machine) -> None:
        self._aws = aws
        self._serving = serving
        self._machine = machine
        self._person = serving.sign_up()
        self._pack = LoadPack([random.Random(n).randbytes(BLOCK_BYTES) for n in range(FILES_PER_COMMIT)])

    # ---- commits

    def commits(self, results: Results) -> None:
        """Measure commits over the emulated DynamoDB, and add them to `results`."""
        for what, spaces in (("commits, a space each", WRITERS), ("commits, all into one space", 1)):
            for processes in PROCESSES:
                used = self._serving.metadata[:processes]
                load = self._commits(used, [self._serving.auth], spaces=spaces, most=MOST_COMMITS)
                results.add(what, processes, load)

    def commits_in_memory(self, results: Results) -> None:
        """Measure commits with storage in memory, and add them to `results`. The processes share no storage in this
        case, so that each space belongs to one process.
        """
        for what, spaces, counts in (
            ("the same in memory, a space each", WRITERS, PROCESSES),
            ("the same in memory, all into one", 1, PROCESSES[:1]),
        ):
            for processes in counts:
                with ExitStack() as opened:
                    auth = self._serving.auth
                    used = [
                        opened.enter_context(
                            running("benchmarks.in_memory_metadata", self._aws, auth_target=auth.target, **UNLIMITED)
                        )
                        for _ in range(processes)
                    ]
                    load = self._commits(used, [auth], spaces=spaces, most=MOST_COMMITS_IN_MEMORY)
                results.add(what, processes, load)

    def _commits(self, used: Sequence[Process], behind: Sequence[Process], *, spaces: int, most: int) -> Load:
        parties = self._machine.place(used, behind)
        names = [self._serving.new_space(self._person) for _ in range(spaces)]
        writers = [
            Writer(used[number % len(used)].target, self._person.token, names[number % spaces])
            for number in range(WRITERS)
        ]
        self._seal({writer.space: writer.target for writer in writers})
        contents = [content.SerializeToString() for content in self._pack.contents()]
        return _apart(generator.commits, parties, writers, contents, seconds=SECONDS, most=most)

    def _seal(self, spaces: dict[str, str]) -> None:
        """Upload the pack to each space and have it sealed by the process that serves the space."""
        asyncio.run(self._upload(spaces))
        for space, target in spaces.items():
            with sync_channel(target, authorization=lambda: self._person.token) as channel:
                request = metadata_pb2.SealObjectsRequest(space_id=space, objects=[self._pack.declaration()])
                answer = MetadataServiceStub(channel).SealObjects(request)
            assert list(answer.verdicts) == [metadata_pb2.SEAL_VERDICT_SEALED], answer

    async def _upload(self, spaces: Sequence[str] | dict[str, str]) -> None:
        async with self._aws.client("s3") as s3:
            for space in spaces:
                await s3.put_object(
                    Bucket=self._aws.resources.bucket_name,
                    Key=object_key(space, self._pack.digest),
                    Body=self._pack.data,
                    IfNoneMatch="*",
                    ChecksumAlgorithm="SHA256",
                )

    # ---- version checks

    def checks(self, results: Results) -> None:
        """Measure warm version checks, and add them to `results`. The compared nodes are in the service's memory; each
        batch reads the journal's head.
        """
        with sync_channel(self._serving.metadata[0].target, authorization=lambda: self._person.token) as channel:
            space = self._serving.new_space(self._person)
            tree = commit_tree(
                MetadataServiceStub(channel), space, files=CHECKED_FILES, directories=CHECKED_DIRECTORIES
            )
        for what, make in (
            ("checks of 1,000 by path", CommittedTree.by_path),
            ("checks of 1,000 by node id", CommittedTree.by_id),
        ):
            batches = [metadata_pb2.CheckVersionsRequest(batch=one).SerializeToString() for one in make(tree)]
            for processes in PROCESSES:
                used = self._serving.metadata[:processes]
                parties = self._machine.place(used, [self._serving.auth])
                targets = [used[number % processes].target for number in range(CHECKERS)]
                load = _apart(generator.checks, parties, targets, self._person.token, space, batches, seconds=SECONDS)
                results.add(what, processes, load, items=MAX_CHECK_FILES)

    # ---- the gateway

    def gets(self, results: Results) -> None:
        """Measure downloads of a part of a small file, which need metadata and S3, and a request without any backend.
        Add the two measurements to `results`.
        """
        metadata, auth = self._serving.metadata[0], self._serving.auth
        space = self._person.space
        self._seal({space: metadata.target})
        with sync_channel(metadata.target, authorization=lambda: self._person.token) as channel:
            create = metadata_pb2.CreateNode(
                parent=ROOT, name="small.bin", kind=journal_pb2.NODE_KIND_FILE, content=self._pack.contents()[0]
            )
            MetadataServiceStub(channel).CommitChanges(
                metadata_pb2.CommitChangesRequest(
                    space_id=space, request_id=new_request_id(), mutations=[metadata_pb2.Mutation(create=create)]
                )
            )
        content = _get(
            f"/v1/spaces/{space}/content/small.bin",
            f"Authorization: Bearer {self._person.token}",
            f"Range: bytes=0-{RANGE_BYTES - 1}",
        )
        with ExitStack() as opened:
            gateways = [
                opened.enter_context(
                    running(
                        "gateway",
                        self._aws,
                        auth_target=auth.target,
                        metadata_target=metadata.target,
                        notify_target=auth.target,
                        public_auth=auth.target,
                        gateway_table=self._aws.resources.gateway_table_name,
                        public_metadata=metadata.target,
                        public_notify=auth.target,
                    )
                )
                for _ in range(max(PROCESSES))
            ]
            for what, request, expect in (
                ("GET of 1 KiB of a file", content, b"HTTP/1.1 206 "),
                ("GET /healthz", _get("/healthz"), b"HTTP/1.1 200 "),
            ):
                for processes in PROCESSES:
                    used = gateways[:processes]
                    parties = self._machine.place(used, [metadata, auth])
                    addresses = [used[number % processes].target for number in range(BROWSERS)]
                    load = _apart(generator.gets, parties, addresses, request, expect=expect, seconds=SECONDS)
                    results.add(what, processes, load)

    # ---- watches

    def watches(self, processes: int) -> Watched:
        """Return the resources that watches of one space by several devices of one person use, in `processes` new
        processes of notify.
        """
        resources, person = self._aws.resources, self._person
        devices = [self._sign_in() for _ in range(DEVICES)]
        space = self._serving.new_space(person)
        with ExitStack() as opened:
            used = [
                opened.enter_context(
                    running(
                        "notify",
                        self._aws,
                        auth_target=self._serving.auth.target,
                        doorbell_queue_prefix=resources.doorbell_queue_prefix,
                        heartbeat_seconds=str(HEARTBEAT_SECONDS),
                        mail_queue_url=resources.mail_queue_url,
                        mail_sender=resources.mail_sender,
                        notify_table=resources.notify_table_name,
                        **UNLIMITED,
                        public_url="http://127.0.0.1:1",
                    )
                )
                for _ in range(processes)
            ]
            parties = self._machine.place(used, [self._serving.auth])
            return _apart(
                generator.watch,
                parties,
                [
                    (used[number % processes].target, devices[number % DEVICES])
                    for number in range(WATCHES // WATCHES_PER_CONNECTION)
                ],
                self._aws,
                space=space,
                announcements=[
                    _announcement(SpaceId(space), seq, UserId(person.user)) for seq in range(1, DOORBELLS + 1)
                ],
                topic=resources.changes_topic_arn,
                streams=WATCHES,
                idle_seconds=IDLE_SECONDS,
            )

    def _sign_in(self) -> str:
        with sync_channel(self._serving.auth.target) as channel:
            request = auth_pb2.SignInRequest(email=self._person.email, password=STRONG, device_name="benchmark")
            return AuthServiceStub(channel).SignIn(request).tokens.access_token


def main() -> None:
    results = Results()
    watches = ReportTable(
        "resident MiB",
        "idle KiB each",
        "rung KiB each",
        "watches per GiB",
        "all heard after ms",
        "p50 ms",
        "CPU us a doorbell",
        "CPU us a heartbeat",
        "growth: GiB",
        "time to all",
    )
    with (
        embedded_aws() as aws,
        tempfile.TemporaryDirectory() as scratch,
        system(aws, Path(scratch), processes=max(PROCESSES), **UNLIMITED) as serving,
    ):
        machine = Machine(_emulator())
        bench = Bench(aws, serving, machine)
        bench.commits(results)
        bench.commits_in_memory(results)
        bench.checks(results)
        bench.gets(results)
        watched = [bench.watches(processes) for processes in PROCESSES]
    results.table.print(f"Load by service, {SECONDS:g} s each")
    _explain(machine)
    for processes, one in zip(PROCESSES, watched, strict=True):
        _watched_row(watches, processes, one, watched[0])
    watches.print(f"{WATCHES:,} watches, {WATCHES_PER_CONNECTION} on each connection, {DEVICES} devices")
    _explain_watches(watched[0])


def _watched_row(table: ReportTable, processes: int, one: Watched, first: Watched) -> None:
    median = sorted(one.rings, key=lambda ring: ring.seconds)[len(one.rings) // 2]
    first_median = sorted(first.rings, key=lambda ring: ring.seconds)[len(first.rings) // 2]
    doorbells = sum(ring.operations for ring in one.rings)
    alone = processes == 1
    table.row(
        f"{processes} process{'' if alone else 'es'}",
        mib(one.rung_bytes),
        f"{_each(one, one.open_bytes) / KIB:.1f}",
        f"{_each(one, one.rung_bytes) / KIB:.1f}",
        f"{_per_gib(one, processes):,.0f}",
        f"{1000 * median.seconds:.0f}",
        f"{1000 * median.percentile(50):.0f}",
        f"{1e6 * sum(ring.cpu.service for ring in one.rings) / doorbells:.0f}",
        f"{1e6 * one.heartbeats_cpu.service / one.heartbeats:.0f}",
        "" if alone else f"{processes * _per_gib(one, processes) / _per_gib(first, 1):.2f}x",
        "" if alone else f"{first_median.seconds / median.seconds:.2f}x",
    )


def _each(watched: Watched, resident: int) -> float:
    """Return the bytes per watch beyond the process's own memory."""
    return (resident - watched.base_bytes) / (watched.streams - watched.base_streams)


def _per_gib(watched: Watched, processes: int) -> float:
    """Return the number of watches that fit into a process of 1 GiB, by the maximum memory per watch, including the
    process's own memory.
    """
    each = max(_each(watched, watched.open_bytes), _each(watched, watched.rung_bytes))
    return (GIB - watched.base_bytes / processes) / each + watched.base_streams / processes


def _explain(machine: Machine) -> None:
    print(f"  {len(machine.cores)} cores. With 1 process: {machine.describe(1)}. With 2: {machine.describe(2)}.")
    print(
        f"  Commits have {FILES_PER_COMMIT} files of {BLOCK_BYTES // KIB} KiB, {WRITERS} under way. Their CPU includes"
        " writing the table afterwards; 'behind' is the\n"
        "  emulator with auth, for the gateway also metadata. 1,000 over 'behind ms each' bounds what a core of the"
        " emulator lets through.\n"
        "  'growth: clock' is what two processes carried here, while load and emulator shared their cores;"
        " 'CPU' is what two whole\n"
        "  cores carry by the CPU that each operation took: 2.00x where a second process costs nothing extra."
    )


def _explain_watches(one: Watched) -> None:
    resident = max(one.open_bytes, one.rung_bytes)
    each = max(_each(one, one.open_bytes), _each(one, one.rung_bytes))
    beat = one.heartbeats_cpu.service / one.heartbeats
    print(
        f"  Watches per GiB are extrapolated: measured were {one.base_streams} watches ({mib(one.base_bytes)} MiB) and"
        f" {one.streams:,} ({mib(resident)} MiB), so {each / KIB:.1f} KiB each.\n"
        f"  Promised are {PROMISED_WATCHES_PER_GIB:,} per GiB, which would take"
        f" {(one.base_bytes + PROMISED_WATCHES_PER_GIB * each) / (1 << 20):,.0f} MiB.\n"
        f"  Doorbells are announced {len(one.rings)} times on the topic; the median is told. Heartbeats come every"
        f" {HEARTBEAT_SECONDS:g} s here; at 25 s, {PROMISED_WATCHES_PER_GIB:,}\n"
        f"  watches take {PROMISED_WATCHES_PER_GIB / 25 * beat:.0%} of a core for theirs. Watches share devices"
        " here; for each device more, auth is asked once in 8 s.\n"
    )


def _apart(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` with these arguments in a process of its own, and return its result."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(partial(work, *args, **kwargs)).result()


def _emulator() -> int:
    """Return the process id of the embedded AWS."""
    return next(child.pid for child in psutil.Process().children() if "stack.emulator" in child.cmdline())


def _get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


def _announcement(space: SpaceId, seq: int, user: UserId) -> str:
    """Return the event that metadata publishes after a file was created."""
    counts = {"created": 1, "updated": 0, "moved": 0, "deleted": 0, "restored": 0}
    commit = {"seq": seq, "user": user, "device": "", "at_ms": 0, **counts, "names": ["file"]}
    return json.dumps({"v": 1, "space": space, "from_seq": seq, "to_seq": seq, "commits": [commit]})


def _cores(numbers: Collection[int]) -> str:
    return f"core{'s' if len(numbers) > 1 else ''} {', '.join(map(str, sorted(numbers)))}"


if __name__ == "__main__":
    main()
