"""Every adapter of Records does this."""

import asyncio
import time

import pytest

from gateway.records.dynamodb import DynamoRecords
from gateway.records.ports import MAX_RECORD_BYTES, NOTHING, Record, RecordMoved
from syncline.model.identifiers import SpaceId, new_text_id


@pytest.fixture
def space():
    return SpaceId(new_text_id())


async def test_what_was_written_is_read_by_every_process(open_records, space):
    one, other = open_records(), open_records()
    assert await one.read(space, ["locks"]) == {}
    await one.write(space, "locks", b"a", over=NOTHING)
    read = await other.read(space, ["locks"])
    assert read["locks"].data == b"a"
    await other.write(space, "locks", b"b", over=read["locks"], expires_at=time.time() + 60)
    assert (await one.read(space, ["locks"]))["locks"].data == b"b"
    assert await one.read(SpaceId(new_text_id()), ["locks"]) == {}


async def test_all_of_a_kind_are_read_together(records, space):
    assert await records.read_all(space, "properties/") == {}
    written = {f"properties/{index:032x}": b"%d" % index for index in range(30)}
    for name, data in (written | {"locks": b"l", "properties": b"p", "property": b"q"}).items():
        await records.write(space, name, data, over=NOTHING)
    await records.write(SpaceId(new_text_id()), "properties/0", b"another space's", over=NOTHING)
    read = await records.read_all(space, "properties/")
    assert {name: record.data for name, record in read.items()} == written
    first = f"properties/{0:032x}"
    assert read[first] == (await records.read(space, [first]))[first]


async def test_more_than_fits_is_not_read_together(records, space):
    for index in range(4):
        await records.write(space, f"properties/{index}", bytes([index]) * 200_000, over=NOTHING)
    assert len(await records.read_all(space, "properties/")) == 4
    for index in (4, 5):
        await records.write(space, f"properties/{index}", bytes(200_000), over=NOTHING)
    assert await records.read_all(space, "properties/") is None


async def test_nothing_is_written_over_what_was_not_read(records, space):
    await records.write(space, "locks", b"a", over=NOTHING)
    first = (await records.read(space, ["locks"]))["locks"]
    await records.write(space, "locks", b"b", over=first)
    for over in (NOTHING, first, Record(b"b", "another")):
        for data in (b"c", b""):
            with pytest.raises(RecordMoved):
                await records.write(space, "locks", data, over=over)
    assert (await records.read(space, ["locks"]))["locks"].data == b"b"


async def test_what_is_removed_can_be_made_anew(records, space):
    await records.write(space, "locks", b"a", over=NOTHING)
    first = (await records.read(space, ["locks"]))["locks"]
    await records.write(space, "locks", b"", over=first)
    assert await records.read(space, ["locks"]) == {}
    with pytest.raises(RecordMoved):
        await records.write(space, "locks", b"b", over=first)
    await records.write(space, "locks", b"b", over=NOTHING)
    # The same bytes are another writing.
    await records.write(space, "locks", b"", over=(await records.read(space, ["locks"]))["locks"])
    await records.write(space, "locks", b"a", over=NOTHING)
    with pytest.raises(RecordMoved):
        await records.write(space, "locks", b"c", over=first)


async def test_of_many_that_write_at_once_one_does(open_records, space):
    processes = [open_records() for _ in range(8)]

    async def write(records, data):
        try:
            await records.write(space, "locks", data, over=NOTHING)
        except RecordMoved:
            return None
        return data

    written = [
        data for data in await asyncio.gather(*(write(one, b"%d" % i) for i, one in enumerate(processes))) if data
    ]
    assert len(written) == 1
    assert (await processes[0].read(space, ["locks"]))["locks"].data == written[0]


async def test_many_are_read_together(records, space):
    names = [f"properties/{i:032x}" for i in range(250)]
    for name in names[::50]:
        await records.write(space, name, name.encode(), over=NOTHING)
    assert {name: one.data for name, one in (await records.read(space, names)).items()} == {
        name: name.encode() for name in names[::50]
    }
    assert await records.read(space, []) == {}


async def test_a_record_may_be_as_large_as_is_said(records, space):
    await records.write(space, "locks", bytes(MAX_RECORD_BYTES), over=NOTHING)
    assert len((await records.read(space, ["locks"]))["locks"].data) == MAX_RECORD_BYTES


class _AnswersLost:
    """A client whose every write is repeated, as the SDK does when an answer was lost."""

    def __init__(self, client):
        self._client = client

    async def put_item(self, **asked):
        await self._client.put_item(**asked)
        return await self._client.put_item(**asked)

    async def get_item(self, **asked):
        return await self._client.get_item(**asked)


@pytest.mark.parametrize("backend", ["ministack", "moto"], indirect=True)
async def test_a_write_that_the_sdk_repeats_was_not_moved(backend, space):
    async with backend.aws.client("dynamodb", backend.gateway) as client:

        async def opened():
            return _AnswersLost(client)

        records = DynamoRecords(opened, table=backend.table)
        await records.write(space, "locks", b"a", over=NOTHING)
        first = (await records.read(space, ["locks"]))["locks"]
        await records.write(space, "locks", b"b", over=first)
        assert (await records.read(space, ["locks"]))["locks"].data == b"b"
        with pytest.raises(RecordMoved):
            await records.write(space, "locks", b"c", over=first)
