"""Load generation: prepared requests, sent by a process that does nothing else, and the CPU time that they cost.

Every public function runs in a process of its own. It keeps a fixed number of requests in flight (each worker sends its
next one when its last is answered) and returns its counts.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import grpc.aio
import psutil
import uvloop

from benchmarks.scale import sized
from stack.embedded_aws import Aws
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.identifiers import ROOT, new_request_id
from syncline.notify.v1 import notify_pb2

T = TypeVar("T")

COMMIT: Final = "/syncline.metadata.v1.MetadataService/CommitChanges"
CHECK: Final = "/syncline.metadata.v1.MetadataService/CheckVersions"
WATCH: Final = "/syncline.notify.v1.NotifyService/Watch"

_WARM_UP: Final = 5
"""Number of uncounted operations of each worker, which establish connections, caches and grants."""
_QUIET_SECONDS: Final = sized(0.5, short=0.2)
_PATIENCE_SECONDS: Final = 120.0
_OPENING_AT_ONCE: Final = 50
_FIRST_STREAMS: Final = 200
"""Number of watches that are opened before memory is measured: the first ones cost more than each further one."""

_Worker: TypeAlias = AsyncGenerator[None, None]
"""Generator that carries out one operation for each `next`, and ends when it has no more."""


@dataclass(frozen=True, slots=True)
class Parties:
    """The processes of a measurement: the ids of the measured service's processes and of its backends, and the cores on
    which the load runs.
    """

    service: tuple[int, ...]
    behind: tuple[int, ...]
    generator_cores: frozenset[int]


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds that the processes of the service, its backends (the other processes that it calls), and the load
    generator have used.
    """

    service: float
    behind: float
    generator: float

    def __sub__(self, before: Cpu) -> Cpu:
        return Cpu(self.service - before.service, self.behind - before.behind, self.generator - before.generator)


@dataclass(frozen=True, slots=True)
class Load:
    """The result of a load: the number of operations, the seconds, the latencies, and the total CPU."""

    seconds: float
    latencies: Sequence[float]
    """Latencies in seconds, ascending."""
    cpu: Cpu

    @property
    def operations(self) -> int:
        return len(self.latencies)

    def percentile(self, percent: int) -> float:
        """Return the latency in seconds that this percentage of the operations did not exceed."""
        return self.latencies[min(len(self.latencies) * percent // 100, len(self.latencies) - 1)]


@dataclass(frozen=True, slots=True)
class Writer:
    """A person, with an access token, who commits new files to one space through the process of the service at `target`
    (host:port).
    """

    target: str
    token: str
    space: str


@dataclass(frozen=True, slots=True)
class Watched:
    """The resources that `streams` watches used. Bytes and CPU are totals of all processes of the service.
    `heartbeats_cpu` is the CPU of the time in which `heartbeats` heartbeats arrived and nothing else happened.
    """

    streams: int
    base_bytes: int
    """Resident bytes with the first `base_streams` watches."""
    base_streams: int
    open_bytes: int
    """Resident bytes with all streams, idle, after heartbeats."""
    rung_bytes: int
    """Resident bytes after doorbells to all streams."""
    heartbeats: int
    heartbeats_cpu: Cpu
    rings: Sequence[Load]
    """The delays of each doorbell, from its announcement to its arrival on each stream."""


def commits(
    parties: Parties, writers: Sequence[Writer], contents: Sequence[bytes], *, seconds: float, most: int
) -> Load:
    """Have each writer make commits for `seconds`, at most `most` of them, one after the other; the writers work
    concurrently. Each commit makes one new file for each of `contents` (serialised Contents). Return the load, in which
    an operation is one commit.

    The CPU includes the projection to the table, which no operation waits for.
    """

    async def run() -> Load:
        async with AsyncExitStack() as opened:
            workers = []
            for number, writer in enumerate(writers):
                channel = await opened.enter_async_context(_connection(writer.target))
                requests = [_commit(writer.space, contents, f"{number}-{n}") for n in range(most + _WARM_UP)]
                workers.append(_commits(channel, writer.token, requests))
            return await _measured(parties, workers, seconds=seconds, until_quiet=True)

    return _run(parties, run)


def checks(
    parties: Parties, targets: Sequence[str], token: str, space: str, batches: Sequence[bytes], *, seconds: float
) -> Load:
    """Check versions for `seconds`, by one stream to each of `targets` (host:port). An operation is one of `batches`
    (serialised requests), sent and answered. `token` is the access token, and `space` the id of the space. Return the
    load.
    """

    async def run() -> Load:
        async with AsyncExitStack() as opened:
            workers = []
            for target in targets:
                channel = await opened.enter_async_context(_connection(target))
                workers.append(_checks(channel, token, space, batches))
            return await _measured(parties, workers, seconds=seconds)

    return _run(parties, run)


def gets(parties: Parties, addresses: Sequence[str], request: bytes, *, expect: bytes, seconds: float) -> Load:
    """Open one connection to each of `addresses`, and send `request`, the bytes of an HTTP request, on it repeatedly
    for `seconds`. Every answer has to begin with `expect`. Return the load, in which an operation is one request.
    """

    async def run() -> Load:
        workers = [_gets(address, request, expect) for address in addresses]
        return await _measured(parties, workers, seconds=seconds)

    return _run(parties, run)


def watch(
    parties: Parties,
    connections: Sequence[tuple[str, str]],
    aws: Aws,
    *,
    space: str,
    announcements: Sequence[str],
    topic: str,
    streams: int,
    idle_seconds: float,
) -> Watched:
    """Open `streams` watches of `space`, spread over `connections` (target and access token), leave them idle for
    `idle_seconds`, and then publish announcements; return what this cost the processes of `parties`.

    Each of `announcements` is published to the SNS topic with the ARN `topic`, on `aws`, as metadata publishes it,
    after all streams have received the preceding one. An announcement makes notify send a doorbell on every stream.
    """

    async def run() -> Watched:
        async with AsyncExitStack() as opened:
            watchers = _Watchers(space)
            channels = [(await opened.enter_async_context(_connection(target)), token) for target, token in connections]
            opened.push_async_callback(watchers.close)
            sns = await opened.enter_async_context(aws.client("sns"))
            along = cycle(channels)
            await watchers.open([next(along) for _ in range(_FIRST_STREAMS)])
            await _quiet(parties)
            base_bytes = _resident(parties.service)
            await watchers.open([next(along) for _ in range(streams - _FIRST_STREAMS)])
            before, heartbeats = _cpu(parties), watchers.heartbeats
            await asyncio.sleep(idle_seconds)
            heartbeats_cpu, heartbeats = _cpu(parties) - before, watchers.heartbeats - heartbeats
            open_bytes = _resident(parties.service)
            rings = []
            for announcement in announcements:
                before, began = _cpu(parties), time.perf_counter()
                heard = watchers.ring()
                await sns.publish(TopicArn=topic, Message=announcement)
                latencies = sorted(at - began for at in await asyncio.wait_for(heard, _PATIENCE_SECONDS))
                rings.append(Load(latencies[-1], latencies, _cpu(parties) - before))
            return Watched(
                streams=streams,
                base_bytes=base_bytes,
                base_streams=_FIRST_STREAMS,
                open_bytes=open_bytes,
                rung_bytes=_resident(parties.service),
                heartbeats=heartbeats,
                heartbeats_cpu=heartbeats_cpu,
                rings=rings,
            )

    return _run(parties, run)


def pin(pid: int, cores: Iterable[int]) -> None:
    """Restrict the process with the id `pid` to these cores, with each of its threads; new threads inherit the
    restriction.
    """
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # the thread has just ended
            os.sched_setaffinity(int(thread.name), cores)


def _run(parties: Parties, run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    pin(os.getpid(), parties.generator_cores)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


async def _measured(parties: Parties, workers: Sequence[_Worker], *, seconds: float, until_quiet: bool = False) -> Load:
    async with AsyncExitStack() as opened:
        for worker in workers:
            await opened.enter_async_context(aclosing(worker))
        await asyncio.gather(*(_repeat(worker, _WARM_UP) for worker in workers))
        if until_quiet:
            await _quiet(parties)
        latencies: list[float] = []
        before, began = _cpu(parties), time.perf_counter()
        await asyncio.gather(*(_until(worker, began + seconds, latencies) for worker in workers))
        took = time.perf_counter() - began
        if until_quiet:
            await _quiet(parties)
        return Load(took, sorted(latencies), _cpu(parties) - before)


async def _repeat(worker: _Worker, count: int) -> None:
    for _ in range(count):
        await anext(worker)


async def _until(worker: _Worker, end: float, latencies: list[float]) -> None:
    began = time.perf_counter()
    while began < end:
        try:
            await anext(worker)
        except StopAsyncIteration:
            return
        now = time.perf_counter()
        latencies.append(now - began)
        began = now


async def _quiet(parties: Parties) -> None:
    """Wait until neither the service nor its backends use CPU any more."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    before = _cpu(parties)
    while time.monotonic() < deadline:
        await asyncio.sleep(_QUIET_SECONDS)
        now = _cpu(parties)
        worked = now - before
        if worked.service + worked.behind <= 0.05 * _QUIET_SECONDS * (len(parties.service) + 1):
            return
        before = now
    raise TimeoutError(f"the service is still at work after {_PATIENCE_SECONDS:g} s")


def _cpu(parties: Parties) -> Cpu:
    return Cpu(_cpu_seconds(parties.service), _cpu_seconds(parties.behind), _cpu_seconds((os.getpid(),)))


def _cpu_seconds(pids: Iterable[int]) -> float:
    return sum(times.user + times.system for times in (psutil.Process(pid).cpu_times() for pid in pids))


def _resident(pids: Iterable[int]) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


# ---- gRPC


@asynccontextmanager
async def _connection(target: str) -> AsyncIterator[grpc.aio.Channel]:
    """Provide a connection of its own: channels to one address otherwise share one."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield channel


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def _commit(space: str, contents: Sequence[bytes], name: str) -> bytes:
    creates = [
        metadata_pb2.CreateNode(
            parent=ROOT,
            name=f"{name}-{n:03}.txt",
            kind=journal_pb2.NODE_KIND_FILE,
            content=journal_pb2.Content.FromString(content),
        )
        for n, content in enumerate(contents)
    ]
    return metadata_pb2.CommitChangesRequest(
        space_id=space,
        request_id=new_request_id(),
        mutations=[metadata_pb2.Mutation(create=create) for create in creates],
    ).SerializeToString()


async def _commits(channel: grpc.aio.Channel, token: str, requests: Sequence[bytes]) -> _Worker:
    commit: Any = channel.unary_unary(COMMIT)  # without serialisers: bytes are sent and received as they are
    for request in requests:
        answer = metadata_pb2.CommitChangesResponse.FromString(await commit(request, metadata=_bearer(token)))
        assert all(result.verdict == journal_pb2.VERDICT_ACCEPTED for result in answer.results), answer
        yield


async def _checks(channel: grpc.aio.Channel, token: str, space: str, batches: Sequence[bytes]) -> _Worker:
    opening = metadata_pb2.CheckVersionsRequest(open=metadata_pb2.CheckVersionsOpen(space_id=space))
    stream: Any = channel.stream_stream(CHECK)(metadata=_bearer(token))
    await stream.write(opening.SerializeToString())
    for batch in cycle(batches):
        await stream.write(batch)
        answer = metadata_pb2.CheckVersionsResponse.FromString(await stream.read())
        assert not answer.indexes, f"{len(answer.indexes)} files were said to differ"
        yield


class _Watchers:
    """Opens many watches of one space, and records the times at which each doorbell arrives on them."""

    def __init__(self, space: str) -> None:
        self.heartbeats = 0
        self._request = notify_pb2.WatchRequest(space_ids=[space]).SerializeToString()
        self._tasks: list[asyncio.Task[None]] = []
        self._heard: list[float] = []
        self._all_heard: asyncio.Future[list[float]] | None = None

    async def open(self, channels: Sequence[tuple[grpc.aio.Channel, str]]) -> None:
        """Open one watch on each of these channels, with its token; return when each has received its first
        heartbeat.
        """
        waiting = iter(channels)

        async def worker() -> None:
            for channel, token in waiting:
                watch: Any = channel.unary_stream(WATCH)
                stream = watch(self._request, metadata=_bearer(token))
                await stream.read()
                self._tasks.append(asyncio.create_task(self._listen(stream)))

        await asyncio.gather(*(worker() for _ in range(_OPENING_AT_ONCE)))

    def ring(self) -> asyncio.Future[list[float]]:
        """Return a future for the next doorbell: once it has arrived on every watch, the result has the times of
        arrival in seconds.
        """
        self._heard = []
        self._all_heard = asyncio.get_running_loop().create_future()
        return self._all_heard

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, stream: Any) -> None:
        # Not `async for`: grpc refuses it on a stream that was read before.
        while True:
            raw = await stream.read()
            assert raw is not grpc.aio.EOF, "a watch ended"
            if notify_pb2.WatchResponse.FromString(raw).WhichOneof("kind") == "heartbeat":
                self.heartbeats += 1
                continue
            self._heard.append(time.perf_counter())
            if len(self._heard) == len(self._tasks):
                assert self._all_heard is not None
                self._all_heard.set_result(self._heard)


# ---- HTTP


async def _gets(address: str, request: bytes, expect: bytes) -> _Worker:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        while True:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(expect), head
            await reader.readexactly(_content_length(head))
            yield
    finally:
        writer.close()


def _content_length(head: bytes) -> int:
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0])
