"""Build the distributions, and test them in an empty environment: `make dist`.

The sdists, and the wheels, which are built from the sdists, go to dist/. Each wheel is installed with the versions of
constraints.txt in an empty virtual environment, `syncline` as on a device and `syncline-server` as for `syncline up`.
It is used there from a directory that contains foreign packages with names like those of our folders.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Final

from infra.errors import DeployError
from infra.release import ROOT, Wheels, build_wheels, uv

EXTRA: Final = "client"
"""The extra for users: `pip install syncline[client]`."""
TOP_LEVEL: Final = "syncline"
"""The only top-level name that the client adds to site-packages."""
PROGRAM: Final = """
from syncline.metadata.v1 import metadata_pb2
from syncline.model.tree import Node
from syncline.sdk import Accounts, Session, Space, default_home, sign_in, sign_up
from syncline.sync.engine import Engine
from syncline.sync.state.database import State
from syncline.transfer.download import Downloader
from syncline.transfer.upload import Uploader


def size_of(space: Space, path: str) -> int:
    node: Node = space.get_node(path).node
    return node.content.size if node.content else 0


State.in_memory().close()


def head_of(response: metadata_pb2.ListChangesResponse) -> int:
    return response.seq
"""
"""A user's program, which imports the client and uses its types."""
WRONG: Final = PROGRAM.replace("-> int:", "-> bytes:")
"""The same program with a type error, which a type checker reports only if it finds the client's types."""
SERVER_PROGRAM: Final = """
import gateway.bootstrap, services.auth.bootstrap, services.metadata.bootstrap, services.notify.bootstrap, stack.up
"""
OF_OTHERS: Final = ("core", "wire", "runtime", "aws", "services", "gateway", "clients", "stack", "lib")
"""Names of packages that may lie beside a user's program. Our distributions must neither import nor install packages of
these names.
"""
_TIMEOUT_SECONDS: Final = 120


def build_distributions(directory: Path) -> Wheels:
    """Build sdists and wheels of the work tree in `directory`, which is emptied first; return the wheels. Raise
    DeployError if the build fails.
    """
    if directory.exists():
        shutil.rmtree(directory)
    return build_wheels(directory, sdist=True)


def check_wheels(wheels: Wheels) -> None:
    """Install and use each of `wheels` in an empty virtual environment. Raise DeployError with the step that failed."""
    version = _version_of(ROOT)
    if _version_of(ROOT / "server") != version or wheels.server.name.split("-")[1] != version:
        raise DeployError(f"server/pyproject.toml does not have version {version}, which pyproject.toml has")
    if (names := _top_level(wheels.client)) != {TOP_LEVEL}:
        raise DeployError(f"the wheel would add {', '.join(sorted(names))} to site-packages, and not {TOP_LEVEL} alone")
    with tempfile.TemporaryDirectory(prefix="syncline-dist-") as scratch:
        elsewhere = Path(scratch) / "elsewhere"
        for package in OF_OTHERS:
            (elsewhere / package).mkdir(parents=True)
            (elsewhere / package / "__init__.py").write_text("raise ImportError('this is of somebody else')\n")
        environment = _installed(Path(scratch) / "client", f"syncline[{EXTRA}] @ {wheels.client.as_uri()}")
        said = _run(environment, elsewhere, "syncline", "--version").strip()
        if said != f"syncline {version}":
            raise DeployError(f"the installed `syncline --version` says {said!r}, and pyproject.toml {version}")
        if "Commands:" not in _run(environment, elsewhere, "syncline", "--help"):
            raise DeployError("the installed `syncline --help` lists no commands")
        _run(environment, elsewhere, "python", "-W", "error", "-c", PROGRAM)
        _check_types(environment, elsewhere)
        client = f"syncline @ {wheels.client.as_uri()}"
        environment = _installed(Path(scratch) / "server", client, f"syncline-server[stack] @ {wheels.server.as_uri()}")
        _run(environment, Path(scratch), "python", "-c", SERVER_PROGRAM)
        _run(environment, elsewhere, "syncline", "up", "--help")


def _version_of(project: Path) -> str:
    version: str = tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"]
    return version


def _top_level(wheel: Path) -> set[str]:
    """Return the names that a wheel adds to site-packages, except its metadata."""
    with zipfile.ZipFile(wheel) as packed:
        names = {name.split("/")[0] for name in packed.namelist()}
    return {name for name in names if not name.endswith(".dist-info")}


def _installed(environment: Path, *requirements: str) -> Path:
    """Create the virtual environment `environment` anew, and install these requirements in it. Return the directory."""
    uv("venv", "--python", sys.executable, "--no-project", str(environment))
    constraints = str(ROOT / "constraints.txt")
    uv(
        *("pip", "install", "--python", str(environment / "bin/python")),
        *("--constraints", constraints, "--build-constraints", constraints),
        *requirements,
    )
    return environment


def _check_types(environment: Path, directory: Path) -> None:
    """Check that mypy, run in `directory`, finds the types of the packages installed in `environment`. Raise
    DeployError if it does not.
    """
    for text, right in ((PROGRAM, True), (WRONG, False)):
        program = directory / "program.py"
        program.write_text(text)
        checker = (sys.executable, "-m", "mypy", "--strict", "--no-incremental")
        done = subprocess.run(
            [*checker, "--python-executable", str(environment / "bin/python"), program.name],
            cwd=directory,
            env={"PATH": os.defpath, "HOME": str(directory), "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
        if (done.returncode == 0) != right:
            raise DeployError(f"mypy does not find the types of the installed SDK:\n{done.stdout}{done.stderr}")


def _run(environment: Path, directory: Path, program: str, *arguments: str) -> str:
    """Return the output of an installed program, run in `directory` without access to the work tree. Raise DeployError
    if the program fails.
    """
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
    """Build the distributions and check them. Return 0, or 1 if a step fails, after printing the reason."""
    directory = ROOT / "dist"
    try:
        check_wheels(build_distributions(directory))
    except DeployError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for path in sorted(directory.glob("*.[wt]*")):
        sys.stdout.write(f"{path.relative_to(ROOT)}, {path.stat().st_size / 1e6:.1f} MB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
