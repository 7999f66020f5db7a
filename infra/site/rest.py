"""The reference of the HTTP API, generated from its OpenAPI document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI

from gateway import api
from gateway.api.openapi import described_api
from gateway.app import API
from infra.site.text import cell, plain

_ERRORS: Final = 400
"""The least HTTP status that means an error."""
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}


def openapi_document() -> dict[str, Any]:
    """Return the document that a gateway serves at `/openapi.json`, without running a gateway."""
    app = FastAPI(generate_unique_id_function=lambda route: route.name)
    app.include_router(api.router(), prefix=API)
    return described_api(app)


def rest_page(openapi: Mapping[str, Any]) -> str:
    """Return the reference of `openapi` as markdown: operations by tag, then the schemas."""
    return "\n".join(_lines(openapi))


def _lines(openapi: Mapping[str, Any]) -> Iterator[str]:
    yield "# HTTP\n"
    yield f"{openapi['info']['description']}\nA running system describes the same at `/docs` and `/openapi.json`.\n"
    yield from _statuses(openapi)
    tagged: dict[str, list[tuple[str, str, Any]]] = defaultdict(list)
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            if method != "head":  # the same as GET, without the content
                tagged[operation["tags"][0]].append((method.upper(), path, operation))
    for tag, operations in sorted(tagged.items()):
        yield f"## {tag.capitalize()}\n"
        for method, path, operation in operations:
            yield from _operation(method, path, operation)
    yield "## Schemas\n"
    for name, schema in sorted(openapi["components"]["schemas"].items()):
        yield from _schema(name, schema)


def _statuses(openapi: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table of the meanings of each status of an error, over all operations that have it."""
    meanings: dict[str, set[str]] = defaultdict(set)
    for operations in openapi["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= _ERRORS:
                    meanings[status].add(response.get("description", ""))
    yield "| status of an error | |\n|---|---|"
    for status, told in sorted(meanings.items()):
        yield f"| {status} | {cell(' '.join(sorted(told)))} |"
    yield ""


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {method} `{path}` {{: #{operation['operationId']} }}\n"
    yield f"{plain(operation.get('description') or operation.get('summary', ''))}\n"
    if parameters := operation.get("parameters"):
        yield "| parameter | in | type | |\n|---|---|---|---|"
        for parameter in parameters:
            name = f"`{parameter['name']}`" + (" (needed)" if parameter.get("required") else "")
            about = cell(parameter.get("description", ""))
            yield f"| {name} | {parameter['in']} | {_type(parameter['schema'])} | {about} |"
        yield ""
    if body := operation.get("requestBody"):
        yield f"Body: {_content(body)}\n"
    yield "| answer | | content |\n|---|---|---|"
    refusals = []
    for status, response in operation["responses"].items():
        if int(status) < _ERRORS:
            yield f"| {status} | {cell(response.get('description', ''))} | {_content(response)} |"
        else:
            refusals.append(status)
    if refusals:
        yield f"| {', '.join(refusals)} | | {_type(_PROBLEM)} |"
    yield ""


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name} {{: #schema-{name} }}\n"
    if about := schema.get("description"):
        yield f"{plain(about)}\n"
    if properties := schema.get("properties"):
        needed = schema.get("required", [])
        yield "| member | type | |\n|---|---|---|"
        for member, of in properties.items():
            needs = " (needed)" if member in needed else ""
            yield f"| `{member}`{needs} | {_type(of)} | {cell(of.get('description', ''))} |"
        yield ""
    elif "enum" in schema:
        yield f"One of {_type(schema)}.\n"


def _content(holder: Mapping[str, Any]) -> str:
    """Return the media types of a body or an answer, with their schemas."""
    return ", ".join(
        f"{_type(content['schema'])} (`{media}`)" if content.get("schema") else f"`{media}`"
        for media, content in holder.get("content", {}).items()
    )


def _type(schema: Mapping[str, Any]) -> str:
    """Return the type of a schema in a few words; for a schema with a name, a link."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#schema-{name})"
    if values := schema.get("enum"):
        return " \\| ".join(f"`{value}`" for value in values)
    if "const" in schema:
        return f"`{schema['const']}`"
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return " \\| ".join(map(_type, several))
    kind = str(schema.get("type", "any"))
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"array of {_type(schema['items'])}"
    limits = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "from"),
            ("maximum", "to"),
            ("minLength", "at least"),
            ("maxLength", "at most"),
        )
        if key in schema
    ]
    return " ".join([kind, *([f"({', '.join(limits)})"] if limits else [])])
