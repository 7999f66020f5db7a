"""A process gives back what a peak took, although nothing happens any more that would make it do so."""

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
