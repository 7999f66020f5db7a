"""docs/limits.md says what the code has: the default of each limit is that of the setting or constant it names."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from core import limits
from gateway.settings import GatewaySettings
from runtime.settings import ENV_PREFIX
from services.auth.settings import AuthSettings
from services.metadata.settings import MetadataSettings
from services.notify.settings import NotifySettings

TEXT = (Path(__file__).parents[1] / "docs/limits.md").read_text()
SETTINGS = (GatewaySettings, AuthSettings, MetadataSettings, NotifySettings)
UNITS = {
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
    "min": 60,
    "h": 3600,
    "days": 86_400,
}
"""By which a number before the unit is multiplied; others stand for themselves."""


class Row(NamedTuple):
    """A line of a table."""

    limit: str
    default: str
    named: list[str]
    """Settings and constants."""
    answer: str


def rows() -> Iterator[Row]:
    """All lines of all tables with these columns."""
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 4 and cells[0] != "limit" and not cells[0].startswith("---"):
            yield Row(cells[0], cells[1], re.findall(r"`([\w.]+)`", cells[2]), cells[3])


def quantities(text: str) -> list[float]:
    """The numbers of a text, in bytes and seconds where they have such units."""
    found = re.findall(r"(?<![\w.])(\d+(?:,\d{3})*(?:\.\d+)?)(?: ([A-Za-z]\w*))?", text)
    return [float(number.replace(",", "")) * UNITS.get(unit, 1) for number, unit in found]


def value(name: str) -> Any:
    """The default of a setting, or a constant of the code."""
    if name.startswith(ENV_PREFIX):
        field = name.removeprefix(ENV_PREFIX).lower()
        (default, *others) = {kind.model_fields[field].default for kind in SETTINGS if field in kind.model_fields}
        assert not others, f"{name} has several defaults"
        return default * UNITS["days"] if name.endswith("_DAYS") else default
    module, _, attribute = name.rpartition(".")
    constant = getattr(importlib.import_module(module), attribute)
    return constant * UNITS["days"] if attribute.endswith("_DAYS") else constant


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.limit[:60])
def test_a_limit_is_what_the_code_has(row: Row) -> None:
    """A row without a number says in words what the limit is, and names nothing."""
    assert quantities(row.default) == [float(value(name)) for name in row.named]
    assert row.answer


def test_every_limit_that_both_ends_know_is_there() -> None:
    named = {name for row in rows() for name in row.named}
    constants = {f"core.limits.{name}" for name in vars(limits) if name.isupper()}
    settings = {value(name) for name in named if name.startswith(ENV_PREFIX)}
    missing = {name for name in constants - named if value(name) not in settings}
    assert not missing
    assert len(named) > 40


def test_numbers_are_read() -> None:
    assert quantities("64 MiB each, 1,000 entries, 30 s, 15 min") == [64 * 1024**2, 1000, 30, 900]
