"""The system behind a balancer, for tests: several processes of each service, one endpoint for gRPC, HTTP and S3.

    balanced = Balanced(metadata=3)
    with running_stack(children=balanced) as stack: ...     balanced.hosts() is the balancer's view

The balancer is Envoy with `infra/envoy.yaml`, the configuration of the containers: only addresses and ports differ.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import random
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from stack.embedded_aws import HOST, listen
from stack.errors import PortInUse, StackError
from stack.probe import grpc_serving, http_ok
from stack.services import Wiring, service_children
from stack.supervisor import Child
from stack.up import FREE_PORTS

BALANCER: Final = "balancer"
DRAIN_SECONDS: Final = 3
"""Seconds of draining: the balancer checks the health of each instance every second, and an answer may take a second.
"""

_CONFIGURATION: Final = Path(__file__).resolve().parent.parent / "infra" / "envoy.yaml"
_STOP_SECONDS: Final = 20.0
# Settings of services and clients with the single endpoint, which serves everything.
_TARGETS: Final = ("AUTH_TARGET", "METADATA_TARGET", "NOTIFY_TARGET", "PUBLIC_AUTH", "PUBLIC_METADATA", "PUBLIC_NOTIFY")


@dataclass(frozen=True, slots=True)
class Host:
    """One instance (process) of a service, as the balancer reports it: the name of the service in `cluster`, the port
    of the instance, and whether it has passed the last check of its health.
    """

    cluster: str
    port: int
    healthy: bool
    requests: int
    """Number of calls sent to this instance since the balancer started, including earlier processes on the same port.
    """


class Balanced:
    """Makes the children of a balanced stack (a `MakeChildren`): the balancer, and several processes of each service,
    named `auth-1`, `auth-2`, ...
    """

    def __init__(self, *, auth: int = 2, metadata: int = 2, notify: int = 2, gateway: int = 2) -> None:
        self._processes = {"auth": auth, "metadata": metadata, "notify": notify, "gateway": gateway}
        self._admin = 0
        self.ready: Mapping[str, Callable[[], Awaitable[bool]]] = {}
        """Functions that check the readiness of a process directly, without the balancer, by the name of the
        process.
        """

    @property
    def names(self) -> list[str]:
        """Return the names of all service processes, in the order in which they are started."""
        return [name for service in self._processes for name in self.instances(service)]

    def instances(self, service: str) -> list[str]:
        """Return the names of the processes of one service, in the order of their numbers: `auth-1`, `auth-2`."""
        return [f"{service}-{number}" for number in range(1, self._processes[service] + 1)]

    def __call__(self, wiring: Wiring) -> list[Child]:
        """Return the descriptions of the balancer and of the instances of all services. The balancer comes first, so
        that it is stopped last. `wiring` has the addresses and secrets of the stack.
        """
        self._admin, *ports = free_ports(1 + sum(self._processes.values()))
        at = dict(zip(self.names, ports, strict=True))
        edge = f"{HOST}:{wiring.ports.gateway}"
        told = {
            **{f"SYNCLINE_{name}": edge for name in _TARGETS},
            "SYNCLINE_PUBLIC_S3_ENDPOINT": wiring.endpoint,
            "SYNCLINE_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "SYNCLINE_TRUSTED_PROXIES": "1",
        }
        children = [
            _instance(child, name, at[name], told)
            for child in service_children(wiring)
            for name in self.instances(child.name)
        ]
        self.ready = {child.name: child.ready for child in children}
        clusters = {service: [at[name] for name in self.instances(service)] for service in self._processes}
        clusters["aws"] = [wiring.ports.aws]
        return [self._balancer(wiring, clusters), *children]

    def hosts(self) -> list[Host]:
        """Return the balancer's view of each instance; an empty list while it does not answer."""
        return list(_hosts(self._admin))

    def _balancer(self, wiring: Wiring, clusters: Mapping[str, list[int]]) -> Child:
        configuration = local_configuration(listen_on=wiring.ports.gateway, admin=self._admin, clusters=clusters)

        async def ready() -> bool:
            if not await http_ok(HOST, wiring.ports.gateway, "/readyz"):
                return False
            return all(host.healthy for host in self.hosts())

        return Child(
            name=BALANCER,
            argv=command(configuration),
            env={},
            ready=ready,
        )


def command(configuration: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the command that runs Envoy with `configuration`, a bootstrap configuration of Envoy."""
    return (
        *(sys.executable, "-P", "-m", "envoy._main"),
        *("--config-yaml", json.dumps(configuration)),
        *("--concurrency", "1"),
        *("--log-level", "warning"),
        "--disable-hot-restart",  # hot restart would prevent other Envoys on this machine
    )


def local_configuration(*, listen_on: int, admin: int, clusters: Mapping[str, list[int]]) -> dict[str, Any]:
    """Return the configuration of `infra/envoy.yaml`, changed for processes on the loopback interface. `listen_on` is
    the port on which Envoy serves, `admin` the port of its admin interface, and `clusters` has the ports of the
    instances of each cluster, by the cluster's name in the file.
    """
    configuration: dict[str, Any] = yaml.safe_load(_CONFIGURATION.read_text())
    resources = configuration["static_resources"]
    configuration["admin"]["address"] = _address(admin)
    (listener,) = resources["listeners"]
    listener["address"] = _address(listen_on)
    for cluster in resources["clusters"]:
        name = cluster["name"]
        del cluster["cluster_type"]
        cluster["type"] = "STATIC"
        endpoints = [{"endpoint": {"address": _address(port)}} for port in clusters[name]]
        cluster["load_assignment"] = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    return configuration


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}


def _instance(child: Child, name: str, port: int, told: Mapping[str, str]) -> Child:
    is_gateway = child.name == "gateway"
    return dataclasses.replace(
        child,
        name=name,
        env={**child.env, **told, "SYNCLINE_LISTEN": f"{HOST}:{port}"},
        ready=partial(http_ok, HOST, port, "/readyz") if is_gateway else partial(grpc_serving, f"{HOST}:{port}"),
        stop_seconds=_STOP_SECONDS,
    )


def _hosts(admin: int) -> Iterator[Host]:
    connection = http.client.HTTPConnection(HOST, admin, timeout=1)
    try:
        connection.request("GET", "/clusters?format=json")
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException):
        return
    finally:
        connection.close()
    for cluster in answer["cluster_statuses"]:
        for status in cluster.get("host_statuses", []):
            figures = {each["name"]: int(each.get("value", 0)) for each in status["stats"]}
            yield Host(
                cluster=cluster["name"],
                port=status["address"]["socket_address"]["port_value"],
                healthy=not status["health_status"].get("failed_active_health_check", False),
                requests=figures["rq_total"],
            )


def free_ports(count: int) -> list[int]:
    """Return `count` ports on which nobody listens. Raise StackError if there are not so many."""
    ports: list[int] = []
    with ExitStack() as taken:
        for port in random.sample(FREE_PORTS, 50):
            try:
                taken.enter_context(listen(port, "balanced stack"))
            except PortInUse:
                continue
            ports.append(port)
            if len(ports) == count:
                return ports
    raise StackError(f"no {count} free ports found")
