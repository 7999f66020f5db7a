"""Rules of a folder's filesystem for names: invalid names, and names that it treats as equal."""

from __future__ import annotations

import re
from dataclasses import dataclass

_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]')


@dataclass(frozen=True, slots=True)
class Naming:
    """A filesystem's rules for names: `folds_case` is True if it treats names that differ only in case as equal, and
    `like_windows` is True if it refuses the names that Windows refuses.
    """

    folds_case: bool = False
    like_windows: bool = False

    def key(self, name: str) -> str:
        """Return a key that is equal for names that the filesystem cannot distinguish."""
        return name.casefold() if self.folds_case else name

    def problem(self, name: str) -> str | None:
        """Return the reason that the filesystem cannot hold this name, in words for people; None if it can."""
        if not self.like_windows:
            return None
        if found := _FORBIDDEN.search(name):
            return f"the filesystem of this folder does not allow {found[0]!r} in a name"
        if name[-1:] in {".", " "}:
            return "the filesystem of this folder does not allow a name to end with a dot or a space"
        if _DEVICES.fullmatch(name):
            return f"{name!r} is reserved on the filesystem of this folder"
        return None


EVERY_NAME = Naming()
