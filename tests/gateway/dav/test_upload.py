"""Uploads are cut as devices cut, hold bounded memory, and name only what is stored."""

import asyncio
import hashlib

import pytest

from gateway.dav.bodies import Incoming
from gateway.dav.upload import MEMORY_BYTES, memory_of, upload
from runtime.interruption import ClientGone, Interruption
from syncline.metadata.v1 import journal_pb2
from syncline.model.blocks import EMPTY_MANIFEST, KIB, MAX_BLOCK_BYTES, MIB, Manifest
from syncline.model.chunking import Chunker
from syncline.wire.tree import manifest_from_wire
from tests.clients.transfer.fakes import noise


class Stored:
    """Objects in memory, which are stored when the test lets them."""

    def __init__(self):
        self.objects = {}
        self.manifests = {}
        self.held = self.most = 0
        self.go = asyncio.Event()
        self.go.set()
        self.broken = False

    async def store(self, blocks, *, manifest=False):
        size = sum(len(block.data) for block in blocks)
        self.held += size
        self.most = max(self.most, self.held)
        try:
            await self.go.wait()
            if self.broken:
                raise ConnectionError
        finally:
            self.held -= size
        (self.manifests if manifest else self.objects).update({block.digest: block.data for block in blocks})


def source(data):
    rest = memoryview(data)

    def read_into(buffer):
        nonlocal rest
        count = min(len(buffer), len(rest), 100_000)
        buffer[:count] = rest[:count]
        rest = rest[count:]
        return count

    return read_into


async def never() -> None:
    raise AssertionError("nothing more is needed")


def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def body(data, *, first=1 << 40, more=never):
    """A body that comes in messages."""
    rest = memoryview(data)

    async def receive():
        nonlocal rest
        part, rest = rest[:100_000], rest[100_000:]
        return {"type": "http.request", "body": bytes(part), "more_body": bool(rest)}

    return Incoming(receive, Interruption(), first=first, more=more)


async def done(uploading):
    """Return what an upload gives, of which no thread waits for the event loop."""
    while True:
        try:
            step = await asyncio.to_thread(_next, uploading)
        except _Done as result:
            return result.args[0]
        await step()


class _Done(Exception):
    pass


def _next(uploading):
    try:
        return next(uploading)
    except StopIteration as end:
        raise _Done(end.value) from None


async def sent(data, storage, **more):
    seen = hashlib.sha256()
    stored = await done(upload(body(data), seen.update, storage, asyncio.get_running_loop(), **more))
    assert seen.digest() == stored.digest
    return stored


def parts(manifest: Manifest, objects):
    return b"".join(objects[ref.object][ref.offset : ref.offset + ref.length] for ref in manifest.refs())


@pytest.mark.parametrize("size", [0, 1, 600_000, 21 * MIB + 3])
async def test_a_content_is_what_was_sent_cut_as_by_a_device(size):
    data, storage = noise(size, 1), Stored()
    stored = await sent(data, storage)
    assert (stored.digest, stored.size) == (hashlib.sha256(data).digest(), size)
    stored.manifest.check()
    assert parts(stored.manifest, storage.objects) == data
    blocks = list(Chunker().cut(source(data)))
    assert [ref.digest for ref in stored.manifest.refs()] == [block.digest for block in blocks]


async def test_what_comes_twice_is_stored_once():
    storage = Stored()
    stored = await sent(bytes(3 * MAX_BLOCK_BYTES), storage)
    assert len(stored.manifest) == 3
    assert len(storage.objects) == 1


async def test_a_long_manifest_lies_apart():
    data, storage = noise(12 * MIB, 2), Stored()
    stored = await sent(data, storage, inline=2)
    assert stored.manifest == EMPTY_MANIFEST
    manifest = manifest_from_wire(journal_pb2.Manifest.FromString(storage.manifests[stored.manifest_object]))
    assert parts(manifest, storage.objects) == data


async def test_it_waits_for_storage_and_holds_no_more_than_it_said():
    storage = Stored()
    storage.go.clear()
    uploading = asyncio.create_task(sent(noise(40 * MIB, 3), storage))
    async with asyncio.timeout(60):
        while storage.held < 8 * MIB:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert not uploading.done()
    storage.go.set()
    await uploading
    # Beside what is being stored: the window of the chunker, and what is cut from it.
    assert storage.most + 2 * MAX_BLOCK_BYTES <= MEMORY_BYTES
    assert memory_of(None) == memory_of(1 << 40) == MEMORY_BYTES
    assert memory_of(1000) < MIB


async def test_what_goes_wrong_comes_through():
    storage = Stored()
    storage.broken = True
    with pytest.raises(ConnectionError):
        await sent(noise(9 * MIB, 4), storage)

    async def gone():
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await done(
            upload(Incoming(gone, Interruption(), first=1, more=never), hashlib.sha256().update, Stored(), loop())
        )


async def test_a_body_ends_only_where_its_end_was_said():
    messages = [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": True},
        {"type": "http.request", "body": b"c", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return messages.pop(0)

    cut = Chunker().begin()
    with pytest.raises(ClientGone):
        await Incoming(receive, Interruption(), first=10, more=never).fill(cut)
    assert (bytes(cut.held), cut.ended) == (b"abc", False)


async def test_a_body_asks_for_more_memory_once_it_is_more_than_a_little():
    asked = []

    async def more():
        asked.append(len(cut.held))

    cut = Chunker().begin()
    await body(bytes(100_000), first=128 * KIB, more=more).fill(cut)
    assert (asked, len(cut.held), cut.ended) == ([], 100_000, True)
    cut = Chunker().begin()
    await body(bytes(500_000), first=128 * KIB, more=more).fill(cut)
    assert (asked, len(cut.held), cut.ended) == ([100_000], 500_000, True)
