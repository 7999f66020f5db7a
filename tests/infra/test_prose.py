"""The check of prose finds each kind of text that it names, and no room has any."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.prose import OPENINGS, PHRASES, ROOMS, ROOT, findings, findings_of, main


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def reasons(docstring: str) -> list[str]:
    return [one.reason for one in findings_of(f'def f() -> None:\n    """{docstring}"""\n', "a.py")]


def comment_reasons(comment: str) -> list[str]:
    return [one.reason for one in findings_of(f"x = 1\n{comment}\n", "a.py")]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_no_finding(room: str) -> None:
    assert findings(room) == []


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


@pytest.mark.parametrize(
    ("signature", "docstring", "begins"),
    [
        ("def f() -> int", "The number of blocks in a pack.", "The"),
        ("async def f() -> bool", "True if the path is ignored.", "True"),
        ("def f() -> list[str]", "Up to ten names of a directory.", "Up to"),
    ],
)
def test_a_function_that_returns_something_begins_with_a_verb(signature: str, docstring: str, begins: str) -> None:
    source = f'{signature}:\n    """{docstring}"""\n'
    reason = f"begins with `{begins}`: say what the function does, as in `Return {begins.lower()} ...`"
    assert [one.reason for one in findings_of(source, "a.py")] == [reason]
    assert findings_of(source, "tests/a.py") == []
    assert findings_of(f"@cached_property\n{source}", "a.py") == []
    assert findings_of(source.replace(docstring, f"Return {docstring}"), "a.py") == []


HOMELY = {
    "in progress": "Count the calls under way.",
    "release": "Close the file and let go of its lock.",
    "return": "Give the pool what it gave back.",
    "continue": "Say when the listing goes on with a page.",
    "recently": "Keep the spaces that were used lately.",
    "is notified": "Count the callers; each is told of a change.",
    "receives": "Wait until the watcher hears of a change.",
}
"""A text with each of the phrases, by the term to use instead."""


@pytest.mark.parametrize("term", PHRASES.values())
def test_each_homely_phrase_is_found_in_docstrings_and_comments(term: str) -> None:
    assert [reason.partition(": ")[2] for reason in reasons(HOMELY[term])] == [f"write `{term}`"]
    assert [reason.partition(": ")[2] for reason in comment_reasons(f"# {HOMELY[term]}")] == [f"write `{term}`"]


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


def test_findings_are_those_of_every_file_of_a_room(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"lib/a.py": '"""Short."""\n', "lib/deep/b.py": '"""What is new."""\n', "other/c.py": '"""Short."""\n'},
    )
    assert [(one.file, one.line) for one in findings("lib", tmp_path)] == [("lib/a.py", 1), ("lib/deep/b.py", 1)]


def test_the_command_names_the_rooms_when_it_does_not_know_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["aws"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["aws", "elsewhere"]) == 2
    assert capsys.readouterr().err == f"no room: elsewhere; the rooms are {', '.join(ROOMS)}\n"
