"""A name and a path each have rules."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.model.errors import InvalidArgument
from syncline.model.names import MAX_NAME_BYTES, name_problem, normalize, normalized_path, split_path


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
