"""Read a file by boto3, with temporary credentials of its space that are renewed by themselves.

    pip install boto3
    syncline login --endpoint https://files.example.com --email me@example.com     # once for each device
    python read_with_boto3.py report.pdf > report.pdf

The credentials open the objects of one space and nothing else. Use them with whatever speaks S3.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3  # type: ignore[import-untyped]  # published without types
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, RefreshableCredentials

from syncline.model.accounts import Access
from syncline.model.blocks import object_key
from syncline.model.errors import SynclineError
from syncline.model.identifiers import SpaceId
from syncline.model.tree import Content
from syncline.sdk import Session, Space, default_home
from syncline.sdk.credentials import issue
from syncline.wire.tree import manifest_from_bytes


class CredentialsOfSpace(CredentialProvider):
    """Provider by which botocore gets the credentials of a space, and renews them before they expire."""

    METHOD = "syncline"

    def __init__(self, space: Space) -> None:
        super().__init__()
        self._space = space

    def load(self) -> RefreshableCredentials:
        """Return credentials that are renewed from five minutes before their expiry on."""
        return RefreshableCredentials.create_from_metadata(
            self._issued(), self._issued, self.METHOD, advisory_timeout=300, mandatory_timeout=60
        )

    def _issued(self) -> dict[str, Any]:
        issued = issue(self._space.session, self._space.id, Access.READ)
        return {
            "access_key": issued.access_key_id,
            "secret_key": issued.secret_access_key,
            "token": issued.session_token,
            "expiry_time": datetime.fromtimestamp(issued.ours_until_ms / 1000, UTC).isoformat(),
        }


def s3_client(space: Space) -> Any:
    """Return a boto3 client for the objects of `space`."""
    storage = space.session.deployment.s3
    core = botocore.session.get_session()
    core.register_component("credential_provider", CredentialResolver([CredentialsOfSpace(space)]))
    style = Config(s3={"addressing_style": "path" if storage.path_style else "virtual"})
    return boto3.Session(botocore_session=core).client(
        "s3", endpoint_url=storage.endpoint, region_name=storage.region, config=style
    )


def read(space: Space, content: Content) -> Iterator[bytes]:
    """Yield the blocks of a file in order, each verified by its SHA-256. A block is an object, or a range of a pack."""
    s3, bucket = s3_client(space), space.session.deployment.s3.bucket
    manifest = content.manifest
    if content.manifest_object:  # more than 1,024 blocks: the manifest is a separate object
        key = object_key(space.id, content.manifest_object)
        manifest = manifest_from_bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    for block in manifest.refs():
        span = f"bytes={block.offset}-{block.offset + block.length - 1}"
        answer = s3.get_object(Bucket=bucket, Key=object_key(space.id, block.object), Range=span)
        data = answer["Body"].read()
        if hashlib.sha256(data).digest() != block.digest:
            raise SynclineError(f"a block is not what its checksum says: {block.digest.hex()}")
        yield data


def main() -> None:
    """Write the file whose path in the personal space is the argument to standard output."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with Session.open(default_home()) as session:
        space = Space(session, SpaceId(session.account.personal_space))
        content = space.get_node(sys.argv[1]).node.content
        if content is None:
            sys.exit(f"{sys.argv[1]} is a directory")
        for data in read(space, content):
            sys.stdout.buffer.write(data)


if __name__ == "__main__":
    try:
        main()
    except SynclineError as error:
        sys.exit(f"{error.reason}: {error}")
