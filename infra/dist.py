"""Build what people install, and try it where nothing else is: `make dist`.

The sdist and the wheel, which is made from the sdist, go into dist/. The wheel is installed as on a device, with the
versions of constraints.txt, in an empty virtual environment, and its command and its modules are used there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

from infra.errors import DeployError
from infra.release import ROOT, build_wheel, uv

EXTRA: Final = "client"
"""What people install: `pip install syncline[client]`."""
PROGRAM: Final = """
from clients.sdk.account import Accounts, sign_in, sign_up
from clients.sdk.session import Session
from clients.sdk.space import Space
from clients.sync.engine import Engine
from clients.transfer.download import Downloader
from clients.transfer.upload import Uploader
from syncline.metadata.v1 import metadata_pb2
"""
"""What programs import of us."""
_TIMEOUT_SECONDS: Final = 120


def build_distributions(directory: Path) -> Path:
    """Put the sdist and the wheel of the work tree into `directory`, which is emptied first; the wheel. DeployError."""
    if directory.exists():
        shutil.rmtree(directory)
    return build_wheel(directory, sdist=True)


def check_wheel(wheel: Path) -> None:
    """Install `wheel` in an empty virtual environment and use it there. DeployError says what does not work."""
    with tempfile.TemporaryDirectory(prefix="syncline-dist-") as scratch:
        environment = Path(scratch) / "environment"
        uv("venv", "--python", sys.executable, "--no-project", str(environment))
        uv(
            *("pip", "install", "--python", str(environment / "bin/python")),
            *("--constraints", str(ROOT / "constraints.txt"), "--build-constraints", str(ROOT / "constraints.txt")),
            f"syncline[{EXTRA}] @ {wheel.as_uri()}",
        )
        elsewhere = Path(scratch) / "elsewhere"
        elsewhere.mkdir()
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        said = _run(environment, elsewhere, "syncline", "--version").strip()
        if said != f"syncline {version}":
            raise DeployError(f"the installed `syncline --version` says {said!r}, and pyproject.toml {version}")
        if "Commands:" not in _run(environment, elsewhere, "syncline", "--help"):
            raise DeployError("the installed `syncline --help` lists no commands")
        _run(environment, elsewhere, "python", "-W", "error", "-c", PROGRAM)


def _run(environment: Path, directory: Path, program: str, *arguments: str) -> str:
    """What an installed program prints, run in `directory` as by somebody who knows nothing of our work tree."""
    done = subprocess.run(
        [environment / "bin" / program, *arguments],
        cwd=directory,
        env={"PATH": os.defpath, "HOME": str(directory), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    if done.returncode:
        raise DeployError(f"the installed `{program} {arguments[0]}` fails: {done.stderr.strip()}")
    return done.stdout


def main() -> int:
    """Build and check."""
    try:
        wheel = build_distributions(ROOT / "dist")
        check_wheel(wheel)
    except DeployError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for path in sorted(wheel.parent.glob("*.[wt]*")):
        sys.stdout.write(f"{path.relative_to(ROOT)}, {path.stat().st_size / 1e6:.1f} MB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
