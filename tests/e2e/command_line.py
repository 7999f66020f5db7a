"""The command line of a device of somebody, over a running system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from stack.up import Stack
from tests.gateway.client import PASSWORD


class CommandLine:
    """The commands of a person at one device, whose state is in `home`."""

    def __init__(self, stack: Stack, home: Path, email: str) -> None:
        self.stack, self.home, self.email = stack, home, email

    @property
    def command(self) -> list[str]:
        """The beginning of each command."""
        return [sys.executable, "-m", "syncline.cli"]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of each command."""
        return {"SYNCLINE_HOME": str(self.home), "PATH": ""}

    def run(self, *arguments: str, stdin: str = "", status: int = 0) -> str:
        """Return all that a command prints; it must end with this status."""
        done = subprocess.run(
            [*self.command, *arguments], env=self.environment, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def json(self, *arguments: str, stdin: str = "") -> Any:
        """Return what a command tells with --json."""
        return json.loads(self.run(*arguments, "--json", stdin=stdin))

    def enter(self, verb: str, *options: str, password: str = PASSWORD, status: int = 0) -> str:
        """Sign up or sign in, as `verb` says."""
        where = ("--endpoint", self.stack.endpoint, "--email", self.email, "--password-stdin")
        return self.run(verb, *where, "--device", self.home.name, *options, stdin=f"{password}\n", status=status)
