"""The glossary names classes and messages that there are, and each term once."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from syncline import model

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (?!term )([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
ROWS = ROW.findall((ROOT / "docs/glossary.md").read_text())
NAMED = [name for _, _, carriers in ROWS for name in re.findall(r"`([^`]+)`", carriers)]


def test_each_term_stands_once() -> None:
    terms = [term for term, _, _ in ROWS]
    assert len(terms) > 30
    assert len(set(terms)) == len(terms)


@pytest.mark.parametrize("name", NAMED)
def test_what_carries_a_term_is_there(name: str) -> None:
    module, _, member = name.rpartition(".")
    if module.endswith(".v1"):
        package = module.split(".")[1]
        module += f".{package}_pb2"
    assert getattr(import_module(module), member)


def test_each_term_has_what_carries_it() -> None:
    assert [term for term, _, carriers in ROWS if "`" not in carriers] == []


def test_the_docstring_of_the_kernel_explains_only_terms_of_the_glossary() -> None:
    explained = re.findall(r"^([a-z ]+?) {2,}\S", model.__doc__ or "", re.MULTILINE)
    assert set(explained) <= {term for term, _, _ in ROWS}
    assert {"space", "node", "version", "journal"} <= set(explained)
