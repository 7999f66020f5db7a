"""The benchmark of durability runs, with few files."""

from pathlib import Path

import pytest

from benchmarks.durability import after_a_kill, compare


@pytest.mark.timeout(600)
def test_it_compares_and_measures_a_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(tmp_path, files=50, rounds=1)
    after_a_kill(tmp_path, files=50)
    said = capsys.readouterr().out
    assert "ratio" in said
    assert "with 50 files; the embedded AWS read back" in said
