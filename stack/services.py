"""The environment of each service: its address, its peers, its resources. As in production, there is no other
configuration.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

from runtime.listening import with_port
from runtime.logs import LOG_FORMAT
from stack.deploy import Resources
from stack.embedded_aws import HOST, Aws
from stack.probe import grpc_serving, http_ok
from stack.supervisor import Child
from syncline.model.accounts import SignUpPolicy

NAMES: Final = ("auth", "metadata", "notify", "gateway")
METRICS_LISTEN: Final = "SYNCLINE_METRICS_LISTEN"
SIGN_UP_POLICY: Final = "SYNCLINE_SIGN_UP_POLICY"
PROVE_ADDRESSES: Final = "SYNCLINE_PROVE_ADDRESSES"
SIGN_UP_DOMAINS: Final = "SYNCLINE_SIGN_UP_DOMAINS"
LOOPBACK_POLICY: Final = SignUpPolicy.OPEN
"""The policy of sign-up if neither an option nor the environment states one."""
_SERVICE_SECRET: Final = "SYNCLINE_SERVICE_SECRET"  # noqa: S105 - the name of a variable
_GATEWAY_SECRET: Final = "SYNCLINE_GATEWAY_SECRET"  # noqa: S105 - the name of a variable
_SECRETS: Final = frozenset({_SERVICE_SECRET, _GATEWAY_SECRET})


@dataclass(frozen=True, slots=True)
class Ports:
    """The five TCP ports of the stack. The gateway has the first one, and the embedded AWS and the other services the
    four that follow it.
    """

    gateway: int

    @property
    def auth(self) -> int:
        return self.gateway + 1

    @property
    def metadata(self) -> int:
        return self.gateway + 2

    @property
    def notify(self) -> int:
        return self.gateway + 3

    @property
    def aws(self) -> int:
        return self.gateway + 4


@dataclass(frozen=True, slots=True)
class Wiring:
    """The values from which the environment of each service is made: addresses, resources, secrets and settings."""

    ports: Ports
    aws: Aws
    resources: Resources
    role_environment: Callable[[str], Mapping[str, str]]
    """Function that takes the name of a service, and returns the environment variables with which the service uses its
    own role.
    """
    service_secret: str
    gateway_secret: str
    signing_key_file: Path
    variables: Mapping[str, str]
    """Environment variables, by name, that every service gets."""
    proxies: Sequence[IPv4Network | IPv6Network] = ()
    """Networks that contain only reverse proxies in front of the gateway. Only the gateway trusts their headers: it
    proves to the services for which network it calls.
    """

    policy: SignUpPolicy | None = None
    """The people who may make an account; None for what the environment says, and for everybody if it says nothing."""
    domains: Sequence[str] = ()
    """Domains whose addresses may sign up, for the policy DOMAINS."""
    prove_addresses: bool = False
    """True if addresses have to be proven; False for what the environment says, and for no if it says nothing."""

    @property
    def endpoint(self) -> str:
        """The address that users open."""
        return f"http://{HOST}:{self.ports.gateway}"


def service_children(wiring: Wiring) -> list[Child]:
    """Return the descriptions of the services auth, metadata, notify and gateway, for a Supervisor to start. A service
    comes after the services that it calls.
    """
    ports, resources = wiring.ports, wiring.resources
    auth, metadata, notify = (f"{HOST}:{port}" for port in (ports.auth, ports.metadata, ports.notify))
    return [
        _service(
            wiring,
            "auth",
            ports.auth,
            {
                "BUCKET": resources.bucket_name,
                "AUDIT_TABLE": resources.audit_table_name,
                "IDENTITY_TABLE": resources.identity_table_name,
                "MAIL_QUEUE_URL": resources.mail_queue_url,
                "SIGNING_KEY_FILE": str(wiring.signing_key_file),
                "TRANSFER_ROLE_ARN": resources.transfer_role_arn,
            },
        ),
        _service(
            wiring,
            "metadata",
            ports.metadata,
            {
                "AUTH_TARGET": auth,
                "BUCKET": resources.bucket_name,
                "CHANGES_TOPIC_ARN": resources.changes_topic_arn,
                "METADATA_TABLE": resources.metadata_table_name,
            },
        ),
        _service(
            wiring,
            "notify",
            ports.notify,
            {
                "AUTH_TARGET": auth,
                "CHANGES_TOPIC_ARN": resources.changes_topic_arn,
                "DOORBELL_QUEUE_PREFIX": resources.doorbell_queue_prefix,
                "MAIL_CONFIGURATION_SET": resources.mail_configuration_set_name,
                "MAIL_QUEUE_URL": resources.mail_queue_url,
                "MAIL_SENDER": resources.mail_sender,
                "NOTIFY_TABLE": resources.notify_table_name,
                "PUBLIC_URL": wiring.endpoint,
            },
        ),
        _service(
            wiring,
            "gateway",
            ports.gateway,
            {
                "AUTH_TARGET": auth,
                "BUCKET": resources.bucket_name,
                "GATEWAY_TABLE": resources.gateway_table_name,
                "METADATA_TARGET": metadata,
                "NOTIFY_TARGET": notify,
                "PUBLIC_AUTH": auth,
                "PUBLIC_METADATA": metadata,
                "PUBLIC_NOTIFY": notify,
                "PUBLIC_S3_ENDPOINT": wiring.aws.endpoint,
                "PUBLIC_URL": wiring.endpoint,
            },
        ),
    ]


def policy_of(wiring: Wiring) -> str:
    """Return the policy of sign-up of a stack with this wiring, as the services read it."""
    if wiring.policy is not None:
        return wiring.policy.value
    return {**os.environ, **wiring.variables}.get(SIGN_UP_POLICY, LOOPBACK_POLICY.value)


def admitted(wiring: Wiring) -> str:
    """Return a sentence that says who may make an account in a stack with this wiring, and whether addresses count as
    proven.
    """
    shared, policy = {**os.environ, **wiring.variables}, policy_of(wiring)
    domains = ",".join(wiring.domains) if wiring.policy is not None else shared.get(SIGN_UP_DOMAINS, "")
    who = "only people who are invited make accounts"
    if policy == SignUpPolicy.OPEN.value:
        who = "anybody who reaches this machine may make an account"
    elif policy == SignUpPolicy.DOMAINS.value:
        who = f"people with an e-mail address of {domains.replace(',', ', ')} may make an account"
    proves = wiring.prove_addresses or shared.get(PROVE_ADDRESSES, "false").lower() not in {"false", "0", "no", "off"}
    how = "addresses have to be proven" if proves else "addresses count as proven"
    return f"{who}, and {how}; --policy and --prove-addresses change that"


def environment(wiring: Wiring, name: str, port: int, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the complete environment of the service `name`, which listens on `port`. `variables` are settings of this
    service alone, by name without the prefix `SYNCLINE_`.

    `SYNCLINE_*` variables of this process are passed on, so that limits and log levels can be set for all services; the
    user's AWS account is not.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("AWS_") and key not in _SECRETS}
    shared = {**inherited, **wiring.variables}
    own = {
        "LISTEN": f"{HOST}:{port}",
        "METRICS_LISTEN": _metrics_listen(shared.get(METRICS_LISTEN, ""), name),
        **variables,
    }
    if name == "gateway" and wiring.proxies:
        own["TRUSTED_NETWORKS"] = ",".join(map(str, wiring.proxies))
    if wiring.policy is not None:
        own |= {"SIGN_UP_POLICY": wiring.policy.value, "SIGN_UP_DOMAINS": ",".join(wiring.domains)}
    if wiring.prove_addresses:
        own["PROVE_ADDRESSES"] = "true"
    return {
        PROVE_ADDRESSES: "false",
        SIGN_UP_POLICY: LOOPBACK_POLICY.value,  # only people and programs of this machine reach the ports
        "SYNCLINE_DRAIN_SECONDS": "0",  # there is no balancer that has to notice
        LOG_FORMAT: "console",
        **shared,
        **{f"SYNCLINE_{key}": value for key, value in own.items()},
        # The gateway acts only on behalf of its callers, and proves with a secret of its own for which network it
        # calls.
        **({} if name == "gateway" else {_SERVICE_SECRET: wiring.service_secret}),
        _GATEWAY_SECRET: wiring.gateway_secret,
        "AWS_ENDPOINT_URL": wiring.aws.endpoint,
        "AWS_REGION": wiring.aws.region,
        "AWS_DEFAULT_REGION": wiring.aws.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        # no profile of the user may replace the role
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        **wiring.role_environment(name),
        # all peers are on this machine, so no proxy is used
        "no_proxy": HOST,
        "NO_PROXY": HOST,
    }


def _metrics_listen(asked: str, name: str) -> str:
    """Return the address at which the service `name` serves its metrics. `asked` is the configured address. Its port is
    that of the first service, and each further service has the next one.

    With port 0, or without a port, the address is returned unchanged: the system then chooses a port, and the service
    logs that port.
    """
    port = asked.rpartition(":")[2]
    if not port.isdecimal() or not int(port):
        return asked
    return with_port(asked, int(port) + NAMES.index(name))


def _service(wiring: Wiring, name: str, port: int, variables: Mapping[str, str]) -> Child:
    module = "gateway" if name == "gateway" else f"services.{name}"
    return Child(
        name=name,
        # -P: a directory `services` in the user's working directory must not be imported.
        argv=(sys.executable, "-P", "-m", module),
        env=environment(wiring, name, port, variables),
        ready=partial(http_ok, HOST, port, "/readyz") if name == "gateway" else partial(grpc_serving, f"{HOST}:{port}"),
    )
