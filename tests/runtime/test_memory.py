"""A process gives back what a peak took, although nothing happens any more that would make it do so; and collects no
garbage before there is any.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PEAK = """
import asyncio, gc
from runtime.memory import resident_bytes, returning

class Holder:
    def __init__(self, number):
        self.me = self
        self.buffer = bytearray(60_000)
        self.buffer[:] = bytes(60_000)
        self.small = bytes(600)  # stays among the buffers

async def main():
    gc.disable()
    before = resident_bytes()
    async with returning(look_seconds=0.05):
        kept = []
        for number in range(3_000):
            kept.append(Holder(number).small)
        peak = resident_bytes() - before
        assert peak > 150_000_000, peak
        async with asyncio.timeout(60):
            while (left := resident_bytes() - before) > 40_000_000:
                await asyncio.sleep(0.05)
    print(peak, left, len(kept))

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is given back on Linux alone")
def test_what_hangs_on_cycles_is_given_back_without_further_work() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


STARTING = """
import gc, importlib, sys
begun = []
gc.callbacks.append(lambda phase, _: begun.append(phase))
importlib.import_module(sys.argv[1])
print(begun.count("start"), gc.isenabled(), gc.get_freeze_count())
"""
SERVERS = [*(f"services.{name}.__main__" for name in ("auth", "metadata", "notify")), "gateway.__main__"]


@pytest.mark.parametrize("module", [*SERVERS, "stack.emulator.__main__", "stack.__main__"])
def test_a_server_collects_no_garbage_while_it_imports(module: str) -> None:
    command = [sys.executable, "-c", STARTING, module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    collections, is_enabled, frozen = done.stdout.split()
    assert int(collections) < 20, "those before the first module of ours"
    assert is_enabled == "True"
    assert int(frozen) > 20_000


IMPORTING = """
import gc, weakref
from runtime.imports import uncollected

class Circle:
    def __init__(self):
        self.me = self

with uncollected():
    garbage = weakref.ref(Circle())
assert gc.isenabled()
assert garbage() is None
gc.disable()
with uncollected():
    pass
assert not gc.isenabled(), "collections stay off where they were off"
"""


def test_garbage_of_imports_is_collected_once_at_their_end() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
