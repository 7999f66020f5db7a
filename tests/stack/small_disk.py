"""Programs that run on a disk which is soon full: a tmpfs in a mount namespace of their own."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

DEADLINE = 150.0


def on_small_disk(place: Path, size: str, program: str, *arguments: Path) -> list[str]:
    """Run a program of Python to which `place`, its first argument, is a disk of this size; returns what it printed.

    Skips the test where nobody may have a namespace of one's own.
    """
    if sys.platform != "linux":
        pytest.skip("namespaces are Linux's")
    command = f'mount -t tmpfs -o size={size} none {place} && exec {sys.executable} -c "$0" "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", command, textwrap.dedent(program), place, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    if done.returncode and "unshare" in done.stderr:
        pytest.skip(f"no namespace of one's own here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
