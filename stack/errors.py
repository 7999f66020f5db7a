"""Errors for which the stack cannot come up or stay up, in words for the person who started it."""

from __future__ import annotations

from collections.abc import Sequence


class StackError(Exception):
    """The stack cannot start or cannot continue. The text says what is wrong, and what the person who started the stack
    can do about it.
    """


class PortInUse(StackError):
    """Another program listens on a port that the stack needs."""

    def __init__(self, port: int, what: str) -> None:
        super().__init__(f"port {port} ({what}) is in use; stop what listens there or choose another with --port")
        self.port = port


class DataDirectoryInUse(StackError):
    """Another stack is using the same data directory."""


class StartFailed(StackError):
    """A child ended, or was not ready in time."""

    def __init__(self, name: str, why: str, last_lines: Sequence[str]) -> None:
        said = "".join(f"\n    {line}" for line in last_lines)
        super().__init__(f"{name} did not start: {why}" + (f"; the last it said was:{said}" if said else ""))
        self.name = name


class DeployFailed(StackError):
    """CloudFormation did not accept the template or could not create something in it."""
