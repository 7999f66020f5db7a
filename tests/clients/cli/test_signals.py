"""Signals that end a command, at the moments at which Python alone would not handle them."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

WAITING_FOR_A_LOCK = """
import signal, sys, threading, time
from syncline.cli import signals

signals.install_handlers()
lock = threading.Lock()
lock.acquire()

def send():
    time.sleep(0.2)
    signal.pthread_kill(threading.get_ident(), int(sys.argv[1]))

threading.Thread(target=send, daemon=True).start()
try:
    lock.acquire()
except KeyboardInterrupt:
    sys.exit(signals.status())
"""
"""The signal arrives in another thread, so that it interrupts no wait of the main thread: the main thread is in the
state in which a signal leaves it that arrives just before the wait.
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_just_before_a_wait_ends_the_wait(number: signal.Signals) -> None:
    command = [sys.executable, "-c", WAITING_FOR_A_LOCK, str(int(number))]
    assert subprocess.run(command, timeout=60, check=False).returncode == 128 + number
