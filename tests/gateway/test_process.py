"""The gateway as a process, with S3 in its own role behind."""

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from core.blocks import MIB, Digest, object_key
from core.tree import Content
from tests.gateway.fakes import MTIME, SPACE, World, services, stored

ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def process(aws, world, **more):
    """`python -m gateway`; yields it when it serves."""
    role = await aws.assume(aws.resources.gateway_role_arn)
    async with services(world) as (auth, metadata):
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SYNCLINE_"))},
            **aws.environment(role),
            "SYNCLINE_AUTH_TARGET": auth,
            "SYNCLINE_METADATA_TARGET": metadata,
            "SYNCLINE_NOTIFY_TARGET": "127.0.0.1:1",
            "SYNCLINE_PUBLIC_AUTH": auth,
            "SYNCLINE_PUBLIC_METADATA": metadata,
            "SYNCLINE_PUBLIC_NOTIFY": "127.0.0.1:1",
            "SYNCLINE_PUBLIC_S3_ENDPOINT": "",
            "SYNCLINE_BUCKET": aws.resources.bucket_name,
            "SYNCLINE_GATEWAY_TABLE": aws.resources.gateway_table_name,
            "SYNCLINE_DRAIN_SECONDS": "0",
            **more,
        }
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", cwd=ROOT, env=env, stderr=asyncio.subprocess.PIPE
        )
        assert started.stderr
        try:
            async with asyncio.timeout(60):
                while (line := json.loads(await started.stderr.readline()))["event"] != "serving":
                    pass
            world.address = f"127.0.0.1:{line['port']}"
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError):
                started.kill()
            await started.communicate()


async def test_a_process_serves_is_small_and_stops_cleanly(aws):
    world = World()
    blocks = [bytes([index]) * (MIB + index) for index in range(6)]
    manifest, data = stored(world.objects, blocks), b"".join(blocks)
    async with aws.client("s3") as s3:
        for block in blocks:
            key = object_key(SPACE, hashlib.sha256(block).digest())
            await s3.put_object(Bucket=aws.resources.bucket_name, Key=key, Body=block, IfNoneMatch="*")
    content = Content(Digest(hashlib.sha256(data).digest()), len(data), MTIME * 10**9, manifest=manifest)
    world.add("f", content)
    async with process(aws, world) as gateway:
        assert (await world.ask("/readyz")).status == 200
        assert psutil.Process(gateway.pid).memory_info().rss < 90_000_000
        answer = await world.get("f")
        assert (answer.status, hashlib.sha256(answer.body).digest()) == (200, content.digest)
        answer = await world.get("f", range=f"bytes={MIB - 10}-{MIB + 9}")
        assert (answer.status, answer.body) == (206, data[MIB - 10 : MIB + 10])
        assert json.loads((await world.ask("/.well-known/syncline")).body)["s3"] == {
            "endpoint": None,
            "region": aws.region,
            "bucket": aws.resources.bucket_name,
            "path_style": False,
        }
        gateway.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await gateway.wait() == 0


async def test_wrong_settings_are_told_in_one_line(aws):
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        cwd=ROOT,
        env={"SYNCLINE_PUBLIC_AUTH": "nonsense"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await started.communicate()
    assert started.returncode == 2
    assert b"SYNCLINE_PUBLIC_AUTH" in complaint
    assert b"SYNCLINE_BUCKET" in complaint
    assert complaint.count(b"\n") == 1
