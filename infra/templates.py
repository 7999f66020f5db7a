"""Parsing of the templates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).resolve().parent
ORDER: Final = ("artefacts", "network", "data", "services")
"""The templates in the order of deployment: each uses only outputs of earlier ones."""


class _Loader(yaml.SafeLoader):
    """Reads `!Ref x` as {"Ref": "x"} and `!Sub x` as {"Fn::Sub": "x"}."""


def _intrinsic(loader: Any, suffix: str, node: Any) -> Mapping[str, Any]:
    construct = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: lambda node: loader.construct_sequence(node, deep=True),
        yaml.MappingNode: lambda node: loader.construct_mapping(node, deep=True),
    }[type(node)]
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": construct(node)}


_Loader.add_multi_constructor("!", _intrinsic)


def path(name: str) -> Path:
    """Return the path of the CloudFormation template with this name, such as `network`."""
    return HERE / f"{name}.yaml"


@cache
def read(name: str) -> Mapping[str, Any]:
    """Return the parsed CloudFormation template with this name, such as `network`. The result is cached."""
    found: Mapping[str, Any] = yaml.load(path(name).read_text(), _Loader)  # noqa: S506 - a safe loader
    return found


def parameters() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Return the declarations of the parameters of each template, by the name of the template and the name of the
    parameter.
    """
    return {name: read(name).get("Parameters", {}) for name in ORDER}
