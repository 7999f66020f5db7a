"""Escaping of untrusted text for display: a name must neither control a terminal or page nor look like another name.

Control characters, format characters, surrogates, private and unassigned code points, and separators of lines and
paragraphs (Unicode categories Cc, Cf, Cs, Co, Cn, Zl, Zp) are shown by their number. So are the few letters, signs and
marks that are blank, and variation selectors, any number of which can hide behind one letter. Characters that ordinary
names need are kept:

- U+200D in an emoji that is joined of several (families, professions), one of U+FE0E and U+FE0F after an emoji or in a
  keycap, the three flags of Great Britain that are written in tags, and emoji newer than the tables of this Python:
  their blocks hold nothing else.
- U+200C and U+200D after a letter of the scripts from Arabic to Myanmar, Khmer and Mongolian, where they choose the
  form of letters, as in Persian and Hindi.
- One variation selector after an ideograph or a Mongolian letter, whose form it chooses, as in many Japanese names.
- Bytes of a name that are no UTF-8, which Python has as surrogates (PEP 383), where they are letters in encodings of
  one byte.

`gateway/web/printable.js` has the same rule.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any, Final

_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U0001d159\U000e0100-\U000e01ef]"
)
_NEW_EMOJI: Final = range(0x1F000, 0x1FB00)

_EMOJI: Final = "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_JOINING: Final = "\u0620-\u109f\u1780-\u18af"
_IDEOGRAPHS: Final = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_FLAGS: Final = "|".join(
    "".join(chr(0xE0000 + ord(letter)) for letter in f"{flag}\x7f") for flag in ("gbeng", "gbsct", "gbwls")
)
_KEPT: Final = re.compile(
    "|".join((
        f"(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}])",
        f"(?<=[{_EMOJI}]\ufe0f)\u200d(?=[{_EMOJI}])",
        f"(?<=[{_EMOJI}])[\ufe0e\ufe0f]",
        "(?<=[0-9#*])\ufe0f(?=\u20e3)",
        f"(?<=[{_JOINING}])[\u200c\u200d]",
        f"(?<=[{_IDEOGRAPHS}])[\ufe00-\ufe02\U000e0100-\U000e01ef]",
        "(?<=[\u1820-\u18aa])[\u180b-\u180d\u180f]",
        f"(?<=\U0001f3f4)(?:{_FLAGS})",
    ))
)  # fmt: skip

_SHORT: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_BYTES: Final = range(0xDC80, 0xDD00)
_LETTERS: Final = range(0xDCA0, 0xDD00)


def harmless(text: str) -> str:
    r"""Return `text` in one line, with control and invisible characters escaped as `\
    `, `\\x1b` or `\\u202e`.
    """
    return _replaced(text, _shown)


def spaced(text: str) -> str:
    """Return `text` in one line, with a space in place of each control or invisible character."""
    return _replaced(text, lambda _: " ")


def harmless_json(value: Any) -> str:
    """Return `value` as JSON in one line: it parses to the same value, and contains nothing that controls a
    terminal.
    """
    return _changed(json.dumps(value, ensure_ascii=False), _json_escape)


def _replaced(text: str, replace: Callable[[str], str]) -> str:
    if text.isprintable() and not _BLANK.search(text):
        return text
    parts, at = [], 0
    for kept in _KEPT.finditer(text):
        parts += [_changed(text[at : kept.start()], replace), kept[0]]
        at = kept.end()
    return "".join([*parts, _changed(text[at:], replace)])


def _changed(text: str, replace: Callable[[str], str]) -> str:
    if text.isprintable() and not _BLANK.search(text):
        return text
    return "".join(replace(character) if _steers(character) else character for character in text)


def _steers(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cn" and ord(character) in _NEW_EMOJI:
        return False
    return category in _CATEGORIES or _BLANK.match(character) is not None


def _shown(character: str) -> str:
    number = ord(character)
    if number in _LETTERS:
        return character
    if number in _BYTES:
        return f"\\x{number - 0xDC00:02x}"
    return _SHORT.get(character) or _numbered(number)


def _numbered(number: int) -> str:
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _json_escape(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) != 0x7F else r"\u007f"
