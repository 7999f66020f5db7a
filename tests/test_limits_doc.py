"""docs/limits.md says what the code has: the default of each limit is that of the setting or constant it names."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.settings import GatewaySettings
from infra.site import rest
from runtime.settings import ENV_PREFIX
from services.auth.settings import AuthSettings
from services.metadata.settings import MetadataSettings
from services.notify.settings import NotifySettings
from syncline.model import limits

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/limits.md").read_text()
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
"""The factor of a number by the word before its unit; others stand for themselves."""

PACKAGES = ("aws", "runtime", "services", "gateway", "stack")
A_BOUND = re.compile(r"_?MAX_(?!(?:CACHED|KEPT|REMEMBERED)_)[A-Z_]+")
"""The form of constants that bound what somebody else sends or takes, and not what is kept in memory to save work."""
INNER = {
    "aws": "how calls to AWS are put together, and how often they are tried",
    "gateway.api.events": "messages that wait for a slow reader; more of them wait at the service",
    "gateway.content.allowance._MAX_ATTEMPTS": "how often a record is written that others write too",
    "gateway.content.archive": "how small files are read together",
    "gateway.content.assemble": "how far ahead is read",
    "gateway.dav.locks._MAX_ATTEMPTS": "how often a record is written that others write too",
    "gateway.dav.properties": "how often a record is written, and how much goes out together",
    "gateway.dav.steps": "what is remembered of steps; one that is forgotten makes two changes of one",
    "gateway.dav.upload": "how often objects that are damaged are put again",
    "gateway.http.dates": "a longer text is no date",
    "gateway.identity.address": "a longer text is no address",
    "gateway.services.trees": "how requests are put together",
    "runtime.http.connection._MAX_FED_BYTES": "how much is parsed at once",
    "runtime.http.connection._MAX_LINES_BYTES": "follows from bounds that have rows",
    "services.auth.adapters.dynamodb": "how often a counter is written that others write too",
    "services.auth.endings._MAX_LISTINGS": "how often devices are looked for that signed in meanwhile",
    "services.auth.paging._MAX_PLACE_BYTES": "a longer text is no place of a listing",
    "services.auth.sessions": "a longer text is no token",
    "services.metadata.quota": "how long a measure may be late, before objects are not removed by it",
    "services.metadata.restore": "how often a way and a free name are looked for",
    "stack.archive": "the list of what a backup of our own holds",
    "stack.backup": "how often a backup is begun anew",
    "stack.supervisor": "children of our own",
    "gateway.dav.merge": "a directory that needs more is moved in another way",
    "gateway.records.ports.MAX_READ_BYTES": "how much is read at once of what is there",
    "gateway.dav.saving": "a directory of more is not looked at as one that is saved anew",
    "gateway.content.fetch_plan": "how reads of one content are put together",
    "gateway.http.problems": "what an answer says of a request that is wrong in many places",
    "services.auth.aliases": "a name of a space is cut where it becomes an address",
    "services.auth.credentials": "a bound of AWS on our own policies",
    "services.metadata.journal.announce": "how events are cut; clients are told to look",
    "services.metadata.journal.commit": "how often we try, and what an item of DynamoDB holds",
    "services.metadata.tree.decide": "how many versions are compared for a trace in the trash",
    "services.metadata.ports": "what an item of DynamoDB holds",
    "services.metadata.journal.project": "how a background task waits",
    "services.metadata.tree.search": "what is kept in memory; more is read again",
    "services.metadata.tree.view": "writers wait for the projection",
    "services.notify": "what one mail tells; the rest follows",
}
"""Constants, or modules with all of theirs, that bound nothing that others feel, and why."""
OPERATIONS = {
    "SYNCLINE_CACHED_NODES": "what is not in memory is read",
    "SYNCLINE_COALESCE_SECONDS": "how soon events follow each other",
    "SYNCLINE_DEFAULT_DEADLINE_SECONDS": "its default is a constant that has a row",
    "SYNCLINE_DRAIN_SECONDS": "how a process ends",
    "SYNCLINE_GRACE_SECONDS": "how a process ends",
    "SYNCLINE_HEARTBEAT_SECONDS": "how a silent stream stays open",
    "SYNCLINE_HSTS_SECONDS": "what browsers are told",
    "SYNCLINE_LEASE_SECONDS": "how background work is shared out",
    "SYNCLINE_MAX_MESSAGE_BYTES": "its default is a constant that has a row",
    "SYNCLINE_SWEEP_SECONDS": "how often background work is done",
    "SYNCLINE_TRUSTED_PROXIES": "who is asked for addresses",
}
"""Settings with a number that are no limits, and why."""
NUMBERS = {
    float(2**63 - 1): "numbers have 64 bits",
    float(2**31 - 1): "numbers have 32 bits",
    253_402_300_799_999: "the end of the year 9999",
}
"""Bounds in the description of the API that are no limits of ours, and why."""


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
    constants = {f"syncline.model.limits.{name}" for name in vars(limits) if name.isupper()}
    settings = {value(name) for name in named if name.startswith(ENV_PREFIX)}
    missing = {name for name in constants - named if value(name) not in settings}
    assert not missing
    assert len(named) > 40


def test_numbers_are_read() -> None:
    assert quantities("64 MiB each, 1,000 entries, 30 s, 15 min") == [64 * 1024**2, 1000, 30, 900]


def constants() -> Iterator[str]:
    """Every constant of the code that is called like a bound."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for statement in ast.parse(path.read_text()).body:
                match statement:
                    case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                        if A_BOUND.fullmatch(name):
                            yield f"{module}.{name}"


def test_every_constant_that_bounds_something_is_there_or_has_a_reason() -> None:
    named = {name for row in rows() for name in row.named}
    found = set(constants())
    assert {name for name in found - named if not any(name.startswith(inner) for inner in INNER)} == set()
    assert {inner for inner in INNER if not any(name.startswith(inner) for name in found - named)} == set()


def test_every_setting_with_a_number_is_there_or_has_a_reason() -> None:
    named = {name for row in rows() for name in row.named}
    found = {
        ENV_PREFIX + field.upper()
        for settings in SETTINGS
        for field, told in settings.model_fields.items()
        if isinstance(told.default, int | float) and not isinstance(told.default, bool)
    }
    assert found - named == OPERATIONS.keys()


def bounds(description: Any) -> Iterator[tuple[str, float]]:
    """Yield all that a description says of how long or large something may be, each with the name of that."""
    if isinstance(description, list):
        for one in description:
            yield from bounds(one)
    elif isinstance(description, dict):
        for key, told in description.items():
            if key in {"maxLength", "maxItems", "maximum", "exclusiveMaximum"} and isinstance(told, int | float):
                yield str(description.get("title")), float(told)
            else:
                yield from bounds(told)


def test_every_bound_of_the_api_is_there_or_has_a_reason() -> None:
    known = {number for row in rows() for number in quantities(row.default)} | NUMBERS.keys()
    assert {bound for bound in bounds(rest.openapi_document()) if bound[1] not in known} == set()
