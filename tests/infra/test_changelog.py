"""The changelog is made of fragments; a fragment that has not the form is refused by name."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from infra import changelog


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a released version and two unreleased changes."""
    write(tmp_path, "1.9.0_2026-01-31/summary.md", "The first one.\n")
    write(tmp_path, "1.9.0_2026-01-31/start.md", "New: everything.\n")
    write(tmp_path, "unreleased/new-thing.md", "New: `it` is\nthere.\n\nFixed: it was not.\n")
    write(tmp_path, "unreleased/a-change.md", "Changed: another way.\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.10.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(changelog.changelog_document(tmp_path))
    assert list(changelog.faults(tmp_path)) == []
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / "changelog" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


UNRELEASED = """\
### Fixed

- It was not.

### Changed

- Another way.

### New

- `it` is there.
"""


def test_a_release_moves_fragments_into_its_section(root: Path) -> None:
    assert changelog.unreleased(root) == UNRELEASED
    changelog.release("1.10.0", date(2026, 2, 28), root)
    text = (root / "CHANGELOG.md").read_text()
    after_head = text.split("since the last release.\n\n", 1)[1]
    earlier = "## 1.9.0 (2026-01-31)\n\nThe first one.\n\n### New\n\n- Everything.\n"
    assert after_head == f"## 1.10.0 (2026-02-28)\n\n{UNRELEASED}\n{earlier}"
    assert list((root / "changelog/unreleased").iterdir()) == []
    assert (root / "changelog/1.10.0_2026-02-28/a-change.md").read_text() == "Changed: another way.\n"
    assert changelog.unreleased(root) == "Nothing has changed since the last release.\n"
    assert list(changelog.faults(root)) == []


def test_a_version_is_released_once_and_after_the_others(root: Path) -> None:
    with pytest.raises(changelog.BadChangelog, match=r"pyproject.toml has version 1.10.0: set it to 1.11.0 first"):
        changelog.release("1.11.0", date(2026, 2, 28), root)
    changelog.release("1.10.0", date(2026, 2, 28), root)
    with pytest.raises(changelog.BadChangelog, match=r"1.10.0 was released: 1.10.0 does not come after it"):
        changelog.release("1.10.0", date(2026, 3, 1), root)
    (root / "pyproject.toml").write_text('[project]\nversion = "1.10.1"\n')
    with pytest.raises(changelog.BadChangelog, match="changelog/unreleased is empty"):
        changelog.release("1.10.1", date(2026, 3, 1), root)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("Upper.md", "New: x.", "about-what.md"),
        ("x.rst", "New: x.", "about-what.md"),
        ("x.md", "", "the file is empty"),
        ("x.md", "Improved: x.", "'Improved: x.' does not begin with one of 'Fixed', 'Changed', 'New' and a colon"),
        ("x.md", "# New: x.", "does not begin"),
        ("x.md", "New: x. Fixed: y.", "'Fixed:' begins a change of its own"),
        ("x.md", "New: x", "does not end with a full stop"),
        ("x.md", f"New: {'x' * 2000}.", "at most 1200 characters"),
        ("summary.md", "What is new.", "does not begin"),
    ],
)
def test_what_has_not_the_form_is_refused(root: Path, name: str, text: str, fault: str) -> None:
    write(root, f"unreleased/{name}", text)
    (told,) = changelog.faults(root)
    assert told.startswith(f"changelog/unreleased/{name}: ")
    assert fault in told
    with pytest.raises(changelog.BadChangelog):
        changelog.release("1.10.0", date(2026, 2, 28), root)
    assert (root / "changelog/unreleased/a-change.md").exists()


def test_a_document_that_was_written_by_hand_is_refused(root: Path) -> None:
    with (root / "CHANGELOG.md").open("a") as file:
        file.write("- By the way.\n")
    (told,) = changelog.faults(root)
    assert told.startswith("CHANGELOG.md is not what the fragments give")
    write(root, "2.0_2026-05-05/x.md", "New: x.")
    (told,) = changelog.faults(root)
    assert told == "changelog/2.0_2026-05-05 is not of the form VERSION_YEAR-MONTH-DAY"
