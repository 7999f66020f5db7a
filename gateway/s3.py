"""Objects in S3."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import ClientPayloadError
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from core.blocks import MAX_OBJECT_BYTES, Digest, object_key
from core.errors import Unavailable
from core.identifiers import SpaceId
from gateway.ports import ObjectUnreadable
from runtime.aws import error_code, translated

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

_ATTEMPTS: Final = 3
_BROKEN: Final = (ClientPayloadError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
"""What can become of a body after the SDK has seen its headers and repeats nothing any more."""
_NOT_THERE: Final = frozenset({"AccessDenied", "InvalidRange", "NoSuchKey"})
"""AccessDenied is what S3 says of a missing key to a role that may not list the bucket, as the gateway's."""


class S3ObjectSource:
    """ObjectSource on the content bucket.

    What is read gets hashed by the caller, so the client should have `response_checksum_validation="when_required"`
    lest each byte is hashed twice.
    """

    def __init__(self, client: S3Client, *, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def read(self, space: SpaceId, digest: Digest, *, offset: int, length: int) -> bytes:
        """See ObjectSource."""
        data = await self._get(object_key(space, digest), offset=offset, length=length)
        if len(data) != length:
            raise ObjectUnreadable(f"object {digest.hex()} has {len(data)} bytes from {offset}, not {length}")
        return data

    async def read_all(self, space: SpaceId, digest: Digest) -> bytes:
        """See ObjectSource."""
        # One byte more than there may be tells of an object that is too large without reading it.
        data = await self._get(object_key(space, digest), offset=0, length=MAX_OBJECT_BYTES + 1)
        if len(data) > MAX_OBJECT_BYTES:
            raise ObjectUnreadable(f"object {digest.hex()} is larger than any of ours")
        return data

    async def _get(self, key: str, *, offset: int, length: int) -> bytes:
        for attempt in range(_ATTEMPTS):
            try:
                return await self._try_to_get(key, offset=offset, length=length)
            except _BROKEN:
                await asyncio.sleep(0.1 * 2**attempt)
        raise Unavailable("S3 does not answer; try again")

    async def _try_to_get(self, key: str, *, offset: int, length: int) -> bytes:
        try:
            with translated("S3"):
                answer = await self._client.get_object(
                    Bucket=self._bucket, Key=key, Range=f"bytes={offset}-{offset + length - 1}"
                )
        except ClientError as error:
            if error_code(error) in _NOT_THERE:
                raise ObjectUnreadable(f"S3 says {error_code(error)} of {key}") from error
            raise
        async with answer["Body"] as body:
            return bytes(await body.read())
