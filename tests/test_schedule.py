"""The schedule of tests that run side by side names files that there are, and runs each test once where it belongs."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.schedule import APART, SECONDS, TOGETHER, WAITING, choose

REPOSITORY = Path(__file__).parents[1]


def test_what_it_names_is_there() -> None:
    named = {name.partition("::")[0] for name in (*TOGETHER, *APART, *WAITING, *SECONDS)}
    assert [name for name in sorted(named) if not (REPOSITORY / name).exists()] == []


def test_the_first_worker_begins_with_the_slowest_and_the_others_with_the_quickest() -> None:
    slow, slower = sorted((name for name in SECONDS if name not in WAITING), key=SECONDS.__getitem__)[-2:]
    waiting = min(WAITING)
    left = [slow, waiting, slower, "tests/model/test_names.py"]
    assert choose(left, worker=0, workers=2) == slower
    assert choose(left, worker=1, workers=2) == "tests/model/test_names.py"
    assert choose(left, worker=1, workers=3) == "tests/model/test_names.py"
    assert choose(left, worker=2, workers=3) == waiting
    assert choose([slow], worker=2, workers=3) is None
    assert choose([waiting], worker=0, workers=3) == waiting, "whoever has nothing else to do helps with these"
    assert choose([slow], worker=7, workers=3) == slow, "one that takes the place of another"
    assert choose([], worker=0, workers=2) is None


FILES = {
    "tests/gateway/api/test_a.py": 3,
    "tests/gateway/api/test_b.py": 3,
    "tests/benchmarks/test_short.py": 3,
    "tests/e2e/test_rates.py": 2,
    "tests/e2e/test_kill.py": 1,
    "tests/model/test_names.py": 1,
    "tests/model/test_chunking.py": 20,
}


def test_each_test_runs_once_and_with_those_that_it_stays_with(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    for name, count in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("".join(f"def test_{number}(): pass\n" for number in range(count)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.schedule", "-n", "3", "-v", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.findall(r"^\[gw(\d)\].* PASSED (\S+)::(\S+)", done.stdout, re.MULTILINE)
    assert sorted((file, test) for _, file, test in ran) == sorted(
        (name, f"test_{number}") for name, count in FILES.items() for number in range(count)
    )
    workers = {name: {worker for worker, file, _ in ran if file == name} for name in FILES}
    assert workers["tests/e2e/test_rates.py"] == {"2"}
    assert len(workers["tests/model/test_chunking.py"]) == 1
    assert len(workers["tests/gateway/api/test_a.py"] | workers["tests/gateway/api/test_b.py"]) == 1


def test_a_full_collection_does_not_look_through_the_collected_tests(request: pytest.FixtureRequest) -> None:
    seen = {id(one) for one in gc.get_objects()}  # all but what is frozen
    assert [item.nodeid for item in request.session.items if id(item) in seen] == []
    assert id(pytest.__dict__) not in seen
