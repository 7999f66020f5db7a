"""Settings of metadata, from `SYNCLINE_*` variables."""

from __future__ import annotations

from pydantic import Field

from runtime.settings import AuthPeer, ServiceSettings
from services.metadata.ports import PROJECTION_WRITES


class MetadataSettings(ServiceSettings, AuthPeer):
    """Settings of the metadata service. AWS itself is configured by the SDK's variables."""

    metadata_table: str = Field(min_length=3, description="Name of the DynamoDB table of journals and trees.")
    bucket: str = Field(min_length=3, max_length=63, description="The one bucket that holds content.")
    changes_topic_arn: str = Field(
        pattern=r"^arn:[\w-]+:sns:[\w-]+:\d{12}:\S+$", description="The SNS topic on which changes are announced."
    )
    quota_bytes: int = Field(
        default=1 << 40, ge=1, description="What the versions kept in one space may add up to, in bytes."
    )
    max_nodes: int = Field(
        default=1_000_000,
        ge=1,
        description="How many files, directories and links may be made in one space, with those in the trash.",
    )
    cached_nodes: int = Field(
        default=200_000, ge=0, description="Nodes and names kept in memory; about 1 KB each with their manifests."
    )
    coalesce_seconds: float = Field(
        default=0.2, ge=0, le=10, description="How long an announcement waits for further changes to go with it."
    )
    projection_writes: int = Field(
        default=PROJECTION_WRITES,
        ge=1,
        description="How many writes of up to 25 items, by which the table follows the journals, are under way at once "
        "in one process. One space alone has half of them.",
    )
    lease_seconds: float = Field(
        default=30.0, ge=1, description="How long a space that a process writes is left alone by other sweepers."
    )
    sweep_seconds: float = Field(
        default=10.0, gt=0, description="How often to look for spaces that a process left behind unfinished."
    )
    measure_seconds: float = Field(
        default=60.0,
        gt=0,
        description="How often to look for spaces that are written to, to count what is uploaded and not sealed there.",
    )
    keep_unsealed_days: float = Field(
        default=7.0,
        gt=0,
        description="After which an object that was uploaded and not sealed is removed: much longer than uploads take.",
    )
