"""Names that others have given reach a real terminal harmless, whatever the command, and programs exactly."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.demo import REPOSITORY, DemoDevice
from syncline.model.printable import harmless

NewDevice = Callable[..., DemoDevice]

# The title of the window, colours by ESC and by C1, a line that looks like ours, a name that reads backwards, and what
# cannot be seen.
EVIL = "evil\x1b]0;owned\x07\x1b[31m\x9b31m\nsyncline: forged\r\u202egpj\u200b\ufeff\u2066\U000e0041.exe"
RAW = ("\x1b", "\x07", "\x9b", "\u202e", "\nsyncline: forged", "\u200b", "\ufeff", "\u2066", "\U000e0041")


class Terminal:
    """A device whose commands run in a terminal."""

    def __init__(self, device: DemoDevice, kind: str = "dumb") -> None:
        self.device = device
        self.kind = kind

    def run(self, *arguments: str, fails: bool = False) -> str:
        """Return the output of a command on a terminal, which is harmless, with its line ends as they were written."""
        text = self.raw(*arguments, fails=fails)
        for raw in RAW:
            assert raw not in text, f"{arguments} wrote {raw!r}: {text!r}"
        return text

    def raw(self, *arguments: str, fails: bool = False) -> str:
        ours, theirs = pty.openpty()
        got = bytearray()

        def read() -> None:
            try:
                while data := os.read(ours, 65536):
                    got.extend(data)
            except OSError:  # nobody has it open any more
                pass

        reader = threading.Thread(target=read)
        reader.start()
        child = subprocess.Popen(
            [sys.executable, "-m", "syncline.cli", *arguments],
            env={**os.environ, "SYNCLINE_HOME": str(self.device.root / "home"), "TERM": self.kind},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=REPOSITORY,
        )
        os.close(theirs)
        status = child.wait(60)
        reader.join(60)
        os.close(ours)
        text = got.decode().replace("\r\n", "\n")
        assert bool(status) == fails, (status, text)
        return text


@pytest.fixture
def ann(new_device: NewDevice) -> Terminal:
    """A member of a space in which Ben has named a file, a directory and what is in it."""
    ben, device = new_device("ben"), new_device("ann")
    ben.run("spaces", "create", "Team")
    ben.run("share", "Team", device.email, "--role", "editor")
    source = ben.root / "source"
    source.write_text("bytes")
    for path in (EVIL, f"old {EVIL}", f"moved {EVIL}"):
        ben.run("put", str(source), f"Team:{path}")
    ben.run("mkdir", f"Team:dir {EVIL}")
    ben.run("put", str(source), f"Team:dir {EVIL}/{EVIL}")
    (ben.root / "link").symlink_to(EVIL)
    ben.run("put", str(ben.root / "link"), f"Team:link {EVIL}")
    ben.run("rm", f"Team:old {EVIL}")
    return Terminal(device)


def test_every_command_shows_names_harmless(ann: Terminal, tmp_path: Path) -> None:
    shown = harmless(EVIL)
    target = f"Team:{EVIL}"
    assert shown in ann.run("ls", "Team:")
    assert shown in ann.run("ls", "-l", "Team:")
    assert shown in ann.run("ls", f"Team:dir {EVIL}")
    assert f"old {shown}" in ann.run("trash", "--space", "Team")
    assert "current" in ann.run("log", target)
    got = tmp_path / f"got {EVIL}"
    assert f"got {shown}" in ann.run("get", target, str(got))
    assert f"got {shown}" in ann.run("get", target, str(got), fails=True)
    assert shown in ann.run("get", f"Team:link {EVIL}", "-")
    got.write_text("other bytes")
    assert shown in ann.run("put", str(got), target)
    assert "already" in ann.run("put", str(got), target)
    assert shown in ann.run("restore", target, "--version", "1")
    ann.run("mv", f"Team:moved {EVIL}", f"Team:moved again {EVIL}")
    ann.run("mkdir", f"Team:new {EVIL}")
    ann.run("rm", "-r", f"Team:new {EVIL}")
    ann.run("trash", "restore", f"old {EVIL}", "--space", "Team")
    for command in ("members", "spaces", "devices", "whoami", "status"):
        ann.run(command, *(["Team"] if command == "members" else []))


def test_errors_show_names_harmless(ann: Terminal, tmp_path: Path) -> None:
    shown = harmless(EVIL)
    nowhere = f"Team:{EVIL}/none"
    for command in ("ls", "log", "rm", "get"):
        assert shown in ann.run(command, nowhere, fails=True)
    assert shown in ann.run("put", str(tmp_path / EVIL), "Team:x", fails=True)
    assert shown in ann.run("whoami", EVIL, fails=True)
    assert shown in ann.run(f"--{EVIL}", fails=True)
    assert shown in ann.run("ls", f"--{EVIL}", fails=True)
    assert shown in ann.run(EVIL, fails=True)
    ann.run("ls", f"{EVIL}:x", fails=True)
    assert shown in ann.run("sync", str(tmp_path / EVIL / "folder"), "--space", EVIL, fails=True)


def test_a_sync_shows_names_harmless(ann: Terminal) -> None:
    shown = harmless(EVIL)
    folder = ann.device.folder
    assert shown in ann.run("sync", str(folder), "--space", "Team", "--dry-run")
    ann.run("sync", str(folder), "--space", "Team")
    assert (folder / EVIL).read_text() == "bytes"
    (folder / EVIL).write_text("changed here")
    assert shown in ann.run("check", str(folder))
    assert shown in ann.run("sync", str(folder), "--dry-run")
    ann.run("sync", str(folder), "--exclude", str(folder / f"dir {EVIL}"))
    assert shown in ann.run("status", str(folder))
    os.mkfifo(folder / f"pipe {EVIL}")
    (folder / f"bad {EVIL}").write_text("x")
    (folder / f"bad {EVIL}").rename(folder / f"bad \udcff{EVIL}")
    problems = ann.run("sync", str(folder), fails=True)
    assert f"bad \\xff{shown}" in problems


def test_progress_shows_no_name(ann: Terminal) -> None:
    """The bar steers the terminal itself, but not by what others have written."""
    terminal = Terminal(ann.device, "xterm-256color")
    text = terminal.raw("get", f"Team:{EVIL}", str(ann.device.root / "got"))
    for raw in ("\x1b]0;", "\x07", "\x9b", "\u202e", "\nsyncline: forged"):
        assert raw not in text


def test_json_is_exact_and_harmless(ann: Terminal) -> None:
    for command in (["ls", "Team:"], ["trash", "--space", "Team"]):
        text = ann.run(*command, "--json")
        assert any(EVIL in told for told in _strings(json.loads(text)))


def _strings(value: object) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for inner in value.values() for text in _strings(inner)]
        case list():
            return [text for inner in value for text in _strings(inner)]
    return []


def test_a_link_that_goes_into_a_pipe_is_exact(ann: Terminal) -> None:
    assert ann.device.run("get", f"Team:link {EVIL}", "-").rstrip("\n") == EVIL.replace("\r", "\n")


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_a_locale_that_lacks_characters_is_no_defect(ann: Terminal, locale: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "syncline.cli", "ls", "Team:"],
        env={
            **os.environ,
            "SYNCLINE_HOME": str(ann.device.root / "home"),
            "LC_ALL": locale,
            "PYTHONIOENCODING": "iso-8859-1:strict",
        },
        capture_output=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert harmless(EVIL).encode() in done.stdout
