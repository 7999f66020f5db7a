"""The bucket of the embedded AWS as a device sees it: temporary credentials of one space."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from stack.running import EmbeddedAws
from syncline.model.accounts import Access
from syncline.model.blocks import Digest, key_prefix
from syncline.model.identifiers import new_text_id
from syncline.sdk.credentials import S3Credentials
from syncline.sdk.discovery import StorageAddress
from syncline.sdk.requests import RequestCounts
from syncline.transfer.objects import S3Objects


@dataclass
class HeldCredentials:
    """`syncline.sdk.credentials.SpaceCredentials` without a service: gives what it is told to, and is counted."""

    issue: Callable[[], S3Credentials]
    issued: int = 0
    held: S3Credentials | None = None

    def get(self) -> S3Credentials:
        if self.held is None:
            self.issued += 1
            self.held = self.issue()
        return self.held

    def forget(self, refused: S3Credentials) -> bool:
        if self.held is not refused:
            return False
        self.held = None
        return True


@dataclass
class Bucket:
    """One space in the bucket."""

    aws: EmbeddedAws
    space: str = field(default_factory=new_text_id)

    def storage(self, endpoint: str | None = None) -> StorageAddress:
        return StorageAddress(
            endpoint or self.aws.endpoint, self.aws.region, self.aws.resources.bucket_name, path_style=True
        )

    def credentials(self, access: Access, *, seconds: int = 3600) -> S3Credentials:
        """Return credentials as the auth service issues them: the transfer role, narrowed to one space."""
        resources = self.aws.resources
        actions = ["s3:GetObject"] + ["s3:PutObject"] * (access is Access.WRITE)
        resource = f"{resources.bucket_arn}/{key_prefix(self.space)}*"
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resource}],
        }

        async def assume() -> S3Credentials:
            auth = await self.aws.assume(resources.auth_role_arn)
            key = await self.aws.assume(resources.transfer_role_arn, by=auth, policy=policy, seconds=seconds)
            return S3Credentials(
                key.access_key_id,
                key.secret_access_key,
                key.session_token or "",
                int((time.time() + 3600) * 1000),
                resources.bucket_name,
                key_prefix(self.space),
            )

        return asyncio.run(assume())

    def objects(self, access: Access = Access.WRITE, *, endpoint: str | None = None) -> S3Objects:
        held = HeldCredentials(lambda: self.credentials(access))
        return self.objects_with(held, endpoint=endpoint)

    def objects_with(self, held: HeldCredentials, *, endpoint: str | None = None) -> S3Objects:
        return S3Objects(self.storage(endpoint), held, RequestCounts())  # type: ignore[arg-type]

    def key(self, digest: Digest) -> str:
        return f"{key_prefix(self.space)}{digest.hex()}"
