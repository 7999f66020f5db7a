"""PROPFIND of large directories: what it asks of others, which is what it takes its time for."""

import asyncio
import hashlib
import io
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from starlette.requests import Request

from gateway.dav import properties
from gateway.dav.app import Dav, _Answer, _left
from gateway.dav.behind import Behind
from gateway.dav.bodies import ClientGone
from gateway.dav.protocol import Protocol
from gateway.dav.session import DavSession, DavSpace, Person
from gateway.http.parsing import ParsingTime
from gateway.identity.address import OwnAddress
from gateway.identity.caller import Caller
from gateway.records.ports import MAX_READ_BYTES
from runtime.pool import Pool, Share
from syncline.metadata.v1 import metadata_pb2
from syncline.model.blocks import BlockRef, Digest, Manifest
from syncline.model.identifiers import ROOT, DeviceId, NodeId, SpaceId, UserId, new_request_id
from syncline.model.tree import Content, Node, NodeKind
from syncline.wire.tree import node_to_wire
from tests.support.records import InMemoryRecords

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


PERSON = Person(UserId("ann"), DeviceId("device"), Caller("token"), {SPACE.name: SPACE})


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
    """What a PROPFIND with Depth: 1 says of each file: the texts of properties by name."""
    session = DavSession(services_of(directory), records, PERSON, asyncio.get_running_loop())
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
    person = Person(UserId("ann"), DeviceId("device"), Caller("token"), {SPACE.name: SPACE})
    nobody: Any = None
    tagged = {3: "three", 700: "seven hundred", 11_999: "last"}
    for index, text in tagged.items():
        session = DavSession(nobody, records, person, loop)
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
    person = Person(UserId("ann"), DeviceId("device"), Caller("token"), {SPACE.name: SPACE})
    nobody: Any = None
    text = "x" * 30_000
    tagged = directory.nodes[:: 500 // (MAX_READ_BYTES // 30_000 + 2)]
    for node in tagged:
        session = DavSession(nobody, records, person, loop)
        changes = [("{x}tag", f'<tag xmlns="x">{text}</tag>')]
        await asyncio.to_thread(properties.change, session, SPACE, node.id, changes)
    records.calls = 0
    found = await listed(directory, records, TAGS)
    assert {name for name, told in found.items() if told.get("{x}tag") == text} == {node.name for node in tagged}
    assert records.calls <= 6


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
    behind = Behind(
        services_of(directory), nothing, nothing, nothing, Counted(), own, 1, Pool("bodies", 1), ParsingTime(1)
    )
    request = Request({"type": "http", "method": "PROPFIND", "headers": []}, client.receive)
    environ = asking(LIVE) | {"syncline.here": SimpleNamespace(prefix="")}
    async with _left(request) as gone:
        work = Dav(behind)._work(
            Share.alone("ann"), PERSON, environ, _Answer(client.send), gone=gone if goes else lambda: False
        )
        if goes:
            with pytest.raises(ClientGone):
                await work
        else:
            await work
    assert (directory.calls < 6) is goes
    assert (client.parts < 6) is goes
