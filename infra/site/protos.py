"""The reference of the gRPC services, generated from the comments in the protos."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc  # type: ignore[import-untyped]  # published without types

from infra.site.text import cell, plain

_TYPES: Final = {
    FieldDescriptorProto.Type.Value(name): name.removeprefix("TYPE_").lower()
    for name in FieldDescriptorProto.Type.keys()  # noqa: SIM118 - an enum of protobuf, not a dict
}
# Field numbers of descriptor.proto, which make up the paths of source_code_info.
_PACKAGE, _MESSAGE, _ENUM, _SERVICE = 2, 4, 5, 6
_FIELD, _NESTED, _NESTED_ENUM, _ONEOF = 2, 3, 4, 8
_VALUE, _METHOD = 2, 2

Comments = Mapping[tuple[int, ...], str]
"""Mapping of the path of a declaration in the descriptor to the comment of the declaration."""


def protos_page(protos: Path) -> str:
    """Return the reference of all protos below `protos` as markdown. Raise RuntimeError if they do not compile."""
    parts = ["# gRPC\n", "Errors are written as status / reason. `protos/` has the sources.\n"]
    for file in _compiled(protos).file:
        parts.extend(_file(file))
    return "\n".join(parts)


def _compiled(protos: Path) -> FileDescriptorSet:
    names = sorted(str(path.relative_to(protos)) for path in (protos / "syncline").rglob("*.proto"))
    with tempfile.TemporaryDirectory(prefix="syncline-protos-") as scratch:
        out = Path(scratch) / "descriptors"
        arguments = ["protoc", f"-I{protos}", f"--descriptor_set_out={out}", "--include_source_info", *names]
        if protoc.main(arguments):
            raise RuntimeError("the protos do not compile")
        return FileDescriptorSet.FromString(out.read_bytes())


def _file(file: FileDescriptorProto) -> Iterator[str]:
    comments = {
        tuple(location.path): location.leading_comments or location.trailing_comments
        for location in file.source_code_info.location
        if location.leading_comments or location.trailing_comments
    }
    yield f"## {file.name}\n"
    yield _text(comments, (_PACKAGE,)) or _text(comments, ())
    for i, service in enumerate(file.service):
        yield f"### {service.name}\n"
        yield _text(comments, (_SERVICE, i))
        for j, method in enumerate(service.method):
            asked = f"{'stream ' * method.client_streaming}{_link(method.input_type)}"
            answered = f"{'stream ' * method.server_streaming}{_link(method.output_type)}"
            yield f"#### {method.name}\n\n{asked} → {answered}\n"
            yield _text(comments, (_SERVICE, i, _METHOD, j))
    for i, message in enumerate(file.message_type):
        yield from _message(file.package, message, comments, (_MESSAGE, i))
    for i, enum in enumerate(file.enum_type):
        yield from _enum(file.package, enum, comments, (_ENUM, i))


def _message(scope: str, message: DescriptorProto, comments: Comments, path: tuple[int, ...]) -> Iterator[str]:
    name = f"{scope}.{message.name}"
    yield f"### {message.name} {{: #{name} }}\n"
    yield _text(comments, path)
    if message.field:
        yield "| field | type | |\n|---|---|---|"
        for i, field in enumerate(message.field):
            yield f"| `{field.name}` | {_type(field)} | {_cell(comments, (*path, _FIELD, i))} |"
        yield ""
    for i, oneof in enumerate(message.oneof_decl):
        fields = [f for f in message.field if f.HasField("oneof_index") and f.oneof_index == i]
        if not any(f.proto3_optional for f in fields):
            names = ", ".join(f"`{f.name}`" for f in fields)
            yield f"At most one of {names} is set (`{oneof.name}`). {_text(comments, (*path, _ONEOF, i))}"
    for i, nested in enumerate(message.nested_type):
        yield from _message(name, nested, comments, (*path, _NESTED, i))
    for i, enum in enumerate(message.enum_type):
        yield from _enum(name, enum, comments, (*path, _NESTED_ENUM, i))


def _enum(scope: str, enum: EnumDescriptorProto, comments: Comments, path: tuple[int, ...]) -> Iterator[str]:
    yield f"### {enum.name} {{: #{scope}.{enum.name} }}\n"
    yield _text(comments, path)
    yield "| value | number | |\n|---|---|---|"
    for i, value in enumerate(enum.value):
        yield f"| `{value.name}` | {value.number} | {_cell(comments, (*path, _VALUE, i))} |"
    yield ""


def _type(field: FieldDescriptorProto) -> str:
    kind = _link(field.type_name) if field.type_name else _TYPES[field.type]
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {kind}"
    return f"optional {kind}" if field.proto3_optional else kind


def _link(name: str) -> str:
    """Return a link to the message or enum with this full name, which begins with a dot."""
    return f"[{name.rpartition('.')[2]}](#{name[1:]})" if name.startswith(".syncline.") else f"`{name[1:]}`"


def _text(comments: Comments, path: tuple[int, ...]) -> str:
    return f"{plain(_comment(comments, path))}\n"


def _cell(comments: Comments, path: tuple[int, ...]) -> str:
    return cell(_comment(comments, path))


def _comment(comments: Comments, path: tuple[int, ...]) -> str:
    return "\n".join(line.removeprefix(" ") for line in comments.get(path, "").splitlines())
