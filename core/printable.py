"""Text that a terminal may show: names come from others, and must neither steer it nor look like something else.

What steers: control characters (C0, DEL, C1, so also ESC and line breaks), characters that turn the direction of what
follows, separators of lines and paragraphs, and surrogates, which no encoding has. Bytes of a name that are no UTF-8,
which Python has as surrogates (PEP 383), are printed as they are where they are letters in encodings of one byte.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

_STEERING: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]"
)
_SHORT: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_BYTES: Final = range(0xDC80, 0xDD00)
_LETTERS: Final = range(0xDCA0, 0xDD00)


def harmless(text: str) -> str:
    r"""`text` in one line, with what steers a terminal shown as `\n`, `\x1b` or `\u202e`."""
    return text if text.isprintable() else _STEERING.sub(_shown, text)


def harmless_json(value: Any) -> str:
    """`value` as JSON in one line: the same to whoever parses it, and nothing that steers to a terminal."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _shown(found: re.Match[str]) -> str:
    character = found[0]
    number = ord(character)
    if number in _LETTERS:
        return character
    if number in _BYTES:
        return f"\\x{number - 0xDC00:02x}"
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")
