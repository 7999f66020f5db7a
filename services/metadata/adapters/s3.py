"""The bytes of objects in S3, under the keys of `syncline.model.blocks.object_key`."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError, HTTPClientError

from aws.errors import aws_errors, error_code
from runtime.logs import structlog
from services.metadata.ports import Barrier, Deletion, ListedObject, Listing, StoredObject
from syncline.model.blocks import DIGEST_BYTES, MAX_OBJECT_BYTES, Digest, key_prefix, object_key
from syncline.model.errors import Unavailable
from syncline.model.identifiers import SpaceId
from syncline.s3.errors import S3Error, s3_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from types_aiobotocore_s3.client import S3Client

_ARCHIVED: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes of archived objects, which cannot be read before somebody has S3 restore them."""
_USUAL: Final = ("ContentType", "CacheControl")
"""Fields of an answer that HTTP libraries set by themselves when an object is uploaded. By the Fetch standard, a
request with `If-None-Match` has `Cache-Control: no-cache`.
"""
MAX_USUAL_CHARACTERS: Final = 1_000
"""Maximum number of characters of these fields together."""
_STRANGE: Final = (
    *("ContentDisposition", "ContentEncoding", "ContentLanguage", "Expires", "ExpiresString"),
    *("Metadata", "WebsiteRedirectLocation"),
)
"""Fields of an answer that the uploader of an object may set, and that none of our clients sets. S3 returns them to all
readers, whose HTTP libraries may refuse so many or such headers; and no policy can refuse them.
"""
_OTHER_BYTES: Final = frozenset({S3Error.MISSING, S3Error.PRECONDITION_FAILED, S3Error.CONFLICT})
"""Answers of S3 to a conditional DELETE if the object does not exist, or if an object with other bytes has replaced it
or is being written at the moment.
"""

_NAME: Final = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}")

log = structlog.get_logger()


class S3Storage:
    """Implements ObjectStorage on the bucket of contents.

    Objects larger than MAX_OBJECT_BYTES are not read and count as missing, because no client of ours stores such
    objects.
    """

    def __init__(self, client: S3Client, *, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def list(self, space: SpaceId, *, after: str = "") -> Listing:
        prefix = key_prefix(space)
        beyond: dict[str, Any] = {"StartAfter": prefix + after} if after else {}
        with aws_errors("S3"):
            page = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **beyond)
        objects = page.get("Contents", [])
        last = objects[-1]["Key"].removeprefix(prefix) if objects and page["IsTruncated"] else ""
        return Listing([_listed(one, prefix) for one in objects], last)

    async def describe(self, space: SpaceId, digest: Digest) -> StoredObject | None:
        """Return the metadata of an object; None if there is no such object. `sha256` in the result is None for an
        object that was not uploaded in one piece with a SHA-256.
        """
        key = object_key(space, digest)
        try:
            with aws_errors("S3"):
                answer = await self._client.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
        except ClientError as error:
            if (locked := await self._locked(key, error)) is not None:
                return locked
            if _is_missing(error, key):
                return None
            raise
        except Unavailable as error:
            found = await self._found(key) if _is_undecodable(error.__cause__) else None
            if found is None:
                raise
            return StoredObject(found["Size"], None, found["ETag"], Barrier.HEADERS)
        return StoredObject(answer["ContentLength"], _checksum(answer), answer["ETag"], _barrier(answer))

    async def _locked(self, key: str, refusal: ClientError) -> StoredObject | None:
        """Return the object whose encryption key makes S3 refuse HEAD; None if there is no such object.

        There are two cases. For an object with a customer's key (SSE-C), HEAD answers 400, as it does for expired
        credentials; the error of a GET distinguishes the two causes, and only a listing has the size and the etag of
        the object. With a KMS key that this role may not use, HEAD answers 403 if it asks for the checksum.
        """
        where: Any = {"Bucket": self._bucket, "Key": key}
        with contextlib.suppress(ClientError), aws_errors("S3"):
            if _meaning(refusal) is S3Error.DENIED:
                answer = await self._client.head_object(**where)
                if answer.get("ServerSideEncryption", "").startswith("aws:kms"):
                    return StoredObject(answer["ContentLength"], None, answer["ETag"], Barrier.KEY)
            elif _meaning(refusal) is S3Error.BAD_REQUEST and await self._needs_a_key(where):
                found = await self._found(key)
                return StoredObject(found["Size"], None, found["ETag"], Barrier.KEY) if found is not None else None
        return None

    async def _found(self, key: str) -> Mapping[str, Any] | None:
        """Return an object's entry in a listing of the bucket; None if there is no object with this key."""
        with aws_errors("S3"):
            listing = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
        return next((found for found in listing.get("Contents", ()) if found["Key"] == key), None)

    async def _needs_a_key(self, where: Any) -> bool:
        try:
            answer = await self._client.get_object(**where, Range="bytes=0-0")
        except ClientError as error:
            return _meaning(error) in {S3Error.BAD_REQUEST, S3Error.KEY_REFUSED}
        answer["Body"].close()
        return False

    async def read(self, space: SpaceId, digest: Digest) -> bytes | None:
        key = object_key(space, digest)
        try:
            with aws_errors("S3"):
                answer = await self._client.get_object(Bucket=self._bucket, Key=key)
                async with answer["Body"] as body:
                    if answer["ContentLength"] > MAX_OBJECT_BYTES:
                        return None
                    return bytes(await body.read())
        except ClientError as error:
            if _is_missing(error, key):
                return None
            raise

    async def remove(self, space: SpaceId, digest: Digest, *, etag: str) -> bool:
        """Remove the object if it has this etag, and return True if it was removed. An object that this role may not
        remove stays.
        """
        removed, _ = await self._delete(object_key(space, digest), etag)
        return removed

    async def remove_once(self, space: SpaceId, name: str, *, etag: str) -> Deletion:
        """Remove the object with this name if it has this etag, and return the outcome. Its `is_over` is True only if
        the SDK has sent one request: an earlier one of several may still reach S3.
        """
        removed, answer = await self._delete(key_prefix(space) + name, etag)
        return Deletion(removed, is_over=answer["ResponseMetadata"]["RetryAttempts"] == 0)

    async def _delete(self, key: str, etag: str) -> tuple[bool, Mapping[str, Any]]:
        """Delete the object under `key` if it has this etag. Return True if it was removed, otherwise False, together
        with the answer of S3.
        """
        try:
            with aws_errors("S3"):
                answer = await self._client.delete_object(Bucket=self._bucket, Key=key, IfMatch=etag)
        except ClientError as error:
            if _meaning(error) is S3Error.DENIED:
                log.warning("object_not_removed", key=key, hint="the role lacks s3:DeleteObject; deploy data.yaml")
            elif _meaning(error) not in _OTHER_BYTES:
                raise
            return False, error.response
        return True, answer


def _is_missing(error: ClientError, key: str) -> bool:
    meaning = _meaning(error)
    if meaning is S3Error.DENIED:
        log.warning("object_hidden", key=key, hint="the role lacks s3:GetObject or s3:ListBucket on the bucket")
    return meaning in {S3Error.MISSING, S3Error.DENIED, S3Error.ARCHIVED}  # an archived object cannot be read either


def _meaning(error: ClientError) -> S3Error:
    return s3_error(error_code(error))


def _listed(one: Mapping[str, Any], prefix: str) -> ListedObject:
    name = one["Key"].removeprefix(prefix)
    digest = Digest(bytes.fromhex(name)) if _NAME.fullmatch(name) else None
    return ListedObject(name, digest, one["Size"], int(one["LastModified"].timestamp() * 1000), one["ETag"])


def _barrier(answer: Mapping[str, Any]) -> Barrier | None:
    if answer.get("StorageClass") in _ARCHIVED or "ArchiveStatus" in answer:
        return Barrier.ARCHIVE
    usual = "".join(answer.get(field, "") for field in _USUAL)
    is_plain = len(usual) <= MAX_USUAL_CHARACTERS and usual.isascii() and usual.isprintable()
    if not is_plain or any(answer.get(field) for field in _STRANGE):
        return Barrier.HEADERS
    return None


def _is_undecodable(error: BaseException | None) -> bool:
    """Return True if there was an answer whose headers are not UTF-8, for which the SDK fails as if there was no
    answer.
    """
    return isinstance(error, HTTPClientError) and isinstance(error.kwargs.get("error"), UnicodeDecodeError)


def _checksum(answer: Mapping[str, Any]) -> Digest | None:
    """Return the SHA-256 of the whole object from an answer of S3; None if there is only a checksum of the checksums of
    its parts.
    """
    try:
        raw = base64.b64decode(answer.get("ChecksumSHA256", ""), validate=True)
    except binascii.Error:
        return None
    return Digest(raw) if len(raw) == DIGEST_BYTES and answer.get("ChecksumType") != "COMPOSITE" else None
