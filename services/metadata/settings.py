"""Settings of metadata, from `SYNCLINE_*` variables."""

from __future__ import annotations

from pydantic import Field

from runtime.settings import AuthPeer, ServiceSettings
from services.metadata.ports import MAX_PROJECTION_WRITES


class MetadataSettings(ServiceSettings, AuthPeer):
    """Settings of the metadata service. The AWS SDK has environment variables of its own."""

    metadata_table: str = Field(min_length=3, description="Name of the DynamoDB table of journals and trees.")
    bucket: str = Field(min_length=3, max_length=63, description="Name of the bucket of all content.")
    changes_topic_arn: str = Field(
        pattern=r"^arn:[\w-]+:sns:[\w-]+:\d{12}:\S+$",
        description="ARN of the SNS topic on which changes are announced.",
    )
    max_nodes: int = Field(
        default=1_000_000,
        ge=1,
        description="Maximum number of files, directories and links of one space, including those in the trash.",
    )
    journal_bytes: int = Field(
        default=1 << 36,
        ge=1 << 20,
        description="What the journal of one space may add up to, in bytes: all that was ever changed there, renames "
        "and deletions too. It never gets smaller.",
    )
    cached_nodes: int = Field(
        default=200_000,
        ge=0,
        description="Maximum number of nodes and names in memory, of about 1 KB each. A node counts once more for each "
        "KiB of its manifest.",
    )
    coalesce_seconds: float = Field(
        default=0.2,
        ge=0,
        le=10,
        description="Seconds for which an announcement waits for further changes to be announced together.",
    )
    projection_writes: int = Field(
        default=MAX_PROJECTION_WRITES,
        ge=1,
        description="Maximum number of concurrent projection writes, of up to 25 items each, in one process. One "
        "space alone may have half of them.",
    )
    lease_seconds: float = Field(
        default=30.0,
        ge=1,
        description="Seconds for which sweepers of other processes leave a space alone that a process writes to.",
    )
    sweep_seconds: float = Field(
        default=10.0, gt=0, description="Seconds between searches for spaces that another process left unfinished."
    )
    measure_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds between searches for spaces that are written to, whose unsealed uploads are then "
        "measured.",
    )
    keep_unsealed_days: float = Field(
        default=7.0,
        gt=0,
        description="Days after which an uploaded object that was never sealed is removed; much longer than any "
        "upload takes.",
    )
