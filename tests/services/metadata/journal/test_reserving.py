"""Before versions take bytes, the bytes are reserved; a commit asks for a quota only when it has to."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from services.metadata.ports import Sealed
from services.metadata.reserving import ReservedBytes
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.blocks import Digest
from syncline.model.identifiers import ROOT, SpaceId
from tests.services.metadata.support import Backend, Caller, creating, service
from tests.support.metadata import FixedQuotas

ACCEPTED, FULL = journal_pb2.VERDICT_ACCEPTED, journal_pb2.VERDICT_QUOTA_EXCEEDED
QUOTA = 10_000
SIZES = (1, 5, 6, 9, 10, 2_000, 5_000, QUOTA)
"""The sizes of objects that are sealed."""


class Shrinking(FixedQuotas):
    """Quotas of which other spaces of the owner take `taken` bytes just before something is reserved."""

    taken = 0
    meanwhile: Callable[[], Awaitable[None]] | None = None
    """Awaited once, while something is being reserved."""

    async def reserve(self, space: SpaceId, *, used_bytes: int, wanted_bytes: int) -> ReservedBytes:
        if wanted_bytes and self.taken:
            self.quota_bytes -= self.taken
            self.taken = 0
        if wanted_bytes and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return await super().reserve(space, used_bytes=used_bytes, wanted_bytes=wanted_bytes)


@pytest.fixture
def quotas() -> Shrinking:
    return Shrinking(QUOTA)


@pytest.fixture
def backend(quotas: Shrinking) -> Backend:
    return Backend(quotas=quotas)


@pytest.fixture
async def editor(backend: Backend) -> AsyncIterator[Caller]:
    async with service(backend) as metadata, metadata.caller() as editor:
        for size in SIZES:
            backend.objects.index[editor.space, digest_of(size)] = Sealed(size)
        yield editor


def digest_of(size: int) -> Digest:
    """The name of the sealed object of this size."""
    return Digest(hashlib.sha256(f"{size}".encode()).digest())


def file(name: str, size: int) -> metadata_pb2.Mutation:
    """The creation of a file of this size."""
    manifest = journal_pb2.Manifest(blocks=digest_of(size), lengths=[size])
    content = journal_pb2.Content(digest=digest_of(size), size=size, manifest=manifest)
    create = metadata_pb2.CreateNode(parent=ROOT, name=name, kind=journal_pb2.NODE_KIND_FILE, content=content)
    return metadata_pb2.Mutation(create=create)


async def verdicts(editor: Caller, *mutations: metadata_pb2.Mutation) -> list[int]:
    return [result.verdict for result in (await editor.commit(*mutations)).results]


async def used(editor: Caller) -> int:
    return (await editor.stub.GetSpace(metadata_pb2.GetSpaceRequest(space_id=editor.space))).used_bytes


async def test_bytes_are_reserved_before_versions_take_them(editor: Caller, quotas: Shrinking) -> None:
    assert await verdicts(editor, file("a.txt", 5), file("b.txt", 6)) == [ACCEPTED, ACCEPTED]
    assert quotas.reserved[editor.space] >= 11
    asked = quotas.asked
    assert await verdicts(editor, file("c.txt", QUOTA // 1024)) == [ACCEPTED]
    assert quotas.asked == asked, "so much was reserved ahead"
    assert await verdicts(editor, file("d.txt", 5_000)) == [ACCEPTED]
    assert quotas.reserved[editor.space] >= await used(editor) == 5_020
    assert quotas.asked == asked + 1


async def test_changes_that_take_no_bytes_ask_for_nothing(editor: Caller, quotas: Shrinking) -> None:
    await editor.create("docs")
    asked = quotas.asked
    assert await verdicts(editor, creating("more"), creating("empty.txt")) == [ACCEPTED, ACCEPTED]
    assert quotas.asked == asked
    assert quotas.reserved[editor.space] == 0


async def test_a_larger_quota_takes_effect_at_once(editor: Caller, quotas: Shrinking) -> None:
    assert await verdicts(editor, file("a.txt", QUOTA), file("b.txt", 1)) == [ACCEPTED, FULL]
    assert await verdicts(editor, file("b.txt", 1)) == [FULL]
    quotas.quota_bytes = QUOTA + 1
    assert await verdicts(editor, file("b.txt", 1), file("c.txt", 1)) == [ACCEPTED, FULL]


async def test_what_others_have_taken_meanwhile_is_decided_anew(editor: Caller, quotas: Shrinking) -> None:
    assert await verdicts(editor, file("a.txt", 10)) == [ACCEPTED]
    quotas.taken = QUOTA - 3_000
    assert await verdicts(editor, file("b.txt", 5_000), file("c.txt", 2_000)) == [FULL, ACCEPTED]
    assert await used(editor) == 2_010 <= quotas.reserved[editor.space] <= 3_000


async def test_a_change_that_is_seen_while_bytes_are_reserved_is_decided_on(
    editor: Caller, backend: Backend, quotas: Shrinking
) -> None:
    """Another process makes a file of the same name, and this process learns of it, while bytes are reserved."""
    async with service(backend) as other, other.caller(space=editor.space) as elsewhere:

        async def meanwhile() -> None:
            assert await verdicts(elsewhere, file("a.txt", 5)) == [ACCEPTED]
            assert await used(editor) == 5

        quotas.meanwhile = meanwhile
        answer = await editor.commit(file("a.txt", 2_000), file("b.txt", 2_000))
        assert [result.verdict for result in answer.results] == [journal_pb2.VERDICT_NAME_TAKEN, ACCEPTED]
        assert (answer.seq, await used(editor), await used(elsewhere)) == (2, 2_005, 2_005)
