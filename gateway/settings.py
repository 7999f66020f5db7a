"""Settings of the gateway, from `SYNCLINE_*` variables."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from runtime.settings import (
    AuthPeer,
    GatewaySecret,
    HostAndPort,
    MetadataPeer,
    Networks,
    NotifyPeer,
    Observed,
    SignUpSettings,
)

_MIB = 1024 * 1024


class GatewaySettings(Observed, AuthPeer, MetadataPeer, NotifyPeer, SignUpSettings):
    """Settings of the gateway. AWS itself is configured by the SDK's variables.

    The gateway acts only on behalf of its callers, so it is no ServiceSettings: it does not get the services' secret.
    Its own secret only proves for which network it calls.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True)

    listen: HostAndPort = Field(
        default="127.0.0.1:0",
        description="Address to listen on, host:port. Port 0 takes a free one, which the `serving` event contains.",
    )
    drain_seconds: float = Field(
        default=5.0,
        ge=0,
        description="Seconds for which the process still serves after `/readyz` reports that it is not ready, so "
        "that the balancer can notice.",
    )
    grace_seconds: float = Field(
        default=10.0, ge=0, description="Maximum seconds for requests in flight to finish when the server stops."
    )
    bucket: str = Field(min_length=3, max_length=63, description="Name of the bucket of all content.")
    gateway_table: str = Field(min_length=3, description="Name of the DynamoDB table of WebDAV's locks and properties.")
    public_auth: HostAndPort = Field(description="Address of auth for clients, host:port.")
    public_metadata: HostAndPort = Field(description="Address of metadata for clients, host:port.")
    public_notify: HostAndPort = Field(description="Address of notify for clients, host:port.")
    public_tls: bool = Field(default=False, description="True if clients reach these three services with TLS.")
    public_s3_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="Address of S3 for clients, if it is not AWS; the bucket is then a part of the path.",
    )
    public_url: str = Field(
        default="",
        pattern=r"^$|^https?://[^\s/]+$",
        description="Address of the gateway for browsers. If it is empty, the address in each request is used, or "
        "the one that a proxy in trusted_networks reports.",
    )
    trusted_proxies: int = Field(
        default=0,
        ge=0,
        description="Number of proxies between a client and the gateway, each of which appends the address that it "
        "saw to X-Forwarded-For. To be set only if clients can reach the gateway through these proxies "
        "alone.",
    )
    trusted_networks: Networks = Field(
        default=(),
        description="Networks that contain only proxies whose Forwarded and X-Forwarded-* headers are trusted; "
        "CIDRs, separated by commas.",
    )
    gateway_secret: GatewaySecret = Field(
        default=SecretStr(""),
        description="Secret with which the gateway proves to the services for which network it calls; at least 32 "
        "characters. Without it, all callers are counted by the gateway's own address.",
    )
    hsts_seconds: int = Field(
        default=365 * 86_400,
        ge=0,
        description="Seconds for which browsers that have connected with TLS must use TLS (Strict-Transport-"
        "Security); 0 leaves the header out.",
    )
    request_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Maximum seconds for the header section of a request to arrive, and for a body, in either "
        "direction, to lag behind body_bytes_per_second.",
    )
    body_bytes_per_second: int = Field(
        default=16 * 1024,
        ge=1,
        description="Minimum rate of a body in bytes per second, in either direction, while the gateway waits for "
        "the client.",
    )
    content_memory_bytes: int = Field(
        default=64 * _MIB,
        ge=24 * _MIB,
        description="Memory in bytes for the content of all downloads together.",
    )
    manifest_memory_bytes: int = Field(
        default=48 * _MIB,
        ge=40 * _MIB,
        description="Memory in bytes for manifests of large files, for all downloads together.",
    )
    body_memory_bytes: int = Field(
        default=32 * _MIB,
        ge=16 * _MIB,
        description="Memory in bytes for all request bodies, except WebDAV uploads.",
    )
    parsed_bytes_per_second: int = Field(
        default=16 * _MIB,
        ge=1024,
        description="Maximum rate at which JSON and XML of all callers together are parsed, in bytes per second; "
        "each comma, object, list, tag or attribute counts as 20 additional bytes.",
    )
    answer_memory_bytes: int = Field(
        default=32 * _MIB,
        ge=8 * _MIB,
        description="Memory in bytes for answers, other than contents, to slow readers.",
    )
    archives: int = Field(
        default=16,
        ge=4,
        le=256,
        description="Maximum number of concurrent archives (ZIP), of about 3 MiB of memory each.",
    )
    upload_memory_bytes: int = Field(
        default=128 * _MIB,
        ge=32 * _MIB,
        description="Memory in bytes for the content of all WebDAV uploads together.",
    )
