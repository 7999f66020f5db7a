"""Ids: absent, malformed and well-formed ones are told apart, each in words of its own."""

from __future__ import annotations

from typing import Any

import pytest

from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import ROOT, new_request_id, new_text_id
from syncline.wire import identifiers
from syncline.wire.tree import mutation_from_wire

TEXT = [
    identifiers.space_id_from_wire,
    identifiers.user_id_from_wire,
    identifiers.device_id_from_wire,
    identifiers.link_id_from_wire,
]
BYTES = [identifiers.node_id_from_wire, identifiers.request_id_from_wire]


@pytest.mark.parametrize("parse", TEXT)
def test_text_ids(parse) -> None:
    good = new_text_id()
    assert parse(good) == good
    with pytest.raises(InvalidArgument, match="_id is missing") as absent:
        parse("")
    assert absent.value.details["field"].endswith("_id")
    for wrong in (
        good[:-1],
        good + "a",
        good.upper(),
        "1" * 26,
        " " + good[1:],
        good[:-1] + "\n",
        good + "\n",
        "a" * 9999,
    ):
        with pytest.raises(InvalidArgument, match="is not a valid id"):
            parse(wrong)


@pytest.mark.parametrize("parse", BYTES)
def test_byte_ids(parse) -> None:
    good = new_request_id()
    assert parse(good) == good
    assert parse(ROOT) == ROOT
    with pytest.raises(InvalidArgument, match="is missing"):
        parse(b"")
    for wrong in (good[:-1], good + b"a", bytes(32), bytes(9999)):
        with pytest.raises(InvalidArgument, match=f"must be 16 bytes, not {len(wrong)}"):
            parse(wrong)


MOVE: dict[str, Any] = {"node": b"n" * 16, "from_parent": ROOT, "from_name": "a", "parent": ROOT, "name": "b"}


@pytest.mark.parametrize("field", ["node", "from_parent", "parent"])
def test_an_absent_id_of_a_mutation_is_not_the_root(field: str) -> None:
    assert mutation_from_wire(metadata_pb2.Mutation(move=metadata_pb2.MoveNode(**MOVE)))
    without = {name: value for name, value in MOVE.items() if name != field}
    for fields, said in ((without, "missing"), (without | {field: b""}, "missing"), (without | {field: b"x"}, "not 1")):
        with pytest.raises(InvalidArgument, match=said) as refused:
            mutation_from_wire(metadata_pb2.Mutation(move=metadata_pb2.MoveNode(**fields)))
        assert refused.value.details == {"field": f"move.{field}"}


@pytest.mark.parametrize(
    ("mutation", "field"),
    [
        (
            metadata_pb2.Mutation(create=metadata_pb2.CreateNode(name="a", kind=journal_pb2.NODE_KIND_DIRECTORY)),
            "create.parent",
        ),
        (metadata_pb2.Mutation(update=metadata_pb2.UpdateContent()), "update.content"),
        (
            metadata_pb2.Mutation(update=metadata_pb2.UpdateContent(content=journal_pb2.Content(digest=b"d" * 32))),
            "update.node",
        ),
        (
            metadata_pb2.Mutation(update=metadata_pb2.UpdateContent(node=ROOT, content=journal_pb2.Content())),
            "content.digest",
        ),
        (metadata_pb2.Mutation(delete=metadata_pb2.DeleteNode()), "delete.node"),
    ],
)
def test_what_a_mutation_lacks_is_named(mutation: metadata_pb2.Mutation, field: str) -> None:
    with pytest.raises(InvalidArgument, match="is missing") as refused:
        mutation_from_wire(mutation)
    assert refused.value.details == {"field": field}
