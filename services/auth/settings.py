"""Settings of auth, from `SYNCLINE_*` variables."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from runtime.rates import Rate
from runtime.settings import ServiceSettings
from services.auth.anonymous_calls import AnonymousCalls
from services.auth.holdings import HoldingLimits
from syncline.model.limits import CREDENTIALS_MOST_SECONDS, CREDENTIALS_SECONDS


class AuthSettings(ServiceSettings):
    """Settings of the auth service. AWS itself is configured by the SDK's variables."""

    identity_table: str = Field(min_length=3, description="Name of the DynamoDB table of accounts, devices and grants.")
    bucket: str = Field(min_length=3, max_length=63, description="The one bucket that holds content.")
    transfer_role_arn: str = Field(
        pattern=r"^arn:[\w-]+:iam::\d{12}:role/\S+$",
        description="The role that clients get, narrowed to one space each time.",
    )
    signing_key_file: Path = Field(description="Ed25519 private key in PEM that signs access tokens.")
    previous_key_file: Path | None = Field(
        default=None, description="The key that signed before, private or public, while its tokens may still be around."
    )
    credential_seconds: int = Field(
        default=CREDENTIALS_SECONDS,
        ge=CREDENTIALS_SECONDS,
        le=CREDENTIALS_MOST_SECONDS,
        description="How long S3 credentials last; also how long they outlive a revocation. STS gives none for less "
        "than 15 minutes.",
    )
    sign_in_limit_per_peer: int = Field(
        default=10,
        ge=1,
        description=(
            "Failed sign-ins for one address, or wrong passwords of one public link, from one network address within "
            "the window."
        ),
    )
    sign_in_limit_per_address: int = Field(
        default=100,
        ge=1,
        description="The same from everywhere; networks from which a right password came lately are exempt.",
    )
    sign_in_limit_per_network: int = Field(
        default=100, ge=1, description="The same for all addresses and links together, from one network."
    )
    sign_up_limit_per_network: int = Field(
        default=1000, ge=1, description="Accounts that are made from one network within the window."
    )
    sign_in_window_seconds: int = Field(default=900, ge=1, description="How long they count.")
    anonymous_calls_per_network: float = Field(
        default=100,
        gt=0,
        description="Calls in a second that come from one network without an access token: refreshed tokens, keys and "
        "links traded for one, sign-ins. People behind one address are many.",
    )
    anonymous_calls_per_secret: float = Field(
        default=5,
        gt=0,
        description="The same by one device, one key, or the visitors of one link from one network.",
    )
    spaces_per_person: int = Field(
        default=500, ge=1, description="Spaces that one person made and is a member of, besides the personal one."
    )
    memberships_per_person: int = Field(
        default=1000,
        ge=3,
        description="Spaces of others that one person may be added to; one giver may have added them to at most half.",
    )
    members_per_space: int = Field(default=2000, ge=2, description="Members of one space.")
    devices_per_person: int = Field(
        default=200,
        ge=2,
        description="Clients and browsers that one person is signed in with; the one unused for longest makes way.",
    )
    keys_per_person: int = Field(default=100, ge=1, description="Keys of programs that one person has.")
    links_per_space: int = Field(
        default=1000,
        ge=3,
        description="Public links of one space; one maker may have made at most half of them. One that was ended "
        "counts for a day.",
    )
    links_per_person: int = Field(default=2000, ge=1, description="Public links in all spaces that one person made.")
    password_workers: int = Field(
        default=2, ge=1, description="How many passwords are hashed at the same time; each takes 32 MiB meanwhile."
    )
    password_places: int = Field(
        default=32,
        ge=4,
        description="How many passwords may be hashed or wait for that; all others are told at once to come back.",
    )

    def holdings(self) -> HoldingLimits:
        """Return the maximum number of items in each kind of list."""
        return HoldingLimits(
            spaces=self.spaces_per_person,
            memberships=self.memberships_per_person,
            members=self.members_per_space,
            devices=self.devices_per_person,
            keys=self.keys_per_person,
            links=self.links_per_space,
            links_made=self.links_per_person,
        )

    def anonymous_calls(self) -> AnonymousCalls:
        """Return the rate limits of calls without authentication."""
        network, secret = (
            Rate(rate, burst=rate * self.rate_burst_seconds)
            for rate in (self.anonymous_calls_per_network, self.anonymous_calls_per_secret)
        )
        return AnonymousCalls(per_network=network, per_secret=secret)
