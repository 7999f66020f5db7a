"""Builds a release: everything that a machine runs, installed, in one file whose name is derived from its content.

    site/      our wheels and their dependencies, pinned by constraints.txt, for Python 3.11 on arm64
    machine/   the files that set up a machine

A machine therefore needs no package index to start, and two machines of one release never differ.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.errors import DeployError
from infra.templates import HERE

ROOT: Final = HERE.parent
_PYTHON: Final = "3.11"
_PLATFORM: Final = "aarch64-manylinux_2_28"  # Amazon Linux 2023 has glibc 2.34
_FROM_SOURCE: Final = "wsgidav"  # pure Python, whose present version is published as source only
_EPOCH: Final = 315532800  # 1980: the same content gives the same bytes at any time of building
_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Release:
    """A release that was built: a file on this machine, and its key in the bucket of artefacts."""

    file: Path
    key: str
    """The key of the release in the artefact bucket: `releases/VERSION-DIGEST.tar.gz`."""


@dataclass(frozen=True, slots=True)
class Wheels:
    """The wheels of a release: `syncline`, which people install, and `syncline-server`, which needs it."""

    client: Path
    server: Path

    def requirements(self, extra: str = "") -> tuple[str, str]:
        """Return the files of both wheels as requirements of pip: the client, and the server with the extra `extra`, if
        one is named. The requirements are files and not names, because a package index might have other packages of our
        names.
        """
        chosen = f"[{extra}]" if extra else ""
        return f"syncline @ {self.client.as_uri()}", f"syncline-server{chosen} @ {self.server.as_uri()}"


@contextmanager
def built() -> Iterator[Release]:
    """Provide the release that is built from the work tree; its file is removed at the end of the context. Raise
    DeployError with the step that failed.
    """
    with tempfile.TemporaryDirectory(prefix="syncline-release-") as scratch:
        directory = Path(scratch)
        wheels = build_wheels(directory / "wheels")
        install_wheels(wheels, directory / "tree" / "site")
        shutil.copytree(HERE / "machine", directory / "tree" / "machine", ignore=shutil.ignore_patterns("__pycache__"))
        file = directory / "release.tar.gz"
        pack(directory / "tree", file)
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        version = wheels.server.name.split("-")[1]
        yield Release(file, f"releases/{version}-{digest[:_DIGITS]}.tar.gz")


def build_wheels(directory: Path, *, sdist: bool = False) -> Wheels:
    """Build our wheels in `directory`, and return their files. With `sdist`, source distributions are built there
    first, and each wheel from its source distribution. Raise DeployError if that fails.
    """
    python = ("--python", sys.executable, "--no-build-isolation")  # with the build backend that constraints.txt pins
    formats = () if sdist else ("--wheel",)  # without a format, uv builds both, the wheel from the sdist
    for project in (ROOT, ROOT / "server"):
        uv("build", *formats, *python, "--out-dir", str(directory), str(project), SOURCE_DATE_EPOCH=str(_EPOCH))
    [client] = directory.glob("syncline-*.whl")
    [server] = directory.glob("syncline_server-*.whl")
    return Wheels(client, server)


def install_wheels(wheels: Wheels, directory: Path) -> None:
    """Install our wheels and their dependencies in `directory`, in the versions of constraints.txt, for the platform
    and the Python of the machines. Raise DeployError if that fails.
    """
    constraints = str(ROOT / "constraints.txt")
    uv(
        *("pip", "install", "--target", str(directory), "--constraints", constraints),
        *("--python-platform", _PLATFORM, "--python-version", _PYTHON, "--only-binary", ":all:"),
        *("--no-binary", _FROM_SOURCE, "--build-constraints", constraints),
        *wheels.requirements(),
    )
    for information in directory.glob("syncline*.dist-info"):
        # these files contain the time and place of the build
        for name in ("RECORD", "direct_url.json", "uv_cache.json"):
            (information / name).unlink(missing_ok=True)


def pack(tree: Path, file: Path) -> None:
    """Write `tree` to a tar file whose bytes depend on names, contents and modes only."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = _EPOCH
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    with (
        file.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=_EPOCH) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in sorted(tree.rglob("*")):
            archive.add(path, path.relative_to(tree).as_posix(), recursive=False, filter=plain)


def main() -> int:
    """Build a release and discard it, to check that it can be built, and print its name. Return 0, or 1 if a step
    fails, after printing the reason.
    """
    try:
        with built() as release:
            sys.stdout.write(f"{release.key}, {release.file.stat().st_size / 1e6:.1f} MB\n")
    except DeployError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def uv(*arguments: str, **environment: str) -> None:
    """Run the uv of this virtual environment with `arguments`, and with `environment` in addition to the variables of
    this process. Raise DeployError with uv's output if it fails.
    """
    program = Path(sys.executable).with_name("uv")
    done = subprocess.run(
        [str(program), *arguments, "--quiet"], capture_output=True, text=True, check=False, env=os.environ | environment
    )
    if done.returncode:
        raise DeployError(f"the release could not be built: uv {arguments[0]}: {done.stderr.strip()}")


if __name__ == "__main__":
    raise SystemExit(main())
