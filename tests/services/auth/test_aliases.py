"""A space has an alias in addresses, whatever its owners call it."""

from itertools import islice

import pytest

from services.auth.aliases import candidates, fold_alias
from syncline.model.identifiers import SpaceId
from syncline.model.names import name_problem, split_path

ID = SpaceId("abcdefghijklmnopqrstuvwxy2")


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("Project", "Project"),
        ("Straße", "Straße"),
        ("e\N{COMBINING ACUTE ACCENT}", "é"),
        ("A/B", "A∕B"),
        ("C:\\x", "C__x"),
        ("a\r\nb\0c\N{RIGHT-TO-LEFT OVERRIDE}", "a__b_c_"),
        (" .hidden. ", "hidden"),
        (".syncline", "syncline"),
        ("personal", "space abcdef"),
        ("PERSONAL", "space abcdef"),
        ("ｐersonal", "space abcdef"),
        ("personal.", "space abcdef"),
        (".", "space abcdef"),
        ("..", "space abcdef"),
        ("", "space abcdef"),
        ("b" * 26, "space abcdef"),
        ("\ud800", "_"),
        ("x" * 5000, "x" * 180),
        ("ß" * 100, "ß" * 90),
    ],
)
def test_the_first_choice_is_the_name_as_it_can_stand_in_an_address(name, alias):
    assert next(candidates(name, ID)) == alias


@pytest.mark.parametrize("name", ["Project", "x" * 5000, "\N{GRINNING FACE}" * 100, "../../etc", "", "a:b/c"])
def test_each_choice_is_one_name_of_a_path(name):
    choices = list(islice(candidates(name, ID), 6))
    assert len({fold_alias(choice) for choice in choices}) == 6
    assert choices[1:3] == [f"{choices[0]} (abcdef)", f"{choices[0]} ({ID})"]
    for choice in choices:
        assert name_problem(choice) is None
        assert split_path(choice) == (choice,)
        assert ":" not in choice
