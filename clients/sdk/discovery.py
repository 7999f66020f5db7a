"""Where an endpoint's services and storage are: GET {endpoint}/.well-known/syncline."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clients.sdk.errors import EndpointUnreachable, NewerSyncline, NotSyncline
from clients.sdk.network import proxy_for, trusted
from runtime import traces

VERSION = 1
"""What this client speaks."""

WELL_KNOWN = "/.well-known/syncline"
TIMEOUT_SECONDS = 10.0
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Service:
    """Where a gRPC service listens."""

    target: str
    tls: bool


@dataclass(frozen=True, slots=True)
class Storage:
    """The S3 bucket. `endpoint` is None for AWS itself."""

    endpoint: str | None
    region: str
    bucket: str
    path_style: bool


@dataclass(frozen=True, slots=True)
class Deployment:
    """All that a client must know to reach one installation of Syncline."""

    auth: Service
    metadata: Service
    notify: Service
    s3: Storage


def discover(endpoint: str, *, timeout: float = TIMEOUT_SECONDS) -> Deployment:
    """Ask `endpoint` (an http or https URL) where things are.

    EndpointUnreachable, NotSyncline, NewerSyncline.
    """
    return deployment_from_json(_document(normalize_endpoint(endpoint), timeout), endpoint)


def normalize_endpoint(endpoint: str) -> str:
    """The endpoint without a trailing slash; NotSyncline if it is no http or https URL."""
    parts = urllib.parse.urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise NotSyncline(f"{endpoint!r} is not an address like https://files.example.com; check it")
    return endpoint.rstrip("/")


def _document(endpoint: str, timeout: float) -> Any:
    # Only who signs in asks; what the standard library has for HTTP takes a command longer to load than a call.
    import http.client  # noqa: PLC0415
    import urllib.error  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    url = endpoint + WELL_KNOWN
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - checked by the caller
    try:
        with traces.span("http syncline", kind=traces.Kind.CLIENT) as span:
            if parent := span.header():
                request.add_header(traces.HEADER, parent)
            with _opener(url).open(request, timeout=timeout) as answer:
                body: bytes = answer.read(_MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            if error.code >= 500:
                raise EndpointUnreachable(f"{endpoint} answers with an error ({error.code}); try again later") from None
            raise NotSyncline(
                f"{endpoint} answers but is not Syncline ({WELL_KNOWN}: {error.code}); check the address"
            ) from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, http.client.HTTPException):
            raise NotSyncline(f"{endpoint} answers but does not speak HTTP; check the address") from None
        why = getattr(error, "reason", None) or error
        raise EndpointUnreachable(
            f"{endpoint} does not answer ({why}); check the address and your connection"
        ) from None
    if len(body) > _MAX_BYTES:
        raise NotSyncline(f"{endpoint} answers but is not Syncline (too long an answer); check the address")
    try:
        return json.loads(body)
    except ValueError:
        raise NotSyncline(f"{endpoint} answers but is not Syncline (no JSON); check the address") from None


def _opener(url: str) -> Any:
    """Opens `url`, through a proxy if there is one on the way, and trusting whom this device trusts."""
    import urllib.request  # noqa: PLC0415 - as above

    proxy = proxy_for(url)
    through = urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else {})
    return urllib.request.build_opener(through, urllib.request.HTTPSHandler(context=trusted()))


def deployment_from_json(document: Any, endpoint: str) -> Deployment:
    """The document of an endpoint as a value; NotSyncline, NewerSyncline."""
    version = document.get("syncline") if isinstance(document, Mapping) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise NotSyncline(f"{endpoint} answers but is not Syncline; check the address")
    if version > VERSION:
        raise NewerSyncline(f"{endpoint} speaks version {version}, this client {VERSION}; update the client")
    try:
        s3 = document["s3"]
        return Deployment(
            auth=_service(document["auth"]),
            metadata=_service(document["metadata"]),
            notify=_service(document["notify"]),
            s3=Storage(
                endpoint=None if s3["endpoint"] is None else _text(s3["endpoint"]),
                region=_text(s3["region"]),
                bucket=_text(s3["bucket"]),
                path_style=bool(s3["path_style"]),
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NotSyncline(f"{endpoint} describes itself incompletely ({error}); report this to who runs it") from None


def deployment_to_json(deployment: Deployment) -> dict[str, Any]:
    """The document as the endpoint gives it."""
    services = {"auth": deployment.auth, "metadata": deployment.metadata, "notify": deployment.notify}
    s3 = deployment.s3
    return {
        "syncline": VERSION,
        **{name: {"target": service.target, "tls": service.tls} for name, service in services.items()},
        "s3": {"endpoint": s3.endpoint, "region": s3.region, "bucket": s3.bucket, "path_style": s3.path_style},
    }


def _service(document: Mapping[str, Any]) -> Service:
    return Service(_text(document["target"]), bool(document["tls"]))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a name")
    return value
