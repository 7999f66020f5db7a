"""Every benchmark runs, in its short form: what it prints is a table of figures that nobody should believe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from benchmarks.__main__ import BENCHMARKS

REPOSITORY = Path(__file__).parents[2]
SAID: Final[Mapping[str, Sequence[str]]] = {
    "durability": ("ratio", "with 200 files; the embedded AWS read back"),
}
"""Words that a benchmark prints beside its figures."""


def benchmarks(*arguments: str, within: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")},
    )


@pytest.mark.timeout(660)
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs(name: str) -> None:
    done = benchmarks("--short", name)
    assert done.returncode == 0, done.stderr[-5000:]
    assert re.search(r"^  .*\d", done.stdout, re.MULTILINE), done.stdout
    assert "Traceback" not in done.stderr, done.stderr[-5000:]
    assert all(words in done.stdout for words in SAID.get(name, ())), done.stdout


def test_a_benchmark_that_does_not_exist_is_named() -> None:
    done = benchmarks("--short", "trace", "nonsense")
    assert done.returncode == 2
    assert "no such benchmark: nonsense; there are check_versions, transfer" in done.stderr


def test_all_of_them_are_in_the_list() -> None:
    runnable = {
        path.stem
        for path in (REPOSITORY / "benchmarks").glob("*.py")
        if '__name__ == "__main__"' in path.read_text() and path.stem not in {"__main__", "peak", "in_memory_metadata"}
    }
    assert runnable == set(BENCHMARKS)


@pytest.mark.timeout(660)
def test_none_is_in_the_way_of_the_next_and_what_fails_does_not_end_the_rest(tmp_path: Path) -> None:
    """The first takes a core for itself and fails; the second finds all of them."""
    source = tmp_path / "benchmarks"
    source.mkdir()
    for name in ("__main__", "scale"):
        (source / f"{name}.py").write_text((REPOSITORY / "benchmarks" / f"{name}.py").read_text())
    (source / "__init__.py").touch()
    (source / "transfer.py").write_text(
        "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nraise SystemExit('broken')\n"
    )
    (source / "trace.py").write_text("import os\nprint(sorted(os.sched_getaffinity(0)))\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks", "transfer", "trace"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout.strip()) == (1, str(sorted(os.sched_getaffinity(0))))
    assert done.stderr.endswith("failed: transfer\n")
