"""Quotas that an administrator sets hold to the byte, whoever uploads at the same time, and everybody is told."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.e2e.command_line import CommandLine

ANN, BEN = "ann@example.com", "ben@example.com"
KIB = 1024
FILE_BYTES = 30 * KIB
FILES = 12
UPLOADERS = 8
QUOTA = 1_000 * KIB
PATIENCE_SECONDS = 60.0
PARTLY = 4
"""The exit code of a sync that had to leave something out."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system for invited people, without any account, in which everybody may store little."""
    variables = {"SYNCLINE_SIGN_UP_POLICY": "invited", "SYNCLINE_USER_QUOTA_BYTES": str(QUOTA)}
    with running_stack(variables=variables) as stack:
        yield stack


@pytest.fixture(scope="module")
def people(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> tuple[CommandLine, CommandLine]:
    """An administrator, and somebody whom the administrator has invited."""
    root = tmp_path_factory.mktemp("people")
    console, laptop = CommandLine(stack, root / "console", ANN), CommandLine(stack, root / "laptop", BEN)
    console.enter("signup", "--invitation", stack.first_account)
    laptop.enter("signup", "--invitation", console.json("admin", "users", "invite", BEN)["link"])
    return console, laptop


def used(laptop: CommandLine, spaces: list[str]) -> int:
    """The bytes of all files in the spaces."""
    return sum(node["size"] for space in spaces for node in laptop.json("ls", f"{space}:")["nodes"])


def synced_at_once(laptop: CommandLine, folders: dict[str, Path]) -> set[int]:
    """Sync each folder with its space, all at once; the exit codes."""
    running = [
        subprocess.Popen(
            [*laptop.command, "sync", str(folder), "--space", space],
            env=laptop.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for space, folder in folders.items()
    ]
    for one in running:
        _, said = one.communicate(timeout=300)
        assert "Traceback" not in said
    return {one.returncode for one in running}


def test_eight_uploaders_fill_a_quota_and_never_exceed_it(
    people: tuple[CommandLine, CommandLine], tmp_path: Path
) -> None:
    console, laptop = people
    folders: dict[str, Path] = {}
    for number in range(UPLOADERS):
        space = laptop.json("spaces", "create", f"Project {number}")["space"]
        folder = folders[space] = tmp_path / str(number)
        folder.mkdir()
        for name in range(FILES):
            (folder / f"{name}.bin").write_bytes(os.urandom(FILE_BYTES))
    spaces = list(folders)
    codes = synced_at_once(laptop, folders)
    assert codes <= {0, PARTLY}
    assert PARTLY in codes
    stored = used(laptop, spaces)
    assert QUOTA - FILE_BYTES - UPLOADERS * QUOTA // 1024 < stored <= QUOTA
    told = laptop.json("account", "show")["usage"]
    assert told["quota_bytes"] == QUOTA
    assert stored <= told["reserved_bytes"] <= QUOTA

    # The administrator gives more room: what was left out is uploaded, up to the new boundary.
    larger = console.json("admin", "users", "set-quota", BEN, "2000K")
    assert (larger["usage"]["quota_bytes"], larger["quota_set"]) == (2_000 * KIB, True)
    assert synced_at_once(laptop, folders) <= {0, PARTLY}
    assert stored < used(laptop, spaces) <= 2_000 * KIB
    console.run("admin", "users", "set-quota", BEN, "1G")
    assert synced_at_once(laptop, folders) == {0}
    assert used(laptop, spaces) == UPLOADERS * FILES * FILE_BYTES
    assert "as usual" not in console.run("admin", "users", "show", BEN)

    # The quota of a space holds as well, and a quota that is too small takes nothing away.
    full = spaces[0]
    shown = console.json("admin", "spaces", "set-quota", full, "100K")
    assert (shown["quota_bytes"], shown["quota_set"]) == (100 * KIB, True)
    assert shown["payer"] == console.json("admin", "users", "show", BEN)["user"]
    before, deadline = used(laptop, [full]), time.monotonic() + PATIENCE_SECONDS
    for number in itertools.count(1):  # until metadata has asked again
        (folders[full] / f"more {number}.bin").write_bytes(os.urandom(FILE_BYTES))
        if synced_at_once(laptop, {full: folders[full]}) == {PARTLY}:
            break
        assert time.monotonic() < deadline, "the smaller quota has no effect"
    assert used(laptop, [full]) == before + (number - 1) * FILE_BYTES
    console.run("admin", "spaces", "set-quota", full, "usual")
    assert synced_at_once(laptop, {full: folders[full]}) == {0}
    kinds = ("account.quota_set", "space.quota_set")
    events = [console.run("admin", "audit", "--kind", kind, "--json").splitlines() for kind in kinds]
    assert [len(lines) for lines in events] == [2, 2]


def test_bad_sizes_and_unknown_people_are_refused(people: tuple[CommandLine, CommandLine]) -> None:
    console, laptop = people
    for text in ("", "much", "-1", "1Q", "5 0G", "1e3"):
        assert "no size such as 50G" in console.run("admin", "users", "set-quota", BEN, "--", text, status=2)
    for text in ("1025P", "99999999P"):
        assert "at most 1024P" in console.run("admin", "users", "set-quota", BEN, text, status=2)
    console.run("admin", "users", "set-quota", "nobody@example.com", "1G", status=1)
    assert "only an administrator" in laptop.run("admin", "users", "set-quota", BEN, "1T", status=3)
