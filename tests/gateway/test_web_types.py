"""The shapes that the web app expects of the API are those of the API's description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from infra.site.rest import openapi_document

WEB: Final = Path(__file__).parents[2] / "gateway/web"
TYPEDEF: Final = re.compile(r"@typedef \{(?!object\})(?P<type>.+?)\} (?P<name>\w+)(?=\s|$)", re.DOTALL)
"""A type in JSDoc. One that starts with `{object}` lists its properties below itself, and is no shape of the API."""
SCALARS: Final = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
SCHEMAS: Final[Mapping[str, Any]] = openapi_document()["components"]["schemas"]

Shape = dict[str, frozenset[str]]
"""The alternatives of the type of each member, by the member's name."""


def declared(source: str) -> dict[str, str]:
    """Return each type that the comments of a module declare, as JSDoc writes it, by its name."""
    (block,) = [one for one in re.findall(r"/\*\*(.*?)\*/", source, re.DOTALL) if one.count("@typedef") > 1]
    text = re.sub(r"\n \* *", " ", block)
    return {found["name"]: found["type"] for found in TYPEDEF.finditer(text)}


def shape(text: str, types: Mapping[str, str]) -> Shape:
    """Return the shape that `text`, a type in JSDoc, describes: `{...}`, a name, or several by `&`."""
    members: Shape = {}
    for part in re.split(r"\s*&\s*", text.strip()):
        if not part.startswith("{"):
            members |= shape(types[part], types)
            continue
        for member in re.split(r",\s+(?=\w+: )", part.strip("{} ")):
            name, colon, alternatives = member.partition(": ")
            assert colon, f"{member!r} has no type"
            members[name] = expanded(alternatives, types)
    return members


def expanded(text: str, types: Mapping[str, str]) -> frozenset[str]:
    """Return the alternatives of a type; the name of a union of texts stands for its alternatives."""
    found: set[str] = set()
    for alternative in re.split(r"\s*\|\s*", text.strip()):
        named = types.get(alternative, "{")
        found |= {alternative} if named.startswith("{") else expanded(named, types)
    return frozenset(found)


def described(schema: Mapping[str, Any]) -> Shape:
    """Return the shape that a schema of the API describes. Answers hold every member, also those with a default."""
    return {name: alternatives(member) for name, member in schema["properties"].items()}


def alternatives(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the alternatives of the type that `schema` describes, as JSDoc writes them."""
    match schema:
        case {"$ref": str(reference)}:
            return frozenset({reference.rpartition("/")[2]})
        case {"anyOf": several}:
            return frozenset().union(*map(alternatives, several))
        case {"enum": values}:
            return frozenset(f'"{value}"' for value in values)
        case {"type": "array", "items": {"$ref": str(reference)}}:
            return frozenset({f"{reference.rpartition('/')[2]}[]"})
        case {"type": "array", "items": {"type": str(kind)}}:
            return frozenset({f"{SCALARS[kind]}[]"})
        case {"type": "object", "additionalProperties": {"type": str(kind)}}:
            return frozenset({f"Record<string, {SCALARS[kind]}>"})
        case {"type": kind}:
            return frozenset({SCALARS[kind]})
    raise ValueError(f"no type in JSDoc stands for {schema}")


TYPES: Final = declared((WEB / "api.js").read_text())
SHAPES: Final = sorted(name for name, text in TYPES.items() if "{" in text)


def test_the_types_of_the_app_are_found() -> None:
    assert {"Node", "Located", "Account", "Device", "Space", "Member", "Version", "Activity", "Link"} <= set(SHAPES)
    assert expanded("Role", TYPES) == {'"owner"', '"editor"', '"viewer"'}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_of_the_app_is_that_of_the_api(name: str) -> None:
    assert shape(TYPES[name], TYPES) == described(SCHEMAS[name])


@pytest.mark.parametrize(
    ("found", "changed"),
    [
        ("deleted_at_ms: number | null", "deleted_at_ms: number"),
        ('"file" | "directory" | "symlink"', '"file" | "directory"'),
        ("etag: string, ", ""),
        ("executable: boolean", "executable: boolean, hidden: boolean"),
    ],
)
def test_a_shape_that_differs_is_noticed(found: str, changed: str) -> None:
    source = (WEB / "api.js").read_text()
    types = declared(re.sub(re.escape(found).replace(r"\ ", r"\s+(?:\*\s+)?"), changed, source, count=1))
    assert types != TYPES
    assert shape(types["Node"], types) != described(SCHEMAS["Node"])
