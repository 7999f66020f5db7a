"""The delay from saving a file to its arrival on the other device, both running `--watch`; and syncthing's delay in the
same run.

Syncthing runs twice on the loopback interface alone: no discovery, relays, NAT, reports or upgrades. By default it
waits for a folder to be quiet for 10 s; here it is set to 1 s, its minimum.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.machine import KIB, BenchmarkDevice, tool
from benchmarks.report import ReportTable
from benchmarks.scale import sized
from stack.running import running_stack

FILES = sized(30, short=2)
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.002


def appears(path: Path, data: bytes) -> None:
    """Wait until the file at `path` exists with the bytes `data`. Raise TimeoutError if it does not appear in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if path.read_bytes() == data:
                return
        except FileNotFoundError:
            pass
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"{path} did not come within {PATIENCE_SECONDS:.0f} s")


def delays(one: Path, other: Path) -> list[float]:
    """Save files in the folder `one`, one after the other, and return the seconds until each of them is in the folder
    `other`.
    """
    source = random.Random(1)
    found = []
    for n in range(-1, FILES):
        data = source.randbytes(4 * KIB)
        began = time.monotonic()
        (one / f"file {n}").write_bytes(data)
        appears(other / f"file {n}", data)
        if n >= 0:  # the first one waits until both sides have started
            found.append(time.monotonic() - began)
        # people do not save at regular intervals
        time.sleep(source.uniform(0.1, 0.4))
    return found


@contextmanager
def watching(*devices: BenchmarkDevice) -> Iterator[None]:
    """Run `syncline sync --watch` for the folder of each device within the context."""
    children = [
        subprocess.Popen(
            [tool("syncline"), "sync", str(device.folder), "--watch"],
            env={**os.environ, "SYNCLINE_HOME": str(device.home)},
            stdout=subprocess.DEVNULL,
        )
        for device in devices
    ]
    with ended(children):
        yield


@contextmanager
def ended(children: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Context manager that ends the processes `children` when its body ends, and waits for their end."""
    try:
        yield
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


def ours(scratch: Path) -> list[float]:
    with running_stack() as stack:
        devices: list[BenchmarkDevice] = []
        for name in ("one", "two"):
            device = BenchmarkDevice(scratch / f"home-{name}", scratch / f"syncline-{name}")
            device.folder.mkdir()
            device.sign("login" if devices else "signup", stack.endpoint, "bench@example.com")
            devices.append(device)
        with watching(*devices):
            return delays(devices[0].folder, devices[1].folder)


# ---- syncthing ----


def syncthings(scratch: Path) -> list[float]:
    homes = [scratch / f"syncthing-home-{name}" for name in ("one", "two")]
    folders = [scratch / f"syncthing-{name}" for name in ("one", "two")]
    ids = []
    ports = [_free_port(), _free_port()]
    for home, folder in zip(homes, folders, strict=True):
        (folder / ".stfolder").mkdir(parents=True)
        said("generate", f"--home={home}", "--no-default-folder", "--skip-port-probing")
        ids.append(said(f"--home={home}", "--device-id").strip())
    for at in range(2):
        configure_notify(homes[at], folders[at], ids, ports, at)
    children = [
        subprocess.Popen(
            ["syncthing", "serve", f"--home={home}", "--no-browser", "--no-restart", "--no-upgrade"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for home in homes
    ]
    with ended(children):
        return delays(*folders)


def said(*arguments: str) -> str:
    return subprocess.run(["syncthing", *arguments], capture_output=True, text=True, check=True).stdout


def configure_notify(home: Path, folder: Path, ids: list[str], ports: list[int], at: int) -> None:
    """Rewrite the configuration: two devices with loopback addresses, one folder, and nothing else. `at` is the index
    of this device in `ids` and `ports`.
    """
    file = home / "config.xml"
    tree = ElementTree.parse(file)
    root = tree.getroot()
    for device in root.findall("device"):
        root.remove(device)
    shared = ElementTree.SubElement(
        root, "folder", id="bench", path=str(folder), type="sendreceive", fsWatcherEnabled="true", fsWatcherDelayS="1"
    )
    for one, port in zip(ids, ports, strict=True):
        device = ElementTree.SubElement(root, "device", id=one)
        ElementTree.SubElement(device, "address").text = f"tcp://127.0.0.1:{port}"
        ElementTree.SubElement(shared, "device", id=one)
    local = {
        "listenAddress": f"tcp://127.0.0.1:{ports[at]}",
        "globalAnnounceEnabled": "false",
        "localAnnounceEnabled": "false",
        "relaysEnabled": "false",
        "natEnabled": "false",
        "urAccepted": "-1",
        "crashReportingEnabled": "false",
        "autoUpgradeIntervalH": "0",
        "stunServer": "",
        "startBrowser": "false",
        "reconnectionIntervalS": "1",
    }
    options = root.find("options")
    gui = root.find("gui")
    assert options is not None
    assert gui is not None
    for name, value in local.items():
        option = options.find(name)
        if option is None:
            option = ElementTree.SubElement(options, name)
        option.text = value
    gui.set("enabled", "false")
    tree.write(file)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _row(table: ReportTable, label: str, seconds: list[float]) -> None:
    cuts = statistics.quantiles(seconds, n=20)
    table.row(label, f"{statistics.median(seconds):.2f}", f"{cuts[-1]:.2f}", f"{max(seconds):.2f}")


def main() -> None:
    table = ReportTable("p50 s", "p95 s", "longest s")
    with tempfile.TemporaryDirectory() as temporary:
        _row(table, "syncline --watch", ours(Path(temporary)))
        if shutil.which("syncthing"):
            _row(table, "syncthing", syncthings(Path(temporary)))
    table.print(f"From saving a file of 4 KiB until it is on the other device, {FILES} files")
    if not shutil.which("syncthing"):
        print("  syncthing is left out: it is not installed (apt-get install syncthing)\n", flush=True)


if __name__ == "__main__":
    main()
