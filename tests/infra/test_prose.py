"""The check of prose finds each kind of text that it names, and a budget only shrinks."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.prose import BUDGET, OPENINGS, ROOMS, ROOT, breaches, findings_of, shrink


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def reasons(docstring: str) -> list[str]:
    return [one.reason for one in findings_of(f'def f() -> None:\n    """{docstring}"""\n', "a.py")]


def comment_reasons(comment: str) -> list[str]:
    return [one.reason for one in findings_of(f"x = 1\n{comment}\n", "a.py")]


def test_each_room_keeps_to_its_budget() -> None:
    assert breaches() == []


def test_each_python_file_of_the_repository_is_in_a_room() -> None:
    folders = {path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    generated = {"protos", "build", "docs", "server", "changelog"}
    with_code = {path.name for path in folders if path.name not in generated and any(path.rglob("*.py"))}
    assert with_code == {room.partition("/")[0] for room in ROOMS}


@pytest.mark.parametrize("docstring", ["Close.", "The caller.", "Read once."])
def test_a_docstring_of_one_or_two_words_is_found(docstring: str) -> None:
    assert [reason.partition(" words")[0] for reason in reasons(docstring)] == ["a docstring of fewer than 3"]


@pytest.mark.parametrize("docstring", ["See `Port.close`.", "See the port for\n    what this promises."])
def test_a_docstring_that_refers_elsewhere_is_found(docstring: str) -> None:
    assert [reason.partition(":")[0] for reason in reasons(docstring)] == [
        "a docstring that only refers to another place"
    ]


@pytest.mark.parametrize("word", sorted(OPENINGS))
def test_each_banned_opening_is_found_in_docstrings_and_comments(word: str) -> None:
    text = f"{word.capitalize()} is left of the file, in bytes."
    assert reasons(text) == [f"begins with `{word}`: {OPENINGS[word]}"]
    assert comment_reasons(f"# {text}") == [f"comment begins with `{word}`: {OPENINGS[word]}"]


@pytest.mark.parametrize(
    "docstring",
    ["One who takes more than the limit waits.", "Each is read once by the caller.", "All that a device remembers."],
)
def test_a_word_that_stands_for_a_noun_is_found(docstring: str) -> None:
    assert len(reasons(docstring)) == 1


@pytest.mark.parametrize("docstring", ["For tests of the service.", "When the token has ended.", "By id of the space."])
def test_a_clause_without_a_sentence_is_found(docstring: str) -> None:
    assert [reason.partition(":")[0].partition(" and ")[2] for reason in reasons(docstring)] == ["has no main clause"]


@pytest.mark.parametrize(
    ("docstring", "errors"),
    [
        ("Return the members. NoSuchSpace.", "NoSuchSpace"),
        ("Return the node with this id; NoSuchNode, InvalidArgument if there is none.", "NoSuchNode, InvalidArgument"),
        ("NoSuchSpace if it is not there.", "NoSuchSpace"),
    ],
)
def test_errors_without_a_verb_are_found(docstring: str, errors: str) -> None:
    assert reasons(docstring) == [f"names {errors} without a verb: write `Raise {errors}`"]


def test_docstrings_of_modules_classes_and_attributes_are_found() -> None:
    source = (
        '"""What is shared."""\nA = 3\n"""How many."""\nclass B:\n    """Its values."""\n    c: int\n    """Big."""\n'
    )
    assert [one.line for one in findings_of(source, "a.py")] == [1, 3, 5, 7]


def test_only_the_first_line_of_a_comment_is_judged() -> None:
    assert comment_reasons("# The store keeps all names.\n# It closes at the end.") == []


@pytest.mark.parametrize(
    "docstring",
    [
        "Return the bytes of a block.",
        "The number of blocks in a pack.",
        "True if the path is excluded or ignored.",
        "Each block is verified by its SHA-256.",
        "When the token has ended, the stream ends.",
        "One entry of the journal.",
        "Hold the path of a file.",
        "Return the members. Raise NoSuchSpace, or InvalidArgument if the id is none.",
        "Maximum size of one request, in bytes.",
    ],
)
def test_sentences_and_noun_phrases_pass(docstring: str) -> None:
    assert reasons(docstring) == []


@pytest.mark.parametrize("comment", ["# noqa: S101 what is so", "# type: ignore[attr-defined]", "# ---- what"])
def test_comments_for_tools_are_left_alone(comment: str) -> None:
    assert comment_reasons(comment) == []


def test_one_more_than_the_budget_fails(tmp_path: Path) -> None:
    write(tmp_path, {"lib/a.py": '"""Short."""\n', BUDGET: "lib = 1\n"})
    assert breaches(tmp_path, ["lib"]) == []
    write(tmp_path, {"lib/b.py": '"""What is new."""\n'})
    assert breaches(tmp_path, ["lib"]) == ["lib has 2 findings, its budget is 1: python -m infra.prose list lib"]


def test_a_room_without_a_budget_lists_what_is_found(tmp_path: Path) -> None:
    write(tmp_path, {"lib/a.py": '"""Short."""\n', "lib/b.py": '"""What is new."""\n'})
    *listed, last = breaches(tmp_path, ["lib"])
    assert [line.partition(" ")[0] for line in listed] == ["lib/a.py:1:", "lib/b.py:1:"]
    assert last == "lib has 2 findings, its budget is 0: python -m infra.prose list lib"


def test_a_budget_that_is_too_large_fails_until_it_has_shrunk(tmp_path: Path) -> None:
    write(tmp_path, {"lib/a.py": '"""Short."""\n', BUDGET: "lib = 2\nold = 1\n"})
    assert breaches(tmp_path, ["lib"]) == [
        f"{BUDGET} names old, which is no room",
        "lib has only 1 of 2 findings left: python -m infra.prose shrink",
    ]
    shrink(tmp_path, ["lib"])
    assert breaches(tmp_path, ["lib"]) == []


def test_shrinking_raises_no_budget(tmp_path: Path) -> None:
    write(tmp_path, {"lib/a.py": '"""Short."""\n', BUDGET: ""})
    shrink(tmp_path, ["lib"])
    assert breaches(tmp_path, ["lib"])[-1] == "lib has 1 findings, its budget is 0: python -m infra.prose list lib"
