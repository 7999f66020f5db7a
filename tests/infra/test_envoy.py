"""The balancer's configuration as it is for containers: Envoy accepts it, and it agrees with the contract."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from starlette.requests import Request

from gateway.http.reception import GatewayReception
from gateway.http.refusals import RefusalMiddleware
from gateway.identity.address import OwnAddress
from gateway.services.calls import IDEMPOTENT
from runtime.rpc.server import MAX_STREAMS_PER_CONNECTION, App, running
from stack.balancer import DRAIN_SECONDS, command, free_ports, local_configuration
from stack.deploy import template
from syncline.admin.v1 import admin_pb2
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import metadata_pb2
from syncline.notify.v1 import notify_pb2
from syncline.rpc.channel import aio_channel
from tests.gateway.http.refusing import Refusing
from tests.runtime.connections import serving
from tests.runtime.http2 import http2

FILE = Path(__file__).resolve().parents[2] / "infra" / "envoy.yaml"
CONFIGURATION: dict[str, Any] = yaml.safe_load(FILE.read_text())
RESOURCES = CONFIGURATION["static_resources"]
# These make or spend something each time; all other rpcs may be repeated at any time.
ONCE = {"SignUp", "SignIn", "OpenLink", "RequestProof", "ProveAddress", "RefuseInvitation"}
ONCE |= {"RequestReset", "ResetPassword", "RemoveFactor"}


def rpcs() -> Iterator[tuple[str, str]]:
    """Each method's path, and whose it is."""
    for name, module in (
        ("auth", admin_pb2),
        ("auth", auth_pb2),
        ("metadata", metadata_pb2),
        ("notify", notify_pb2),
    ):
        (service,) = module.DESCRIPTOR.services_by_name.values()
        for method in service.methods:
            yield f"/{service.full_name}/{method.name}", name


def route(path: str, **headers: str) -> dict[str, Any]:
    """Return the cluster of a request with these headers, as Envoy decides: the first route that matches."""
    (listener,) = RESOURCES["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    for candidate in manager["route_config"]["virtual_hosts"][0]["routes"]:
        match = candidate["match"]
        if not (path == match["path"] if "path" in match else path.startswith(match["prefix"])):
            continue
        if all(_has(headers, wanted) for wanted in match.get("headers", [])):
            found: dict[str, Any] = candidate["route"]
            return found
    raise AssertionError(f"no route for {path}")


def _has(headers: dict[str, str], wanted: dict[str, Any]) -> bool:
    value = headers.get(wanted["name"].strip(":").replace("-", "_"), "")
    match = wanted["string_match"]
    return value == match["exact"] if "exact" in match else bool(re.fullmatch(match["safe_regex"]["regex"], value))


def repeats_what_arrived(found: dict[str, Any]) -> bool:
    return "reset" in found["retry_policy"]["retry_on"].split(",")


def test_envoy_accepts_it() -> None:
    pytest.importorskip("envoy", reason="there is no Envoy for this platform")
    done = subprocess.run(
        [sys.executable, "-m", "envoy._main", "--mode", "validate", "-c", str(FILE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()


@pytest.mark.parametrize(("path", "service"), list(rpcs()))
def test_each_rpc_goes_to_its_service_and_is_repeated_if_that_is_harmless(path: str, service: str) -> None:
    found = route(path)
    assert found["cluster"] == service
    assert found["timeout"] == "0s", "deadlines are the callers', and streams have none"
    assert repeats_what_arrived(found) is (path.rpartition("/")[2] not in ONCE)


def test_the_gateway_repeats_the_same_calls_as_the_balancer() -> None:
    assert {f"/{method}" for method in IDEMPOTENT} == {path for path, _ in rpcs() if repeats_what_arrived(route(path))}


def test_health_is_of_the_service_that_is_named() -> None:
    path = "/grpc.health.v1.Health/Check"
    for service in ("auth", "metadata", "notify"):
        assert route(path, x_syncline_service=service)["cluster"] == service
    assert route(path)["cluster"] == "metadata"


def test_the_rest_is_storage_or_the_gateway() -> None:
    bucket = next(
        line.split(":", 1)[1].strip().split()[-1]
        for line in template().read_text().splitlines()
        if line.strip().startswith("BucketName:")
    ).strip('"')
    assert bucket.startswith("${Prefix}-content-")
    assert route("/syncline-content-000000000000-us-east-1/spaces/a/objects/b")["cluster"] == "aws"
    harmless = {"GET", "HEAD", "OPTIONS", "PROPFIND"}
    for method in harmless | {"POST", "PUT", "PATCH", "DELETE", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"}:
        for path in ("/", "/.well-known/syncline", "/v1/spaces/a/content/b", "/v1/events", "/dav/a/b", "/l/a"):
            found = route(path, method=method)
            assert found["cluster"] == "gateway"
            assert repeats_what_arrived(found) is (method in harmless)
            assert (found["timeout"], found["idle_timeout"]) == ("0s", "0s"), "bodies and events take their time"


def test_who_drains_is_noticed_in_time_and_nobody_else_reaches_the_admin_interface() -> None:
    assert CONFIGURATION["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    for cluster in RESOURCES["clusters"]:
        for check in cluster.get("health_checks", []):
            assert check["interval"] == check["no_traffic_interval"] == "1s"
            noticed = float(check["interval"].rstrip("s")) + float(check["timeout"].rstrip("s"))
            assert check["unhealthy_threshold"] == 1
            assert noticed <= DRAIN_SECONDS
    assert {cluster["name"] for cluster in RESOURCES["clusters"] if "health_checks" in cluster} == {
        "auth",
        "metadata",
        "notify",
        "gateway",
    }


# ---- Envoy itself, in front of a gateway that does what a test says


@dataclass
class Exchange:
    """One request as it arrives at an instance, which answers what it is told."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    async def say(self, text: str) -> None:
        self.writer.write(text.encode())
        await self.writer.drain()


@dataclass
class Instance:
    """Answers health checks by itself; everything else is up to the test."""

    arrived: asyncio.Queue[Exchange] = field(default_factory=asyncio.Queue)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        method, target, headers = await head(reader)
        if target == "/readyz":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
            writer.close()
        else:
            self.arrived.put_nowait(Exchange(method, target, headers, reader, writer))


@dataclass
class Edge:
    """A running balancer and the instance behind it."""

    port: int
    instance: Instance

    @asynccontextmanager
    async def asking(self, start: str, *headers: str) -> AsyncIterator[Exchange]:
        """The client's end of a request whose head has been sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write("\r\n".join((f"{start} HTTP/1.1", "host: files.example.com", *headers, "", "")).encode())
            await writer.drain()
            method, target = start.split()
            yield Exchange(method, target, [], reader, writer)
        finally:
            await close(writer)

    async def arrival(self) -> Exchange:
        async with asyncio.timeout(60):
            return await self.instance.arrived.get()


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def head(reader: asyncio.StreamReader) -> tuple[str, str, list[tuple[str, str]]]:
    """The first line's first two words, and the headers."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[:-1]
    one, two, *_ = first.split(" ")
    pairs = [line.split(": ", 1) for line in lines]
    return one, two, [(key.lower(), value) for key, value in pairs]


async def status(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(60):
        _, code, _ = await head(reader)
    return code


@asynccontextmanager
async def balancing(instance: Instance, gateway: int) -> AsyncIterator[Edge]:
    """Run Envoy in front of a gateway that listens on the port `gateway`."""
    pytest.importorskip("envoy", reason="there is no Envoy for this platform")
    port, admin, nobody = free_ports(3)
    clusters = {cluster["name"]: [nobody] for cluster in RESOURCES["clusters"]}
    clusters["gateway"] = [gateway]
    process = await asyncio.create_subprocess_exec(
        *command(local_configuration(listen_on=port, admin=admin, clusters=clusters))
    )
    try:
        edge = Edge(port, instance)
        async with asyncio.timeout(60):
            while not await serves(edge):
                await asyncio.sleep(0.05)
        yield edge
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    instance = Instance()
    async with await asyncio.start_server(instance.serve, "127.0.0.1", 0, limit=1 << 24) as server:
        async with balancing(instance, server.sockets[0].getsockname()[1]) as edge:
            yield edge
        for writer in instance.writers:
            await close(writer)


async def serves(edge: Edge) -> bool:
    try:
        async with edge.asking("GET /readyz") as asked:
            return await status(asked.reader) == "200"
    except (OSError, asyncio.IncompleteReadError):
        return False


async def test_an_upload_streams_through(edge: Edge) -> None:
    part = b"x" * (3 << 20)  # more than is kept for a repetition
    async with edge.asking("PUT /dav/personal/film", "transfer-encoding: chunked") as asked:
        asked.writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        arrived = await edge.arrival()
        async with asyncio.timeout(60):
            taken = 0
            while taken < len(part):  # while the client has not sent its end
                size = int(await arrived.reader.readline(), 16)
                assert len(await arrived.reader.readexactly(size + 2)) == size + 2
                taken += size
        asked.writer.write(b"0\r\n\r\n")
        async with asyncio.timeout(60):
            assert await arrived.reader.readexactly(5) == b"0\r\n\r\n"
        await arrived.say("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")
        assert await status(asked.reader) == "201"


async def test_events_arrive_when_they_happen(edge: Edge) -> None:
    async with edge.asking("GET /v1/events") as asked:
        arrived = await edge.arrival()
        await arrived.say("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        assert await status(asked.reader) == "200"
        for event in ("event: heartbeat\n\n", "event: doorbell\n\n"):
            await arrived.say(f"{len(event):x}\r\n{event}\r\n")
            async with asyncio.timeout(60):
                await asked.reader.readuntil(event.encode())


@pytest.mark.parametrize("method", ["PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"])
async def test_webdav_passes_as_it_is(edge: Edge, method: str) -> None:
    target = "/dav/personal//a%2Fb/%E4%BD%A0"
    sent = [("depth", "1"), ("destination", "http://files.example.com/dav/personal/c"), ("if", "(<urn:uuid:1>)")]
    forwarded = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "7.7.7.7")]
    lines = [f"{key}: {value}" for key, value in (*sent, *forwarded)]
    async with edge.asking(f"{method} {target}", *lines, "content-length: 0") as asked:
        arrived = await edge.arrival()
        assert (arrived.method, arrived.target) == (method, target)
        assert arrived.values("host") == ["files.example.com"]
        for key, value in sent:
            assert arrived.values(key) == [value]
        *told, seen = (hop.strip() for value in arrived.values("x-forwarded-for") for hop in value.split(","))
        assert told == ["6.6.6.6", "7.7.7.7"]
        assert ip_address(seen) not in {ip_address(each) for each in told}, "what it saw comes last"
        await arrived.say("HTTP/1.1 207 Multi-Status\r\ncontent-length: 0\r\n\r\n")
        assert await status(asked.reader) == "207"


@pytest.mark.parametrize(("method", "repeated"), [("PUT", False), ("MOVE", False), ("PROPFIND", True)])
async def test_what_arrived_and_may_change_something_is_not_sent_again(edge: Edge, method: str, repeated: bool) -> None:
    async with edge.asking(f"{method} /dav/personal/a", "content-length: 0") as asked:
        arrived = await edge.arrival()
        arrived.writer.close()
        if repeated:
            again = await edge.arrival()
            await again.say("HTTP/1.1 207 Multi-Status\r\ncontent-length: 0\r\n\r\n")
        assert await status(asked.reader) == ("207" if repeated else "503")
        assert edge.instance.arrived.empty()


@pytest.mark.parametrize("method", ["GET", "PROPFIND", "POST"])
async def test_a_refusal_that_cannot_be_delayed_is_answered_once(method: str) -> None:
    """The balancer would repeat a request whose connection is closed without an answer."""
    refusing = Refusing()
    own = OwnAddress(public_url="", trusted_networks=[], trusted_proxies=1)
    app = RefusalMiddleware(refusing, own=own, delayed=refusing.delayed)
    reception = GatewayReception(100, own, header_section_seconds=30.0)
    async with serving(app, reception) as port, balancing(Instance(), port) as edge:
        async with edge.asking(f"{method} /v1/spaces", "content-length: 0") as asked:
            assert await status(asked.reader) == "429"
        # Envoy names an address of the machine for clients on the loopback interface.
        network = own.network(Request(refusing.last))
        async with (
            refusing.exhausted(network),
            edge.asking(f"{method} /v1/spaces", "content-length: 0") as asked,
            asyncio.timeout(60),
        ):
            _, code, headers = await head(asked.reader)
    assert (code, dict(headers).get("retry-after")) == ("429", "1")
    assert refusing.asked == 2


# ---- and in front of a service


async def test_calls_beyond_those_of_a_connection_find_another() -> None:
    """The gateway has everybody's watches on one channel; the balancer and the service allow fewer on a connection."""
    pytest.importorskip("envoy", reason="there is no Envoy for this platform")
    count = MAX_STREAMS_PER_CONNECTION + 50

    async def watch(_request: bytes, _context: object) -> AsyncIterator[bytes]:
        yield b"here"
        await asyncio.Event().wait()

    service = "syncline.notify.v1.NotifyService"
    handlers = grpc.method_handlers_generic_handler(service, {"Watch": grpc.unary_stream_rpc_method_handler(watch)})
    app = App(name="notify", mounts=[lambda server: server.add_generic_rpc_handlers((handlers,))])
    port, admin, nobody = free_ports(3)
    async with running(app) as behind, aio_channel(f"127.0.0.1:{port}", idempotent=[service]) as channel:
        clusters = {cluster["name"]: [nobody] for cluster in RESOURCES["clusters"]}
        clusters["notify"] = [int(behind.rpartition(":")[2])]
        configuration = local_configuration(listen_on=port, admin=admin, clusters=clusters)
        process = await asyncio.create_subprocess_exec(*command(configuration))
        try:
            async with asyncio.timeout(60):
                await channel.channel_ready()
                async with http2(f"127.0.0.1:{port}") as raw:
                    await raw.until(lambda: raw.most_streams is not None)
                    assert raw.most_streams is not None
                    as_few_as_on_aws = MAX_STREAMS_PER_CONNECTION // 2
                    assert raw.most_streams <= as_few_as_on_aws
                begin: Any = channel.unary_stream(f"/{service}/Watch")
                watches = [begin(b"", wait_for_ready=True) for _ in range(count)]
                assert [await each.read() for each in watches] == [b"here"] * count
            for each in watches:
                each.cancel()
        finally:
            process.kill()
            await process.wait()
