"""The main job through every room: command line, services, embedded AWS."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stack.demo import DemoDevice, contents, same_trees
from stack.up import Stack
from tests.e2e.items import items_of, journal_length

MIB = 1 << 20
NewDevice = Callable[..., DemoDevice]


def write_tree(folder: Path) -> None:
    """A little of everything that a tree can hold."""
    (folder / "docs" / "deep" / "deeper").mkdir(parents=True)
    (folder / "empty directory").mkdir()
    (folder / "empty file").touch()
    (folder / "docs" / "plan.txt").write_text("a plan")
    (folder / "docs" / "deep" / "deeper" / "naïve – ünïcödé.txt").write_text("text")
    (folder / ("x" * 255)).write_text("a long name")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("docs/plan.txt")
    (folder / "photo.raw").write_bytes(random.Random(1).randbytes(9 * MIB))
    (folder / "copy of photo.raw").write_bytes(random.Random(1).randbytes(9 * MIB))


def is_idle(figures: dict[str, Any]) -> bool:
    counts = ("uploaded", "downloaded", "moved", "deleted_local", "deleted_remote", "conflicts")
    return not any(figures[count] for count in counts)


def test_devices_get_the_same_tree_and_a_second_sync_does_nothing(new_device: NewDevice) -> None:
    laptop = new_device("laptop")
    write_tree(laptop.folder)
    figures = laptop.sync()
    assert figures["uploaded"] == 8
    desktop = new_device("desktop", laptop.owner)
    assert desktop.sync()["downloaded"] == 8
    (desktop.folder / "docs" / "more.txt").write_text("more")
    desktop.sync()
    laptop.sync()
    late = new_device("late", laptop.owner)
    late.sync()
    assert same_trees(laptop, desktop, late) == 13
    assert (late.folder / "run.sh").stat().st_mode & 0o100
    for device in (laptop, desktop, late):
        figures = device.sync()
        assert is_idle(figures)
        assert figures["requests"]["s3_put"] == figures["requests"]["s3_get"] == 0
        assert figures["requests"]["grpc"] <= 3
        assert figures["bytes_up"] == figures["bytes_down"] == 0


def test_every_kind_of_change_reaches_the_other_device(new_device: NewDevice) -> None:
    one = new_device("one")
    write_tree(one.folder)
    one.sync()
    two = new_device("two", one.owner)
    two.sync()

    (one.folder / "docs" / "plan.txt").write_text("a better plan")
    (one.folder / "docs" / "deep").rename(one.folder / "shallow")
    (one.folder / "photo.raw").rename(one.folder / "docs" / "picture.raw")
    (one.folder / "copy of photo.raw").unlink()
    (one.folder / "empty directory").rmdir()
    (one.folder / "run.sh").chmod(0o644)
    (one.folder / "link").unlink()
    (one.folder / "link").symlink_to("nowhere")
    shutil.copytree(one.folder / "shallow", one.folder / "another")
    figures = one.sync()
    assert figures["bytes_up"] < MIB, "a move uploads nothing"
    figures = two.sync()
    assert figures["bytes_down"] < MIB, "a move downloads nothing"
    same_trees(one, two)
    assert not (two.folder / "run.sh").stat().st_mode & 0o100
    assert is_idle(one.sync())


def test_two_edits_of_one_file_are_both_kept(new_device: NewDevice) -> None:
    one = new_device("one")
    (one.folder / "a.txt").write_text("first")
    one.sync()
    two = new_device("two", one.owner)
    two.sync()
    (one.folder / "a.txt").write_text("one's")
    (two.folder / "a.txt").write_text("two's")
    one.sync()
    assert two.sync()["conflicts"] == 1
    one.sync()
    assert same_trees(one, two) == 2
    assert sorted(path.read_text() for path in one.folder.iterdir() if path.is_file()) == ["one's", "two's"]
    assert (one.folder / "a.txt").read_text() == "one's"


def test_ten_thousand_small_files_are_few_objects_and_entries(new_device: NewDevice, stack: Stack) -> None:
    one = new_device("one")
    space = json.loads(one.run("spaces", "list", "--json"))["spaces"][0]["space"]
    source = random.Random(2)
    many = one.folder / "many"
    for d in range(100):
        (many / f"{d:02}").mkdir(parents=True)
        for f in range(100):
            (many / f"{d:02}" / f"{f:02}").write_bytes(source.randbytes(4096))
    figures = one.sync()
    assert figures["uploaded"] == 10_000
    assert figures["requests"]["s3_put"] <= 12
    assert journal_length(stack, space) <= 12

    before = items_of(stack, space)
    many.rename(one.folder / "renamed")
    figures = one.sync()
    assert (figures["moved"], figures["uploaded"], figures["bytes_up"]) == (1, 0, 0)
    after = items_of(stack, space)
    written = {key for key, item in after.items() if before.get(key) != item}
    assert len(written) <= 6, f"a rename wrote {sorted(written)}"


def test_one_byte_inserted_into_a_large_file_uploads_few_objects(new_device: NewDevice) -> None:
    one = new_device("one")
    big = one.folder / "big"
    source = random.Random(3)
    data = b"".join(source.randbytes(MIB) for _ in range(256))
    big.write_bytes(data)
    one.sync()
    big.write_bytes(data[: 128 * MIB] + b"!" + data[128 * MIB :])
    figures = one.sync()
    assert figures["uploaded"] == 1
    assert figures["requests"]["s3_put"] <= 3
    two = new_device("two", one.owner)
    two.sync()
    assert same_trees(one, two) == 1


def test_the_version_check_says_what_is_newer_without_changing_anything(new_device: NewDevice) -> None:
    one = new_device("one")
    for name in ("same", "newer there", "newer here", "gone there"):
        (one.folder / name).write_text(name)
    one.sync()
    two = new_device("two", one.owner)
    two.sync()
    (one.folder / "newer there").write_text("changed")
    (one.folder / "gone there").unlink()
    one.sync()
    (two.folder / "newer here").write_text("changed here")
    (two.folder / "only here").write_text("new")
    before = contents(two.folder)
    verdicts = two.check()
    assert verdicts == {
        "current": 1,
        "stale": ["newer there"],
        "modified": ["newer here"],
        "unknown": ["only here"],
        "deleted": ["gone there"],
    }
    assert contents(two.folder) == before


def test_filters_limits_and_verify_on_the_command_line(new_device: NewDevice) -> None:
    one = new_device("one")
    (one.folder / ".synclineignore").write_text("*.log\n")
    (one.folder / "big").mkdir()
    for name in ("a.log", ".DS_Store", "a.txt", "big/raw"):
        (one.folder / name).write_text(name)
    one.sync("--limit-up", "1M", "--limit-down", "1.5m")
    two = new_device("two", one.owner)
    two.sync("--exclude", "big", "--limit-down", "2M")
    assert sorted(contents(two.folder)) == [".synclineignore", "a.txt"]
    assert "big is excluded" in two.run("status", str(two.folder))
    assert json.loads(two.run("status", str(two.folder), "--json"))["excluded"] == ["big"]
    (one.folder / "big" / "raw").write_text("changed")
    one.sync()
    assert is_idle(two.sync())
    assert two.sync("--include", str(two.folder / "big"))["downloaded"] == 1
    assert (two.folder / "big" / "raw").read_text() == "changed"

    file = two.folder / "a.txt"
    before = file.stat()
    file.write_text("A.TXT")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert json.loads(two.run("check", str(two.folder), "--json", "--verify"))["modified"] == ["a.txt"]
    assert two.sync("--verify")["uploaded"] == 1
    one.sync()
    assert (one.folder / "a.txt").read_text() == "A.TXT"

    two.run("sync", str(two.folder), "--limit-up", "fast", expect=2)
    two.run("sync", str(two.folder), "--exclude", "../elsewhere", expect=1)
    two.run("sync", str(two.folder), "--include", "a.txt", expect=1)


def test_a_viewer_reads_and_cannot_write(new_device: NewDevice) -> None:
    ann = new_device("ann")
    ben = new_device("ben")
    ann.run("spaces", "create", "Project")
    ann.run("share", "Project", ben.email, "--role", "viewer")
    (ann.folder / "a.txt").write_text("text")
    ann.sync("--space", "Project")
    ben.sync("--space", "Project")
    assert same_trees(ann, ben) == 1
    (ben.folder / "b.txt").write_text("not allowed")
    (problem,) = json.loads(ben.run("sync", str(ben.folder), "--json", expect=4))["problems"]
    assert problem["path"] == "b.txt"
    assert "read" in problem["reason"]
    assert (ben.folder / "b.txt").read_text() == "not allowed"
    ben.run("put", str(ben.folder / "b.txt"), "Project:b.txt", expect=3)
    ann.run("unshare", "Project", ben.email)


def _can_sync(device: DemoDevice) -> bool:
    with device.start("sync", str(device.folder)) as child:
        child.communicate()
    return child.returncode == 0


def test_what_a_viewer_did_is_no_wish_for_later(new_device: NewDevice) -> None:
    ann, ben = new_device("ann"), new_device("ben")
    ann.run("spaces", "create", "Project")
    ann.run("share", "Project", ben.email, "--role", "viewer")
    files = {"deleted.txt": "deleted", "renamed.txt": "renamed", "edited.txt": "edited"}
    for name, text in files.items():
        (ann.folder / name).write_text(text)
    ann.sync("--space", "Project")
    ben.sync("--space", "Project")

    def change() -> None:
        (ben.folder / "deleted.txt").unlink()
        (ben.folder / "renamed.txt").rename(ben.folder / "other name.txt")
        (ben.folder / "edited.txt").write_text("edited by a viewer")

    def is_as_it_was() -> bool:
        ann.sync()
        return {name: (ann.folder / name).read_text() for name in files} == files

    change()
    ben.run("sync", str(ben.folder), expect=4)  # the edit is a conflict copy, which stays there
    assert (ben.folder / "deleted.txt").read_text() == "deleted"
    assert is_as_it_was()
    change()
    ann.run("share", "Project", ben.email, "--role", "editor")
    deadline = time.monotonic() + 60
    while not _can_sync(ben):  # until the new role has got around
        assert time.monotonic() < deadline
    assert is_as_it_was()
    assert "edited by a viewer" in {path.read_text() for path in ann.folder.glob("edited*.txt")}
    # A change that was made with the right to make it counts.
    (ben.folder / "deleted.txt").unlink()
    ben.sync()
    ann.sync()
    assert not (ann.folder / "deleted.txt").exists()


def test_history_and_trash_bring_things_back(new_device: NewDevice) -> None:
    one = new_device("one")
    file = one.folder / "a.txt"
    for text in ("first", "second", "third"):
        file.write_text(text)
        one.sync()
    versions = json.loads(one.run("log", str(file), "--json"))["versions"]
    assert [version["version"] for version in versions] == [3, 2, 1]
    one.run("restore", str(file), "--version", "1")
    one.sync()
    assert file.read_text() == "first"
    file.unlink()
    one.sync()
    trash = json.loads(one.run("trash", "list", "--json"))["nodes"]
    assert [node["name"] for node in trash] == ["a.txt"]
    one.run("trash", "restore", trash[0]["id"])
    one.sync()
    assert file.read_text() == "first"


def test_a_file_comes_back_though_its_directories_are_in_the_trash(new_device: NewDevice, tmp_path: Path) -> None:
    one = new_device("one")
    source = tmp_path / "f"
    for text in ("first", "second"):
        source.write_text(text)
        one.run("mkdir", "p") if text == "first" else None
        one.run("mkdir", "p/q") if text == "first" else None
        one.run("put", str(source), "p/q/f")
    one.run("put", str(source), "p/beside")
    one.run("rm", "p/q/f")
    one.run("rm", "-r", "p")
    trash = json.loads(one.run("trash", "--json"))["nodes"]
    assert [node["path"] for node in trash] == ["p", "p/q/f"]
    assert {line.split()[-1] for line in one.run("trash").splitlines()} == {"p", "p/q/f"}
    assert len(json.loads(one.run("log", "personal:p/q/f", "--json"))["versions"]) == 2
    one.run("restore", "personal:p/q/f", "--version", "3", expect=1)
    assert one.run("restore", "personal:p/q/f", "--version", "1").endswith("of p/q/f, out of the trash\n")
    assert one.run("get", "p/q/f", "-") == "first"
    assert [node["name"] for node in json.loads(one.run("ls", "p", "--json"))["nodes"]] == ["q"]
    one.run("rm", "p/q/f")
    one.run("put", str(source), "p/q/f")
    assert one.run("trash", "restore", "p/q/f") == "p/q/f is back as p/q/f (2)\n"
    one.run("rm", "p/q/f")
    one.run("rm", "p/q/f (2)")
    one.run("trash", "restore", "p/q/g", expect=1)
    assert one.run("trash", "restore", "p/q/f (2)", "--to", "new/place") == "p/q/f (2) is back as new/place\n"
    assert one.run("trash", "restore", "p/q/f", "--to", "new") == "p/q/f is back as new/f\n"
    with one.start("trash", "restore", "p", "--to", "a/../b") as child:
        assert "cannot be a name" in child.communicate()[1]


def test_files_without_a_synced_folder(new_device: NewDevice, tmp_path: Path) -> None:
    one = new_device("one")
    source = tmp_path / "source.txt"
    source.write_text("text")
    one.run("mkdir", "docs")
    one.run("put", str(source), "docs")
    one.run("mv", "docs/source.txt", "docs/moved.txt")
    assert [node["name"] for node in json.loads(one.run("ls", "docs", "--json"))["nodes"]] == ["moved.txt"]
    one.run("get", "docs/moved.txt", str(tmp_path / "target.txt"))
    assert (tmp_path / "target.txt").read_text() == "text"
    one.run("get", "docs/moved.txt", str(tmp_path / "target.txt"), expect=1)
    one.run("rm", "docs", expect=1)
    one.run("rm", "-r", "docs")
    one.run("get", "docs/moved.txt", expect=1)


@pytest.mark.parametrize("access", ["read", "write"])
def test_credentials_are_in_the_form_of_credential_process(new_device: NewDevice, access: str) -> None:
    one = new_device("one")
    issued = json.loads(one.run("credentials", "personal", "--access", access))
    assert issued["Version"] == 1
    assert {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "Bucket", "Prefix", "Endpoint"} <= set(
        issued
    )
