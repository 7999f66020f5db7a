"""How `syncline-server` is built: its packages lie beside this directory, or in it when an sdist is unpacked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("aws", "gateway", "runtime", "services", "stack")
TEMPLATE = "infra/data.yaml"
"""What `syncline up` deploys to its embedded AWS, which production deploys as well."""


class Packages(BuildHookInterface[Any]):
    """Puts the packages of the server into its distribution."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files of a build; one of the `version` "editable" finds the packages where they are."""
        if version == "editable":
            return
        here = Path(self.root)
        beside = here.parent if (here.parent / PACKAGES[0]).is_dir() else here
        included = build_data["force_include"]
        for package in PACKAGES:
            included[str(beside / package)] = package
        included[str(beside / TEMPLATE)] = TEMPLATE if self.target_name == "sdist" else "stack/data.yaml"
