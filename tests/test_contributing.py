"""The pages for contributors are true: hooks are those of `make check`, links lead somewhere, named targets exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)\s]*)?\)")
TARGET = re.compile(r"(?:^ {4,}|`|&& )make ([a-z][a-z-]*)", re.MULTILINE)


def documents() -> list[Path]:
    """Every document of the repository, relative to its root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def hooks() -> list[dict[str, Any]]:
    """The hooks of each repository in the configuration of pre-commit."""
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert {repository["repo"] for repository in repositories} == {"local"}
    return [hook for repository in repositories for hook in repository["hooks"]]


def test_hooks_are_the_steps_of_make_check() -> None:
    steps = re.findall(r"^\t\$\(call step,(.*)\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [hook["name"] for hook in hooks()] == steps
    assert {hook["language"] for hook in hooks()} == {"system"}


def test_a_hook_looks_at_the_files_that_changed(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / ".venv/bin/pre-commit", "run", "--files", "buf.yaml", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{ROOT}/.venv/bin:/usr/bin:/bin", "SKIP": "buf-breaking", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = dict(re.findall(r"^(.+?)\.{3,}(?:\(no files to check\))?(\w+)$", done.stdout, re.MULTILINE))
    assert {name for name, outcome in outcomes.items() if outcome == "Passed"} == {"buf lint", "buf format"}
    assert len(outcomes) == len(hooks())


def test_the_public_ci_runs_what_everybody_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]


def test_what_documents_name_is_there() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    missing = []
    for document in documents():
        text = (ROOT / document).read_text()
        missing += [(document, link) for link in LINK.findall(text) if not (ROOT / document.parent / link).exists()]
        missing += [(document, f"make {target}") for target in set(TARGET.findall(text)) - targets]
    assert not missing
