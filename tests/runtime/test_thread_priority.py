"""The priority of a thread is lowered where the system permits it, and only there."""

from __future__ import annotations

import errno
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import structlog

from runtime.thread_priority import NICENESS, lower_priority

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux only")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_has_a_lower_priority_and_others_keep_theirs() -> None:
    usual = niceness()
    with ThreadPoolExecutor(1, initializer=lower_priority) as threads:
        assert threads.submit(niceness).result() == min(usual + NICENESS, 19)
    assert niceness() == usual


def test_a_thread_works_on_where_the_system_refuses_a_lower_priority() -> None:
    def refuse(_which: int, _who: int, _niceness: int) -> None:
        raise PermissionError(errno.EPERM, "setpriority")

    usual = niceness()
    begin = partial(lower_priority, set_priority=refuse)
    with structlog.testing.capture_logs() as logs, ThreadPoolExecutor(1, initializer=begin) as threads:
        assert threads.submit(niceness).result() == usual
    assert [line["event"] for line in logs] == ["priority not lowered"]
