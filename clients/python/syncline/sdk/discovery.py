"""Discovery of the services and the storage of an endpoint: GET {endpoint}/.well-known/syncline."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from syncline.model.accounts import SignUpPolicy
from syncline.rpc import traces
from syncline.sdk.errors import EndpointUnreachable, NewerSyncline, NotSyncline
from syncline.sdk.trust import NO_FURTHER, Trust, check_endpoint, check_place, host_of_target, host_of_url

if TYPE_CHECKING:
    from syncline.sdk.bounded_http import HttpAnswer

VERSION = 1
"""The version of the protocol that this client implements."""

WELL_KNOWN = "/.well-known/syncline"
TIMEOUT_SECONDS = 10.0
"""Maximum time in seconds until the whole answer of an endpoint has arrived, redirects included."""
_MAX_DOCUMENT_BYTES = 64 * 1024
_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PASSING: Final = frozenset({408, 429})
"""Statuses below 500 of answers that may be followed by other answers later: a timeout of the server, and a limit."""
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Service:
    """The address of a gRPC service: `target` as host and port, and `tls` if the connection is encrypted."""

    target: str
    tls: bool


@dataclass(frozen=True, slots=True)
class StorageAddress:
    """The S3 bucket of a deployment. `endpoint` is the URL of the storage, or None for AWS itself. `path_style` is True
    if the name of the bucket is in the path of a URL, and False if it is in the host name.
    """

    endpoint: str | None
    region: str
    bucket: str
    path_style: bool


@dataclass(frozen=True, slots=True)
class SignUpOffer:
    """The people who may make an account at an endpoint. `domains` are those of the policy DOMAINS."""

    policy: SignUpPolicy
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployment:
    """The addresses and names that a client needs to use one installation of Syncline."""

    auth: Service
    metadata: Service
    notify: Service
    s3: StorageAddress
    sign_up: SignUpOffer | None = None
    """None if the endpoint states no policy, or one that this client does not know."""


def discover(endpoint: str, *, trust: Trust = NO_FURTHER, timeout: float = TIMEOUT_SECONDS) -> Deployment:
    """Request from `endpoint` (an http or https URL) the addresses of its services and its storage, and return them.
    The whole answer has to arrive within `timeout` seconds.

    - Raise EndpointUnreachable if the endpoint does not answer.
    - Raise NotSyncline if the answer is not that of Syncline.
    - Raise NewerSyncline for a newer protocol.
    - Raise NotTrusted if `trust` does not allow one of the addresses.
    """
    endpoint = normalize_endpoint(endpoint)
    check_endpoint(endpoint, trust)
    deployment = deployment_from_json(_document(endpoint, timeout, trust), endpoint)
    services = {"auth": deployment.auth, "metadata": deployment.metadata, "notify": deployment.notify}
    for name, service in services.items():
        check_place(name, host_of_target(service.target), endpoint, tls=service.tls, trust=trust)
    if (storage := deployment.s3.endpoint) is not None:
        check_place("storage", host_of_url(storage), endpoint, tls=storage.startswith("https:"), trust=trust)
    return deployment


def normalize_endpoint(endpoint: str) -> str:
    """Return the endpoint without a trailing slash. Raise NotSyncline if it is no http or https URL of a host alone."""
    try:
        host_of_url(endpoint)
    except ValueError:
        raise NotSyncline(
            f"{endpoint!r} is not an address like https://files.example.com; check it. It names no user, and a name "
            "with other letters is written as xn--..."
        ) from None
    return endpoint.rstrip("/")


def _document(endpoint: str, timeout: float, trust: Trust) -> Any:
    # Only sign-in needs this, and importing the standard library's HTTP client takes longer than a call.
    from syncline.sdk.bounded_http import AnswerTooLong, NotHttp  # noqa: PLC0415

    try:
        answer = _answer(endpoint, timeout, trust)
    except AnswerTooLong:
        raise _too_long(endpoint) from None
    except NotHttp:
        raise NotSyncline(f"{endpoint} answers but does not speak HTTP; check the address") from None
    except OSError as error:
        raise EndpointUnreachable(
            f"{endpoint} does not answer ({error}); check the address and your connection"
        ) from None
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status in _PASSING:
        raise EndpointUnreachable(f"{endpoint} answers with an error ({answer.status}); try again later")
    if not answer.is_success:
        raise NotSyncline(f"{endpoint} answers but is not Syncline ({WELL_KNOWN}: {answer.status}); check the address")
    if len(answer.body) > _MAX_DOCUMENT_BYTES:
        raise _too_long(endpoint)
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):  # the latter for deeply nested arrays
        raise NotSyncline(f"{endpoint} answers but is not Syncline (no JSON); check the address") from None


def _answer(endpoint: str, timeout: float, trust: Trust) -> HttpAnswer:
    """Return the answer of an endpoint. All redirects together have `timeout` seconds."""
    from syncline.sdk.bounded_http import fetch  # noqa: PLC0415 - see _document

    end = time.monotonic() + timeout
    url = endpoint + WELL_KNOWN
    with traces.span("http syncline", kind=traces.SpanKind.CLIENT) as span:
        headers = {"accept": "application/json"}
        if parent := span.header():
            headers[traces.HEADER] = parent
        for _ in range(_MAX_REDIRECTS + 1):
            answer = fetch(url, headers, max_bytes=_MAX_DOCUMENT_BYTES, seconds=end - time.monotonic())
            place = answer.headers.get("location")
            if answer.status not in _REDIRECTS or place is None:
                return answer
            url = _redirected(endpoint, url, place, trust)
    raise NotSyncline(f"{endpoint} redirects again and again; check the address")


def _redirected(endpoint: str, url: str, place: str, trust: Trust) -> str:
    """Return the URL to which `url` redirects. Raise NotTrusted if the answer must not come from its host."""
    try:
        target = urllib.parse.urljoin(url, place)
        host = host_of_url(target)
    except ValueError:
        raise NotSyncline(f"{url} redirects to something that is no address; check the address") from None
    check_place("it", host, endpoint, tls=target.startswith("https:"), trust=trust)
    return target


def _too_long(endpoint: str) -> NotSyncline:
    return NotSyncline(f"{endpoint} answers but is not Syncline (too long an answer); check the address")


def deployment_from_json(document: Any, endpoint: str) -> Deployment:
    """Return the deployment that `document`, the parsed discovery document of `endpoint`, describes. Raise NotSyncline
    if the document is malformed, and NewerSyncline if its version is newer than VERSION.
    """
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
            s3=StorageAddress(
                endpoint=None if s3["endpoint"] is None else _url(s3["endpoint"]),
                region=_named(_REGION, s3["region"]),
                bucket=_named(_BUCKET, s3["bucket"]),
                path_style=bool(s3["path_style"]),
            ),
            sign_up=_sign_up(document.get("sign_up")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise NotSyncline(
            f"{endpoint} describes itself incompletely ({error}); report this to whoever runs it"
        ) from None


def deployment_to_json(deployment: Deployment) -> dict[str, Any]:
    """Return the discovery document of a deployment, in the form in which an endpoint sends it."""
    services = {"auth": deployment.auth, "metadata": deployment.metadata, "notify": deployment.notify}
    s3, offer = deployment.s3, deployment.sign_up
    return {
        "syncline": VERSION,
        **{name: {"target": service.target, "tls": service.tls} for name, service in services.items()},
        "s3": {"endpoint": s3.endpoint, "region": s3.region, "bucket": s3.bucket, "path_style": s3.path_style},
        **({} if offer is None else {"sign_up": {"policy": offer.policy.value, "domains": list(offer.domains)}}),
    }


def _sign_up(document: Any) -> SignUpOffer | None:
    """Parse what an endpoint says about sign-up. An endpoint of an earlier release says nothing, and one of a later
    release may have further policies.
    """
    try:
        policy = SignUpPolicy(document["policy"])
        return SignUpOffer(policy, tuple(_text(domain) for domain in document["domains"]))
    except (KeyError, TypeError, ValueError):
        return None


def _service(document: Mapping[str, Any]) -> Service:
    target = _text(document["target"])
    host_of_target(target)
    return Service(target, document["tls"] is True)


def _url(value: Any) -> str:
    url = _text(value)
    host_of_url(url)
    return url


def _named(pattern: re.Pattern[str], value: Any) -> str:
    """Return a value that becomes a part of a host name. Raise ValueError if it could change the host."""
    if pattern.fullmatch(_text(value)) is None:
        raise ValueError(f"{value!r} is not a name")
    return str(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a name")
    return value
