from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.printable import harmless, harmless_json

BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def steers(character: str) -> bool:
    """By what Unicode says of it."""
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or unicodedata.bidirectional(character) in BIDI
        or character in "\u061c\u200e\u200f"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain – ünïcödé 👩\u200d👧 عربي.txt", "plain – ünïcödé 👩\u200d👧 عربي.txt"),
        ("a\x1b]0;owned\x07b", r"a\x1b]0;owned\x07b"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("a\x9b31mb\x7f", r"a\x9b31mb\x7f"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("gr\udcf6\udcdfe", "gr\udcf6\udcdfe"),  # bytes of a name: letters in ISO-8859-1
        ("a\udc9b31mb", r"a\x9b31mb"),  # and a control character
        ("a\ud83db", r"a\ud83db"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_what_steers_is_shown(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_every_character_that_steers_is_known() -> None:
    for number in range(0x110000):
        character = chr(number)
        dangerous = (steers(character) or 0xFFF9 <= number <= 0xFFFB) and not 0xDCA0 <= number <= 0xDCFF
        assert (harmless(character) != character) == dangerous, hex(number)


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_stays_exact(value: object) -> None:
    text = harmless_json(value)
    assert json.loads(text) == value
    assert not any(map(steers, text))
