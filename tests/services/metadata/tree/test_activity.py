"""Members see the changes of a space newest first, in pages, whether or not the table holds them."""

from __future__ import annotations

import struct

import pytest

from services.metadata.ports import Sealed
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.accounts import Role
from syncline.model.blocks import MIN_MEAN_BLOCK_BYTES, Digest
from syncline.model.identifiers import ROOT, new_request_id
from syncline.wire.pages import page_token_to_wire
from tests.services.metadata.support import (
    EMPTY_DIGEST,
    UNPROJECTED_SECONDS,
    Caller,
    Service,
    creating,
    projected,
    reason_of,
    service,
)

J, M = journal_pb2, metadata_pb2


def listing(caller: Caller, *, size: int = 0, token: str = ""):
    return caller.stub.ListActivity(M.ListActivityRequest(space_id=caller.space, page_size=size, page_token=token))


async def all_pages(caller: Caller, *, size: int = 0) -> list[list[M.Activity]]:
    pages, token = [], ""
    while True:
        answer = await listing(caller, size=size, token=token)
        pages.append(list(answer.activities))
        if not (token := answer.next_page_token):
            return pages


async def journal_backwards(caller: Caller) -> list[tuple[int, J.Node]]:
    """Return the journal's changes, by the rpc that streams it."""
    stream = caller.stub.ListChanges(M.ListChangesRequest(space_id=caller.space))
    return [(node.seq, node) async for page in stream for node in page.nodes][::-1]


async def test_each_change_says_what_was_done_to_which_node_by_whom(metadata: Service, editor: Caller) -> None:
    docs = await editor.create("docs")
    file = await editor.create("a.txt")
    async with metadata.caller(space=editor.space) as other:
        content = J.Content(digest=EMPTY_DIGEST, mtime_ns=7)
        await other.commit(
            M.Mutation(update=M.UpdateContent(node=file.id, base_version=1, content=content)),
            creating("docs"),  # refused, and so nothing that happened
            M.Mutation(move=M.MoveNode(node=docs.id, from_parent=ROOT, from_name="docs", parent=ROOT, name="papers")),
        )
        move = M.MoveNode(node=file.id, from_parent=ROOT, from_name="a.txt", parent=docs.id, name="b.txt")
        await other.commit(M.Mutation(move=move))
        await other.commit(M.Mutation(delete=M.DeleteNode(node=docs.id)))
    restored = M.RestoreNodeRequest(space_id=editor.space, request_id=new_request_id(), node=docs.id)
    await editor.stub.RestoreNode(restored)

    activities = list((await listing(editor)).activities)
    told = [(one.seq, one.change, one.node.name, one.from_name, one.from_parent) for one in activities]
    assert told == [
        (6, J.CHANGE_RESTORED, "papers", "", b""),
        (5, J.CHANGE_DELETED, "papers", "", b""),
        (4, J.CHANGE_MOVED, "b.txt", "a.txt", ROOT),
        (3, J.CHANGE_MOVED, "papers", "docs", ROOT),
        (3, J.CHANGE_UPDATED, "a.txt", "", b""),
        (2, J.CHANGE_CREATED, "a.txt", "", b""),
        (1, J.CHANGE_CREATED, "docs", "", b""),
    ]
    assert [one.user_id for one in activities] == [editor.user, *[other.user] * 4, *[editor.user] * 2]
    assert [one.device_id for one in activities] == [editor.device, *[other.device] * 4, *[editor.device] * 2]
    times = [one.committed_at_ms for one in activities]
    assert times == sorted(times, reverse=True)
    assert times[-1] == docs.committed_at_ms > 0
    # The states are whole: also who made the version that another one moved.
    assert [(one.seq, one.node) for one in activities] == await journal_backwards(editor)
    moved_by_other = {one.node.name: one.node.user_id for one in activities if one.change == J.CHANGE_MOVED}
    assert moved_by_other == {"papers": editor.user, "b.txt": other.user}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_pages_of_any_size_hold_every_change_once(editor: Caller, size: int) -> None:
    for entry, changes in enumerate((1, 5, 1, 14, 2)):
        await editor.commit(*(creating(f"{entry} {change}") for change in range(changes)), creating("0 0"))
    pages = await all_pages(editor, size=size)
    assert [(one.seq, one.node) for page in pages for one in page] == await journal_backwards(editor)
    assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)
    assert 0 < len(pages[-1]) <= size
    assert sum(map(len, pages)) == 23


async def test_pages_end_within_an_entry_of_thousands(editor: Caller) -> None:
    await editor.create("first")
    names = [f"{number:04}" for number in range(2000)]
    await editor.commit(*(creating(name) for name in names))
    await editor.create("last")
    pages = await all_pages(editor, size=999)
    assert [len(page) for page in pages] == [999, 999, 4]
    assert [one.node.name for page in pages for one in page] == ["last", *reversed(names), "first"]
    assert len((await listing(editor)).activities) == 100
    assert len((await listing(editor, size=5000)).activities) == 1000


async def test_what_happens_meanwhile_does_not_disturb_the_pages(editor: Caller) -> None:
    await editor.commit(*(creating(f"{change}") for change in range(5)))
    first = await listing(editor, size=2)
    await editor.create("meanwhile")
    second = await listing(editor, size=10, token=first.next_page_token)
    assert [one.node.name for one in [*first.activities, *second.activities]] == ["4", "3", "2", "1", "0"]
    assert not second.next_page_token


async def test_what_the_table_does_not_hold_yet_is_told() -> None:
    async with service(coalesce_seconds=UNPROJECTED_SECONDS) as metadata, metadata.caller() as editor:
        for name in ("a", "b", "c"):
            await editor.create(name)
        assert not metadata.backend.table.nodes
        assert [one.node.name for page in await all_pages(editor, size=2) for one in page] == ["c", "b", "a"]
        async with service(metadata.backend) as other, other.caller(Role.VIEWER, space=editor.space) as viewer:
            assert [one.node.name for page in await all_pages(viewer, size=1) for one in page] == ["c", "b", "a"]


async def test_a_page_of_large_manifests_ends_before_it_is_too_large(metadata: Service, editor: Caller) -> None:
    blocks = 960
    metadata.backend.objects.index[editor.space, Digest(EMPTY_DIGEST)] = Sealed(MIN_MEAN_BLOCK_BYTES)
    manifest = J.Manifest(blocks=EMPTY_DIGEST * blocks, lengths=[MIN_MEAN_BLOCK_BYTES] * blocks)
    content = J.Content(digest=bytes(32), size=blocks * MIN_MEAN_BLOCK_BYTES, manifest=manifest)
    for entry in range(7):
        films = [
            M.CreateNode(parent=ROOT, name=f"{entry} {n}", kind=J.NODE_KIND_FILE, content=content) for n in range(8)
        ]
        answer = await editor.commit(*(M.Mutation(create=film) for film in films))
        assert {one.verdict for one in answer.results} == {J.VERDICT_ACCEPTED}
    pages = await all_pages(editor, size=1000)
    assert [(one.seq, one.node) for page in pages for one in page] == await journal_backwards(editor)
    assert len(pages) == 2
    assert all(sum(one.ByteSize() for one in page) <= 1_000_000 for page in pages)


async def test_more_discarded_changes_than_a_page_reads_leave_it_empty_and_the_listing_goes_on(editor: Caller) -> None:
    await editor.create("first")
    created = []
    for entry in range(5):
        answer = await editor.commit(*(creating(f"{entry} {number:04}.".ljust(240, "x")) for number in range(800)))
        created.append([result.node.id for result in answer.results])
    for ids in created:
        answer = await editor.commit(
            *(M.Mutation(delete=M.DeleteNode(node=node, base_version=1, discard=True)) for node in ids)
        )
        assert {one.verdict for one in answer.results} == {J.VERDICT_ACCEPTED}
    first, *others = await all_pages(editor, size=1000)
    assert not first
    assert [one.node.name.partition(".")[0] for page in others for one in page] == [
        *(f"{entry} {number:04}" for entry in reversed(range(5)) for number in reversed(range(800))),
        "first",
    ]


async def test_a_space_without_changes_has_no_activity(editor: Caller) -> None:
    assert await listing(editor) == M.ListActivityResponse()


async def test_members_see_it_and_nobody_else(metadata: Service, editor: Caller) -> None:
    await editor.create("docs")
    async with metadata.caller(Role.VIEWER, space=editor.space) as viewer:
        assert len((await listing(viewer)).activities) == 1
    async with metadata.caller(None, space=editor.space) as stranger:
        assert await reason_of(listing(stranger)) == "NO_SUCH_SPACE"
    async with metadata.caller() as elsewhere:
        assert not (await listing(elsewhere)).activities


async def test_hostile_tokens_are_refused(metadata: Service, editor: Caller) -> None:
    await editor.commit(creating("a"), creating("b"), creating("b"))
    await projected(metadata.backend, editor.space)
    token = (await listing(editor, size=1)).next_page_token
    listed = await editor.stub.ListNodes(M.ListNodesRequest(space_id=editor.space, parent=ROOT, page_size=1))

    def forge(last: bytes) -> str:
        return page_token_to_wire(last, listing=f"activity {editor.space}")

    assert forge(struct.pack(">QI", 1, 1)) == token
    forged = [forge(struct.pack(">QI", *place)) for place in ((0, 0), (0, 1), (1, 2), (1, 2**32 - 1))]
    forged += [forge(struct.pack(">QI", seq, 0)) for seq in (2, 2**63 - 1, 2**63, 2**64 - 1)]
    forged += [forge(b""), forge(bytes(13)), listed.next_page_token]
    for hostile in ("x", "AAAA", "\u00e4", "!" * 50, token[:-1], token + "A", *forged):
        assert await reason_of(listing(editor, token=hostile)) == "INVALID_PAGE_TOKEN", hostile
    assert [one.node.name for one in (await listing(editor, token=token)).activities] == ["a"]
    async with metadata.caller() as elsewhere:
        assert await reason_of(listing(elsewhere, token=token)) == "INVALID_PAGE_TOKEN"
    assert await reason_of(editor.stub.ListActivity(M.ListActivityRequest(space_id="x"))) == "INVALID_ARGUMENT"
