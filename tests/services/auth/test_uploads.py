"""Auth notes which spaces are written to, and which get no more credentials to write."""

from dataclasses import replace

import grpc
import pytest

from services.auth.records import HOUR_MS, MINUTE_MS, SECOND_MS, GrantRecord, SpaceRecord, SpaceUploads
from services.auth.uploads import REFUSAL_SECONDS, WRITTEN_HOURS, Uploads
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import InvalidPageToken, QuotaExceeded
from syncline.model.identifiers import SpaceId, UserId, new_text_id
from syncline.rpc.errors import error_from_rpc
from tests.services.auth.support import Clock, new_quotas, reason_of, serving
from tests.support.auth import InMemoryIdentityStore

REFUSED = SpaceUploads(
    refused=True,
    unsealed_bytes=1_234_567,
    unsealed_objects=3,
    stored_bytes=1_654_321,
    quota_bytes=1_000_000,
    measured_at_ms=Clock()(),
)


class CountingStore(InMemoryIdentityStore):
    def __init__(self) -> None:
        super().__init__()
        self.noted = 0

    async def note_writing(self, space: SpaceId, *, hour: int) -> None:
        self.noted += 1
        await super().note_writing(space, hour=hour)

    async def space_with_grants(self, space: SpaceId, *users: UserId) -> tuple[SpaceRecord, dict[UserId, GrantRecord]]:
        """Return a space with this id, whichever it is."""
        return SpaceRecord(space, "team", personal=False, owners=1, created_at_ms=0), {}


class World:
    def __init__(self) -> None:
        self.clock, self.store = Clock(), CountingStore()
        quotas = new_quotas(self.store, space_bytes=REFUSED.quota_bytes)
        self.uploads = Uploads(self.store, quotas=quotas, clock=self.clock)

    async def written(self, limit: int = 100) -> list[SpaceId]:
        """Return all written spaces, page by page."""
        found, after = await self.uploads.written(after="", limit=limit)
        while after:
            more, after = await self.uploads.written(after=after, limit=limit)
            assert len(more) <= limit
            found += more
        return found


@pytest.fixture
def world() -> World:
    return World()


def new_space() -> SpaceId:
    return SpaceId(new_text_id())


async def test_a_space_is_noted_once_an_hour(world: World) -> None:
    space = new_space()
    world.clock.advance(HOUR_MS - world.clock() % HOUR_MS)
    for _ in range(6):
        await world.uploads.begin(space)
        world.clock.advance(9 * MINUTE_MS)
    assert world.store.noted == 1
    world.clock.advance(10 * MINUTE_MS)
    await world.uploads.begin(space)
    assert world.store.noted == 2
    assert set(await world.written()) == {space}


async def test_a_space_counts_as_written_to_until_its_last_credentials_have_expired(world: World) -> None:
    space = new_space()
    world.clock.advance(2 * HOUR_MS - world.clock() % HOUR_MS - 1)
    await world.uploads.begin(space)  # at the very end of an hour
    world.clock.advance((WRITTEN_HOURS - 1) * HOUR_MS)
    assert await world.written() == [space]
    world.clock.advance(1)
    assert await world.written() == []


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
async def test_spaces_of_several_hours_are_told_page_by_page(world: World, limit: int) -> None:
    hours = [[new_space() for _ in range(3)] for _ in range(WRITTEN_HOURS)]
    for spaces in hours:
        for space in spaces:
            await world.uploads.begin(space)
        world.clock.advance(HOUR_MS)
    world.clock.advance(-HOUR_MS)
    assert await world.written(limit) == [space for spaces in hours for space in sorted(spaces)]


@pytest.mark.parametrize("after", ["x y", "-1 y", "\u0661 y", f"{'9' * 5000} y"])
async def test_what_is_no_place_in_the_listing_is_refused(world: World, after: str) -> None:
    with pytest.raises(InvalidPageToken):
        await world.uploads.written(after=after, limit=10)


async def test_a_space_without_room_is_refused_until_it_has_some(world: World) -> None:
    space, other = new_space(), new_space()
    await world.uploads.set(space, REFUSED)
    with pytest.raises(QuotaExceeded, match="3 objects of 1,234,567 bytes") as caught:
        await world.uploads.begin(space)
    assert caught.value.details == {
        "unsealed_bytes": "1234567",
        "unsealed_objects": "3",
        "stored_bytes": "1654321",
        "quota_bytes": "1000000",
    }
    assert caught.value.retry_after_seconds is None  # waiting a moment changes nothing
    assert world.store.noted == 0
    await world.uploads.begin(other)
    await world.uploads.set(space, replace(REFUSED, refused=False))
    await world.uploads.begin(space)
    assert set(await world.written()) == {space, other}


async def test_of_what_is_told_the_latest_measure_counts_in_whatever_order_it_comes(world: World) -> None:
    space = new_space()
    at = REFUSED.measured_at_ms
    await world.uploads.set(space, replace(REFUSED, refused=False, measured_at_ms=at + 2))
    await world.uploads.set(space, replace(REFUSED, measured_at_ms=at + 1))
    await world.uploads.begin(space)
    await world.uploads.set(space, replace(REFUSED, measured_at_ms=at + 2))
    with pytest.raises(QuotaExceeded):
        await world.uploads.begin(space)


async def test_a_refusal_that_nobody_renews_ends_and_the_space_is_measured_again(world: World) -> None:
    space = new_space()
    await world.uploads.set(space, replace(REFUSED, measured_at_ms=world.clock()))
    world.clock.advance(REFUSAL_SECONDS * SECOND_MS - 1)
    with pytest.raises(QuotaExceeded):
        await world.uploads.begin(space)
    assert await world.written() == []
    world.clock.advance(1)
    await world.uploads.begin(space)
    assert await world.written() == [space]


async def test_a_measure_without_a_time_was_made_now(world: World) -> None:
    space = new_space()
    await world.uploads.set(space, replace(REFUSED, measured_at_ms=0))
    with pytest.raises(QuotaExceeded):
        await world.uploads.begin(space)
    world.clock.advance(1)
    await world.uploads.set(space, replace(REFUSED, refused=False, measured_at_ms=0))
    await world.uploads.begin(space)


async def test_whoever_waits_in_vain_is_not_told_to_wait(world: World) -> None:
    space = new_space()
    await world.uploads.set(space, replace(REFUSED, stored_bytes=2_000_001 + REFUSED.unsealed_bytes))
    with pytest.raises(QuotaExceeded, match=r"sealed objects of 2,000,001 bytes.*waiting does not change it"):
        await world.uploads.begin(space)
    await world.uploads.set(space, replace(REFUSED, stored_bytes=2_000_000 + REFUSED.unsealed_bytes))
    with pytest.raises(QuotaExceeded, match="wait until what is left of them is removed"):
        await world.uploads.begin(space)


async def test_a_listing_that_lasts_beyond_its_hours_leaves_no_space_of_the_next_out(world: World) -> None:
    first, second = sorted([new_space(), new_space()])
    await world.uploads.begin(second)
    old, _ = await world.uploads.written(after="", limit=1)
    world.clock.advance(HOUR_MS)
    await world.uploads.begin(first)
    hour = world.clock() // HOUR_MS
    world.clock.advance(WRITTEN_HOURS * HOUR_MS)
    assert old == [second]
    assert await world.uploads.written(after=f"{hour - 1} {second}", limit=10) == ([first], "")


async def test_credentials_to_write_are_refused_also_where_some_are_remembered(tmp_path) -> None:
    async with serving(tmp_path) as auth:
        ann = await auth.sign_up("ann@example.com")
        space = ann.account.personal_space_id
        await auth.credentials(space, ann, auth_pb2.ACCESS_WRITE)
        listed = await auth.stub.ListWrittenSpaces(auth_pb2.ListWrittenSpacesRequest(), metadata=auth.as_service())
        assert (list(listed.space_ids), listed.next_page_token) == ([space], "")
        said = auth_pb2.SetUploadsRequest(
            space_id=space, refused=True, unsealed_bytes=5, unsealed_objects=1, stored_bytes=6, quota_bytes=1 << 40
        )
        await auth.stub.SetUploads(said, metadata=auth.as_service())
        assert await auth.store.uploads(SpaceId(space)) == SpaceUploads(True, 5, 1, 6, 1 << 40, auth.clock())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await auth.credentials(space, ann, auth_pb2.ACCESS_WRITE)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert isinstance(error_from_rpc(caught.value), QuotaExceeded)
        assert (await auth.credentials(space, ann, auth_pb2.ACCESS_READ)).access_key_id
        said.refused = False
        await auth.stub.SetUploads(said, metadata=auth.as_service())
        assert (await auth.credentials(space, ann, auth_pb2.ACCESS_WRITE)).access_key_id


async def test_reading_leaves_no_trace(tmp_path) -> None:
    async with serving(tmp_path) as auth:
        ann = await auth.sign_up("ann@example.com")
        await auth.credentials(ann.account.personal_space_id, ann, auth_pb2.ACCESS_READ)
        listed = await auth.stub.ListWrittenSpaces(auth_pb2.ListWrittenSpacesRequest(), metadata=auth.as_service())
        assert list(listed.space_ids) == []


async def test_pages_of_the_service_lead_to_each_other(tmp_path) -> None:
    async with serving(tmp_path) as auth:
        ann = await auth.sign_up("ann@example.com")
        spaces = {await auth.create_space(ann, f"space {number}") for number in range(3)}
        for space in spaces:
            await auth.credentials(space, ann, auth_pb2.ACCESS_WRITE)
        found: list[str] = []
        token = ""
        while True:
            request = auth_pb2.ListWrittenSpacesRequest(page_size=1, page_token=token)
            page = await auth.stub.ListWrittenSpaces(request, metadata=auth.as_service())
            found += page.space_ids
            if not (token := page.next_page_token):
                break
        assert sorted(found) == sorted(spaces)


async def test_a_larger_quota_helps_at_once(tmp_path) -> None:
    """A space was measured with a smaller quota than it has now."""
    async with serving(tmp_path, quota_bytes=5) as auth:
        ann = await auth.sign_up("ann@example.com")
        space = ann.account.personal_space_id
        for quota_bytes, reason in ((4, "OK"), (5, "QUOTA_EXCEEDED")):
            said = auth_pb2.SetUploadsRequest(space_id=space, refused=True, stored_bytes=60, quota_bytes=quota_bytes)
            await auth.stub.SetUploads(said, metadata=auth.as_service())
            assert await reason_of(auth.credentials(space, ann, auth_pb2.ACCESS_WRITE)) == reason
