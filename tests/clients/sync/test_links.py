"""Symlinks that lead out of the folder are links and nothing else, and nothing goes by way of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from syncline.model.tree import Content, Node
from syncline.sync.apply.links import leads_out
from syncline.sync.ports import Wanted
from syncline.transfer.jobs import UploadJob
from syncline.transfer.read import FileReader, NotRead
from syncline.transfer.safe_open import open_below
from tests.clients.sync.fakes import Device, FakeSpace, NeverCrash, Page, link_content
from tests.clients.sync.test_scenarios import settled, sync


@pytest.fixture
def linked(one: Device, two: Device) -> None:
    for device in (one, two):
        assert device.folder


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        ("a", "b", False),
        ("a", "b/c", False),
        ("a", ".", False),
        ("a", "", False),
        ("d/a", "../b", False),
        ("d/e/a", "../../b", False),
        ("d/a", "./.././../b", True),
        ("a", "..", True),
        ("a", "../b", True),
        ("d/a", "../../b", True),
        ("a", "/etc/passwd", True),
        ("a", "//etc", True),
        # `d` may be a link itself, and lead from somewhere else than it seems.
        ("a", "d/../b", True),
        ("a", "d/../../b", True),
    ],
)
def test_which_links_lead_out(path: str, target: str, out: bool) -> None:
    assert leads_out(path, target) == out


@pytest.mark.usefixtures("linked")
def test_a_link_that_leads_out_is_kept_and_said_once(one: Device, two: Device) -> None:
    (one.root / "out").symlink_to("/etc/passwd")
    (one.root / "up").symlink_to("..")
    (one.root / "in").symlink_to("out")
    sync(one)
    report = two.sync()
    assert str((two.root / "out").readlink()) == "/etc/passwd"
    (notice,) = report.notices
    assert "leads out of the folder" in notice
    assert "1 others" in notice
    assert two.sync().notices == []
    assert report.problems == []


@pytest.mark.usefixtures("linked")
def test_a_device_can_keep_them_out_and_take_them_in_again(one: Device, two: Device) -> None:
    (one.root / "d").mkdir()
    (one.root / "d" / "out").symlink_to("../../x")
    (one.root / "in").symlink_to("d")
    one.write("a", b"a")
    sync(one)
    assert two.sync(wanted=Wanted(outside_links=False)).problems == []
    assert not (two.root / "d" / "out").is_symlink()
    assert str((two.root / "in").readlink()) == "d"
    two.write("b", b"b")
    (one.root / "late").symlink_to("/")
    sync(one, two, one)
    assert sorted(path.name for path in two.root.iterdir()) == [".syncline", "a", "b", "d", "in"]
    assert str((one.root / "d" / "out").readlink()) == "../../x", "it is not deleted in the space"
    two.sync(wanted=Wanted(outside_links=True))
    assert str((two.root / "d" / "out").readlink()) == "../../x"
    assert str((two.root / "late").readlink()) == "/"
    settled(one, two)


def test_no_directory_on_the_way_is_a_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "d" / "e").mkdir(parents=True)
    outside.mkdir()
    (outside / "f").write_bytes(b"secret")
    (root / "d" / "e" / "f").write_bytes(b"mine")
    job = UploadJob(1, root / "d" / "e" / "f", root=root)
    blocks: list[bytes] = []
    FileReader().read(job, lambda block: blocks.append(bytes(block.data)))
    assert blocks == [b"mine"]
    shutil.rmtree(root / "d" / "e")
    (root / "d" / "e").symlink_to(outside)
    with pytest.raises(NotRead):
        FileReader().read(job, lambda block: blocks.append(bytes(block.data)))
    assert blocks == [b"mine"], "what another file has is not uploaded in its place"
    with pytest.raises(NotADirectoryError):
        os.close(open_below(root, root / "d" / "e" / "new", os.O_WRONLY | os.O_CREAT))
    assert [path.name for path in outside.iterdir()] == ["f"]


class Lying(FakeSpace):
    """Tells another target of each link than its version has."""

    lie: Content

    def changes(self, cursor: bytes, *, fresh_right: bool = False) -> Iterator[Page]:
        for page in super().changes(cursor, fresh_right=fresh_right):
            yield replace(page, nodes=tuple(map(self._other, page.nodes)))

    def _other(self, node: Node) -> Node:
        if node.content is None or not node.content.target:
            return node
        return replace(node, content=self.lie)


@pytest.mark.parametrize("lie", [link_content("nul\0"), replace(link_content("elsewhere"), target="/etc/passwd")])
def test_a_target_that_is_not_what_its_version_says_is_no_link(one: Device, lie: Content) -> None:
    one.space.put("link", None, target="elsewhere")
    one.space.put("good", b"x")
    port = Lying(one.space, NeverCrash(), [])
    port.lie = lie
    report = one.sync(space=port)
    assert [problem.path for problem in report.problems] == ["link"]
    assert "not what its version says" in report.problems[0].reason
    assert one.tree() == {"good": b"x"}
