"""Paths as they travel: the rules, and that they do not depend on how long or odd a path is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.model.errors import InvalidArgument
from syncline.model.names import MAX_PATH_BYTES, name_problem, path_problem, split_path
from syncline.wire.paths import path_from_wire, paths_from_wire

BAD = [
    "/",
    "a/",
    "/a",
    "a//b",
    "//",
    ".",
    "..",
    "a/..",
    "../a",
    "a/./b",
    "a/../b",
    "\0",
    "a\0b",
    "\ud800",
    "a/\udfff/b",
    "e\u0301",
    "n" * 256,
    "\u00e9" * 128,
    "a/" * 5000 + "a",
    "a/" * 128 + "a",
    "a/" * 1_900_000,
    "/" * 2000,
    "n" * (MAX_PATH_BYTES + 1),
    "\u00e9" * 100 + ("/" + "\u00e9" * 100) * 20,
]
GOOD = [
    "a",
    "a/b",
    "...",
    "a/..b",
    ".hidden",
    "a b",
    "\u00e9" * 127,
    "n" * 255,
    "a/" * 127 + "a",
    "\x01",
    ".\n",
    "\t/\r",
]


@pytest.mark.parametrize("path", BAD)
def test_a_malformed_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        path_from_wire(path)
    assert refused.value.details == {"field": "path"}
    assert len(str(refused.value)) < 1000
    with pytest.raises(InvalidArgument) as refused:
        paths_from_wire(["a", path])
    assert refused.value.details == {"field": "paths[1]"}


@pytest.mark.parametrize("path", GOOD)
def test_a_path_is_names(path: str) -> None:
    assert path_from_wire(path) == tuple(path.split("/"))
    assert paths_from_wire([path, "", "a"]) == [path, "", "a"]


def test_the_empty_path_is_the_root() -> None:
    assert path_from_wire("") == ()


@given(st.text(st.sampled_from("ab./\0\u00e9\n\ud800"), max_size=12))
def test_the_short_cut_for_ascii_decides_as_the_rules_do(path: str) -> None:
    follows = not path or all(name_problem(name) is None for name in path.split("/"))
    assert (path_problem(path) is None) == follows


def test_slashes_around_what_a_person_types_mean_nothing() -> None:
    assert split_path("/a/b/") == ("a", "b")
    assert split_path("/") == ()
    with pytest.raises(InvalidArgument):
        split_path("/a//b/")
