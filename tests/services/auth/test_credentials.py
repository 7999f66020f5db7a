"""Temporary credentials: checked each time, asked for once, renewed before they run out."""

import asyncio
import json
import re

import pytest

from services.auth.credentials import (
    MAX_POLICY_CHARACTERS,
    CredentialIssuer,
    TransferTarget,
    session_name,
    session_policy,
)
from services.auth.records import MINUTE_MS, SECOND_MS, Account, DeviceRecord
from services.auth.uploads import Uploads
from syncline.model.accounts import Access, Role
from syncline.model.errors import DeviceRevoked, NoSuchSpace, PermissionDenied, Unavailable
from syncline.model.identifiers import DeviceId, SpaceId, UserId, new_text_id
from tests.services.auth.support import Clock, change_grant, new_device, new_login, new_quotas
from tests.support.auth import InMemoryCredentialSource, InMemoryIdentityStore

NOW = Clock()()


class SlowSource(InMemoryCredentialSource):
    """STS takes its time, and may be out of order."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.broken = False

    async def assume(self, **request):
        await self.go_on.wait()
        if self.broken:
            raise Unavailable
        return await super().assume(**request)


class World:
    """A member who may write in somebody else's space."""

    owner: Account
    account: Account
    device: DeviceRecord
    space: SpaceId

    def __init__(self) -> None:
        self.clock = Clock()
        self.store = InMemoryIdentityStore()
        self.source = SlowSource(self.clock)
        self.uploads = Uploads(self.store, quotas=new_quotas(self.store), clock=self.clock)
        self.credentials = CredentialIssuer(
            self.store,
            self.source,
            self.uploads,
            target=TransferTarget("content"),
            lifetime_seconds=3600,
            clock=self.clock,
        )

    async def issue(self, access: Access = Access.READ, device: DeviceId | None = None):
        return await self.credentials.issue(
            self.space, access, user=self.account.user, device=device or self.device.device
        )

    async def change_role(self, before: Role | None, after: Role | None) -> None:
        found = await self.store.space_with_grants(self.space)
        assert found is not None
        await change_grant(
            self.store, found[0], member=self.account, before=before, after=after, by=self.owner.user, alias="team"
        )


@pytest.fixture
async def world():
    world = World()
    owner, login = new_login(), new_login()
    world.owner, world.account = owner.account, login.account
    world.device = new_device(world.account.user, now=NOW)
    await world.store.create_account(owner, device=new_device(owner.account.user, now=NOW))
    await world.store.create_account(login, device=world.device)
    world.space = owner.account.personal_space
    await world.change_role(None, Role.EDITOR)
    return world


async def test_they_are_remembered_until_five_minutes_before_they_expire(world):
    first = await world.issue()
    world.clock.advance(55 * MINUTE_MS)
    assert await world.issue() == first
    assert first.expires_at_ms - world.clock() == 5 * MINUTE_MS
    world.clock.advance(1 * SECOND_MS)
    second = await world.issue()
    assert second != first
    assert second.expires_at_ms - world.clock() == 60 * MINUTE_MS
    assert len(world.source.policies) == 2


async def test_each_device_and_access_has_its_own(world):
    phone = new_device(world.account.user, now=NOW)
    await world.store.add_device(phone)
    issued = {
        (await world.issue(access, device)).access_key_id
        for access in Access
        for device in (world.device.device, phone.device)
    }
    assert len(issued) == 4


async def test_many_at_once_share_one_answer(world):
    world.source.go_on.clear()
    asking = [asyncio.create_task(world.issue()) for _ in range(50)]
    for _ in range(5):
        await asyncio.sleep(0)
    asking[0].cancel()  # a caller who gives up does not take it away from the others
    world.source.go_on.set()
    answers = await asyncio.gather(*asking[1:])
    assert len(set(answers)) == 1
    assert len(world.source.policies) == 1
    assert asking[0].cancelled()


async def test_a_failure_is_not_remembered(world):
    world.source.broken = True
    with pytest.raises(Unavailable):
        await world.issue()
    world.source.broken = False
    assert await world.issue()


async def test_nobody_hears_of_a_failure_that_nobody_waits_for(world):
    world.source.go_on.clear()
    world.source.broken = True
    asking = asyncio.create_task(world.issue())
    for _ in range(5):
        await asyncio.sleep(0)
    asking.cancel()
    world.source.go_on.set()
    await asyncio.wait([asking])
    await asyncio.sleep(0)
    world.source.broken = False
    assert await world.issue()


async def test_what_is_remembered_is_never_given_to_who_lost_the_grant(world):
    await world.issue()
    await world.change_role(Role.EDITOR, None)
    with pytest.raises(NoSuchSpace):
        await world.issue()


async def test_what_is_remembered_is_never_given_to_who_lost_the_role(world):
    await world.issue(Access.WRITE)
    await world.change_role(Role.EDITOR, Role.VIEWER)
    with pytest.raises(PermissionDenied):
        await world.issue(Access.WRITE)
    assert await world.issue(Access.READ)


async def test_what_is_remembered_is_never_given_to_a_revoked_device(world):
    await world.issue()
    await world.store.revoke_device(world.device.device, at_ms=world.clock())
    with pytest.raises(DeviceRevoked):
        await world.issue()


async def test_a_device_of_somebody_else_is_as_good_as_revoked(world):
    theirs = new_device(world.owner.user, now=NOW)
    await world.store.add_device(theirs)
    with pytest.raises(DeviceRevoked):
        await world.issue(device=theirs.device)


@pytest.mark.parametrize(
    ("access", "actions"),
    [(Access.READ, ["s3:GetObject"]), (Access.WRITE, ["s3:GetObject", "s3:PutObject"])],
)
def test_the_policy_opens_the_objects_of_one_space_and_nothing_else(access, actions):
    policy = session_policy(TransferTarget("b" * 63, partition="aws-us-gov"), SpaceId("s" * 26), access)
    assert len(policy) < MAX_POLICY_CHARACTERS
    assert " " not in policy
    assert json.loads(policy) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": actions,
                "Resource": f"arn:aws-us-gov:s3:::{'b' * 63}/spaces/{'s' * 26}/objects/" + "?" * 64,
            }
        ],
    }


def test_the_audit_log_names_user_and_device():
    user, device = UserId(new_text_id()), DeviceId(new_text_id())
    name = session_name(user, device)
    assert user in name
    assert device in name
    assert re.fullmatch(r"[\w+=,.@-]{2,64}", name)


async def test_no_key_shows_in_a_repr(world):
    issued = await world.issue()
    assert issued.secret_access_key not in repr(issued)
    assert issued.session_token not in repr(issued)
