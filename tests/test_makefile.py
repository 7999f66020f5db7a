"""A verb of the Makefile that no test runs would rot: each is run here in short, or named with what else runs it."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

REPOSITORY = Path(__file__).parents[1]

RUN: Final[Mapping[str, tuple[str, ...]]] = {
    "help": (),
    "setup": (),
    "changelog": (),
    "test": ("ARGS=tests/model/test_names.py -q",),
    "soak": ("N=2", "SEED=1"),
    "mutants": ("ARGS=--breed",),
    "fuzz": ("N=20", "SEED=1"),
    "bench": ("ARGS=--short trace",),
    "bench-load": ("ARGS=--help",),  # the work takes minutes: tests/benchmarks does it in short
}
"""The arguments with which each verb is short enough to be run here."""
ELSEWHERE: Final[Mapping[str, str]] = {
    "demo": "tests/lb/test_balance.py",
    "up": "tests/stack/test_up.py",
    "test-web": "tests/web",
    "test-lb": "tests/lb",
    "test-compose": ".ci/compose",
    "abuse": "tests/abuse",
    "soak-kill": "tests/e2e/test_kill.py",
    "soak-power": "tests/power",
    "soak-drain": "tests/lb/test_drain.py",
    "docs": "tests/infra/test_site.py",
    "dist": ".ci/run",
    "release": ".ci/run",
    "check": ".ci/run",
    "format": ".ci/run",
    "proto": ".ci/run",
    "vectors": "tests/test_vectors.py",
    "deploy": "tests/infra/test_production.py",
}
"""The files that do the others' work in `make test` or before a merge. tests/benchmarks has all benchmarks in short."""


def make(*arguments: str, within: float = 150) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


def verbs() -> list[str]:
    (line,) = re.findall(r"^\.PHONY: (help .*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    return str(line).split()


def test_every_verb_is_run_somewhere_and_explained() -> None:
    assert sorted(verbs()) == sorted([*RUN, *ELSEWHERE])
    assert not [place for place in ELSEWHERE.values() if not (REPOSITORY / place).exists()]
    assert re.findall(r"^  make (\S+)", make("help").stdout, re.MULTILINE) == sorted(verbs(), key=told)


def told(verb: str) -> int:
    """Return the offset of a verb's rule in the Makefile."""
    found = re.search(rf"^{verb}: .*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert found, f"{verb} is not explained"
    return found.start()


@pytest.mark.parametrize("verb", RUN)
def test_a_verb_runs(verb: str) -> None:
    done = make(verb, *RUN[verb])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.parametrize("verb", ELSEWHERE)
def test_what_a_verb_runs_is_there(verb: str) -> None:
    """By what `make` would do: the programs, modules and files of each command exist."""
    dry = make("--dry-run", "--old-file", ".venv/setup-done", verb, "STAGE=test")
    assert dry.returncode == 0, dry.stderr
    commands = [command for line in dry.stdout.splitlines() for command in re.split(r"&&|\|\|", line)]
    for command in commands:
        words = shlex.split(command, comments=True)  # ValueError for what the shell would not understand either
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            del words[0]
        # `make check` makes that environment itself.
        if (
            not words
            or words[0].startswith(".venv/checkov/")
            or words[0] in {"[[", "echo", "exit", "printf", "if", "}", "{", "touch"}
        ):
            continue
        assert (
            shutil.which(words[0], path=f"{REPOSITORY / '.venv' / 'bin'}:/usr/bin:/bin")
            or (REPOSITORY / words[0]).exists()
        ), command
        if words[1:2] == ["-m"] and Path(words[0]).name == "python":
            assert importlib.util.find_spec(words[2]), command
        for word in words[1:]:
            if word.startswith(("tests/", "infra/")):
                assert (REPOSITORY / word).exists(), command


def test_deploy_asks_for_what_it_lacks() -> None:
    done = make("deploy")
    assert done.returncode != 0
    assert "which stage? make deploy STAGE=prod" in done.stderr


@pytest.mark.parametrize("script", sorted(path.name for path in (REPOSITORY / ".ci").iterdir() if path.suffix == ""))
def test_a_script_is_one_that_the_shell_understands(script: str) -> None:
    done = subprocess.run(["bash", "-n", str(REPOSITORY / ".ci" / script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


STAND_INS = {
    "apt-get": "echo http://deb.example.org/debian",
    "debootstrap": 'mkdir -p "$4/etc/ssl/certs" "$4/usr/bin"; touch "$4/usr/bin/python3"',
    "docker": 'cat >"$IMAGE"; printf "%s\\n" "$@" >"$IMAGE.arguments"',
}
"""Stand-ins for programs that need root, a mirror and a daemon: the script itself does what is between them."""


def test_every_user_may_enter_the_root_of_the_base_image(tmp_path: Path) -> None:
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    if not certificates.exists():
        pytest.skip("chromium or another package that brings ca-certificates is not installed")
    for name, body in STAND_INS.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)
    done = subprocess.run(
        [str(REPOSITORY / ".ci" / "docker-base"), "base:test"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "IMAGE": str(tmp_path / "image"), "TMPDIR": str(tmp_path)},
        umask=0o077,
    )
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(
        ["tar", "--list", "--verbose", "--file", str(tmp_path / "image")], capture_output=True, text=True, check=True
    )
    root = listed.stdout.splitlines()[0]
    assert root.startswith("drwxr-xr-x"), root
    assert root.endswith(" ./"), root
    assert (tmp_path / "image.arguments").read_text().splitlines()[-1] == "base:test"
