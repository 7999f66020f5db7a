"""The programs that check the web app are pinned, are never shipped, and are not needed to work on the rest."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "gateway/web"


def hatch_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "server/hatch_build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checked(room: Path, *, path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `.ci/web style` of a copy of the script in `room`, with the programs of `path` alone."""
    (room / ".ci").mkdir()
    script = shutil.copy(ROOT / ".ci/web", room / ".ci/web")
    return subprocess.run(
        ["/bin/bash", script, "style"],
        cwd=room,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": path, **environment},
    )


def programs(room: Path, *names: str) -> str:
    """Return a directory in `room` that has these programs of the machine and no others."""
    folder = room / "programs"
    folder.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return str(folder)


def test_versions_are_exact_and_nothing_is_needed_to_serve() -> None:
    package = json.loads((WEB / "package.json").read_text())
    assert "dependencies" not in package
    assert package["private"]
    for version in package["devDependencies"].values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)


def test_neither_a_lock_file_nor_what_npm_installs_is_kept() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "gateway/web", "tests/gateway/web", ".ci"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "gateway/web/package.json" in listed
    assert not [name for name in listed if "lock" in Path(name).name or "node_modules" in name]


def test_the_server_ships_the_app_without_its_tools(tmp_path: Path) -> None:
    shutil.copytree(WEB, tmp_path / "web")
    tool = tmp_path / "web/node_modules/tool/index.js"
    tool.parent.mkdir(parents=True)
    tool.write_text("export {};\n")
    shipped = hatch_build().shipped(tmp_path)
    assert {"web/app.js", "web/app.html", "web/css/files.css", "web/vendor/noble-hashes/LICENSE"} <= set(shipped)
    assert {Path(name).suffix for name in shipped} == {".js", ".html", ".css", ".svg", ""}
    assert not [name for name in shipped if "node_modules" in name]


def test_without_node_the_checks_are_left_out_and_say_so(tmp_path: Path) -> None:
    done = checked(tmp_path, path=programs(tmp_path, "dirname"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("left out: node is not installed")


def test_without_node_the_checks_fail_in_ci(tmp_path: Path) -> None:
    done = checked(tmp_path, path=programs(tmp_path, "dirname"), CI="true")
    assert done.returncode == 1
    assert done.stderr == "node is not installed, and the web app cannot be checked without it\n"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_programs_are_installed_once_for_each_package_json(tmp_path: Path) -> None:
    path = programs(tmp_path, "node", "dirname", "cmp", "rm", "mkdir", "cp")
    for folder in ("gateway/web", "tests/gateway/web"):
        (tmp_path / folder).mkdir(parents=True)
    package = tmp_path / "gateway/web/package.json"
    package.write_text("{}\n")
    # npm is played by a script that installs a program which only counts its own runs.
    npm = tmp_path / "programs/npm"
    npm.write_text(
        "#!/bin/bash\n"
        f"echo installed >>{tmp_path}/log\n"
        "mkdir -p .venv/web/node_modules/.bin\n"
        f"printf '#!/bin/bash\\necho checked >>{tmp_path}/log\\n' >.venv/web/node_modules/.bin/biome\n"
        "chmod +x .venv/web/node_modules/.bin/biome\n"
    )
    npm.chmod(0o755)
    (tmp_path / "programs/chmod").symlink_to(shutil.which("chmod") or "")

    def run() -> list[str]:
        shutil.rmtree(tmp_path / ".ci", ignore_errors=True)
        (tmp_path / "log").write_text("")
        done = checked(tmp_path, path=path)
        assert done.returncode == 0, done.stderr
        return (tmp_path / "log").read_text().split()

    assert run() == ["installed", "checked", "checked"]
    assert run() == ["checked", "checked"]
    package.write_text('{"devDependencies": {}}\n')
    assert run() == ["installed", "checked", "checked"]
