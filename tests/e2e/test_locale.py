"""Names come from bytes, not from the locale."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.demo import DemoDevice, contents

NewDevice = Callable[..., DemoDevice]
NAMES = ("größe.txt", "naïve – ünïcödé", "日本語", "Ω/ß.txt", "plain")
_SECONDS = 60.0


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a locale in ISO-8859-1, which no system has any more by itself."""
    made = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("there is no localedef (Debian's package libc-bin)")
    command = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(made / "de_DE.ISO-8859-1")]
    tried = subprocess.run(command, check=False, capture_output=True)
    if not (made / "de_DE.ISO-8859-1").exists():
        pytest.skip(f"the locale cannot be made (Debian's package locales): {tried.stderr!r}")
    return made


@pytest.fixture(params=["de_DE.ISO-8859-1", "C", "POSIX", "ASCII"])
def locale(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The locale of all commands of this test. ASCII is C without what Python makes of it by itself."""
    name: str = request.param
    for variable in ("LANG", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING"):
        monkeypatch.delenv(variable, raising=False)
    if name == "de_DE.ISO-8859-1":
        monkeypatch.setenv("LOCPATH", str(request.getfixturevalue("locales")))
    if name == "ASCII":
        monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
        monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("LC_ALL", "C" if name == "ASCII" else name)
    return name


def test_names_are_the_same_in_every_locale(new_device: NewDevice, locale: str, tmp_path: Path) -> None:
    one = new_device("one")
    two = new_device("two", one.owner)
    for name in NAMES:
        (one.folder / name).parent.mkdir(exist_ok=True)
        (one.folder / name).write_text(name, encoding="utf-8")
    (one.folder / "für mich.log").write_text("ignored", encoding="utf-8")
    (one.folder / "bücher").mkdir()
    (one.folder / "bücher" / "ö").write_text("excluded", encoding="utf-8")
    (one.folder / ".synclineignore").write_text("für*.log\n", encoding="utf-8")
    with open(os.fsencode(one.folder) + b"/gr\xf6\xdfe.txt", "wb") as file:  # noqa: PTH123 - a name in ISO-8859-1
        file.write(b"not UTF-8")
    report = json.loads(one.run("sync", str(one.folder), "--json", "--exclude", "bücher", expect=4))
    assert [problem["path"] for problem in report["problems"]] == [r"gr\xf6\xdfe.txt"]
    two.sync()
    expected = {"Ω", ".synclineignore", *NAMES}
    assert contents(two.folder).keys() == expected
    one.run("sync", str(one.folder), expect=4)
    assert sorted(os.listdir(os.fsencode(two.folder))) == sorted(  # noqa: PTH208 - as bytes
        os.fsencode(name) for name in (*{name.partition("/")[0] for name in expected}, ".syncline")
    )
    # Names on the command line and in what is printed, both ways.
    source = tmp_path / "quelle ä.txt"
    source.write_text("put", encoding="utf-8")
    two.run("mkdir", "übung")
    two.run("put", str(source), "übung/ziel ö.txt")
    assert [node["name"] for node in json.loads(two.run("ls", "übung", "--json"))["nodes"]] == ["ziel ö.txt"]
    assert "ziel ö.txt" in two.run("ls", "übung")
    two.run("get", "übung/ziel ö.txt", str(tmp_path / "zurück ß.txt"))
    assert (tmp_path / "zurück ß.txt").read_text(encoding="utf-8") == "put"
    assert len(json.loads(two.run("log", str(two.folder / "größe.txt"), "--json"))["versions"]) == 1
    (two.folder / "größe.txt").rename(two.folder / "größer.txt")
    assert two.sync()["moved"] == 1
    assert "größer.txt" in one.run("status", str(one.folder))


@pytest.mark.parametrize("locale", ["de_DE.ISO-8859-1"], indirect=True)
def test_a_watch_goes_on_in_another_locale(new_device: NewDevice, locale: str) -> None:
    one = new_device("one")
    two = new_device("two", one.owner)
    one.sync()
    two.sync()
    watching = two.start("sync", str(two.folder), "--watch")
    try:
        with open(os.fsencode(two.folder) + b"/nicht UTF-8 \xe4", "wb") as file:  # noqa: PTH123 - a name of bytes
            file.write(b"x")
        os.mkdir(os.fsencode(two.folder) + b"/ordner \xf6")  # noqa: PTH102 - as above
        with open(os.fsencode(two.folder) + b"/ordner \xf6/inside", "wb") as file:  # noqa: PTH123 - as above
            file.write(b"x")
        deadline = time.monotonic() + _SECONDS
        for number in range(3):
            name = f"später {number} ß"
            (two.folder / name).write_text(name, encoding="utf-8")
            while not (one.folder / name).exists():
                assert time.monotonic() < deadline
                assert watching.poll() is None
                one.run("sync", str(one.folder))
            assert (one.folder / name).read_text(encoding="utf-8") == name
    finally:
        watching.send_signal(signal.SIGTERM)
        watching.communicate(timeout=60)
    assert watching.returncode == 0
    assert contents(one.folder).keys() == {f"später {number} ß" for number in range(3)}


@pytest.mark.parametrize("locale", ["de_DE.ISO-8859-1"], indirect=True)
def test_a_folder_in_a_directory_that_is_no_text(new_device: NewDevice, locale: str, tmp_path: Path) -> None:
    one = new_device("one")
    two = new_device("two", one.owner)
    directory = Path(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xf6\xdfe"))
    directory.mkdir()
    (directory / "ä").write_text("a", encoding="utf-8")
    one.run("sync", str(directory))
    two.sync()
    assert (two.folder / "ä").read_text(encoding="utf-8") == "a"
    (two.folder / "ä").write_text("b", encoding="utf-8")
    two.sync()
    one.run("sync", str(directory))
    assert (directory / "ä").read_text(encoding="utf-8") == "b"
    one.run("check", str(directory))
    with one.start("status") as child:
        assert child.stdout is not None
        with os.fdopen(os.dup(child.stdout.fileno()), "rb") as printed:
            assert printed.read().startswith(os.fsencode(directory))
    assert child.returncode == 0
