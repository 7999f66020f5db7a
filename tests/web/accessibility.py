"""Accessibility of pages, by axe's rules."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

from tests.web.people import Person

SEVERE = ("serious", "critical")


def severe(person: Person, *rules: str) -> list[dict[str, Any]]:
    """Return the serious faults that axe finds in the page, by all of its rules or by these."""
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    found = Axe().run(person.page, options=options).response["violations"]
    return [
        {"rule": one["id"], "nodes": [node["html"][:200] + " " + node["failureSummary"] for node in one["nodes"]]}
        for one in found
        if one["impact"] in SEVERE
    ]
