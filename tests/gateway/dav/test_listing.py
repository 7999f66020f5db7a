"""PROPFIND of large directories: what it asks of others, which is what it takes its time for."""

import asyncio
import hashlib
import io
import json
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from starlette.requests import Request

from gateway.dav import properties
from gateway.dav.app import _MAX_OWING_REQUESTS, Dav, _Answer, _left
from gateway.dav.parts import DavParts
from gateway.dav.protocol import Protocol
from gateway.dav.session import DavSession, DavSpace, Person
from gateway.http.parsing import ParsingTime
from gateway.identity.address import OwnAddress
from gateway.identity.caller import Caller
from gateway.records.ports import MAX_READ_BYTES, NOTHING
from runtime.interruption import ClientGone
from runtime.pool import Pool, Share
from syncline.metadata.v1 import metadata_pb2
from syncline.model.blocks import KIB, BlockRef, Digest, Manifest
from syncline.model.errors import RateExceeded
from syncline.model.identifiers import ROOT, DeviceId, NodeId, SpaceId, UserId, new_request_id
from syncline.model.tree import Content, Node, NodeKind
from syncline.wire.tree import node_to_wire
from tests.support.records import InMemoryRecords
from tests.support.rights import Rights
from tests.support.tokens import unproven_token

SPACE = DavSpace(SpaceId("a" * 26), "Space", True)
PAGE = 1000
ALLPROP = b'<D:propfind xmlns:D="DAV:"><D:allprop/></D:propfind>'
TAGS = b'<D:propfind xmlns:D="DAV:" xmlns:x="x"><D:prop><D:getetag/><x:tag/></D:prop></D:propfind>'
LIVE = b'<D:propfind xmlns:D="DAV:"><D:prop><D:getetag/></D:prop></D:propfind>'


class Counted(InMemoryRecords):
    """Knows how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def read(self, space, names):
        self.calls += 1
        return await super().read(space, names)

    async def read_all(self, space, prefix):
        self.calls += 1
        return await super().read_all(space, prefix)


class Directory:
    """Metadata that knows one directory."""

    def __init__(self, count: int) -> None:
        self.calls = 0
        self.nodes = []
        for index in range(count):
            digest = Digest(hashlib.sha256(b"%d" % index).digest())
            content = Content(digest, 10, 10**18, manifest=Manifest.of([BlockRef(digest, 10, digest, 0)]))
            node = Node(NodeId(new_request_id()), ROOT, f"{index:05}.txt", NodeKind.FILE, 1, content)
            self.nodes.append(node)

    async def list_nodes(self, request, **_):
        self.calls += 1
        at = int(request.page_token or 0)
        return metadata_pb2.ListNodesResponse(
            nodes=[node_to_wire(node) for node in self.nodes[at : at + PAGE]],
            next_page_token=str(at + PAGE) if at + PAGE < len(self.nodes) else "",
        )


PERSON = Person(UserId("ann"), DeviceId("device"), Caller(unproven_token()), {SPACE.name: SPACE})


def services_of(directory: Directory) -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(ListNodes=directory.list_nodes))


def asking(body: bytes) -> dict[str, Any]:
    """A PROPFIND with Depth: 1, as WSGI has it."""
    return {
        "REQUEST_METHOD": "PROPFIND",
        "PATH_INFO": f"/{SPACE.name}/",
        "HTTP_DEPTH": "1",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.url_scheme": "http",
        "wsgidav.config": {},
        "wsgidav.verbose": 1,
        "HTTP_HOST": "host",
        "SCRIPT_NAME": "",
    }


async def listed(directory: Directory, records: Counted, body: bytes) -> dict[str, dict[str, str]]:
    """Return each file's properties from a PROPFIND with Depth: 1, as texts by name."""
    session = DavSession(services_of(directory), records, PERSON, asyncio.get_running_loop(), ask_right=Rights())
    environ = asking(body)
    parts = Protocol(session, environ)(environ, lambda *_: None)
    answer = await asyncio.to_thread(lambda: b"".join(part for part in parts if isinstance(part, bytes)))
    found = {}
    for response in ElementTree.fromstring(answer).findall("{DAV:}response"):
        href = response.findtext("{DAV:}href", "")
        found[href.rpartition("/")[2]] = {
            one.tag: one.text or ""
            for good in response.findall("{DAV:}propstat")
            if " 200 " in good.findtext("{DAV:}status", "")
            for one in good.findall("{DAV:}prop/*")
        }
    del found[""]
    return found


@pytest.mark.parametrize("body", [ALLPROP, TAGS], ids=["allprop", "a property of the client's"])
async def test_properties_of_twelve_thousand_files_are_one_question(body):
    directory, records = Directory(12_000), Counted()
    loop = asyncio.get_running_loop()
    person = Person(UserId("ann"), DeviceId("device"), Caller(unproven_token()), {SPACE.name: SPACE})
    nobody: Any = None
    tagged = {3: "three", 700: "seven hundred", 11_999: "last"}
    for index, text in tagged.items():
        session = DavSession(nobody, records, person, loop, ask_right=Rights())
        changes = [("{x}tag", f'<tag xmlns="x">{text}</tag>')]
        await asyncio.to_thread(properties.change, session, SPACE, directory.nodes[index].id, changes)
    records.calls = 0
    found = await listed(directory, records, body)
    assert len(found) == 12_000
    assert {name: told["{x}tag"] for name, told in found.items() if "{x}tag" in told} == {
        f"{index:05}.txt": text for index, text in tagged.items()
    }
    assert all("{DAV:}getetag" in told for told in found.values())
    assert directory.calls == 12
    assert records.calls <= 3


async def test_what_is_asked_of_this_server_alone_asks_for_no_records():
    directory, records = Directory(2_000), Counted()
    assert len(await listed(directory, records, LIVE)) == 2_000
    assert records.calls == 0


async def test_where_there_are_too_many_properties_each_file_is_asked_for():
    directory, records = Directory(500), Counted()
    loop = asyncio.get_running_loop()
    person = Person(UserId("ann"), DeviceId("device"), Caller(unproven_token()), {SPACE.name: SPACE})
    nobody: Any = None
    text = "x" * 30_000
    tagged = directory.nodes[:: 500 // (MAX_READ_BYTES // 30_000 + 2)]
    for node in tagged:
        session = DavSession(nobody, records, person, loop, ask_right=Rights())
        changes = [("{x}tag", f'<tag xmlns="x">{text}</tag>')]
        await asyncio.to_thread(properties.change, session, SPACE, node.id, changes)
    records.calls = 0
    found = await listed(directory, records, TAGS)
    assert {name for name, told in found.items() if told.get("{x}tag") == text} == {node.name for node in tagged}
    assert records.calls <= 6


class Slow(Counted):
    """Knows how many bytes each question brought."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def read(self, space, names):
        found = await super().read(space, names)
        self.sizes.append(sum(len(record.data) for record in found.values()))
        return found


async def with_large_properties(count: int, records: InMemoryRecords) -> tuple[Directory, int]:
    """A directory of files with nearly 32 KiB of properties each, and how many bytes all these have."""
    directory, size = Directory(count), 0
    for node in directory.nodes:
        told = {f"{{x}}p{at}": f'<p{at} xmlns="x">{"v" * 1400}</p{at}>' for at in range(20)}
        data = json.dumps(told).encode()
        await records.write(SPACE.id, f"properties/{node.id.hex()}", data, over=NOTHING)
        size += len(data)
    return directory, size


async def test_large_properties_are_read_and_told_in_slices_that_are_paid_for_one_by_one():
    records = Slow()
    directory, size = await with_large_properties(400, records)
    paid: list[tuple[int, bool]] = []

    async def pay(size: int, *, refusable: bool) -> None:
        paid.append((size, refusable))

    session = DavSession(
        services_of(directory), records, PERSON, asyncio.get_running_loop(), ask_right=Rights(), pay=pay
    )
    environ = asking(ALLPROP)
    parts = Protocol(session, environ)(environ, lambda *_: None)
    told, unpaid = [], []
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        if isinstance(part, bytes):
            told.append(part)
            unpaid.append(sum(records.sizes) - sum(one for one, _ in paid))
        else:
            await part()
    found = ElementTree.fromstring(b"".join(told)).findall("{DAV:}response")
    assert len(found) == 401
    assert all(len(one.findall("{DAV:}propstat/{DAV:}prop/{x}p7")) == 1 for one in found[1:])
    most = 600_000
    assert max(records.sizes) == max(records.sizes[:3]) < 64 * 32 * KIB
    assert max(records.sizes[3:]) < most, "the size of those before tells how many are read together"
    assert max(map(len, told[3:])) < 1.2 * most
    assert max(unpaid[3:]) < most, "nothing more is read before what was read is paid for"
    assert paid[0] == (1, True), "it is asked before anything is read, when the request can still be refused"
    # Every record was read once and parsed once, and a megabyte in vain: when all of the space were asked for together.
    assert sum(one for one, _ in paid) == 1 + size + MAX_READ_BYTES


@pytest.mark.parametrize("mode", ["allprop", "named", "name"])
async def test_properties_are_told_as_they_were_set(mode):
    directory, records = Directory(3), Counted()
    loop = asyncio.get_running_loop()
    nobody: Any = None
    values = {
        "{x}plain": '<plain xmlns="x">&lt;b&gt; &amp;amp; ü &#252; ]]&gt;</plain>',
        "{x}deep": '<deep xmlns="x" a="&quot;"><D:prop xmlns:D="DAV:"><D:status>HTTP/1.1 200 OK</D:status></D:prop>'
        "</deep>",
        "{y}plain": '<ns0:plain xmlns:ns0="y" xml:lang="de"/>',
        "bare": "<bare>1</bare>",
    }
    changes = [(name, ElementTree.tostring(ElementTree.XML(value)).decode()) for name, value in values.items()]
    session = DavSession(nobody, records, PERSON, loop, ask_right=Rights())
    await asyncio.to_thread(properties.change, session, SPACE, directory.nodes[1].id, changes)
    names = '<x:plain xmlns:x="x"/><x:deep xmlns:x="x"/><y:plain xmlns:y="y"/><bare/><D:getetag/><x:none xmlns:x="x"/>'
    asked = {"allprop": "<D:allprop/>", "name": "<D:propname/>", "named": f"<D:prop>{names}</D:prop>"}[mode]
    session = DavSession(services_of(directory), records, PERSON, loop, ask_right=Rights())
    environ = asking(f'<D:propfind xmlns:D="DAV:">{asked}</D:propfind>'.encode())
    parts = Protocol(session, environ)(environ, lambda *_: None)
    answer = await asyncio.to_thread(lambda: b"".join(part for part in parts if isinstance(part, bytes)))
    told = ElementTree.fromstring(answer).findall("{DAV:}response")[2]
    (good,) = [one for one in told.findall("{DAV:}propstat") if " 200 " in one.findtext("{DAV:}status", "")]
    found = {one.tag: one for one in good.find("{DAV:}prop") or []}
    assert "{DAV:}getetag" in found
    for name, value in values.items():
        if mode == "name":
            assert len(found[name]) == 0
            assert not found[name].text
        else:
            assert ElementTree.canonicalize(ElementTree.tostring(found[name])) == ElementTree.canonicalize(
                ElementTree.tostring(ElementTree.XML(value))
            )
    assert {one for one in found if not one.startswith("{DAV:}")} == set(values)
    assert {one.split("}")[-1] for one in found if one.startswith("{DAV:}x")} == set(), "nothing else is put there"


async def test_copies_of_large_properties_are_made_in_slices():
    records = Slow()
    directory, size = await with_large_properties(200, records)
    session = DavSession(services_of(directory), records, PERSON, asyncio.get_running_loop(), ask_right=Rights())
    pairs = [(node.id, NodeId(new_request_id())) for node in directory.nodes]
    records.sizes.clear()
    await asyncio.to_thread(properties.copy, session, SPACE, pairs)
    assert sum(records.sizes) == size
    assert sorted(records.sizes)[-2] < 600_000
    assert max(records.sizes) < 64 * 32 * KIB
    copied = await records.read(SPACE.id, [f"properties/{target.hex()}" for _, target in pairs])
    assert len(copied) == 200


async def test_who_reads_too_many_properties_waits_alone():
    nothing: Any = None
    own = OwnAddress(public_url="", trusted_networks=[])
    dav = Dav(DavParts(nothing, nothing, nothing, nothing, nothing, own, 1, Pool("bodies", 1), nothing, nothing))
    await dav._pay("mallory", properties.READ_BURST_BYTES, refusable=False)
    waiting = [asyncio.create_task(dav._pay("mallory", 10**9, refusable=True)) for _ in range(_MAX_OWING_REQUESTS)]
    await asyncio.sleep(0)
    with pytest.raises(RateExceeded) as refused:
        await dav._pay("mallory", 1, refusable=True)
    assert refused.value.slow_down_seconds
    begun = asyncio.create_task(dav._pay("mallory", 1, refusable=False))
    async with asyncio.timeout(60):
        await dav._pay("ann", properties.READ_BURST_BYTES, refusable=True)
    assert not begun.done()
    assert not any(one.done() for one in waiting)
    for one in (*waiting, begun):
        one.cancel()
    await asyncio.gather(*waiting, begun, return_exceptions=True)
    assert not dav._owing


async def test_no_part_of_an_answer_is_held_while_the_next_one_is_waited_for():
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    answer = _Answer(send)
    for number in range(4):
        await answer.send(b"%d" % number)
        assert b"".join(sent) == (b"" if number == 0 else b"0123"[: number + 1])
    await answer.end()
    assert b"".join(sent) == b"0123"


class Receiving:
    """The way of a client that goes when the first part of the answer is sent."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.parts = 0

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.parts += message["type"] == "http.response.body"
        self.gone.set()
        await asyncio.sleep(0)


@pytest.mark.parametrize("goes", [True, False])
async def test_a_listing_ends_when_its_client_has_gone(goes):
    directory, client = Directory(12_000), Receiving()
    own = OwnAddress(public_url="", trusted_networks=[])
    nothing: Any = None
    parts = DavParts(
        services_of(directory), nothing, nothing, nothing, Counted(), own, 1, Pool("bodies", 1), ParsingTime(1), nothing
    )
    request = Request({"type": "http", "method": "PROPFIND", "headers": []}, client.receive)
    environ = asking(LIVE) | {"syncline.here": SimpleNamespace(prefix="")}
    async with _left(request) as gone:
        work = Dav(parts)._work(
            Share.alone("ann"), PERSON, environ, _Answer(client.send), gone=gone if goes else lambda: False
        )
        if goes:
            with pytest.raises(ClientGone):
                await work
        else:
            await work
    assert (directory.calls < 6) is goes
    assert (client.parts < 6) is goes
