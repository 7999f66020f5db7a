"""The enums that both ends share have the names and values of the wire."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.accounts import Access, DeviceKind, MailMode, Role
from syncline.model.tree import Change, NodeKind
from syncline.model.verdicts import Difference, SealVerdict, Verdict
from syncline.notify.v1 import notify_pb2
from syncline.wire.tree import PUT_AGAIN


@pytest.mark.parametrize(
    ("shared", "prefix", "pb"),
    [
        (Access, "ACCESS_", auth_pb2.Access),
        (Role, "ROLE_", auth_pb2.Role),
        (DeviceKind, "DEVICE_KIND_", auth_pb2.DeviceKind),
        (MailMode, "MAIL_MODE_", notify_pb2.MailMode),
        (NodeKind, "NODE_KIND_", journal_pb2.NodeKind),
        (Change, "CHANGE_", journal_pb2.Change),
        (Verdict, "VERDICT_", journal_pb2.Verdict),
        (SealVerdict, "SEAL_VERDICT_", metadata_pb2.SealVerdict),
        (Difference, "DIFFERENCE_", metadata_pb2.Difference),
    ],
)
def test_values_are_those_of_the_wire(shared: type[Enum], prefix: str, pb: Any) -> None:
    on_the_wire = {name.removeprefix(prefix): value for name, value in pb.items() if value}
    assert {one.name: one.value for one in shared} == on_the_wire


def test_right_bytes_can_be_put_again_where_none_are() -> None:
    assert {metadata_pb2.SealVerdict.Name(metadata_pb2.SealVerdict.ValueType(value)) for value in PUT_AGAIN} == {
        "SEAL_VERDICT_OBJECT_MISSING",
        "SEAL_VERDICT_SIZE_MISMATCH",
        "SEAL_VERDICT_CHECKSUM_MISMATCH",
    }
