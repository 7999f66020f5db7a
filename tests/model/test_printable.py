from __future__ import annotations

import json
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.model.printable import harmless, harmless_json, spaced

VARIANTS = [*range(0x180B, 0x180E), 0x180F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]
BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159" + "".join(map(chr, VARIANTS))


def steers(character: str) -> bool:
    """True if Unicode says that the character steers the text around it."""
    category = unicodedata.category(character)
    if category == "Cn" and "\U0001f000" <= character <= "\U0001faff":  # emoji of a newer Unicode
        return False
    return category in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} or character in BLANK


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
        ("pay\u200bpal\ufeff\u2060\u00ad", r"pay\u200bpal\ufeff\u2060\xad"),
        ("a\u2066b\u2069\u061c\u200e\u200f", r"a\u2066b\u2069\u061c\u200e\u200f"),
        ("x\U000e0001\U000e0041\U000e007f", r"x\U000e0001\U000e0041\U000e007f"),
        ("blank\u3164\u115f", r"blank\u3164\u115f"),
        ("private\ue000 none\u0378", r"private\ue000 none\u0378"),
        ("a\u200db\u200c", r"a\u200db\u200c"),  # between letters that do not join
        # What ordinary names need.
        (
            "👩🏽\u200d🚀 🏳️\u200d🌈 ❤️\u200d🔥 👨\u200d👩\u200d👧\u200d👦",
            "👩🏽\u200d🚀 🏳️\u200d🌈 ❤️\u200d🔥 👨\u200d👩\u200d👧\u200d👦",
        ),
        ("می\u200cخواهم نمونه\u200cها", "می\u200cخواهم نمونه\u200cها"),
        ("क्\u200dष श्री\u200d", "क्\u200dष श्री\u200d"),
        (
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        ),
        ("\U0001fae8 \u00a0\u3000", "\U0001fae8 \u00a0\u3000"),
        ("1\ufe0f\u20e3 \u2122\ufe0f \u2709\ufe0e", "1\ufe0f\u20e3 \u2122\ufe0f \u2709\ufe0e"),
        ("\u845b\U000e0100\u57ce\u5e02", "\u845b\U000e0100\u57ce\u5e02"),
        ("\u1820\u180b\u1821", "\u1820\u180b\u1821"),
        # No more of it than that.
        ("a\ufe0f\U000e0154\U000e0155", r"a\ufe0f\U000e0154\U000e0155"),
        ("\u2764\ufe0f\ufe0f", "\u2764\ufe0f\\ufe0f"),
        ("\U0001f600\ufe0f\U000e0100\u200d", "\U0001f600\ufe0f\\U000e0100\\u200d"),
        ("\u845b\U000e0100\U000e0101", "\u845b\U000e0100\\U000e0101"),
        ("1\ufe0f", r"1\ufe0f"),
        ("a\u180b", r"a\u180b"),
        ("x\u2800", r"x\u2800"),
        ("می\u200c\u200c", "می\u200c\\u200c"),
        ("👩\u200d", "👩\\u200d"),
        ("🏴\U000e0068\U000e0069\U000e007f", r"🏴\U000e0068\U000e0069\U000e007f"),
    ],
)
def test_what_steers_is_shown(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_every_character_that_steers_is_known() -> None:
    for number in range(0x110000):
        character = chr(number)
        dangerous = steers(character) and not 0xDCA0 <= number <= 0xDCFF
        assert (harmless(character) != character) == dangerous, hex(number)
        assert spaced(character) == (" " if steers(character) else character)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_web_app_has_the_same_rule() -> None:
    """All characters that this Python knows, alone and joined; Node.js may know newer ones. White space differs."""
    numbers = [
        number
        for number in range(0x110000)
        if number not in {9, 10, 13} and unicodedata.category(chr(number)) not in {"Cn", "Cs"}
    ]
    joined = [
        "👩\u200d🚀",
        "می\u200cخ",
        "a\u200db",
        "👩\u200d",
        "1\ufe0f\u20e3 1\ufe0f \u2764\ufe0f\ufe0f \u2764\ufe0f\u200d\U0001f525",
        "\u845b\U000e0100\U000e0101 a\ufe00 \u1820\u180b\u180b",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    ]
    source = Path("gateway/web/printable.js").read_text()
    program = f"""{source}
      const numbers = {json.dumps(numbers)}, joined = {json.dumps(joined)};
      const changed = numbers.filter((n) => harmless(String.fromCodePoint(n)) !== String.fromCodePoint(n));
      console.log(JSON.stringify([changed, joined.map(harmless)]));
    """
    done = subprocess.run(
        ["node", "--input-type=module"], input=program, capture_output=True, text=True, check=True, timeout=60
    )
    changed, shown = json.loads(done.stdout)
    assert changed == [number for number in numbers if harmless(chr(number)) != chr(number)]
    assert shown == list(map(harmless, joined))


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_stays_exact(value: object) -> None:
    text = harmless_json(value)
    assert json.loads(text) == value
    assert not any(map(steers, text))
