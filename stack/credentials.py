"""Hands each service the credentials of its own role, over the protocol of ECS and EKS.

Services therefore have exactly the rights that they have in production, and every SDK renews the credentials by itself.
Services fetch them from `AWS_CONTAINER_CREDENTIALS_FULL_URI`, and authenticate with a token of their own.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from stack.embedded_aws import HOST, Aws

LIFETIME: Final = dt.timedelta(hours=1)
_REQUEST_SECONDS: Final = 5.0


@asynccontextmanager
async def role_credentials(aws: Aws, roles: Mapping[str, str]) -> AsyncIterator[Callable[[str], dict[str, str]]]:
    """Context manager that serves the credentials of the services' roles on a port of its own. `roles` has the ARN of
    each role, by the name of the service. Yield a function that takes the name of a service, and returns the
    environment variables with which the service fetches its credentials.
    """
    tokens = {service: secrets.token_urlsafe(32) for service in roles}

    async def answer(header: bytes) -> tuple[HTTPStatus, Mapping[str, str]]:
        request, *lines = header.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        service = request.split(" ")[1].removeprefix("/")
        token = headers.get("authorization", "")
        if service not in tokens or not hmac.compare_digest(token.encode(), tokens[service].encode()):
            return HTTPStatus.FORBIDDEN, {"message": "the token is not that of this service"}
        expires = _expiry()
        try:
            key = await aws.assume(roles[service], seconds=int(LIFETIME.total_seconds()))
        except (BotoCoreError, ClientError) as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"message": str(error)}
        return HTTPStatus.OK, {
            "AccessKeyId": key.access_key_id,
            "SecretAccessKey": key.secret_access_key,
            "Token": key.session_token or "",
            "Expiration": expires,
        }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                status, body = await answer(await reader.readuntil(b"\r\n\r\n"))
                writer.write(_response(status, body))
                await writer.drain()
        except (TimeoutError, OSError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # malformed request, or the client has disconnected
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    address = server.sockets[0].getsockname()

    def environment(service: str) -> dict[str, str]:
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{address[0]}:{address[1]}/{service}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": tokens[service],
        }

    async with server:
        yield environment


async def process_credentials(aws: Aws, role: str) -> dict[str, str | int]:
    """Return new credentials of `role`, an ARN, in the form of a `credential_process` of an AWS configuration file."""
    expires = _expiry()
    key = await aws.assume(role, seconds=int(LIFETIME.total_seconds()))
    return {
        "Version": 1,
        "AccessKeyId": key.access_key_id,
        "SecretAccessKey": key.secret_access_key,
        "SessionToken": key.session_token or "",
        "Expiration": expires,
    }


def _expiry() -> str:
    return (dt.datetime.now(dt.UTC) + LIFETIME).strftime("%Y-%m-%dT%H:%M:%SZ")


def _response(status: HTTPStatus, body: Mapping[str, str]) -> bytes:
    content = json.dumps(body).encode()
    header = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(content)}\r\n"
        "connection: close\r\n\r\n"
    )
    return header.encode() + content
