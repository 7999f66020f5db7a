"""Ids: their form, and that a node's id follows from its request for ever."""

from __future__ import annotations

import pytest

from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import RequestId, SpaceId, created_node_id, new_text_id, parse_id, parse_text_id


def test_the_id_of_a_created_node_never_changes() -> None:
    """Other implementations compute the same: docs/protocol.md."""
    request = RequestId(bytes(range(16)))
    assert created_node_id(SpaceId("a" * 26), request, 0).hex() == "13cf5ed24cba05319d47907aca6f66cf"
    assert created_node_id(SpaceId("a" * 26), request, 1) != created_node_id(SpaceId("a" * 26), request, 0)
    assert created_node_id(SpaceId("b" * 26), request, 0) != created_node_id(SpaceId("a" * 26), request, 0)


def test_text_ids() -> None:
    assert parse_text_id(new_text_id(), what="id")
    for wrong in ("", "a" * 25, "A" * 26, "a" * 25 + "1", "../" + "a" * 23, "a" * 26 + "\n"):
        with pytest.raises(InvalidArgument):
            parse_text_id(wrong, what="id")


def test_binary_ids() -> None:
    assert parse_id(bytes(16), what="id") == bytes(16)
    for wrong in (b"", bytes(15), bytes(17)):
        with pytest.raises(InvalidArgument):
            parse_id(wrong, what="id")
