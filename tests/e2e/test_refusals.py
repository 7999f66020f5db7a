"""A commit that names what was not proven is refused with its own reason, and the tree stays as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest

from stack.demo import DemoDevice
from syncline.model.accounts import Access
from syncline.model.blocks import MIB, BlockRef, Digest, Manifest
from syncline.model.identifiers import ROOT, SpaceId, new_request_id
from syncline.model.tree import Content, CreateNode, NodeKind
from syncline.model.verdicts import SealVerdict, Verdict
from syncline.sdk.session import Session
from syncline.sdk.space import Declaration, Form, PackEntries, Space
from syncline.transfer.objects import S3Objects, open_objects


def sha(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).digest())


BLOCK = b"b" * MIB
PACK = b"0123456789" * 10


class Client:
    """A signed-in device that says what it likes."""

    def __init__(self, device: DemoDevice) -> None:
        self.session = Session.open(device.root / "home")
        self.space = Space(self.session, SpaceId(self.session.account.personal_space))
        self.store: S3Objects = open_objects(self.space, Access.WRITE)

    def seal(self, declaration: Declaration) -> SealVerdict:
        return self.space.seal([declaration])[0]

    def commit(self, content: Content) -> Verdict:
        before = self.space.get_space().head
        mutation = CreateNode(ROOT, "file", NodeKind.FILE, content)
        verdict = self.space.commit([mutation], new_request_id()).results[0].verdict
        if verdict is not Verdict.ACCEPTED:
            assert self.space.get_space().head == before
            assert not list(self.space.list_nodes())
        return verdict


@pytest.fixture
def client(new_device: Callable[..., DemoDevice]) -> Iterator[Client]:
    client = Client(new_device("one"))
    with client.session:
        yield client


def content_of(data: bytes, *refs: BlockRef) -> Content:
    return Content(sha(data), len(data), manifest=Manifest.of(refs))


def block(data: bytes, length: int | None = None) -> BlockRef:
    return BlockRef(sha(data), length or len(data), sha(data), 0)


def test_a_missing_object(client: Client) -> None:
    assert client.commit(content_of(BLOCK, block(BLOCK))) is Verdict.OBJECT_MISSING
    assert client.seal(Declaration(sha(BLOCK), MIB, Form.BLOCK)) is SealVerdict.OBJECT_MISSING


def test_an_object_that_was_not_sealed(client: Client) -> None:
    client.store.put(sha(BLOCK), BLOCK)
    assert client.commit(content_of(BLOCK, block(BLOCK))) is Verdict.OBJECT_NOT_SEALED
    assert client.seal(Declaration(sha(BLOCK), MIB, Form.BLOCK)) is SealVerdict.SEALED
    assert client.commit(content_of(BLOCK, block(BLOCK))) is Verdict.ACCEPTED


def test_a_short_object(client: Client) -> None:
    client.store.put(sha(BLOCK), BLOCK)
    assert client.seal(Declaration(sha(BLOCK), MIB + 1, Form.BLOCK)) is SealVerdict.SIZE_MISMATCH
    client.seal(Declaration(sha(BLOCK), MIB, Form.BLOCK))
    longer = Content(sha(BLOCK), MIB + 1, manifest=Manifest.of([block(BLOCK, MIB + 1)]))
    assert client.commit(longer) is Verdict.BLOCK_OUT_OF_BOUNDS


def test_an_object_of_another_space(client: Client, new_device: Callable[..., DemoDevice]) -> None:
    other = Client(new_device("other"))
    with other.session:
        other.store.put(sha(BLOCK), BLOCK)
        assert other.seal(Declaration(sha(BLOCK), MIB, Form.BLOCK)) is SealVerdict.SEALED
    assert client.seal(Declaration(sha(BLOCK), MIB, Form.BLOCK)) is SealVerdict.OBJECT_MISSING
    assert client.commit(content_of(BLOCK, block(BLOCK))) is Verdict.OBJECT_MISSING


@pytest.mark.parametrize(
    ("digests", "offsets", "lengths", "verdict"),
    [
        ([sha(b"lie"), sha(PACK[10:])], (0, 10), (10, 90), SealVerdict.ENTRY_DIGEST_MISMATCH),
        ([sha(PACK[:10]), sha(PACK[10:])], (0, 10), (10, 91), SealVerdict.ENTRY_OUT_OF_BOUNDS),
        ([sha(PACK[:10]), sha(PACK[5:])], (0, 5), (10, 95), SealVerdict.ENTRIES_OVERLAP),
    ],
)
def test_a_pack_whose_entries_lie(client: Client, digests, offsets, lengths, verdict) -> None:
    client.store.put(sha(PACK), PACK)
    lie = Declaration(sha(PACK), len(PACK), PackEntries(b"".join(digests), offsets, lengths))
    assert client.seal(lie) is verdict
    named = Content(digests[0], lengths[0], manifest=Manifest.of([BlockRef(digests[0], lengths[0], sha(PACK), 0)]))
    assert client.commit(named) is Verdict.OBJECT_NOT_SEALED
    truth = PackEntries(sha(PACK[:10]) + sha(PACK[10:]), (0, 10), (10, 90))
    assert client.seal(Declaration(sha(PACK), len(PACK), truth)) is SealVerdict.SEALED
    if digests[0] != sha(PACK[:10]):
        assert client.commit(named) is Verdict.BLOCK_NOT_IN_PACK
    shifted = Content(sha(PACK[:10]), 10, manifest=Manifest.of([BlockRef(sha(PACK[:10]), 10, sha(PACK), 20)]))
    assert client.commit(shifted) is Verdict.BLOCK_NOT_IN_PACK
    beyond = Content(sha(PACK[:10]), 10, manifest=Manifest.of([BlockRef(sha(PACK[:10]), 10, sha(PACK), 95)]))
    assert client.commit(beyond) is Verdict.BLOCK_OUT_OF_BOUNDS
