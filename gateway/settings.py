"""Settings of the gateway, from `SYNCLINE_*` variables."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from runtime.settings import AuthPeer, GatewaySecret, MetadataPeer, Networks, NotifyPeer, Observed

_ADDRESS = r"^(\[[0-9A-Fa-f:.]+\]|[^\s:]+):\d{1,5}$"
_MIB = 1024 * 1024


class GatewaySettings(Observed, AuthPeer, MetadataPeer, NotifyPeer):
    """Settings of the gateway. AWS itself is configured by the SDK's variables.

    The gateway acts only on behalf of its callers, so it is no ServiceSettings: it does not get the services' secret.
    Its own secret only proves for which network it calls.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True)

    listen: str = Field(
        default="127.0.0.1:0",
        pattern=_ADDRESS,
        description="Address to listen on, host:port; port 0 takes a free one, which the `serving` event tells.",
    )
    drain_seconds: float = Field(
        default=5.0,
        ge=0,
        description="How long to go on serving after `/readyz` says no, so that the balancer can notice.",
    )
    grace_seconds: float = Field(
        default=10.0, ge=0, description="How long requests in flight may take to finish when the server stops."
    )
    bucket: str = Field(min_length=3, max_length=63, description="The one bucket that holds content.")
    gateway_table: str = Field(min_length=3, description="Name of the DynamoDB table of WebDAV's locks and properties.")
    public_auth: str = Field(pattern=_ADDRESS, description="Where clients find auth, host:port.")
    public_metadata: str = Field(pattern=_ADDRESS, description="Where clients find metadata, host:port.")
    public_notify: str = Field(pattern=_ADDRESS, description="Where clients find notify, host:port.")
    public_tls: bool = Field(default=False, description="Whether clients reach these three by TLS.")
    public_s3_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="Where clients find S3, for what is not AWS; then the bucket is part of the path.",
    )
    public_url: str = Field(
        default="",
        pattern=r"^$|^https?://[^\s/]+$",
        description="Where browsers find us; empty: as they, or a proxy of trusted_networks, say.",
    )
    trusted_proxies: int = Field(
        default=0,
        ge=0,
        description="How many proxies stand between a client and the gateway, each adding the address it saw to "
        "X-Forwarded-For. Only where nobody can reach the gateway but through them.",
    )
    trusted_networks: Networks = Field(
        default=(),
        description="Networks that hold only proxies whose Forwarded and X-Forwarded-* headers are believed. CIDRs, "
        "separated by commas.",
    )
    gateway_secret: GatewaySecret = Field(
        default=SecretStr(""),
        description="Proves to the services that it is the gateway that tells for which network it calls; at least 32 "
        "characters. Without it all callers are counted by the gateway's own address.",
    )
    hsts_seconds: int = Field(
        default=365 * 86_400,
        ge=0,
        description="For how long browsers that came by TLS come by nothing else (Strict-Transport-Security); 0: as "
        "they like.",
    )
    request_seconds: float = Field(
        default=30.0,
        gt=0,
        description="How long the head of a request may take to arrive, and how long a body, in either direction, may "
        "fall behind body_bytes_per_second.",
    )
    body_bytes_per_second: int = Field(
        default=16 * 1024,
        ge=1,
        description="The least rate of a body, in either direction, while the client is waited for.",
    )
    content_memory_bytes: int = Field(
        default=64 * _MIB,
        ge=24 * _MIB,
        description="How much content all downloads together may hold in memory.",
    )
    manifest_memory_bytes: int = Field(
        default=48 * _MIB,
        ge=40 * _MIB,
        description="How much memory manifests of large files may take, for all downloads together.",
    )
    body_memory_bytes: int = Field(
        default=32 * _MIB,
        ge=16 * _MIB,
        description="How much memory all bodies of requests may take, but uploads by WebDAV.",
    )
    parsed_bytes_per_second: int = Field(
        default=16 * _MIB,
        ge=1024,
        description="How much of JSON and XML may be parsed in a second, of all callers together; a comma, object, "
        "list, tag or attribute counts as 20 bytes more.",
    )
    answer_memory_bytes: int = Field(
        default=32 * _MIB,
        ge=8 * _MIB,
        description="How much of answers other than contents may wait in memory for slow readers.",
    )
    archives: int = Field(
        default=16, ge=4, le=256, description="How many archives (ZIP) may be under way at once, of about 3 MiB each."
    )
    upload_memory_bytes: int = Field(
        default=128 * _MIB,
        ge=32 * _MIB,
        description="How much content all uploads by WebDAV together may hold in memory.",
    )
