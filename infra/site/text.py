"""Text of other formats as markdown."""

from __future__ import annotations

import re
from typing import Final

_SIGNS: Final = re.compile(r"[*\[]")


def plain(text: str) -> str:
    """Text in which nothing looks like HTML, emphasis or a link; what stands between backticks stays as it is."""
    parts = text.strip().split("`")
    return "`".join(part if i % 2 else _escaped(part) for i, part in enumerate(parts))


def cell(text: str) -> str:
    """Text for one cell of a table."""
    return " ".join(plain(text).split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    return _SIGNS.sub(r"\\\g<0>", text.replace("<", "&lt;"))
