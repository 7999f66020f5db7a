"""A link that allows only so many downloads counts these, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from gateway.content.allowance import LEASE_SECONDS, PATIENCE_SECONDS, Allowance, Download, LinkDownload
from gateway.records.ports import NOTHING, Record, RecordMoved
from syncline.model.errors import LinkExhausted
from syncline.model.identifiers import SpaceId
from tests.support.records import InMemoryRecords

SPACE = SpaceId("s" * 26)
CONTENT = LinkDownload(SPACE, "l" * 26, "d" * 64)
OTHER = LinkDownload(SPACE, "l" * 26, "e" * 64)
ARCHIVE = LinkDownload(SPACE, "l" * 26, "archive/root")
SIZE = 1000
LEASE = 2.0
"""Seconds, longer than a busy machine keeps a gateway waiting for its turn, and shorter than a request waits."""


class Link:
    """A link as auth counts it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.counted = 0

    async def count(self) -> bool:
        if not self.most:
            return False
        if self.counted == self.most:
            raise LinkExhausted
        self.counted += 1
        return True


class Yielding(InMemoryRecords):
    """Between reading and writing others get their turn, as they do on a network."""

    @override
    async def read(self, space: SpaceId, names: Sequence[str]) -> Mapping[str, Record]:
        found = await super().read(space, names)
        await asyncio.sleep(0)
        return found


class Contended(Yielding):
    """Others write each record first, for the next writes."""

    moves = 0

    @override
    async def write(
        self, space: SpaceId, name: str, data: bytes, *, over: Record, expires_at: float | None = None
    ) -> None:
        if self.moves:
            self.moves -= 1
            raise RecordMoved
        await super().write(space, name, data, over=over, expires_at=expires_at)


class Visitors:
    """The visitors of one link, at gateways that share their records."""

    def __init__(
        self,
        most: int,
        *,
        gateways: int = 2,
        lease_seconds: float = LEASE_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.records = records = Contended()
        self.link = Link(most)
        self._allowances = [
            Allowance(records, lease_seconds=lease_seconds, patience_seconds=patience_seconds) for _ in range(gateways)
        ]
        self._turn = 0

    async def begin(
        self, place: LinkDownload = CONTENT, *, size: int | None = SIZE, part: int | None = None
    ) -> Download | None:
        self._turn += 1
        allowance = self._allowances[self._turn % len(self._allowances)]
        return await allowance.begin(place, self.link.count, size=size, part=part)

    async def range(self, length: int) -> bool:
        """A request for a part, which gets it."""
        download = await self.begin(part=length)
        assert download is not None
        download.end(length, complete=True)
        await self.settled()
        return download.continued

    async def get(
        self, sent: int, place: LinkDownload = CONTENT, *, size: int | None = SIZE, complete: bool | None = None
    ) -> bool:
        """A request of which so many bytes go out; whether it went on with one that was counted before."""
        download = await self.begin(place, size=size)
        assert download is not None
        download.end(sent, complete=sent == size if complete is None else complete)
        await self.settled()
        return download.continued

    async def settled(self) -> None:
        for allowance in self._allowances:
            await allowance.finished()


async def test_a_link_without_a_limit_counts_nothing() -> None:
    visitors = Visitors(0)
    assert await visitors.begin() is None
    assert await visitors.begin() is None


async def test_whole_downloads_count_each() -> None:
    visitors = Visitors(2)
    assert [await visitors.get(SIZE), await visitors.get(SIZE)] == [False, False]
    with pytest.raises(LinkExhausted):
        await visitors.begin()


async def test_what_broke_off_goes_on_without_counting_again() -> None:
    visitors = Visitors(1)
    assert not await visitors.get(300)
    assert await visitors.get(200)
    assert await visitors.get(500)
    assert visitors.link.counted == 1
    with pytest.raises(LinkExhausted):
        await visitors.begin()


async def test_what_broke_off_may_begin_from_the_beginning() -> None:
    visitors = Visitors(1)
    assert not await visitors.get(300)
    assert await visitors.get(SIZE)
    with pytest.raises(LinkExhausted):
        await visitors.begin()


async def test_nothing_sent_is_nothing_used_up() -> None:
    visitors = Visitors(1)
    for _ in range(3):
        await visitors.get(0)
    assert visitors.link.counted == 1
    assert await visitors.get(SIZE)


async def test_who_breaks_off_shortly_before_the_end_gets_it_twice_at_most() -> None:
    visitors = Visitors(1)
    await visitors.get(SIZE - 1)
    await visitors.get(SIZE - 1)
    with pytest.raises(LinkExhausted):
        await visitors.begin()


async def test_ranges_that_break_off_one_after_the_other_pay_for_two_copies_at_most() -> None:
    visitors = Visitors(1, patience_seconds=0)
    parts = [await visitors.begin(part=SIZE // 10) for _ in range(10)]
    sent = 0
    for part in parts:
        assert part is not None
        part.end(0, complete=False)
        await visitors.settled()
        with contextlib.suppress(LinkExhausted):
            await visitors.get(SIZE)
            sent += SIZE
    assert SIZE <= sent <= 2 * SIZE
    assert visitors.link.counted == 1


_REQUESTS = st.lists(
    st.tuples(st.sampled_from([(SIZE // 10, 0), (SIZE // 3, 0.5), (None, 1), (None, 0.5)]), st.integers(0, 1)),
    min_size=8,
    max_size=30,
)
"""Requests: the length of the range, the portion that is sent, and the number of the earlier ones that end before."""


@given(st.integers(1, 2), _REQUESTS)
@settings(deadline=None)
def test_whatever_breaks_off_no_more_than_two_copies_are_sent_for_a_count(
    most: int, requests: Sequence[tuple[tuple[int | None, float], int]]
) -> None:
    async def story() -> None:
        visitors, sent, under_way = Visitors(most, patience_seconds=0), 0, list[tuple[Download, int]]()
        for (part, portion), ended in requests:
            for _ in range(min(ended, len(under_way))):
                await _end_oldest(under_way, visitors)
            with contextlib.suppress(LinkExhausted):
                download = await visitors.begin(part=part)
                assert download is not None
                amount = int((part or SIZE) * portion)
                sent += amount
                under_way.append((download, amount))
        while under_way:
            await _end_oldest(under_way, visitors)
        assert sent <= 2 * SIZE * visitors.link.counted <= 2 * SIZE * most

    asyncio.run(story())


async def _end_oldest(under_way: list[tuple[Download, int]], visitors: Visitors) -> None:
    download, sent = under_way.pop(0)
    download.end(sent, complete=False)
    await visitors.settled()


async def test_what_is_left_over_is_of_one_content() -> None:
    visitors = Visitors(1)
    await visitors.get(300)
    with pytest.raises(LinkExhausted):
        await visitors.begin(OTHER)
    assert await visitors.get(700)


async def test_of_many_who_go_on_at_once_one_does() -> None:
    visitors = Visitors(1, gateways=8)
    await visitors.get(300)
    outcomes = await asyncio.gather(*(visitors.begin() for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(outcome, Download) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, LinkExhausted) for outcome in outcomes) == 7


async def test_who_comes_again_at_once_waits_until_the_first_connection_is_known_to_be_broken() -> None:
    visitors = Visitors(1)
    first = await visitors.begin()
    assert first is not None
    again = asyncio.create_task(visitors.begin())
    await asyncio.sleep(0)
    first.end(300, complete=False)
    second = await again
    assert second is not None
    assert second.continued


async def test_downloads_at_the_same_time_count_each_and_what_they_leave_adds_up() -> None:
    visitors = Visitors(2)
    one, two = await visitors.begin(), await visitors.begin()
    assert one is not None
    assert two is not None
    assert (one.continued, two.continued) == (False, False)
    one.end(400, complete=False)
    two.end(400, complete=False)
    await visitors.settled()
    assert await visitors.get(SIZE)
    assert await visitors.get(200)
    with pytest.raises(LinkExhausted):
        await visitors.begin()


async def test_an_archive_that_broke_off_is_begun_once_more() -> None:
    visitors = Visitors(1)
    assert not await visitors.get(5000, ARCHIVE, size=None, complete=False)
    assert await visitors.get(5000, ARCHIVE, size=None, complete=False)
    with pytest.raises(LinkExhausted):
        await visitors.begin(ARCHIVE, size=None)
    complete = Visitors(1)
    assert not await complete.get(9000, ARCHIVE, size=None, complete=True)
    with pytest.raises(LinkExhausted):
        await complete.begin(ARCHIVE, size=None)


async def test_a_download_in_several_ranges_is_one() -> None:
    visitors = Visitors(1)
    assert [await visitors.range(length) for length in (1, 299, 700)] == [False, True, True]
    with pytest.raises(LinkExhausted):
        await visitors.begin(part=1)


async def test_ranges_at_the_same_time_are_one_download() -> None:
    visitors = Visitors(1, gateways=4)
    first = await visitors.begin(part=SIZE // 8)
    others = await asyncio.gather(*(visitors.begin(part=SIZE // 8) for _ in range(7)))
    assert visitors.link.counted == 1
    with pytest.raises(LinkExhausted):
        await visitors.begin(part=1)
    for download in (first, *others):
        assert download is not None
        download.end(SIZE // 8, complete=True)
    await visitors.settled()
    with pytest.raises(LinkExhausted):
        await visitors.begin()


async def test_many_at_once_never_exceed_the_maximum() -> None:
    visitors = Visitors(5, gateways=8)
    outcomes = await asyncio.gather(*(visitors.begin() for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(outcome, Download) for outcome in outcomes) == 5
    for outcome in outcomes:
        if isinstance(outcome, Download):
            outcome.end(SIZE, complete=True)
        else:
            assert isinstance(outcome, LinkExhausted)
    await visitors.settled()
    with pytest.raises(LinkExhausted):
        await visitors.begin()


async def until(visitors: Visitors, *, part: int | None = None) -> Download:
    """Return the download of a visitor who comes again and again."""
    async with asyncio.timeout(60):
        while True:
            try:
                download = await visitors.begin(part=part)
            except LinkExhausted:
                continue
            assert download is not None
            return download


async def test_what_a_killed_gateway_had_taken_is_there_again() -> None:
    visitors = Visitors(1, lease_seconds=LEASE)
    killed = await visitors.begin()
    assert killed is not None
    killed.spend(300)
    del killed  # nobody has it any more, and nothing was put back
    download = await until(visitors)
    assert download.continued
    assert visitors.link.counted == 1
    assert download.taken.left in {SIZE, SIZE - 300}
    download.end(SIZE, complete=True)
    await visitors.settled()
    with pytest.raises(LinkExhausted):
        await visitors.begin()


async def test_a_slow_download_keeps_what_it_has_taken() -> None:
    visitors = Visitors(1, lease_seconds=LEASE)
    slow = await visitors.begin()
    assert slow is not None
    slow.spend(SIZE // 2)
    with pytest.raises(LinkExhausted):  # after a patience that is longer than two leases
        await visitors.begin()
    slow.end(SIZE, complete=True)
    await visitors.settled()
    with pytest.raises(LinkExhausted):
        await visitors.begin()


async def test_who_comes_back_after_the_lease_was_given_away_puts_nothing_back() -> None:
    """A gateway that hung gets no second credit for one count."""
    visitors = Visitors(1, lease_seconds=LEASE)
    hung = await visitors.begin()
    assert hung is not None
    assert hung.renewing is not None
    hung.renewing.cancel()
    download = await until(visitors)
    hung.end(0, complete=False)
    await visitors.settled()
    with pytest.raises(LinkExhausted):
        await visitors.begin(part=1)
    download.end(SIZE, complete=True)


async def test_who_has_everything_leaves_nothing_however_many_write_at_once() -> None:
    visitors = Visitors(1, patience_seconds=LEASE)
    download = await visitors.begin()
    assert download is not None
    visitors.records.moves = 25
    download.end(SIZE, complete=True)
    await visitors.settled()
    assert not visitors.records.moves
    assert not await visitors.records.read_all(SPACE, "")


async def test_an_archive_of_a_killed_gateway_is_begun_again() -> None:
    visitors = Visitors(1, lease_seconds=LEASE)
    assert await visitors.begin(ARCHIVE, size=None) is not None
    async with asyncio.timeout(60):
        while True:
            try:
                assert (await visitors.begin(ARCHIVE, size=None)) is not None
                break
            except LinkExhausted:
                continue
    assert visitors.link.counted == 1


async def test_what_earlier_versions_wrote_is_understood() -> None:
    records = InMemoryRecords()
    await records.write(SPACE, CONTENT.record, b"700", over=NOTHING)
    allowance, link = Allowance(records), Link(0)
    link.most = 1
    download = await allowance.begin(CONTENT, link.count, size=SIZE)
    assert download is not None
    assert (download.continued, download.taken.left, link.counted) == (True, 700, 0)
    download.end(700, complete=True)
    await allowance.finished()
