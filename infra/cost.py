"""An estimate of the monthly cost of a deployment, from the table in prices.toml and the templates."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra import templates
from infra.errors import DeployError

_HOURS: Final = 730
_SERVICES: Final = ("Auth", "Metadata", "Notify", "Gateway")


@dataclass(frozen=True, slots=True)
class CostItem:
    """One line of the estimate: what is paid for, how many of it (`quantity`), and the price of each."""

    what: str
    quantity: float
    price: float
    """Price of one, in dollars per month."""

    @property
    def dollars(self) -> float:
        """Cost in dollars per month."""
        return self.quantity * self.price


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of the file `prices.toml`, for the region `region` as of the day `as_of`.

    - `table` has the prices of what is paid per month or hour, by name.
    - `machines` has the price of an hour, in dollars, by the type of the machine.
    - `use` has the prices of what is paid by its use, each with the amount to which the price applies.
    - `not_included` names what the estimate leaves out.
    """

    region: str
    as_of: str
    table: Mapping[str, float]
    machines: Mapping[str, float]
    use: Mapping[str, tuple[float, str]]
    not_included: tuple[str, ...]

    @classmethod
    def read(cls) -> Prices:
        """Return the prices in the file `prices.toml`, which is stored with the templates."""
        found: Mapping[str, Any] = tomllib.loads((templates.HERE / "prices.toml").read_text())
        return cls(
            region=found["region"],
            as_of=str(found["as_of"]),
            table=found["fixed"],
            machines=found["machine_hour"],
            use={what: (price, unit) for what, (price, unit) in found["use"].items()},
            not_included=tuple(found["not_included"]["items"]),
        )


def fixed(prices: Prices, chosen: Mapping[str, str]) -> Iterator[CostItem]:
    """Yield the items that cost something even if nobody uses the system. `chosen` has the values of template
    parameters, by name, that differ from the default. Raise DeployError if there is no price for a type of machine.
    """
    value = {**_defaults(), **chosen}
    table = prices.table
    for service in _SERVICES:
        kind, count = value[f"{service}InstanceType"], int(value[f"{service}Min"])
        if kind not in prices.machines:
            raise DeployError(f"infra/prices.toml has no price for {kind} ({service}InstanceType); add it there")
        yield CostItem(f"{service.lower()}: {kind}, at least", count, prices.machines[kind] * _HOURS)
    machines = sum(int(value[f"{service}Min"]) for service in _SERVICES)
    disk = templates.read("services")["Resources"]["AuthTemplate"]["Properties"]["LaunchTemplateData"]
    gigabytes = disk["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"]
    yield CostItem(f"disk of a machine, {gigabytes} GB", machines, gigabytes * table["disk_gb_month"])
    yield CostItem("metrics of a machine each minute", machines, table["machine_metrics_month"])
    yield CostItem("load balancer", 2, table["load_balancer_hour"] * _HOURS)
    yield CostItem("load balancer capacity, one unit each", 2, table["load_balancer_unit_hour"] * _HOURS)
    zones = int(value["Zones"])
    gateways = {"zone": zones, "one": 1, "none": 0}[value["NatGateways"]]
    yield CostItem("NAT gateway", gateways, table["nat_hour"] * _HOURS)
    yield CostItem("public IPv4 address", zones + gateways, table["ipv4_hour"] * _HOURS)
    yield CostItem("secret", _count("AWS::SecretsManager::Secret"), table["secret_month"])
    yield CostItem("alarm", _count("AWS::CloudWatch::Alarm"), table["alarm_month"])
    yield CostItem("metric of our own", _count("AWS::Logs::MetricFilter"), table["metric_month"])
    yield CostItem("hosted zone", _count("AWS::Route53::HostedZone"), table["zone_month"])


def estimate(chosen: Mapping[str, str]) -> str:
    """Return the estimate of the monthly cost as text for people. `chosen` has the values of template parameters, by
    name, that differ from the default. Raise DeployError if there is no price for a type of machine.
    """
    prices = Prices.read()
    items = [item for item in fixed(prices, chosen) if item.quantity]
    lines = [f"Estimate for a month in dollars, at list prices of {prices.region} as of {prices.as_of}", ""]
    lines += [f"  {item.what:<40}{item.quantity:>4g} x {item.price:>8.2f} = {item.dollars:>9.2f}" for item in items]
    lines += [f"  {'fixed, whatever is used':<55} = {sum(item.dollars for item in items):>9.2f}", ""]
    lines += ["and for what is used:"]
    lines += [f"  {what:<55} {price:>9.4g} {unit}" for what, (price, unit) in prices.use.items()]
    lines += ["", "not included: " + "; ".join(prices.not_included)]
    return "\n".join(lines)


def _defaults() -> dict[str, str]:
    return {
        name: str(parameter["Default"])
        for template in templates.parameters().values()
        for name, parameter in template.items()
        if "Default" in parameter
    }


def _count(kind: str) -> int:
    return sum(resource["Type"] == kind for resource in templates.read("services")["Resources"].values())
