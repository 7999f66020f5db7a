"""A backup that is made while people work, and what they find after it is restored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stack.demo import DemoDevice
from tests.power.load import PASSWORD, Place, prepare
from tests.power.test_power import REPOSITORY, Auditor, Machine, machine_on, working

SECONDS = 3.0


def command(*arguments: str, home: Path) -> str:
    return subprocess.run(
        [sys.executable, "-m", "syncline.cli", *arguments],
        env={**os.environ, "SYNCLINE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    ).stdout


@pytest.mark.timeout(400)
def test_people_work_while_it_is_made_and_devices_go_on_after_it_is_restored(tmp_path: Path) -> None:
    place, archive = Place(tmp_path), tmp_path / "backup.tar"
    with machine_on(tmp_path / "data") as machine:
        machine.start()
        machine.serves()
        prepare(machine.endpoint, place)
        device = new_device(machine, tmp_path / "device")
        (device.folder / "before").write_text("in the backup")
        device.sync()
        with working(machine, place):
            time.sleep(SECONDS)
            known = len(list(place.lines()))
            made = json.loads(command("backup", str(machine.data), str(archive), "--json", home=tmp_path))
            assert made["objects"] > 0
            time.sleep(SECONDS)
        assert len(list(place.lines())) > known, "nobody worked while it was made"
        # The backup knows nothing of this file; the device does.
        (device.folder / "after").write_text("not in the backup")
        (device.folder / "before").write_text("changed after the backup")
        device.sync()
        machine.cut()

        restored = json.loads(
            command("restore-backup", str(archive), str(tmp_path / "restored"), "--json", home=tmp_path)
        )
        assert restored.items() >= {key: made[key] for key in ("made", "rows", "objects", "bytes")}.items()
        machine.data = tmp_path / "restored"
        machine.start()
        machine.serves()
        acknowledged = place.acknowledged.read_text().splitlines(keepends=True)
        place.acknowledged.write_text("".join(acknowledged[:known]))
        assert Auditor(machine, place).compare() == known
        device.sync()
        assert (device.folder / "after").read_text() == "not in the backup"
        assert (device.folder / "before").read_text() == "changed after the backup"
        other = new_device(machine, tmp_path / "other", device.owner)
        other.sync()
        assert (other.folder / "after").read_text() == "not in the backup"
        assert (other.folder / "before").read_text() == "changed after the backup"


def new_device(machine: Machine, root: Path, owner: str | None = None) -> DemoDevice:
    device = DemoDevice(owner or "ann", root.name, root)
    device.run(
        *("login" if owner else "signup", "--endpoint", machine.endpoint, "--email", device.email),
        *("--password-stdin", "--device", root.name),
        stdin=f"{PASSWORD}\n",
    )
    device.folder.mkdir(parents=True)
    return device
