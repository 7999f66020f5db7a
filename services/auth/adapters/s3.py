"""The archive of the audit log in S3: a bucket, preferably with Object Lock, to which auth may only add objects."""

from __future__ import annotations

import base64
import hashlib
from http import HTTPStatus
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from aws.errors import aws_errors
from syncline.model.errors import Unavailable

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client


class S3AuditArchive:
    """Implements AuditArchive on a bucket."""

    def __init__(self, client: S3Client, *, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def put(self, key: str, body: bytes) -> None:
        try:
            with aws_errors("the bucket of the audit log"):
                await self._client.put_object(
                    Bucket=self._bucket,
                    Key=key,
                    Body=body,
                    ContentType="application/x-ndjson",
                    ChecksumSHA256=base64.b64encode(hashlib.sha256(body).digest()).decode(),
                    IfNoneMatch="*",
                )
        except ClientError as error:
            match error.response["ResponseMetadata"]["HTTPStatusCode"]:
                case HTTPStatus.PRECONDITION_FAILED:
                    return
                case HTTPStatus.CONFLICT:
                    raise Unavailable("another process is writing the same object; try again") from None
            raise
