"""Every journal owes this."""

import asyncio
import secrets

import pytest

from services.metadata.ports import MAX_READ_BACK_BYTES, EntryTaken
from syncline.model.identifiers import SpaceId, new_text_id
from tests.contract.metadata.conftest import everywhere, where_concurrent

LARGEST = 390_000


@everywhere
async def test_a_new_space_has_no_entries(journal, space):
    assert list(await journal.read(space, 0, 1)) == []
    assert list(await journal.read(space, 0, 32)) == []
    assert list(await journal.read(space, 7, 32)) == []


@everywhere
async def test_entries_are_read_in_order_after_a_number(journal, space):
    written = [(seq, b"entry %d" % seq) for seq in range(1, 13)]
    for seq, blob in written:
        await journal.append(space, seq, blob)
    assert list(await journal.read(space, 0, 32)) == written
    assert list(await journal.read(space, 8, 32)) == written[8:]
    assert list(await journal.read(space, 8, 3)) == written[8:11]
    assert list(await journal.read(space, 11, 1)) == written[11:]
    assert list(await journal.read(space, 12, 1)) == []
    assert list(await journal.read(space, 12, 32)) == []
    assert list(await journal.read(space, 0, 0)) == []


@everywhere
async def test_a_taken_number_tells_what_has_it(journal, space):
    await journal.append(space, 1, b"first")
    with pytest.raises(EntryTaken) as taken:
        await journal.append(space, 1, b"second")
    assert taken.value.blob == b"first"
    assert list(await journal.read(space, 0, 32)) == [(1, b"first")]


@everywhere
async def test_spaces_have_journals_of_their_own(journal, space):
    other = SpaceId(new_text_id())
    await journal.append(space, 1, b"ours")
    await journal.append(other, 1, b"theirs")
    assert list(await journal.read(other, 0, 32)) == [(1, b"theirs")]


@everywhere
async def test_the_largest_entries_are_read_back_over_many_pages(journal, space):
    written = [(seq, secrets.token_bytes(LARGEST)) for seq in range(1, 9)]
    for seq, blob in written:
        await journal.append(space, seq, blob)
    assert list(await journal.read(space, 0, 32)) == written
    assert list(await journal.read(space, 1, 4)) == written[1:5]
    with pytest.raises(EntryTaken) as taken:
        await journal.append(space, 8, b"late")
    assert taken.value.blob == written[7][1]


@everywhere
async def test_entries_are_read_backwards_before_a_number(journal, space):
    assert list(await journal.before(space, 1 << 63, 32)) == []
    written = [(seq, b"entry %d" % seq) for seq in range(1, 13)]
    for seq, blob in written:
        await journal.append(space, seq, blob)
    await journal.append(SpaceId(new_text_id()), 1, b"theirs")
    newest_first = written[::-1]
    assert list(await journal.before(space, 1 << 63, 32)) == newest_first
    assert list(await journal.before(space, 13, 32)) == newest_first
    assert list(await journal.before(space, 12, 32)) == newest_first[1:]
    assert list(await journal.before(space, 12, 3)) == newest_first[1:4]
    assert list(await journal.before(space, 2, 5)) == written[:1]
    assert list(await journal.before(space, 12, 1)) == newest_first[1:2]
    assert list(await journal.before(space, 1, 32)) == []
    assert list(await journal.before(space, 0, 32)) == []
    assert list(await journal.before(space, 12, 0)) == []


@everywhere
async def test_few_of_the_largest_entries_are_read_backwards_at_once(journal, space):
    written = [(seq, secrets.token_bytes(LARGEST)) for seq in range(1, 9)]
    for seq, blob in written:
        await journal.append(space, seq, blob)
    found: list[tuple[int, bytes]] = []
    while page := await journal.before(space, found[-1][0] if found else 9, 32):
        assert sum(len(blob) for _, blob in page[:-1]) < MAX_READ_BACK_BYTES
        found += page
    assert found == written[::-1]
    assert len(await journal.before(space, 9, 2)) == 2


@where_concurrent
async def test_of_many_processes_that_append_the_same_number_one_wins(open_stores, space):
    journals = [(await open_stores()).journal for _ in range(6)]
    for seq in range(1, 6):
        blobs = [secrets.token_bytes(1000) for _ in journals]
        outcomes = await asyncio.gather(
            *(journal.append(space, seq, blob) for journal, blob in zip(journals, blobs, strict=True)),
            return_exceptions=True,
        )
        winners = [blob for blob, outcome in zip(blobs, outcomes, strict=True) if outcome is None]
        assert len(winners) == 1
        assert [o.blob for o in outcomes if isinstance(o, EntryTaken)] == winners * (len(journals) - 1)
        for journal in journals:
            assert list(await journal.read(space, seq - 1, 1)) == [(seq, winners[0])]
