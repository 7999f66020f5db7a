"""Auth as it is deployed: two processes over one table, in its own role."""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

from services.auth.audit.events import AuditEvent, AuditKind
from services.auth.audit.ports import AuditFilter
from services.auth.records import DeviceEnding
from syncline.auth.v1 import auth_pb2, auth_pb2_grpc
from syncline.model.identifiers import DeviceId, UserId, new_request_id, new_text_id
from syncline.rpc.channel import aio_channel
from tests.contract.auth.conftest import stores
from tests.services.auth.support import PASSWORD, SECRET, reason_of, write_key

MEMORY_BUDGET = 90 * 1024 * 1024
"""Resident at rest."""


@dataclass
class Process:
    """A running auth service and what it has logged so far."""

    process: asyncio.subprocess.Process
    stub: Any
    log: list[str] = field(default_factory=list)

    @property
    def resident(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


def environment(backend, key) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SYNCLINE_"))},
        **backend.aws.environment(backend.auth),
        "SYNCLINE_BUCKET": backend.resources.bucket_name,
        "SYNCLINE_DRAIN_SECONDS": "0",
        "SYNCLINE_AUDIT_TABLE": backend.resources.audit_table_name,
        "SYNCLINE_IDENTITY_TABLE": backend.resources.identity_table_name,
        "SYNCLINE_SERVICE_SECRET": SECRET,
        "SYNCLINE_SIGN_UP_POLICY": "open",
        "SYNCLINE_PROVE_ADDRESSES": "false",
        "SYNCLINE_MAIL_QUEUE_URL": backend.resources.mail_queue_url,
        "SYNCLINE_SIGNING_KEY_FILE": str(key),
        "SYNCLINE_TRANSFER_ROLE_ARN": backend.resources.transfer_role_arn,
    }


async def start(env: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.auth", env=env, stderr=asyncio.subprocess.PIPE
    )


@asynccontextmanager
async def serving(env: dict[str, str]):
    process = await start(env)
    stderr = process.stderr
    assert stderr is not None
    try:
        first = json.loads(await asyncio.wait_for(stderr.readline(), 60))
        assert first["event"] == "serving", first
        async with aio_channel(f"127.0.0.1:{first['port']}") as channel:
            running = Process(process, auth_pb2_grpc.AuthServiceStub(channel))

            async def read() -> None:
                async for line in stderr:
                    running.log.append(line.decode())

            reading = asyncio.create_task(read())
            yield running
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 60) == 0
        await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
async def processes(ministack, tmp_path):
    env = environment(ministack, write_key(tmp_path / "key.pem"))
    async with serving(env) as one, serving(env) as other:
        yield one, other


async def test_two_processes_are_one_service_within_the_memory_budget(processes):
    one, other = processes
    at_rest = one.resident
    assert at_rest <= MEMORY_BUDGET

    email = f"{new_text_id()}@example.com"
    sign_up = auth_pb2.SignUpRequest(email=email, password=PASSWORD, device_name="laptop")
    outcomes = await asyncio.gather(*(reason_of(process.stub.SignUp(sign_up)) for process in processes * 2))
    assert outcomes.count("OK") == 1
    assert set(outcomes) <= {"OK", "ACCOUNT_EXISTS", "UNAVAILABLE"}

    async def sign_in(process, number: int):
        request = auth_pb2.SignInRequest(email=email, password=PASSWORD, device_name=f"device {number}")
        return await process.stub.SignIn(request)

    # One peer may try this many passwords at one address at once.
    signed_in = [*await asyncio.gather(*(sign_in(processes[number % 2], number) for number in range(10)))]
    metadata = (("authorization", f"Bearer {signed_in[0].tokens.access_token}"),)  # signed by either, good at both
    listed = await other.stub.ListDevices(auth_pb2.ListDevicesRequest(), metadata=metadata)
    assert len(listed.devices) == 11

    space = signed_in[0].account.personal_space_id
    issued = await one.stub.IssueCredentials(
        auth_pb2.IssueCredentialsRequest(space_id=space, access=auth_pb2.ACCESS_WRITE), metadata=metadata
    )

    first = signed_in[0].tokens.refresh_token
    refresh = auth_pb2.RefreshTokenRequest(refresh_token=first)
    answers = await asyncio.gather(
        *(process.stub.RefreshToken(refresh) for process in processes), return_exceptions=True
    )
    tokens = [answer.tokens.refresh_token for answer in answers if not isinstance(answer, BaseException)]
    assert tokens
    # One of two answers is good; a caller who presents the other is found out.
    outcomes = [
        await reason_of(other.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=token))) for token in tokens
    ]
    assert outcomes in (["OK"], ["OK", "REFRESH_TOKEN_REUSED"], ["REFRESH_TOKEN_REUSED", "DEVICE_REVOKED"])

    wrong = auth_pb2.SignInRequest(email=email, password="wrong password", device_name="laptop")
    outcomes = [await reason_of(processes[number % 2].stub.SignIn(wrong)) for number in range(12)]
    assert outcomes == ["WRONG_PASSWORD"] * 10 + ["TOO_MANY_ATTEMPTS"] * 2

    assert one.resident <= MEMORY_BUDGET  # a burst of sign-ins leaves nothing behind
    logged = "".join(one.log + other.log)
    for secret in (PASSWORD, first, issued.secret_access_key, issued.session_token, *tokens):
        assert secret not in logged


async def test_an_end_that_a_killed_process_has_left_is_finished_by_another(ministack, processes):
    one, other = processes
    email = f"{new_text_id()}@example.com"
    stolen = await one.stub.SignUp(auth_pb2.SignUpRequest(email=email, password=PASSWORD, device_name="laptop"))
    made = await one.stub.CreateKey(
        auth_pb2.CreateKeyRequest(
            request_id=new_request_id(), name="backup", expires_at_ms=int(time.time() * 1000) + 3_600_000
        ),
        metadata=(("authorization", f"Bearer {stolen.tokens.access_token}"),),
    )
    device, user = DeviceId(stolen.device.device_id), UserId(stolen.account.user_id)
    async with ministack.aws.client("dynamodb", ministack.auth) as client:
        store, _ = stores(ministack, client)
        now = int(time.time() * 1000)
        # A process that is killed right after it has signed the device out leaves this.
        await store.begin_ending(
            DeviceEnding(new_text_id(), device, user, device_last=False, end_links=False, due_at_ms=now)
        )
        await store.revoke_device(device, at_ms=now)
        deadline = time.monotonic() + 60
        while await reason_of(other.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=made.key))) != "DEVICE_REVOKED":
            assert time.monotonic() < deadline, "nobody goes on with the end"
            await asyncio.sleep(0.1)
        while [ending for ending in await store.endings() if ending.device == device]:
            assert time.monotonic() < deadline, "the end is still noted"
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("changed", "status", "complaint"),
    [
        ({"SYNCLINE_SIGNING_KEY_FILE": "/nowhere/key.pem"}, 1, "/nowhere/key.pem"),
        ({"SYNCLINE_CREDENTIAL_SECONDS": "60"}, 2, "SYNCLINE_CREDENTIAL_SECONDS"),
        ({"SYNCLINE_TRANSFER_ROLE_ARN": "transfer"}, 2, "SYNCLINE_TRANSFER_ROLE_ARN"),
        ({"SYNCLINE_AUDIT_TABLE": ""}, 2, "SYNCLINE_AUDIT_TABLE"),
        ({"SYNCLINE_SERVICE_SECRET": "short"}, 2, "SYNCLINE_SERVICE_SECRET"),
    ],
)
async def test_it_says_why_it_cannot_start(ministack, tmp_path, changed, status, complaint):
    process = await start(environment(ministack, write_key(tmp_path / "key.pem")) | changed)
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == status
    assert complaint in said.decode()
    assert "Traceback" not in said.decode()


async def events_about(backend, party: str) -> list[AuditEvent]:
    """Return the events of the audit log that a person or an address has a part in, newest first."""
    async with backend.aws.client("dynamodb", backend.auth) as client:
        _, audit = stores(backend, client)
        page = await audit.page(AuditFilter(involving=(party,)), before="", limit=1000)
    assert not page.before
    return list(page.events)


async def test_two_processes_keep_one_log_and_a_stop_loses_nothing(ministack, tmp_path):
    env = environment(ministack, write_key(tmp_path / "key.pem"))
    email = f"{new_text_id()}@example.com"
    async with serving(env) as one, serving(env) as other:
        ann = await one.stub.SignUp(auth_pb2.SignUpRequest(email=email, password=PASSWORD, device_name="laptop"))
        metadata = (("authorization", f"Bearer {ann.tokens.access_token}"),)
        issue = auth_pb2.IssueCredentialsRequest(space_id=ann.account.personal_space_id, access=auth_pb2.ACCESS_READ)
        hours = {int(time.time()) // 3600}
        await asyncio.gather(*(process.stub.IssueCredentials(issue, metadata=metadata) for process in (one, other) * 3))
        hours.add(int(time.time()) // 3600)
        wrong = auth_pb2.SignInRequest(email=email, password="wrong password", device_name="laptop")
        for process in (one, one, other):
            assert await reason_of(process.stub.SignIn(wrong)) == "WRONG_PASSWORD"
    failed = [event for event in await events_about(ministack, email) if event.kind == AuditKind.SIGN_IN_FAILED]
    assert sorted(event.count for event in failed) == [1, 2], "each process has appended its count"
    found = await events_about(ministack, ann.account.user_id)
    issued = [event for event in found if event.kind == AuditKind.CREDENTIALS_ISSUED]
    assert 1 <= len(issued) <= len(hours)
    assert {event.actor.device for event in found} == {ann.device.device_id}
    assert found[-1].kind == AuditKind.ACCOUNT_CREATED
