"""Calls of every rpc, one after the other from one seed, and what is demanded of each answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Final, cast

import grpc
import grpc.aio
import psutil
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

# The package ships stubs but no py.typed marker.
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from runtime.permissions import REQUEST_BOUNDS, RPCS, CallerKind
from runtime.rpc.server import received_bytes
from stack.up import Stack
from syncline.admin.v1 import admin_pb2
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.metadata.v1 import metadata_pb2
from syncline.model.identifiers import new_request_id
from syncline.notify.v1 import notify_pb2
from syncline.rpc.errors import DETAILS_KEY, DOMAIN
from tests.fuzz.messages import MAX_BYTES, Generator, readable, walk
from tests.fuzz.world import World, build, commit, renew

SERVICES: Final = (
    ("auth", admin_pb2.DESCRIPTOR.services_by_name["AdminService"]),
    ("auth", auth_pb2.DESCRIPTOR.services_by_name["AuthService"]),
    ("metadata", metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"]),
    ("notify", notify_pb2.DESCRIPTOR.services_by_name["NotifyService"]),
)
"""Each service, with the name of the process that serves it."""
_ADMIN: Final = SERVICES[0][1]
METHODS: Final[list[tuple[str, MethodDescriptor]]] = [
    (name, method) for name, service in SERVICES for method in service.methods
]
CALLERS: Final = {
    "owner": 30,
    "viewer": 4,
    "stranger": 2,
    "link": 3,
    "service": 3,
    "administrator": 3,
    "nobody": 1,
    "liar": 1,
}
HASHING: Final = frozenset({"SignUp", "SignIn", "ChangePassword", "ResetPassword"})
"""Methods that work for a tenth of a second by design; every call of the others would wait for them."""

SECONDS: Final = 5.0
"""Maximum number of seconds that a call may take."""
GROWTH: Final = 50_000_000
"""Bytes by which the memory of a process may grow."""
WARM_UP: Final = 300
"""Calls after which a process has loaded what it needs."""
AT_ONCE: Final = 6
VALID_ROUNDS: Final = 2
"""The number of valid calls of each method at the beginning."""
DEFECTS: Final = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED"})
WATCHED_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Asked:
    """One call: to which method, by whom, and the bytes of each message."""

    service: str
    method: MethodDescriptor
    caller: str
    token: str
    messages: list[bytes]

    def __str__(self) -> str:
        sent = "\n".join(readable(self.method.input_type, raw) for raw in self.messages[:4])
        return f"{self.method.name} by {self.caller}, {len(self.messages)} messages:\n{sent}"


@dataclass
class Outcome:
    """The end of a call, and its answers before that."""

    code: str
    reason: str = ""
    text: str = ""
    seconds: float = 0.0
    answers: list[Message] = field(default_factory=list)

    @property
    def fault(self) -> str:
        """The fault of the call; empty if there is none."""
        if self.code == "OK":
            return ""
        if self.code in DEFECTS:
            return f"{self.code}: {self.text}"
        if self.code == "DEADLINE_EXCEEDED":
            return "no answer within the time"
        return "" if self.reason else f"{self.code} without ErrorInfo: {self.text}"


@dataclass
class Report:
    """The results of a run."""

    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of calls by method and code."""
    faults: list[str] = field(default_factory=list)
    growth: dict[str, int] = field(default_factory=dict)
    """Bytes, by process."""
    slowest: tuple[float, str] = (0.0, "")

    @property
    def calls(self) -> int:
        return self.codes.total()

    def __str__(self) -> str:
        codes: Counter[str] = Counter()
        for (_, code), count in self.codes.items():
            codes[code] += count
        grown = ", ".join(f"{name} {size / 1e6:+.1f} MB" for name, size in self.growth.items())
        return (
            f"{self.calls} calls of {len({method for method, _ in self.codes})} methods: {dict(codes.most_common())}; "
            f"memory {grown}; slowest {self.slowest[0]:.2f} s ({self.slowest[1]}); {len(self.faults)} faults"
        )


class Caller:
    """Sends bytes to methods by name."""

    def __init__(self, targets: Mapping[str, str], *, seconds: float = SECONDS) -> None:
        """`seconds` are what a call may take."""
        self._seconds = seconds
        self._channels = {name: grpc.aio.insecure_channel(target) for name, target in targets.items()}
        self._threads = {name: grpc.insecure_channel(target) for name, target in targets.items()}

    async def close(self) -> None:
        """End all connections."""
        for channel in self._channels.values():
            await channel.close()
        for thread in self._threads.values():
            thread.close()

    async def ask(self, asked: Asked) -> Outcome:
        """Make the call and see how it ends."""
        began = time.monotonic()
        outcome = Outcome("OK")
        try:
            async for answer in self._answers(asked):
                outcome.answers.append(answer)
        except grpc.RpcError as error:
            # Both flavours of channel raise what is a call too.
            _tell(outcome, cast("grpc.aio.AioRpcError", error))
        outcome.seconds = time.monotonic() - began
        return outcome

    async def _answers(self, asked: Asked) -> AsyncIterator[Message]:
        method, channel = asked.method, self._channels[asked.service]
        assert method.containing_service is not None
        path = f"/{method.containing_service.full_name}/{method.name}"
        metadata = [("authorization", f"Bearer {asked.token}")] if asked.token else []
        read = GetMessageClass(method.output_type).FromString
        limit: dict[str, Any] = {"metadata": metadata, "timeout": self._seconds}
        if not method.server_streaming:
            unary: Any = channel.unary_unary(path, response_deserializer=read)
            yield await unary(asked.messages[0], **limit)
            return
        if method.client_streaming:
            # In a thread: grpc.aio calls it INTERNAL when a server ends a call that it is still writing to.
            both: Any = self._threads[asked.service].stream_stream(path, response_deserializer=read)
            for answer in await asyncio.to_thread(lambda: list(both(iter(asked.messages), **limit))):
                yield answer
            return
        stream: Any = channel.unary_stream(path, response_deserializer=read)
        call = stream(asked.messages[0], **limit)
        endless = method.name == "Watch"
        try:
            async with asyncio.timeout(WATCHED_SECONDS if endless else None):
                async for answer in call:
                    yield answer
        except TimeoutError:
            pass
        finally:
            call.cancel()


def _tell(outcome: Outcome, error: grpc.aio.AioRpcError) -> None:
    outcome.code, outcome.text, outcome.reason = error.code().name, error.details() or "", _reason(error)


def _reason(error: grpc.aio.AioRpcError) -> str:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return str(info.reason)
    return ""


def _caller_of(method: MethodDescriptor) -> str:
    """Somebody who may call the method."""
    if method.name == "ProveAddress":
        return "newcomer"  # the others have proven theirs
    if method.name in {"ConfirmTotp", "RemoveFactor"}:
        return "protected"  # an account that confirms a factor needs codes
    if method.name == "ChangePassword":
        return "changer"  # a change signs out the devices that others use
    takes = RPCS[f"{method.containing_service.full_name}/{method.name}"]
    kinds = {
        CallerKind.SESSION: "owner",
        CallerKind.SERVICE: "service",
        CallerKind.VISITOR: "link",
        CallerKind.ADMINISTRATOR: "administrator",
    }
    return next(name for kind, name in kinds.items() if kind in takes)


class Fuzz:
    """A run over one system."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._generator = Generator(rng, world.known)

    def next(self) -> Asked:
        """The next call."""
        rng = self._rng
        service, chosen = rng.choice(METHODS)
        while chosen.name in HASHING and rng.random() < 0.8:
            service, chosen = rng.choice(METHODS)
        caller = rng.choices(list(CALLERS), weights=list(CALLERS.values()))[0]
        if (one := _caller_of(chosen)) != "owner" and rng.random() < 0.7:
            caller = one  # most callers may not, so the method itself would hardly be met
        messages = [self._message(chosen)]
        if chosen.client_streaming:
            messages += [self._message(chosen) for _ in range(rng.randint(0, 4))]
            if rng.random() < 0.8:
                messages = [self._opening(rng.choice(self._world.known["space_id"])), *messages]
        return Asked(
            service, chosen, caller, self._world.tokens[caller], [self._spared(chosen, raw) for raw in messages]
        )

    def _spared(self, method: MethodDescriptor, raw: bytes) -> bytes:
        """The message, which an administrator sends about nobody but the person who is there for that: the other people
        make the calls of the run.
        """
        if method.containing_service is not _ADMIN:
            return raw
        message: Any = GetMessageClass(method.input_type)()
        try:
            message.ParseFromString(raw)
        except DecodeError:
            return raw
        if getattr(message, "user_id", "") in self._world.known["user_id"]:
            message.user_id = self._world.managed
        return bytes(message.SerializeToString())

    def valid(self, service: str, method: MethodDescriptor) -> Asked:
        """A call of this method by somebody who may make it, in which nothing is wrong on purpose."""
        caller = _caller_of(method)
        message: Any = self._generator.message(method.input_type)
        if method.name == "CommitChanges":
            message = commit(self._world, self._rng)
        else:
            self._put_right(method, message)
        raw = (
            self._opening(self._world.known["space_id"][0]) if method.client_streaming else message.SerializeToString()
        )
        return Asked(service, method, caller, self._world.tokens[caller], [self._spared(method, raw)])

    def _put_right(self, method: MethodDescriptor, message: Any) -> None:
        """Give a message the fields with which a call of the method succeeds."""
        right: dict[str, Any] = {"page_token": "", "request_id": self._rng.randbytes(16)}
        if method.name in {"SignUp", "InviteUser", "SetMember"}:
            right["email"] = f"{self._rng.getrandbits(64):x}@example.com"  # nobody has that address
        right |= self._world.right.get(method.name, {})
        for name, value in right.items():
            if name not in method.input_type.fields_by_name:
                continue
            message.ClearField(name)
            if callable(value):
                setattr(message, name, value())
            elif isinstance(value, list):
                getattr(message, name).extend(value)
            elif value is not None:
                setattr(message, name, value)

    def _opening(self, space: str) -> bytes:
        opened = metadata_pb2.CheckVersionsOpen(space_id=space)
        return metadata_pb2.CheckVersionsRequest(open=opened).SerializeToString()

    def _message(self, method: MethodDescriptor) -> bytes:
        # gRPC itself refuses what is larger, without ErrorInfo.
        most = received_bytes([method.containing_service.full_name], REQUEST_BOUNDS, MAX_BYTES)
        while len(message := self._any_message(method)) > most:
            pass
        return message

    def _any_message(self, method: MethodDescriptor) -> bytes:
        rng, kind = self._rng, method.input_type
        valid = commit(self._world, rng) if method.name == "CommitChanges" and rng.random() < 0.7 else None
        message = valid or self._generator.message(kind)
        match rng.choices(("as it is", "changed", "odd", "hostile", "damaged"), weights=(32, 38, 12, 13, 5))[0]:
            case "as it is":
                return message.SerializeToString()
            case "changed":
                return self._generator.mutated(message).SerializeToString()
            case "damaged":
                return self._generator.damaged(message.SerializeToString())
            case "odd":
                return self._generator.message(kind, hostile=0.3).SerializeToString()
            case _:
                return self._generator.message(kind, hostile=0.9).SerializeToString()

    def learn(self, asked: Asked, outcome: Outcome) -> None:
        """Take what was answered, and what was asked with success, into later calls."""
        if outcome.code != "OK":
            return
        for answer in outcome.answers:
            walk(answer, self._learn)
        for raw in asked.messages:
            try:
                walk(GetMessageClass(asked.method.input_type).FromString(raw), self._learn)
            except DecodeError:
                continue

    def _learn(self, name: str, value: Any) -> None:
        if isinstance(value, str | bytes) and not 0 < len(value) <= 5000:
            return
        self._world.learn("page_token" if name == "next_page_token" else name, value)
        if name == "id":
            self._world.learn("node", value)


async def run(stack: Stack, *, calls: int, seed: int, most_faults: int = 10) -> Report:
    """Make this number of calls of all rpcs from this seed; ends early after so many faults.

    It begins with two valid calls of each, and one of six calls is a valid one from then on, of each in turn.
    """
    targets = {name: f"127.0.0.1:{getattr(stack.ports, name)}" for name, _ in SERVICES}
    world = await build(stack, targets["auth"])
    rng = random.Random(seed)
    fuzz, report = Fuzz(world, rng), Report()
    in_turn = cycle(rng.sample(METHODS, len(METHODS)))
    processes = {name: psutil.Process(stack.pids[name]) for name in targets}
    before = {name: process.memory_info().rss for name, process in processes.items()}
    caller = Caller(targets)
    try:
        while report.calls < calls and len(report.faults) < most_faults:
            await renew(world, targets["auth"])
            valid = AT_ONCE if report.calls < VALID_ROUNDS * len(METHODS) else 1
            some = [fuzz.valid(*next(in_turn)) for _ in range(valid)]
            some += [fuzz.next() for _ in range(AT_ONCE - valid)]
            some = [await _to_sign_out(world, asked, targets["auth"]) for asked in some]
            warm = report.calls < WARM_UP
            for asked, outcome in zip(some, await asyncio.gather(*map(caller.ask, some)), strict=True):
                if outcome.code == "DEADLINE_EXCEEDED":
                    outcome = await caller.ask(asked)  # noqa: PLW2901 # the machine may have been busy
                fuzz.learn(asked, outcome)
                report.codes[asked.method.name, outcome.code] += 1
                report.slowest = max(report.slowest, (outcome.seconds, asked.method.name))
                if fault := outcome.fault:
                    report.faults.append(f"{fault}\n{asked}")
            if warm and report.calls >= WARM_UP:
                before = {name: process.memory_info().rss for name, process in processes.items()}
    finally:
        await caller.close()
    report.growth = {name: process.memory_info().rss - before[name] for name, process in processes.items()}
    report.faults += [
        f"{name} has grown by {size / 1e6:.0f} MB" for name, size in report.growth.items() if size > GROWTH
    ]
    return report


async def _to_sign_out(world: World, asked: Asked, target: str) -> Asked:
    """The call, by a device of its own if it would sign its caller out."""
    if asked.method.name != "SignOut" or asked.caller not in world.keys:
        return asked
    async with grpc.aio.insecure_channel(target) as channel:
        stub = AuthServiceStub(channel)
        metadata = (("authorization", f"Bearer {asked.token}"),)
        key = auth_pb2.CreateKeyRequest(
            request_id=new_request_id(), name="to be signed out", expires_at_ms=int(time.time() * 1000) + 60_000
        )
        made = await stub.CreateKey(key, metadata=metadata)
        traded = await stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=made.key))
    return Asked(asked.service, asked.method, asked.caller, traded.tokens.access_token, asked.messages)
