"""Telling somebody how far a transfer has got."""

from __future__ import annotations

from typing import Protocol


class TransferProgress(Protocol):
    """Somebody who wants to know. Called from several threads, often: it must be quick and must not raise."""

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """Note that `files` more files are done, and that `size` more bytes of content are where they belong, uploaded
        or not.

        `size` is negative for bytes that turned out not to be there.
        """


class NoTransferProgress:
    """Nobody wants to know."""

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        pass
