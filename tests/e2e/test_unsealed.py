"""Objects that are uploaded and never sealed count against the quota of their space, over the whole system."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from botocore.exceptions import ClientError

from stack.demo import DemoDevice
from stack.embedded_aws import AwsCredentials
from stack.running import running_stack
from stack.up import Stack
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.model.errors import QuotaExceeded, SynclineError
from syncline.rpc.channel import sync_channel
from syncline.rpc.errors import error_from_rpc
from tests.gateway.client import PASSWORD, Person, sign_up

QUOTA = 1_000_000
KB = 1_000
SECONDS = 60.0
"""Much longer than the time between two measurements here, and than unsealed objects are kept."""
KEPT_SECONDS = 15
"""Longer than an upload takes here until it is sealed."""


VARIABLES = {"SYNCLINE_QUOTA_BYTES": str(QUOTA), "SYNCLINE_MEASURE_SECONDS": "0.2"}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack(variables=VARIABLES) as running:
        yield running


@pytest.fixture
def forgetful() -> Iterator[Stack]:
    """A system in which a week takes some seconds."""
    days = {"SYNCLINE_KEEP_UNSEALED_DAYS": str(KEPT_SECONDS / 86_400)}
    with running_stack(variables=VARIABLES | days) as running:
        yield running


@pytest.fixture
def ann(stack: Stack) -> Person:
    return sign_up(stack.endpoint, "ann")


@pytest.fixture
def ben(stack: Stack) -> Person:
    return sign_up(stack.endpoint, "ben")


@contextmanager
def auth_of(person: Person) -> Iterator[Any]:
    """The auth service in the name of this person."""
    target = person.done("GET", "/.well-known/syncline")["auth"]["target"]
    token = person.headers["authorization"].removeprefix("Bearer ")
    with sync_channel(target, authorization=lambda: token) as channel:
        yield AuthServiceStub(channel)


def issued(person: Person, access: auth_pb2.Access.ValueType = auth_pb2.ACCESS_WRITE) -> Any:
    """Credentials of the person's space; the error of the service."""
    with auth_of(person) as auth:
        try:
            return auth.IssueCredentials(auth_pb2.IssueCredentialsRequest(space_id=person.space, access=access))
        except grpc.RpcError as error:
            raise error_from_rpc(error) or error from None


async def put(stack: Stack, credentials: Any, objects: Sequence[bytes]) -> list[str]:
    """Straight into S3, as devices do; the digests."""
    held = AwsCredentials(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    digests = [hashlib.sha256(data) for data in objects]
    async with stack.aws.client("s3", held) as s3:
        for data, digest in zip(objects, digests, strict=True):
            await s3.put_object(
                Bucket=credentials.bucket,
                Key=credentials.key_prefix + digest.hexdigest(),
                Body=data,
                IfNoneMatch="*",
                ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
            )
    return [digest.hexdigest() for digest in digests]


def seal(person: Person, digests: Sequence[str], size: int) -> list[str]:
    body = {"objects": [{"sha256": digest, "size": size} for digest in digests]}
    verdicts: list[str] = person.done("POST", f"{person.top}/objects", body)["verdicts"]
    return verdicts


def until(asked: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not asked():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def refusal(person: Person) -> SynclineError | None:
    try:
        issued(person)
    except SynclineError as error:
        return error
    return None


def refused(person: Person) -> SynclineError:
    """The refusal that comes."""
    until(lambda: refusal(person) is not None, "credentials to write are still issued")
    error = refusal(person)
    assert error is not None
    assert error.reason == QuotaExceeded.reason
    return error


def told_by_whoami(stack: Stack, person: Person, root: Path) -> dict[str, int]:
    """Return the usage that a device of this person tells."""
    device = DemoDevice(person.email.partition("@")[0], "laptop", root)
    login = ("login", "--endpoint", stack.endpoint, "--email", person.email, "--password-stdin", "--device", "laptop")
    device.run(*login, stdin=f"{PASSWORD}\n")
    usage: dict[str, int] = json.loads(device.run("whoami", "--json"))["usage"]
    assert "more were uploaded and belong to no file yet" in device.run("whoami")
    return usage


async def test_whoever_uploads_and_never_seals_is_refused_and_nobody_else(
    stack: Stack, ann: Person, ben: Person, tmp_path: Path
):
    await put(stack, issued(ann), [os.urandom(150 * KB) for _ in range(6)])
    time.sleep(1)
    assert refusal(ann) is None  # 900,000 bytes fit
    more = await put(stack, issued(ann), [os.urandom(150 * KB)])
    error = refused(ann)
    assert dict(error.details) == {
        "unsealed_bytes": "1050000",
        "unsealed_objects": "7",
        "stored_bytes": "1050000",
        "quota_bytes": "1000000",
    }
    assert told_by_whoami(stack, ann, tmp_path) == {
        "used_bytes": 0,
        "quota_bytes": 1_000_000,
        "nodes": 0,
        "max_nodes": 1_000_000,
        "unsealed_bytes": 1_050_000,
        "unsealed_objects": 7,
    }
    wanted = {"objects": [{"sha256": "0" * 64, "size": 1}]}
    ann.ask("POST", f"{ann.top}/uploads", wanted).refused(429, "QUOTA_EXCEEDED")
    assert ann.ask("PUT", "/dav/personal/file", raw=os.urandom(600 * KB)).status == 507
    assert issued(ann, auth_pb2.ACCESS_READ).access_key_id
    usage = ann.done("GET", f"{ann.top}/usage")
    assert (usage["used_bytes"], usage["unsealed_bytes"], usage["unsealed_objects"]) == (0, 1_050_000, 7)

    assert len(ben.done("POST", f"{ben.top}/uploads", wanted)["uploads"]) == 1
    assert ben.ask("PUT", "/dav/personal/file", raw=os.urandom(600 * KB)).status == 201
    # Another space of the same person has a quota of its own.
    assert ann.done("POST", "/v1/spaces", {"name": "room"}, status=201)
    assert ann.ask("PUT", "/dav/room/file", raw=os.urandom(600 * KB)).status == 201
    assert seal(ann, more, 150 * KB) == ["SEALED"]  # an object that is there already can be sealed


async def test_what_is_sealed_later_counts_no_more(stack: Stack, ann: Person):
    block = os.urandom(300 * KB)
    digest = ann.store(block)
    content = {"digest": digest, "size": 600 * KB, "mtime_ms": 0, "blocks": [[digest, 300 * KB]] * 2}
    content["digest"] = hashlib.sha256(block * 2).hexdigest()
    create = {"create": {"parent": "root", "name": "twice", "kind": "file", "content": content}}
    made = ann.done("POST", f"{ann.top}/changes", {"changes": [create]})
    assert made["results"][0]["verdict"] == "ACCEPTED"
    uploaded = await put(stack, issued(ann), [os.urandom(100 * KB) for _ in range(5)])
    error = refused(ann)
    assert (error.details["unsealed_bytes"], error.details["stored_bytes"]) == ("500000", "800000")
    assert seal(ann, uploaded, 100 * KB) == ["SEALED"] * 5
    until(lambda: refusal(ann) is None, "it is sealed, and still refused")


async def test_what_is_sealed_and_never_named_is_no_way_around(stack: Stack, ann: Person):
    uploaded = await put(stack, issued(ann), [os.urandom(150 * KB) for _ in range(14)])
    assert seal(ann, uploaded, 150 * KB) == ["SEALED"] * 14
    # The measure from before the seals is told until the next measure.
    told = ("unsealed_bytes", "stored_bytes")
    until(lambda: [refused(ann).details[name] for name in told] == ["0", "2100000"], "sealed bytes count as unsealed")
    assert "waiting does not change it" in str(refused(ann))


async def test_credentials_to_write_cannot_list_or_remove(stack: Stack, ann: Person):
    """An uploaded object stays until the service removes it."""
    credentials = issued(ann)
    (name,) = await put(stack, credentials, [b"x"])
    held = AwsCredentials(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    async with stack.aws.client("s3", held) as s3:
        with pytest.raises(ClientError, match="AccessDenied"):
            await s3.delete_object(Bucket=credentials.bucket, Key=credentials.key_prefix + name)


def test_services_alone_say_what_is_measured(ann: Person):
    with auth_of(ann) as auth:
        for call in (
            lambda: auth.ListWrittenSpaces(auth_pb2.ListWrittenSpacesRequest()),
            lambda: auth.SetUploads(auth_pb2.SetUploadsRequest(space_id=ann.space, refused=True)),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_what_nobody_seals_goes_and_makes_room_and_what_is_sealed_stays(forgetful: Stack):
    stack, ann = forgetful, sign_up(forgetful.endpoint, "ann")
    kept = ann.file("kept", b"what is sealed")
    uploaded = await put(stack, issued(ann), [os.urandom(150 * KB) for _ in range(7)])
    refused(ann)
    until(lambda: refusal(ann) is None, "nothing was removed")
    wanted = {"objects": [{"sha256": name, "size": 150 * KB} for name in uploaded]}
    uploads = ann.done("POST", f"{ann.top}/uploads", wanted)["uploads"]
    assert not any(upload["stored"] for upload in uploads)
    assert seal(ann, uploaded, 150 * KB) == ["OBJECT_MISSING"] * 7
    assert ann.ask("GET", f"{ann.top}/nodes/{kept['id']}/content").body == b"what is sealed"
    again = os.urandom(150 * KB)
    (name,) = await put(stack, issued(ann), [again])
    credentials = issued(ann)
    until(lambda: seal_of_gone(ann, name) == "OBJECT_MISSING", "it was not removed")
    assert await put(stack, credentials, [again]) == [name]  # an upload that was broken off and goes on
    assert seal(ann, [name], len(again)) == ["SEALED"]


def seal_of_gone(person: Person, name: str) -> str:
    """The verdict on an object under a wrong size, which is therefore not sealed if it is there."""
    return seal(person, [name], 1)[0]
