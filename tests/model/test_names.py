"""A name and a path each have rules."""

from __future__ import annotations

import re
import sys
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncline.model.errors import InvalidArgument
from syncline.model.names import (
    MAX_NAME_BYTES,
    archived_name,
    clipped,
    folded,
    most_archived_bytes,
    name_problem,
    normalize,
    normalized_path,
    split_path,
    with_mark,
)


@pytest.mark.parametrize(("one", "other"), [("Straße", "STRASSE"), ("É", "e\u0301"), ("ſ", "S")])
def test_names_that_differ_only_in_case_or_composition_have_one_folded_form(one: str, other: str) -> None:
    assert folded(one) == folded(other) == folded(folded(one))
    assert unicodedata.is_normalized("NFC", folded(one))


@pytest.mark.parametrize("name", ["a", "...", "a b", ".hidden", "é" * 127, "x" * 255, "名前", "-rf", "a\nb", "con"])
def test_names_that_are_allowed(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/", "a\0b", "x" * 256, "é" * 128, "e\u0301", "\ud800"], ids=ascii
)
def test_names_that_are_not(name: str) -> None:
    assert name_problem(name)
    if name.strip("/"):
        with pytest.raises(InvalidArgument):
            split_path(f"directory/{name}/" if "/" not in name else f"{name}/..")


@given(st.text(min_size=1))
def test_a_normalized_name_is_not_refused_for_its_form(name: str) -> None:
    assert "normal form" not in (name_problem(normalize(name)) or "")


@given(
    st.lists(st.text(min_size=1, max_size=20).map(normalize).filter(lambda name: not name_problem(name)), max_size=9)
)
def test_a_path_is_its_names(names: list[str]) -> None:
    assert split_path("/".join(names)) == tuple(names)


def test_the_root_and_a_path_that_is_too_long() -> None:
    assert split_path("") == split_path("/") == ()
    with pytest.raises(InvalidArgument):
        split_path("/".join(["x" * 200] * 21))


def test_a_path_of_decomposed_names_is_composed() -> None:
    assert normalized_path("/e\u0301/o\u0308/") == ("\u00e9", "\u00f6")
    longest = "\u03b1\u0313\u0300\u0345" * (MAX_NAME_BYTES // 3)  # NFC makes one character of three bytes of each
    assert normalized_path(longest) == (normalize(longest),)
    for hostile in ("a" + "\u0301\u0323" * 20_000, "a/" * 20_000, "a" * 1_021):
        normalised = 0

        def called(_frame: object, event: str, function: object) -> None:
            nonlocal normalised
            normalised += event == "c_call" and function is unicodedata.normalize

        sys.setprofile(called)
        try:
            with pytest.raises(InvalidArgument):
                normalized_path(hostile)
        finally:
            sys.setprofile(None)
        assert not normalised, "which takes the square of the length"


DEVICES = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"] + [
    f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"
]
ODD_NAMES = (
    st.one_of(
        st.text(alphabet='aA:?*\\|<>". %5Cé\x01\x1f~', min_size=1, max_size=300),
        st.builds(
            "".join,
            st.tuples(st.sampled_from(["", " ", "x"]), st.sampled_from([*DEVICES, *map(str.lower, DEVICES)]))
            .map("".join)
            .flatmap(
                lambda name: st.tuples(
                    st.just(name), st.sampled_from(["", ".", " ", ".txt", " .a", ":", "x", "...", "~1", "~12.txt"])
                )
            ),
        ),
        st.text(min_size=1),
    )
    .map(normalize)
    .filter(lambda name: not name_problem(name))
)


def held_by_windows(name: str) -> bool:
    """Return True if Windows holds a file of this name under exactly this name, which is no short name of another."""
    base = name.partition(".")[0].rstrip(" ").upper()
    is_short = any(
        len(name[: mark.start()].rpartition(".")[2]) < 7
        and re.fullmatch(r"[0-9]{1,6}(\.[^.]{0,3})?", name[mark.end() :])
        for mark in re.finditer("~", name)
    )
    is_plain = not re.search(r'[\x00-\x1f"*:<>?\\|/]', name) and not name.endswith((".", " "))
    return is_plain and not is_short and base not in DEVICES


@given(ODD_NAMES)
@settings(deadline=None, suppress_health_check=list(HealthCheck))  # not about time
def test_the_form_of_a_name_in_an_archive_is_held_everywhere_and_tells_the_name(name: str) -> None:
    form = archived_name(name)
    assert held_by_windows(form)
    assert form == name or unquote(form) == unquote(name)
    assert (form == name) is held_by_windows(name)
    assert archived_name(form) == form
    assert min(len(form.encode()), MAX_NAME_BYTES) <= most_archived_bytes(name) <= MAX_NAME_BYTES


@given(ODD_NAMES)
@settings(deadline=None, suppress_health_check=list(HealthCheck))  # not about time
def test_a_clipped_name_leaves_room_for_a_number(name: str) -> None:
    short = clipped(archived_name(name), MAX_NAME_BYTES - 10)
    assert len(short.encode()) <= MAX_NAME_BYTES - 10
    numbered = with_mark(short, "(1234567)")
    assert held_by_windows(numbered)
    assert len(numbered.encode()) == len(short.encode()) + 10


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("C:", "C%3A"),
        ("a:b", "a%3Ab"),
        ("..\\evil", "..%5Cevil"),
        ("con", "co%6E"),
        ("NUL.txt", "NU%4C.txt"),
        ("NUL .txt", "NU%4C .txt"),
        ("COM¹", "COM%C2%B9"),
        ("a.", "a%2E"),
        ("a ", "a%20"),
        ("a. .", "a. %2E"),
        ("tab\t", "tab%09"),
        ("PROGRA~1", "PROGRA%7E1"),
        ("a~12.txt", "a%7E12.txt"),
        ("~1.", "%7E1%2E"),
        ("a:b~1", "a%3Ab%7E1"),
        ("report~1.html", "report~1.html"),
        ("reports~1.txt", "reports~1.txt"),
        ("a~b.txt", "a~b.txt"),
        ("~$report.doc", "~$report.doc"),
        ("console.txt", "console.txt"),
        (" con", " con"),
        ("100%", "100%"),
        ("...a", "...a"),
    ],
)
def test_names_that_windows_cannot_hold_have_another_form_in_archives(name: str, form: str) -> None:
    assert archived_name(name) == form
