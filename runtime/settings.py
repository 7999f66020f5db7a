"""Settings: typed, documented, and read once from `SYNCLINE_*` variables."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Final, Literal, TypeAlias, TypeVar, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from runtime import logs
from runtime.logs import structlog
from runtime.permissions import Work
from runtime.rates import Rate
from syncline.model.accounts import SignUpPolicy
from syncline.model.limits import DEFAULT_DEADLINE_SECONDS, MAX_MESSAGE_BYTES, REQUEST_MEMORY_BYTES, UNREAD_MEMORY_BYTES
from syncline.model.trusted_networks import trusted_network

ENV_PREFIX = "SYNCLINE_"
SECRET_CHARACTERS: Final = 32
"""Minimum length of a secret, in characters."""
MAX_SIGN_UP_DOMAINS: Final = 100
"""Maximum number of domains whose addresses may sign up. The discovery document, which has a maximum size, lists
them.
"""
MAX_DOMAIN_CHARACTERS: Final = 253
"""Maximum length of a domain in DNS, in characters."""
_ADDRESS = r"(\[[0-9A-Fa-f:.]+\]|[^\s:]+):\d{1,5}"


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(trusted_network(text) for text in value.split(",")) if value.strip() else ()


def _domains(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(text.strip().lower() for text in value.split(","))) if value.strip() else ()


def _absent_or_long(secret: SecretStr) -> SecretStr:
    if 0 < len(secret.get_secret_value()) < SECRET_CHARACTERS:
        raise ValueError(f"a secret has at least {SECRET_CHARACTERS} characters")
    return secret


HostAndPort: TypeAlias = Annotated[str, StringConstraints(pattern=f"^{_ADDRESS}$")]
"""Address of a socket, host:port."""
HostAndPortOrEmpty: TypeAlias = Annotated[str, StringConstraints(pattern=f"^$|^{_ADDRESS}$")]
"""Address of a socket, host:port, or an empty text for no address."""
ServiceTarget: TypeAlias = Annotated[str, StringConstraints(pattern=r"^\S+:\d+$")]
"""Address of a service as gRPC takes it: host:port, which one of gRPC's schemes may precede."""
Networks: TypeAlias = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_networks)]
"""CIDR ranges, separated by commas."""


Domains: TypeAlias = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=r"^[^\s@,]+$", max_length=MAX_DOMAIN_CHARACTERS)], ...],
    NoDecode,
    BeforeValidator(_domains),
]
"""Domains of e-mail addresses in lower case, separated by commas."""
GatewaySecret: TypeAlias = Annotated[SecretStr, AfterValidator(_absent_or_long)]
"""The secret that the gateway shares with all services; empty for none."""


class SettingsBase(BaseSettings):
    """Base of all settings classes: reads them from the environment."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore")


class Observed(SettingsBase):
    """Settings of every process that serves."""

    metrics_listen: HostAndPortOrEmpty = Field(
        default="",
        description="Address of the `/metrics` listener that Prometheus scrapes, host:port. Port 0 takes a free one,"
        " which the `metrics` event contains; empty disables the listener.",
    )
    connections: int = Field(
        default=4096,
        ge=16,
        description="Maximum number of connections. They use at most half of the open-file limit: one file each, or "
        "three each at a service without a balancer. One network may have as many as it leaves free. At "
        "a service behind a balancer, the balancer limits connections instead.",
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="Format of the log on stderr: one JSON object per line, or text for people."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum severity of the events that are logged."
    )


class ServiceSettings(Observed):
    """Settings of every service. Each service adds its own settings in a subclass, and those of the services that it
    calls by the mixins AuthPeer, MetadataPeer and NotifyPeer.
    """

    listen: HostAndPort = Field(
        default="127.0.0.1:0",
        description="Address to listen on, host:port. Port 0 takes a free one, which the `serving` event contains.",
    )
    drain_seconds: float = Field(
        default=5.0,
        ge=0,
        description="Seconds for which the process still serves after reporting NOT_SERVING, so that the balancer "
        "can notice.",
    )
    grace_seconds: float = Field(
        default=10.0, ge=0, description="Maximum seconds for calls in flight to finish when the server stops."
    )
    max_message_bytes: int = Field(
        default=MAX_MESSAGE_BYTES, ge=MAX_MESSAGE_BYTES, description="Maximum size of an accepted message, in bytes."
    )
    request_bytes: int = Field(
        default=REQUEST_MEMORY_BYTES,
        ge=8 * MAX_MESSAGE_BYTES,
        description="Memory in bytes for incoming requests of all callers, by what they may take when they are parsed; "
        "half of it is for requests that arrive slowly. One caller alone may have half of each.",
    )
    request_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Maximum seconds for a request to arrive, and for the reading of answers to lag behind "
        "body_bytes_per_second.",
    )
    unread_bytes: int = Field(
        default=UNREAD_MEMORY_BYTES,
        ge=MAX_MESSAGE_BYTES,
        description="Memory in bytes for answers to slow readers; one caller alone may have half of it.",
    )
    body_bytes_per_second: int = Field(
        default=16_384,
        ge=1,
        description="Minimum rate at which answers have to be read, in bytes per second. A connection that lags "
        "behind it by request_seconds is closed, if it belongs to one caller and not to a balancer.",
    )
    trusted_proxies: int = Field(
        default=0,
        ge=0,
        description=(
            "Number of proxies between a client and this service, each of which appends the address that it "
            "saw to x-forwarded-for. To be set only if clients can reach the service through these proxies "
            "alone."
        ),
    )
    trusted_networks: Networks = Field(
        default=(),
        description=(
            "Networks that contain only balancers, whose x-forwarded-for is trusted; CIDRs, separated by "
            "commas. Calls from there are counted by the address before theirs in that header. The gateway "
            "need not be listed: it has a secret."
        ),
    )
    default_deadline_seconds: float = Field(
        default=float(DEFAULT_DEADLINE_SECONDS),
        gt=0,
        description="Deadline in seconds of unary calls that have none of their own.",
    )
    rate_reads: float = Field(default=200, gt=0, description="Maximum reads of single items per person and second.")
    rate_lists: float = Field(default=100, gt=0, description="Maximum pages of listings per person and second.")
    rate_searches: float = Field(default=5, gt=0, description="Maximum pages of searches per person and second.")
    rate_commits: float = Field(default=50, gt=0, description="Maximum commits per person and second.")
    rate_seals: float = Field(default=50, gt=0, description="Maximum calls that seal objects, per person and second.")
    rate_streams: float = Field(default=20, gt=0, description="Maximum streams that are opened, per person and second.")
    rate_credentials: float = Field(
        default=5, gt=0, description="Maximum requests for S3 credentials per person and second."
    )
    rate_shares: float = Field(
        default=5, gt=0, description="Maximum changes of members, links and devices per person and second."
    )
    rate_makes: float = Field(
        default=2, gt=0, description="Maximum spaces, keys and links together that are made, per person and second."
    )
    rate_burst_seconds: float = Field(
        default=30,
        ge=1,
        description="Size of the burst of each rate limit, in seconds of that rate: an idle caller may use as much "
        "at once.",
    )
    streams_open: int = Field(default=64, ge=1, description="Maximum number of open streams of one method per person.")
    service_secret: SecretStr = Field(
        min_length=SECRET_CHARACTERS,
        description="Secret of all services, with which they sign the tokens that authenticate them to each other; "
        "at least 32 characters.",
    )
    gateway_secret: GatewaySecret = Field(
        default=SecretStr(""),
        description="Secret of all services and the gateway, with which the gateway proves for which network it "
        "calls; at least 32 characters, and different from service_secret. Without it, services trust no"
        " such statement.",
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


class SignUpSettings(SettingsBase):
    """Settings of auth, which decides who may make an account, and of the gateway, which publishes the decision."""

    sign_up_policy: SignUpPolicy = Field(
        default=SignUpPolicy.INVITED,
        description="Who may make an account: `invited` for nobody unasked, `domains` for people with an e-mail "
        "address of one of sign_up_domains, `open` for everybody.",
    )
    sign_up_domains: Domains = Field(
        default=(),
        max_length=MAX_SIGN_UP_DOMAINS,
        validate_default=True,
        description="Domains of the e-mail addresses that may sign up with the policy `domains`, separated by commas. "
        "A domain stands for itself alone, and not for the domains below it.",
    )

    @field_validator("sign_up_domains")
    @classmethod
    def _some_domain(cls, domains: tuple[str, ...], others: ValidationInfo) -> tuple[str, ...]:
        if not domains and others.data.get("sign_up_policy") is SignUpPolicy.DOMAINS:
            raise ValueError("the policy `domains` needs at least one domain")
        return domains


class PeerSettings(SettingsBase):
    """Settings of a service that calls other services."""

    peer_tls: bool = Field(default=False, description="True if the other services are reached with TLS.")


class AuthPeer(PeerSettings):
    """Settings of a process that calls the service auth."""

    auth_target: ServiceTarget = Field(description="gRPC address of the auth service, host:port.")


class MetadataPeer(PeerSettings):
    """Settings of a process that calls the service metadata."""

    metadata_target: ServiceTarget = Field(description="gRPC address of the metadata service, host:port.")


class NotifyPeer(PeerSettings):
    """Settings of a process that calls the service notify."""

    notify_target: ServiceTarget = Field(description="gRPC address of the notify service, host:port.")


S = TypeVar("S", bound=SettingsBase)


def load(settings: type[S]) -> S:
    """Return the settings of the class `settings`, read from the environment. If they are invalid, print the reasons
    and exit with status 2.
    """
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
