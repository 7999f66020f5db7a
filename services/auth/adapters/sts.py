"""Temporary credentials from STS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws.errors import aws_errors
from services.auth.records import SECOND_MS, TemporaryCredentials

if TYPE_CHECKING:
    from types_aiobotocore_sts.client import STSClient


class StsCredentialSource:
    """Implements CredentialSource by assuming the transfer role."""

    def __init__(self, client: STSClient, *, role_arn: str) -> None:
        self._client = client
        self._role_arn = role_arn

    async def assume(self, *, session_name: str, policy: str, seconds: int) -> TemporaryCredentials:
        with aws_errors("the source of S3 credentials"):
            answer = await self._client.assume_role(
                RoleArn=self._role_arn, RoleSessionName=session_name, Policy=policy, DurationSeconds=seconds
            )
        issued = answer["Credentials"]
        return TemporaryCredentials(
            issued["AccessKeyId"],
            issued["SecretAccessKey"],
            issued["SessionToken"],
            int(issued["Expiration"].timestamp()) * SECOND_MS,
        )
