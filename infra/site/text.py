"""Conversion of text to markdown."""

from __future__ import annotations

import re
from typing import Final

_SIGNS: Final = re.compile(r"[*\[]")


def plain(text: str) -> str:
    """Return text in which nothing is parsed as HTML, emphasis or a link; text between backticks is unchanged."""
    parts = text.strip().split("`")
    return "`".join(part if i % 2 else _escaped(part) for i, part in enumerate(parts))


def cell(text: str) -> str:
    """Return text for one cell of a table."""
    return " ".join(plain(text).split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    return _SIGNS.sub(r"\\\g<0>", text.replace("<", "&lt;"))
