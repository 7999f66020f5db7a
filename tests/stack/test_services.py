"""The services are told their settings."""

import dataclasses
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from runtime.settings import load
from stack.balancer import Balanced
from stack.services import NAMES, Ports, Wiring, environment


@pytest.fixture
def wiring(monkeypatch):
    """Enough to be told by; what a service needs of AWS is not looked at here."""
    monkeypatch.delenv("SYNCLINE_METRICS_LISTEN", raising=False)

    aws: Any = SimpleNamespace(endpoint="http://127.0.0.1:1", region="eu-central-1")
    nothing: Any = None

    def make(**variables: str) -> Wiring:
        return Wiring(
            ports=nothing,
            aws=aws,
            resources=nothing,
            role_environment=lambda _name: {},
            service_secret="s" * 32,
            gateway_secret="g" * 32,
            signing_key_file=nothing,
            variables=variables,
        )

    return make


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("", [""] * 4),
        ("127.0.0.1:0", ["127.0.0.1:0"] * 4),
        ("127.0.0.1:9100", [f"127.0.0.1:{port}" for port in (9100, 9101, 9102, 9103)]),
        ("[::1]:9100", [f"[::1]:{port}" for port in (9100, 9101, 9102, 9103)]),
        ("nonsense", ["nonsense"] * 4),
    ],
)
def test_each_process_has_a_port_of_its_own_for_metrics(wiring, monkeypatch, asked, told):
    def listen(made: Wiring) -> list[str]:
        return [environment(made, name, 1, {})["SYNCLINE_METRICS_LISTEN"] for name in NAMES]

    assert listen(wiring(SYNCLINE_METRICS_LISTEN=asked)) == told
    monkeypatch.setenv("SYNCLINE_METRICS_LISTEN", asked)
    assert listen(wiring()) == told


def test_the_gateway_alone_believes_the_proxies_in_front_of_it(wiring, monkeypatch):
    monkeypatch.delenv("SYNCLINE_TRUSTED_NETWORKS", raising=False)
    made = dataclasses.replace(wiring(), proxies=(ip_network("127.0.0.1/32"), ip_network("2001:db8::/32")))
    told = {name: environment(made, name, 1, {}).get("SYNCLINE_TRUSTED_NETWORKS") for name in NAMES}
    assert told == {"auth": None, "metadata": None, "notify": None, "gateway": "127.0.0.1/32,2001:db8::/32"}


class Named:
    """Resources that are called like their attributes."""

    def __getattr__(self, name: str) -> str:
        return name


def test_behind_the_balancer_every_gateway_finds_and_tells_the_one_endpoint(wiring, monkeypatch):
    resources: Any = Named()
    made = dataclasses.replace(wiring(), ports=Ports(8080), resources=resources)
    _, *children = Balanced(gateway=2)(made)
    gateways = [child for child in children if child.name.startswith("gateway-")]
    assert len(gateways) == 2
    for gateway in gateways:
        with monkeypatch.context() as environment:
            for name, value in gateway.env.items():
                environment.setenv(name, value)
            settings = load(GatewaySettings)
        edge = "127.0.0.1:8080"
        assert {settings.auth_target, settings.metadata_target, settings.notify_target} == {edge}
        assert {settings.public_auth, settings.public_metadata, settings.public_notify} == {edge}
        assert settings.public_url == settings.public_s3_endpoint == f"http://{edge}"
    [auth, _] = [child for child in children if child.name.startswith("auth-")]
    assert auth.env["SYNCLINE_TRUSTED_PROXIES"] == "1"
