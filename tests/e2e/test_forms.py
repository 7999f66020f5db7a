"""The same bytes as several things, and the wrong bytes in the place of the right ones: through the whole system."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from stack.demo import DemoDevice
from stack.up import Stack
from syncline.sdk.session import Session
from tests.gateway.client import put, sign_up

KIB = 1024


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


PARTS = {"x.part1": noise(300 * KIB, 1), "x.part2": noise(300 * KIB, 2)}
WHOLE = b"".join(PARTS.values())
"""A single block, and as long as the pack of its parts: 600 KiB."""
OTHER_PARTS = {"y.part1": WHOLE[: 100 * KIB], "y.part2": WHOLE[100 * KIB :][: 200 * KIB], "y.part3": WHOLE[300 * KIB :]}


@pytest.mark.parametrize(
    "steps",
    [
        (PARTS, {"x": WHOLE}),
        ({"x": WHOLE}, PARTS),
        (PARTS, OTHER_PARTS, {"x": WHOLE}),
        ({"x": WHOLE}, OTHER_PARTS, PARTS),
    ],
    ids=["parts, whole", "whole, parts", "parts, other parts, whole", "whole, other parts, parts"],
)
def test_files_whose_bytes_are_those_of_others_together(
    new_device: Callable[..., DemoDevice], steps: tuple[dict[str, bytes], ...]
) -> None:
    """By a new device each time, since one that knows where a block lies does not pack it again."""
    first = new_device("first")
    for number, files in enumerate(steps):
        device = new_device(f"device {number}", first.owner)
        device.run("sync", str(device.folder), "--json")
        for name, data in files.items():
            (device.folder / name).write_bytes(data)
        assert device.sync()["uploaded"] == len(files)
    first.sync()
    for files in steps:
        for name, data in files.items():
            assert (first.folder / name).read_bytes() == data


# ---- what lies in the place of the right bytes


def crc32(data: bytes) -> dict[str, Any]:
    return {"ChecksumAlgorithm": "CRC32", "Body": data}


def sha256(data: bytes) -> dict[str, Any]:
    return {"ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode(), "Body": data}


PLANTED = {
    "right bytes, CRC32": crc32,
    "other bytes, CRC32": lambda data: crc32(bytes(len(data))),
    "other bytes, their SHA-256": lambda data: sha256(bytes(len(data))),
    "too short": lambda data: crc32(data[:-1]),
    "empty": lambda data: crc32(b""),
    "too large": lambda data: crc32(bytes(17 << 20)),
}


def plant(stack: Stack, space: str, data: bytes, arguments: dict[str, Any]) -> None:
    """Put something under the key of `data`."""

    async def put_object() -> None:
        async with stack.aws.client("s3", request_checksum_calculation="when_required") as s3:
            key = f"spaces/{space}/objects/{hashlib.sha256(data).hexdigest()}"
            await s3.put_object(Bucket=stack.resources.bucket_name, Key=key, IfNoneMatch="*", **arguments)

    asyncio.run(put_object())


def test_a_device_stores_what_it_has_whatever_lies_in_its_place(
    stack: Stack, new_device: Callable[..., DemoDevice]
) -> None:
    device = new_device("one")
    with Session.open(device.root / "home") as session:
        space = session.account.personal_space
    large = {f"large {number}": noise(600 * KIB, number) for number in range(len(PLANTED))}
    small = {"small": noise(1000, 10), "smaller": noise(900, 11)}
    for data, planted in zip(large.values(), PLANTED.values(), strict=True):
        plant(stack, space, data, planted(data))
    pack = b"".join(small.values())
    plant(stack, space, pack, crc32(bytes(len(pack))))
    for name, data in (large | small).items():
        (device.folder / name).write_bytes(data)
    assert device.sync()["uploaded"] == len(PLANTED) + 2
    other = new_device("two", device.owner)
    assert other.sync()["downloaded"] == len(PLANTED) + 2
    assert {path.name: path.read_bytes() for path in other.folder.iterdir() if path.is_file()} == large | small


@pytest.mark.parametrize("planted", PLANTED)
def test_a_program_stores_what_it_has_whatever_lies_in_its_place(stack: Stack, planted: str) -> None:
    program = sign_up(stack.endpoint)
    plant(stack, program.space, WHOLE, PLANTED[planted](WHOLE))
    wanted = {"objects": [{"sha256": hashlib.sha256(WHOLE).hexdigest(), "size": len(WHOLE)}]}
    for attempt in range(3):
        (upload,) = program.done("POST", f"{program.top}/uploads", wanted)["uploads"]
        assert not upload["stored"]
        assert put(upload, WHOLE) == (200 if attempt else 412)
        (verdict,) = program.done("POST", f"{program.top}/objects", wanted)["verdicts"]
        if verdict == "SEALED":
            break
        assert verdict in {"CHECKSUM_MISMATCH", "SIZE_MISMATCH"}
    assert verdict == "SEALED"
    assert attempt == (planted != "right bytes, CRC32")
    program.file("whole", WHOLE)
    assert program.ask("GET", f"{program.top}/content/whole").body == WHOLE


@pytest.mark.parametrize("planted", PLANTED)
def test_webdav_stores_what_it_is_sent_whatever_lies_in_its_place(stack: Stack, planted: str) -> None:
    program = sign_up(stack.endpoint)
    until = int(time.time() * 1000) + 3_600_000
    key = program.done("POST", "/v1/keys", {"name": "mount", "expires_at_ms": until}, status=201)["key"]
    login = base64.b64encode(f"{program.email}:{key}".encode()).decode()
    (space,) = [one for one in program.done("GET", "/v1/spaces")["spaces"] if one["space_id"] == program.space]
    for name, data in (("large", WHOLE), ("small", b"small")):
        plant(stack, program.space, data, PLANTED[planted](data))
        answer = program.ask("PUT", f"/dav/{space['name']}/{name}", raw=data, authorization=f"Basic {login}")
        assert answer.status == 201, answer.body
        assert program.ask("GET", f"{program.top}/content/{name}").body == data
