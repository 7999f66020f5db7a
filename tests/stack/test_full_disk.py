"""A system, and a device, whose disk is full: what can go on does, and what cannot says where there is no room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stack.demo import REPOSITORY
from tests.stack.small_disk import on_small_disk

UP = """
import os, shutil, signal, subprocess, sys
small, data = sys.argv[1:]
shutil.copytree(data, f"{small}/data")

def up():
    command = [sys.executable, "-m", "syncline.cli", "up", "--port", "0", "--data", f"{small}/data"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

reading = up()
print(reading.stdout.readline().strip())
reading.send_signal(signal.SIGINT)
said = reading.communicate()[1]
print(reading.returncode, "Traceback" in said, said.count("no doorbell queue yet"))
with open(f"{small}/fill", "wb", buffering=0) as fill:  # what a buffer holds would be written again at the end
    try:
        while fill.write(bytes(65536)):
            pass
    except OSError:
        pass
full = up()
said = full.communicate()[1]
print(full.returncode, said.strip())
"""


def test_a_system_starts_for_reading_or_says_that_its_disk_is_full(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    command = [sys.executable, "-m", "syncline.cli", "up", "--port", "0", "--data", str(tmp_path / "data")]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as first:
        assert first.stdout is not None
        assert first.stdout.readline().startswith(b"syncline is up")
        first.terminate()
    up, ended, full = on_small_disk(tmp_path / "small", "20m", UP, tmp_path / "data")
    assert up.startswith("syncline is up: http://")
    assert ended == "0 False 1"
    assert full.startswith(f"1 syncline up: {tmp_path}/small/data is on a disk that is full: 0 bytes are free, ")


LINK = """
import os, sys
from pathlib import Path
from syncline.sync.errors import FolderUnsuitable
from syncline.sync.folder.link import folders, link_folder
small, folder = map(Path, sys.argv[1:])
(small / "home/folders").mkdir(parents=True)
for n in range(100):
    try:
        (small / f"fill{n}").write_bytes(bytes(4096))
    except OSError:
        break
for home, directory in ((small / "home", folder), (folder.parent / "home", small / "new")):
    try:
        link_folder(home, directory, "a" * 26, "personal")
    except FolderUnsuitable as error:
        print(error)
    print(folders(home), folder.exists() and os.listdir(folder), (small / "new").exists())
"""


def test_a_folder_that_cannot_be_linked_is_left_as_it_was(tmp_path: Path) -> None:
    for name in ("small", "folder"):
        (tmp_path / name).mkdir()
    said = on_small_disk(tmp_path / "small", "40k", LINK, tmp_path / "folder")
    for error, left, where in zip(said[::2], said[1::2], ("small/home/folders", "small/new"), strict=True):
        assert "cannot be linked: No space left on device (" in error
        assert f"({tmp_path}/{where}" in error
        assert left == "[] [] False"
