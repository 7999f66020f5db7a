"""Settings: typed, documented, and read once from `SYNCLINE_*` variables."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Final, Literal, TypeAlias, TypeVar, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from runtime import logs
from runtime.logs import structlog
from runtime.permissions import Work
from runtime.rates import Rate
from syncline.model.limits import DEADLINE_SECONDS, MESSAGE_BYTES, REQUEST_BYTES, UNREAD_BYTES

ENV_PREFIX = "SYNCLINE_"
SECRET_CHARACTERS: Final = 32
"""Minimum length of a secret, in characters."""
_TARGET = r"^\S+:\d+$"


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    networks = tuple(ipaddress.ip_network(text.strip()) for text in value.split(",")) if value.strip() else ()
    if any(not network.prefixlen for network in networks):
        raise ValueError("a network of /0 would trust everybody's headers; name the networks of your proxies")
    return networks


def _absent_or_long(secret: SecretStr) -> SecretStr:
    if 0 < len(secret.get_secret_value()) < SECRET_CHARACTERS:
        raise ValueError(f"a secret has at least {SECRET_CHARACTERS} characters")
    return secret


Networks: TypeAlias = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_networks)]
"""CIDR ranges, separated by commas."""


GatewaySecret: TypeAlias = Annotated[SecretStr, AfterValidator(_absent_or_long)]
"""The secret that the gateway shares with all services; empty for none."""


class SettingsBase(BaseSettings):
    """Base of all settings classes: reads them from the environment."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore")


class Observed(SettingsBase):
    """Settings of every process that serves."""

    metrics_listen: str = Field(
        default="",
        pattern=r"^$|^(\[[0-9A-Fa-f:.]+\]|[^\s:]+):\d{1,5}$",
        description="Where Prometheus fetches `/metrics`, host:port; port 0 takes a free one, which the `metrics` "
        "event tells; empty for nowhere.",
    )
    connections: int = Field(
        default=4096,
        ge=16,
        description="How many connections there may be at once. They take at most half of the files that the process "
        "may open: one each, and three each at a service without a balancer. One network may have as many as it leaves "
        "free. A service behind a balancer leaves that to the balancer.",
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="One JSON object a line, or text for people; always on stderr."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe events to log."
    )


class ServiceSettings(Observed):
    """Settings of every service. Each service adds its own in a subclass, with the mixins below for its peers."""

    listen: str = Field(
        default="127.0.0.1:0",
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:]+):\d{1,5}$",
        description="Address to listen on, host:port; port 0 takes a free one, which the `serving` event tells.",
    )
    drain_seconds: float = Field(
        default=5.0,
        ge=0,
        description="How long to go on serving after reporting NOT_SERVING, so that the balancer can notice.",
    )
    grace_seconds: float = Field(
        default=10.0, ge=0, description="How long calls in flight may take to finish when the server stops."
    )
    max_message_bytes: int = Field(
        default=MESSAGE_BYTES, ge=MESSAGE_BYTES, description="The largest message that is accepted."
    )
    request_bytes: int = Field(
        default=REQUEST_BYTES,
        ge=8 * MESSAGE_BYTES,
        description="How many bytes of requests are taken in at once, for all callers, half of it for those that take "
        "long to arrive; one caller alone may have half of each.",
    )
    request_seconds: float = Field(
        default=30.0,
        gt=0,
        description="How long a request may take to arrive, and how long answers may be behind the least rate of "
        "being read.",
    )
    unread_bytes: int = Field(
        default=UNREAD_BYTES,
        ge=MESSAGE_BYTES,
        description="How many bytes of answers are kept for slow readers; one caller alone may have half of it.",
    )
    body_bytes_per_second: int = Field(
        default=16_384,
        ge=1,
        description="The least rate at which answers are read. A connection on which they are unread for "
        "request_seconds longer than they take at this rate is ended, if it is the caller's own and no balancer's.",
    )
    trusted_proxies: int = Field(
        default=0,
        ge=0,
        description=(
            "How many proxies stand between a client and this service, each adding the address it saw to "
            "x-forwarded-for. Only where nobody can reach the service but through them."
        ),
    )
    trusted_networks: Networks = Field(
        default=(),
        description=(
            "Where only balancers are, which tell truly by x-forwarded-for what they saw. CIDRs, separated by commas. "
            "What comes from there is counted by the address told before it. The gateway needs none: it has a secret."
        ),
    )
    default_deadline_seconds: float = Field(
        default=float(DEADLINE_SECONDS), gt=0, description="Limit for unary calls that come without a deadline."
    )
    rate_reads: float = Field(default=200, gt=0, description="Reads of single things by one person in a second.")
    rate_lists: float = Field(default=100, gt=0, description="Pages of listings that one person reads in a second.")
    rate_searches: float = Field(default=5, gt=0, description="Pages of searches that one person reads in a second.")
    rate_commits: float = Field(default=50, gt=0, description="Commits of one person in a second.")
    rate_seals: float = Field(default=50, gt=0, description="Calls of one person in a second that seal objects.")
    rate_streams: float = Field(default=20, gt=0, description="Streams that one person opens in a second.")
    rate_credentials: float = Field(
        default=5, gt=0, description="Requests of one person for S3 credentials in a second."
    )
    rate_shares: float = Field(
        default=5, gt=0, description="Changes of one person in a second of who may do what: members, links, devices."
    )
    rate_makes: float = Field(
        default=2, gt=0, description="Spaces, keys and links together that one person makes in a second."
    )
    rate_burst_seconds: float = Field(
        default=30,
        ge=1,
        description="How many seconds' worth of each rate somebody may use at once who asked for nothing before.",
    )
    streams_open: int = Field(default=64, ge=1, description="Streams of one method that one person has open.")
    service_secret: SecretStr = Field(
        min_length=SECRET_CHARACTERS,
        description="Shared by all services to sign the tokens by which they know each other; at least 32 characters.",
    )
    gateway_secret: GatewaySecret = Field(
        default=SecretStr(""),
        description="Shared by all services and the gateway, which proves by it that it may tell for which network it "
        "calls; at least 32 characters, and not those of service_secret. Without it nobody may.",
    )

    @field_validator("gateway_secret")
    @classmethod
    def _differs(cls, secret: SecretStr, others: ValidationInfo) -> SecretStr:
        if secret == others.data.get("service_secret"):
            raise ValueError("it is the service secret, by which the gateway could act as a service; make another one")
        return secret

    def rates(self) -> dict[Work, Rate]:
        """Return the rate of each kind of work."""
        per_second = {
            Work.READ: self.rate_reads,
            Work.LIST: self.rate_lists,
            Work.SEARCH: self.rate_searches,
            Work.COMMIT: self.rate_commits,
            Work.SEAL: self.rate_seals,
            Work.STREAM: self.rate_streams,
            Work.CREDENTIAL: self.rate_credentials,
            Work.SHARE: self.rate_shares,
            Work.MAKE: self.rate_makes,
        }
        return {work: Rate(rate, burst=rate * self.rate_burst_seconds) for work, rate in per_second.items()}


class PeerSettings(SettingsBase):
    """Settings of services that call others."""

    peer_tls: bool = Field(default=False, description="Whether the other services are reached by TLS.")


class AuthPeer(PeerSettings):
    """Settings of services that call auth."""

    auth_target: str = Field(pattern=_TARGET, description="gRPC address of the auth service, host:port.")


class MetadataPeer(PeerSettings):
    """Settings of services that call metadata."""

    metadata_target: str = Field(pattern=_TARGET, description="gRPC address of the metadata service, host:port.")


class NotifyPeer(PeerSettings):
    """Settings of services that call notify."""

    notify_target: str = Field(pattern=_TARGET, description="gRPC address of the notify service, host:port.")


S = TypeVar("S", bound=SettingsBase)


def load(settings: type[S]) -> S:
    """Read `settings` from the environment; if they are invalid, print the reasons and exit with status 2."""
    read = cast("Callable[[], S]", settings)  # the arguments come from the environment
    try:
        return read()
    except ValidationError as error:
        problems = [f"{_variable(item['loc'])}: {item['msg']}" for item in error.errors()]
        complaint = "; ".join(problems)
    except SettingsError as error:
        complaint = str(error)
    logs.configure_logs(fmt=logs.configured_format())
    structlog.get_logger().error("invalid settings", reason=complaint)
    raise SystemExit(2)


def _variable(location: tuple[int | str, ...]) -> str:
    return ENV_PREFIX + "_".join(str(part) for part in location).upper()
