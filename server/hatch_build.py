"""Build of `syncline-server`: its packages lie beside this directory, or in it after an sdist is unpacked."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("aws", "gateway", "runtime", "services", "stack")
TEMPLATE = "infra/data.yaml"
"""The template that `syncline up` deploys to its embedded AWS, the same as in production."""
LEFT_OUT = ("__pycache__", "node_modules", "biome.json", "package.json", "tsconfig.json", "*.d.ts")
"""Patterns of names that are not needed at run time: caches, and the tools that check the web app with their
configuration.
"""


def shipped(folder: Path) -> list[str]:
    """Return the files below `folder` that a distribution contains, as sorted relative paths."""
    below = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        name.as_posix()
        for name in below
        if not any(fnmatch(part, pattern) for part in name.parts for pattern in LEFT_OUT)
    )


class Packages(BuildHookInterface[Any]):
    """Puts the packages of the server into its distribution."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Select the files of a build; a build with the `version` "editable" uses the packages where they are."""
        if version == "editable":
            return
        here = Path(self.root)
        beside = here.parent if (here.parent / PACKAGES[0]).is_dir() else here
        included = build_data["force_include"]
        for package in PACKAGES:
            for name in shipped(beside / package):
                included[str(beside / package / name)] = f"{package}/{name}"
        included[str(beside / TEMPLATE)] = TEMPLATE if self.target_name == "sdist" else "stack/data.yaml"
