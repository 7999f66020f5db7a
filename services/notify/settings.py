"""Settings of notify, from `SYNCLINE_*` variables."""

from __future__ import annotations

from pydantic import Field

from runtime.settings import AuthPeer, ServiceSettings


class NotifySettings(ServiceSettings, AuthPeer):
    """Settings of the notify service. The AWS SDK has environment variables of its own."""

    notify_table: str = Field(min_length=3, description="Name of the DynamoDB table of preferences and claims.")
    mail_queue_url: str = Field(
        pattern=r"^https?://\S+$", description="URL of the SQS queue, shared by all instances, whose events are mailed."
    )
    changes_topic_arn: str = Field(
        pattern=r"^arn:[\w-]+:sns:[\w-]+:\d{12}:\S+$",
        description="ARN of the SNS topic on which metadata announces changes.",
    )
    doorbell_queue_prefix: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,50}$",
        description="Prefix of the name of the SQS queue that each instance creates for itself.",
    )
    mail_sender: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", description="Verified SES address that mail is sent from.")
    mail_configuration_set: str | None = Field(
        default=None, min_length=1, description="SES configuration set that mail is sent with, if any."
    )
    mail_window_seconds: float = Field(
        default=300.0,
        ge=0,
        le=3600,
        description="Seconds after a mail for which further changes in the same space are collected into one mail to"
        " the same person; 0 mails each change.",
    )
    mails_per_sender: int = Field(
        default=20,
        ge=1,
        description="Maximum number of mails per hour to one person about the changes of one other person.",
    )
    mails_per_person: int = Field(default=100, ge=1, description="Maximum number of mails per hour to one person.")
    watched_per_person: int = Field(
        default=2000,
        ge=100,
        description="Maximum number of spaces that one person watches in one process, summed over all watches of all"
        " devices.",
    )
    public_url: str = Field(
        pattern=r"^https?://\S+$", description="Address of Syncline for people, to which mails link."
    )
    heartbeat_seconds: float = Field(
        default=25.0,
        gt=0,
        le=50,
        description="Seconds between heartbeats of a watch; a balancer closes a stream after 60 s of silence.",
    )
