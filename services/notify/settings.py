"""Settings of notify, from `SYNCLINE_*` variables."""

from __future__ import annotations

from pydantic import Field

from runtime.settings import AuthPeer, ServiceSettings


class NotifySettings(ServiceSettings, AuthPeer):
    """Settings of the notify service. AWS itself is configured by the SDK's variables."""

    notify_table: str = Field(min_length=3, description="Name of the DynamoDB table of preferences and claims.")
    mail_queue_url: str = Field(
        pattern=r"^https?://\S+$", description="The SQS queue, shared by all instances, from which mail is made."
    )
    changes_topic_arn: str = Field(
        pattern=r"^arn:[\w-]+:sns:[\w-]+:\d{12}:\S+$", description="The SNS topic on which metadata announces changes."
    )
    doorbell_queue_prefix: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,50}$",
        description="Begins the name of the SQS queue that each instance makes for itself.",
    )
    mail_sender: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", description="The verified SES address that mail comes from.")
    mail_configuration_set: str | None = Field(
        default=None, min_length=1, description="The SES configuration set that mail is sent with, if any."
    )
    mail_window_seconds: float = Field(
        default=300.0,
        ge=0,
        le=3600,
        description="For how long after a mail what changes in the same space waits, to be told to the same person in "
        "one mail; 0 to mail each change.",
    )
    mails_per_sender: int = Field(
        default=20, ge=1, description="Mails that one person gets in an hour about what one other person changed."
    )
    mails_per_person: int = Field(default=100, ge=1, description="Mails that one person gets in an hour.")
    watched_per_person: int = Field(
        default=2000,
        ge=100,
        description="Spaces that one person watches in one process, each counted once for each watch of any device.",
    )
    public_url: str = Field(pattern=r"^https?://\S+$", description="Where people find Syncline; mails link to it.")
    heartbeat_seconds: float = Field(
        default=25.0, gt=0, le=50, description="How often a watcher hears something; a balancer gives up after 60 s."
    )
