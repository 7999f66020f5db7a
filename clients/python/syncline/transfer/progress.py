"""Reporting of the progress of a transfer."""

from __future__ import annotations

from typing import Protocol


class TransferProgress(Protocol):
    """Receives the progress of a transfer. Called often and from several threads: it must be fast and must not
    raise.
    """

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        """Report that `files` more files are complete, and that `size` more bytes of content are where they belong. The
        bytes need not have been transferred: they may have been there before. `size` is negative for bytes that turned
        out to be missing or damaged and have to be transferred again.
        """


class NoTransferProgress:
    """Progress observer that does nothing."""

    def advance(self, *, files: int = 0, size: int = 0) -> None:
        pass
