"""A deleted file is listed, shown and brought back by its path, whatever was deleted above it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

from stack.demo import DemoDevice


def test_a_file_of_a_deleted_directory_has_its_path(new_device: Callable[..., DemoDevice], tmp_path: Path) -> None:
    one = new_device("one")
    for name in ("f1", "f2", "f3"):
        (one.folder / "p/q").mkdir(parents=True, exist_ok=True)
        (one.folder / "p/q" / name).write_text(name)
    one.sync()
    (one.folder / "p/q/f2").write_text("f2, edited")
    one.sync()
    one.run("rm", "-r", "p")
    for path in ("personal:p/q/f2", str(one.folder / "p/q/f2")):
        assert [row["version"] for row in json.loads(one.run("log", path, "--json"))["versions"]] == [2, 1]
    assert one.run("trash", "restore", "p/q/f3") == "p/q/f3 is back\n"
    told = one.run("restore", "personal:p/q/f2", "--version", "1")
    assert told == "version 1 of personal:p/q/f2 is back, as version 3 of p/q/f2, out of the trash\n"
    one.run("get", "p/q/f2", str(tmp_path / "f2"))
    assert (tmp_path / "f2").read_text() == "f2"
    one.run("trash", "restore", "p/q/none", expect=1)
    # A wish of the command line is honoured or refused.
    one.run("trash", "restore", "p/q/f1", "--to", "p/q/f2/x", expect=1)
    assert "f2 (2)" not in one.run("ls", "p/q")
    decomposed = unicodedata.normalize("NFD", "größe")
    assert one.run("trash", "restore", "p/q/f1", "--name", decomposed) == "p/q/f1 is back as p/q/größe\n"
