"""Settings of auth, from `SYNCLINE_*` variables."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from runtime.rates import Rate
from runtime.settings import ServiceSettings, SettingsBase, SignUpSettings
from services.auth.addresses import normalize_domain
from services.auth.admission import Admission
from services.auth.anonymous_calls import AnonymousCalls
from services.auth.holdings import HoldingLimits
from syncline.model.errors import InvalidArgument
from syncline.model.limits import CREDENTIALS_SECONDS, DELETED_SPACE_DAYS, MAX_CREDENTIALS_SECONDS, MAX_QUOTA_BYTES


class AuditSettings(SettingsBase):
    """Settings of the audit log, for the service and for the commands of the operator."""

    audit_table: str = Field(min_length=3, description="Name of the DynamoDB table of the audit log.")
    audit_days: int = Field(
        default=400, ge=1, le=3660, description="Days for which an event is kept in the table of the audit log."
    )


class AuthSettings(ServiceSettings, SignUpSettings, AuditSettings):
    """Settings of the auth service. The AWS SDK has environment variables of its own."""

    identity_table: str = Field(min_length=3, description="Name of the DynamoDB table of accounts, devices and grants.")
    mail_queue_url: str = Field(
        pattern=r"^https?://\S+$", description="URL of the SQS queue from which notify sends mail to people."
    )
    prove_addresses: bool = Field(
        default=True,
        description="True if people have to prove that mail to their address reaches them before others can share with "
        "them; otherwise each address counts as proven.",
    )
    quota_bytes: int = Field(
        default=1 << 40,
        ge=1,
        le=MAX_QUOTA_BYTES,
        description="Maximum total size of the versions that are kept in one space, in bytes, for spaces to which no "
        "administrator has given another quota.",
    )
    user_quota_bytes: int = Field(
        default=0,
        ge=0,
        le=MAX_QUOTA_BYTES,
        description="Maximum total size of the versions in all spaces that count for one person, in bytes, for people "
        "to whom no administrator has given another quota; 0 for no such limit.",
    )
    bucket: str = Field(min_length=3, max_length=63, description="Name of the bucket of all content.")
    audit_bucket: str = Field(
        default="",
        max_length=63,
        description="Name of the bucket to which the audit log is exported, preferably one with Object Lock; empty for "
        "no export.",
    )
    transfer_role_arn: str = Field(
        pattern=r"^arn:[\w-]+:iam::\d{12}:role/\S+$",
        description="ARN of the role of clients' S3 credentials, which are restricted to one space each.",
    )
    signing_key_file: Path = Field(description="Ed25519 private key in PEM that signs access tokens.")
    previous_key_file: Path | None = Field(
        default=None,
        description="PEM file of the preceding signing key, private or public, while tokens that it signed may still"
        " be valid.",
    )
    credential_seconds: int = Field(
        default=CREDENTIALS_SECONDS,
        ge=CREDENTIALS_SECONDS,
        le=MAX_CREDENTIALS_SECONDS,
        description="Lifetime of S3 credentials in seconds, for which they also outlive a revocation. STS issues "
        "none for less than 15 minutes.",
    )
    sign_in_limit_per_peer: int = Field(
        default=10,
        ge=1,
        description=(
            "Maximum failed sign-ins for one address, or wrong passwords for one public link, from one "
            "network within the window."
        ),
    )
    sign_in_limit_per_address: int = Field(
        default=100,
        ge=1,
        description="Maximum failed sign-ins for one address, or wrong passwords for one public link, from all "
        "networks within the window; networks of a recent successful sign-in are exempt.",
    )
    sign_in_limit_per_network: int = Field(
        default=100,
        ge=1,
        description="Maximum failed sign-ins for all addresses and links together, from one network within the window.",
    )
    sign_up_limit_per_network: int = Field(
        default=1000, ge=1, description="Maximum number of accounts that are made from one network within the window."
    )
    proof_mails_per_address: int = Field(
        default=10,
        ge=1,
        description="Maximum number of mails with proofs to one address within the window, for all of its accounts.",
    )
    proof_mails_per_account: int = Field(
        default=3, ge=1, description="Maximum number of mails with proofs for one account within the window."
    )
    invitation_mails_per_pair: int = Field(
        default=3,
        ge=1,
        description="Maximum number of mails with invitations to spaces by one person to one address in a day.",
    )
    invitation_mails_per_address: int = Field(
        default=20,
        ge=1,
        description="Maximum number of mails with invitations to spaces to one address in a day, by all people.",
    )
    invitation_mails_per_person: int = Field(
        default=100, ge=1, description="Maximum number of mails with invitations to spaces by one person in a day."
    )
    codes_per_account: int = Field(
        default=10,
        ge=1,
        description="Maximum number of attempts at the codes of one account's second factor within the window, from "
        "all networks together.",
    )
    codes_per_day: int = Field(
        default=50,
        ge=1,
        description="Maximum number of attempts at the codes of one account's second factor in a day, from all "
        "networks together.",
    )
    resets_per_address: int = Field(
        default=5,
        ge=1,
        description="Maximum number of resets of a password that are asked for at one address within the window, "
        "whether it has an account or not.",
    )
    resets_per_network: int = Field(
        default=50,
        ge=1,
        description="Maximum number of resets of passwords that are asked for from one network within the window.",
    )
    resets_in_total: int = Field(
        default=1000, ge=1, description="Maximum number of resets of passwords that are asked for within the window."
    )
    sign_in_window_seconds: int = Field(
        default=900, ge=1, description="Length of the window of these limits, in seconds."
    )
    anonymous_calls_per_network: float = Field(
        default=100,
        gt=0,
        description="Maximum calls without an access token per network and second: exchanges of refresh tokens, keys"
        " and links, and sign-ins. One network may have many people.",
    )
    anonymous_calls_per_secret: float = Field(
        default=5,
        gt=0,
        description="Maximum calls without an access token per second with one device's token, with one key, or by "
        "the visitors of one link from one network.",
    )
    spaces_per_person: int = Field(
        default=500,
        ge=1,
        description="Maximum number of spaces that one person has made and is a member of, besides the personal one. "
        "A deleted space counts until it cannot be undeleted any more.",
    )
    memberships_per_person: int = Field(
        default=1000,
        ge=3,
        description="Maximum number of spaces of others that one person may be added to; one other person may have "
        "added them to at most half.",
    )
    members_per_space: int = Field(default=2000, ge=2, description="Maximum number of members of one space.")
    deleted_space_days: int = Field(
        default=DELETED_SPACE_DAYS,
        ge=1,
        le=3650,
        description="Days for which a deleted space can be undeleted by its owners. A change applies to later "
        "deletions.",
    )
    devices_per_person: int = Field(
        default=200,
        ge=2,
        description="Maximum number of clients and browsers that one person is signed in with; above it, the least "
        "recently used one is signed out.",
    )
    keys_per_person: int = Field(default=100, ge=1, description="Maximum number of programs' keys of one person.")
    links_per_space: int = Field(
        default=1000,
        ge=3,
        description="Maximum number of public links of one space; one maker may have made at most half of them. A "
        "link that was ended counts for one more day.",
    )
    links_per_person: int = Field(
        default=2000, ge=1, description="Maximum number of public links that one person has made in all spaces."
    )
    invitations_per_space: int = Field(
        default=200, ge=1, description="Maximum number of invitations to one space that nobody has taken up."
    )
    invitations_per_person: int = Field(
        default=500,
        ge=1,
        description="Maximum number of invitations of one person to all spaces that nobody has taken up.",
    )
    invitations_per_address: int = Field(
        default=100,
        ge=3,
        description="Maximum number of invitations of one address to all spaces; one person may have made half.",
    )
    password_workers: int = Field(
        default=2,
        ge=1,
        description="Maximum number of passwords that are hashed concurrently, with 32 MiB of memory each.",
    )
    password_places: int = Field(
        default=32,
        ge=4,
        description="Maximum number of passwords that are being hashed or wait; further requests are refused at once"
        " and have to be repeated.",
    )

    @field_validator("sign_up_domains")
    @classmethod
    def _normalized(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_domain(text) for text in domains))

    def admission(self) -> Admission:
        """Return the rule by which people may make accounts, from the settings."""
        return Admission(self.sign_up_policy, self.sign_up_domains)

    def holdings(self) -> HoldingLimits:
        """Return the maximum number of items in each kind of list of a person or a space, from the settings."""
        return HoldingLimits(
            spaces=self.spaces_per_person,
            memberships=self.memberships_per_person,
            members=self.members_per_space,
            devices=self.devices_per_person,
            keys=self.keys_per_person,
            links=self.links_per_space,
            links_made=self.links_per_person,
            invitations=self.invitations_per_space,
            invitations_made=self.invitations_per_person,
            invitations_received=self.invitations_per_address,
        )

    def anonymous_calls(self) -> AnonymousCalls:
        """Return the rate limits of calls without authentication."""
        network, secret = (
            Rate(rate, burst=rate * self.rate_burst_seconds)
            for rate in (self.anonymous_calls_per_network, self.anonymous_calls_per_secret)
        )
        return AnonymousCalls(per_network=network, per_secret=secret)


def _domain(text: str) -> str:
    try:
        return normalize_domain(text)
    except InvalidArgument:
        raise ValueError(f"{text!r} is no domain of e-mail addresses") from None
