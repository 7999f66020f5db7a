"""Credentials from STS open the objects of one space, as far as the role reaches, and nothing else."""

import hashlib
import time
from contextlib import AsyncExitStack

import pytest
from botocore.exceptions import ClientError

from services.auth.adapters.dynamodb import DynamoIdentityStore
from services.auth.adapters.sts import StsCredentialSource
from services.auth.bootstrap import system_clock
from services.auth.credentials import CredentialIssuer, TransferTarget, session_name, session_policy
from services.auth.records import SECOND_MS
from services.auth.uploads import Uploads
from stack.embedded_aws import AwsCredentials
from syncline.model.accounts import Access, Role
from syncline.model.blocks import key_prefix, object_key
from syncline.model.errors import NoSuchSpace
from syncline.model.identifiers import DeviceId, SpaceId, UserId, new_text_id
from tests.contract.auth.conftest import IN_MEMORY, MINISTACK, MOTO
from tests.services.auth.support import change_grant, new_device, new_login, new_quotas
from tests.support.auth import InMemoryCredentialSource

CONTENT = b"a block"
DIGEST = hashlib.sha256(CONTENT).digest()

everywhere = pytest.mark.parametrize("backend", [IN_MEMORY, MINISTACK, MOTO], indirect=True)
enforced = pytest.mark.parametrize("backend", [MINISTACK], indirect=True)  # moto ignores session policies


@pytest.fixture
async def source(backend):
    async with AsyncExitStack() as clients:
        if backend is None:
            yield InMemoryCredentialSource(system_clock)
            return
        sts = await clients.enter_async_context(backend.aws.client("sts", backend.auth))
        yield StsCredentialSource(sts, role_arn=backend.resources.transfer_role_arn)


def target_of(backend) -> TransferTarget:
    return TransferTarget(backend.resources.bucket_name if backend else "content")


async def assume(source, backend, space, access, seconds=3600):
    return await source.assume(
        session_name=session_name(UserId(new_text_id()), DeviceId(new_text_id())),
        policy=session_policy(target_of(backend), space, access),
        seconds=seconds,
    )


@everywhere
@pytest.mark.parametrize("seconds", [900, 3600])
async def test_credentials_last_as_long_as_asked_for(source, backend, seconds):
    before = time.time()
    issued = await assume(source, backend, SpaceId(new_text_id()), Access.WRITE, seconds)
    assert issued.access_key_id
    assert issued.secret_access_key
    assert issued.session_token
    assert abs(issued.expires_at_ms / SECOND_MS - before - seconds) < 60
    assert (await assume(source, backend, SpaceId(new_text_id()), Access.WRITE)).access_key_id != issued.access_key_id


class Device:
    """The requests that a device can make with the credentials it holds: each returns an HTTP status."""

    def __init__(self, s3, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    async def put(self, key: str) -> int:
        return await self._status(self._s3.put_object(Bucket=self._bucket, Key=key, Body=CONTENT, IfNoneMatch="*"))

    async def get(self, key: str) -> int:
        return await self._status(self._s3.get_object(Bucket=self._bucket, Key=key))

    async def delete(self, key: str) -> int:
        return await self._status(self._s3.delete_object(Bucket=self._bucket, Key=key))

    async def list(self, prefix: str) -> int:
        return await self._status(self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix))

    @staticmethod
    async def _status(call) -> int:
        try:
            answer = await call
        except ClientError as error:
            answer = error.response
        if "Body" in answer:
            await answer["Body"].read()  # gives the connection back
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])


@pytest.fixture
async def holding(backend):
    """Makes a device that holds these credentials."""
    async with AsyncExitStack() as clients:

        async def opened(issued) -> Device:
            key = AwsCredentials(issued.access_key_id, issued.secret_access_key, issued.session_token)
            s3 = await clients.enter_async_context(backend.aws.client("s3", key))
            return Device(s3, backend.resources.bucket_name)

        yield opened


@enforced
async def test_they_open_one_space_as_far_as_the_access_reaches(source, backend, holding):
    mine, other = SpaceId(new_text_id()), SpaceId(new_text_id())
    writer = await holding(await assume(source, backend, mine, Access.WRITE))
    reader = await holding(await assume(source, backend, mine, Access.READ))
    key = object_key(mine, DIGEST)

    assert await reader.put(key) == 403
    assert await writer.put(key) == 200
    assert await writer.put(key) == 412
    for device in (writer, reader):
        assert await device.get(key) == 200
        assert await device.delete(key) == 403
        assert await device.list(key_prefix(mine)) == 403
        for foreign in (object_key(other, DIGEST), f"spaces/{mine}/elsewhere", f"spaces/{mine}x/objects/y", "x"):
            assert await device.put(foreign) == 403
            assert await device.get(foreign) == 403


@enforced
async def test_they_permit_nothing_once_the_key_of_a_program_has_ended(source, backend, holding):
    """However long STS lets them live. An address that was signed with them is worth as much as they are."""
    space, now = SpaceId(new_text_id()), system_clock()

    async def held_until(until_ms: int) -> Device:
        issued = await source.assume(
            session_name=session_name(UserId(new_text_id()), DeviceId(new_text_id())),
            policy=session_policy(target_of(backend), space, Access.WRITE, until_ms=until_ms),
            seconds=900,
        )
        device: Device = await holding(issued)
        return device

    ended, lasting = await held_until(now - SECOND_MS), await held_until(now + 600 * SECOND_MS)
    key = object_key(space, DIGEST)
    assert await ended.put(key) == 403
    assert await lasting.put(key) == 200
    assert await ended.get(key) == 403
    assert await lasting.get(key) == 200


@enforced
async def test_who_loses_the_grant_keeps_what_they_hold_until_it_expires_and_gets_nothing_new(
    source, backend, holding, store
):
    """The window of a revocation: metadata at once, S3 when the credentials run out."""
    assert isinstance(store, DynamoIdentityStore)
    owner, login = new_login(), new_login()
    device = new_device(login.account.user, now=system_clock())
    await store.create_account(owner, device=new_device(owner.account.user))
    await store.create_account(login, device=device)
    space = owner.account.personal_space
    found_space = await store.space_with_grants(space)
    assert found_space is not None
    found = found_space[0]
    await change_grant(
        store, found, member=login.account, before=None, after=Role.EDITOR, by=owner.account.user, alias="team"
    )

    uploads = Uploads(store, quotas=new_quotas(store), clock=system_clock)
    credentials = CredentialIssuer(
        store, source, uploads, target=target_of(backend), lifetime_seconds=900, clock=system_clock
    )

    async def issue():
        return await credentials.issue(space, Access.WRITE, user=login.account.user, device=device.device)

    issued = await issue()
    assert issued.expires_at_ms - system_clock() <= 900 * SECOND_MS
    held = await holding(issued)
    assert await held.put(object_key(space, DIGEST)) == 200

    await change_grant(store, found, member=login.account, before=Role.EDITOR, after=None, by=owner.account.user)
    with pytest.raises(NoSuchSpace):
        await issue()
    assert await held.get(object_key(space, DIGEST)) == 200
