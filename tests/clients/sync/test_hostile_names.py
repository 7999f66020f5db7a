"""A name from the space that looks like one of the client's own is no instruction to the client."""

from __future__ import annotations

import pytest

from syncline.model.identifiers import NodeId
from syncline.sync.report import Report
from syncline.sync.trees import new_local_id, transit_name
from tests.clients.sync.fakes import Device
from tests.clients.sync.test_scenarios import agreed, settled


def sync(*devices: Device) -> list[Report]:
    return [device.sync() for device in devices]


@pytest.mark.parametrize("folder", ["", "d/"])
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_a_name_in_transit_of_another_node_changes_nothing_of_that_node(
    one: Device, two: Device, folder: str, kind: str
) -> None:
    """An attacker who names a node after another one would have other people's devices overwrite that one."""
    agreed({"d": None, "victim": b"the victim's", "v": None, "v/inner": b"inner"}, one, two)
    named_after = "v" if kind == "directory" else "victim"
    node = one.space.live()[named_after].id
    name = f"{folder}{transit_name(node)}"
    if kind == "file":
        one.space.put(name, b"the attacker's")
    elif kind == "directory":
        one.space.put(name, None)
        one.space.put(f"{name}/inner", b"the attacker's")
    else:
        one.space.put(name, b"", target="/etc/passwd")
    before, head = one.space.tree(), len(one.space.journal)
    for _ in range(3):
        for report in sync(one, two):
            assert [problem.path for problem in report.problems] == [name]
    assert one.space.tree() == before
    assert len(one.space.journal) == head, "no device changes anything in its owner's name"
    for device in (one, two):
        assert device.tree() == {"d": None, "victim": b"the victim's", "v": None, "v/inner": b"inner"}


def test_a_name_in_transit_of_nobody_is_not_renamed_in_the_name_of_others(one: Device, two: Device) -> None:
    agreed({"a": b"a"}, one, two)
    for node in (new_local_id(1), NodeId(b"\7" * 16), NodeId(b"x")):
        one.space.put(transit_name(node), b"x")
    head = len(one.space.journal)
    for report in sync(one, two, one, two):
        assert len(report.problems) == 3
    assert len(one.space.journal) == head


def test_a_node_that_gets_the_name_in_transit_of_another_goes_on_under_its_own(one: Device, two: Device) -> None:
    agreed({"a": b"a", "b": b"b"}, one, two)
    one.space.move("b", transit_name(one.space.live()["a"].id))
    for _ in range(2):
        sync(one, two)
    for device in (one, two):
        assert device.tree() == {"a": b"a", "b": b"b"}
    one.write("b", b"edited")
    sync(one, two)
    assert two.tree() == {"a": b"a", "b": b"edited"}


def test_a_node_named_after_itself_harms_nobody(one: Device, two: Device) -> None:
    agreed({"a": b"a", "b": b"b"}, one, two)
    one.space.move("a", transit_name(one.space.live()["a"].id))
    assert set(settled(one, two).values()) == {b"a", b"b"}
