"""The schedule says which worker runs which tests when several run side by side (`pytest -n`).

A file stays with one worker, so that what its tests share is started once. The first worker begins with the slowest
files and the others with the quickest: whatever puts the machine under load has a quiet neighbour, and all workers
end together. The last of three or more workers takes only tests that wait rather than work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

TOGETHER: Final = ("tests/gateway/api/", "tests/web/")
"""Folders whose files stay together: their fixtures count over all of them, or hold one system for all."""

APART: Final = frozenset({"tests/benchmarks/test_short.py"})
"""Files whose tests share nothing: each of these tests may go to another worker."""

WAITING: Final = frozenset(
    {
        "tests/clients/sdk/test_space.py",
        "tests/clients/sync/test_filesystem_events.py",
        "tests/e2e/test_limited_links.py",
        "tests/e2e/test_rates.py",
        "tests/e2e/test_unsealed.py",
        "tests/runtime/rpc/test_server.py",
    }
)
"""The tests that mostly wait: for a rate, for a lease to end, for objects to grow old, for nothing to happen."""

SECONDS: Final[Mapping[str, int]] = {
    "tests/web/": 200,
    "tests/e2e/test_rates.py": 150,
    "tests/e2e/test_revocation.py": 170,
    "tests/fuzz/test_rpcs.py": 120,
    "tests/gateway/api/": 100,
    "tests/e2e/test_dav.py": 80,
    "tests/power/test_power.py": 70,
    "tests/gateway/test_fuzz.py": 60,
    "tests/e2e/test_sync.py": 60,
    "tests/e2e/test_unsealed.py": 50,
    "tests/clients/sync/test_convergence.py": 45,
    "tests/clients/sync/test_filesystem_events.py": 45,
    "tests/clients/sdk/test_space.py": 45,
    "tests/benchmarks/test_short.py::test_a_benchmark_runs[load]": 45,
    "tests/e2e/test_kill.py": 30,
    "tests/e2e/test_limited_links.py": 30,
}
"""The rough time of the units that take longest, in seconds; the others are taken for quicker than all of these."""


def unit(nodeid: str) -> str:
    """The tests that stay together with this one, by the name of what they have in common."""
    file = nodeid.partition("::")[0]
    if file in APART:
        return nodeid
    return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def choose(units: Iterable[str], *, worker: int, workers: int) -> str | None:
    """The unit that this worker, counted from 0, takes next of those that are left; None if there is none for it."""
    left = list(units)
    waiting = [name for name in left if name in WAITING]
    if worker == workers - 1 >= 2:
        return max(waiting, key=seconds, default=None)
    busy = [name for name in left if name not in WAITING] or waiting
    return (max if worker == 0 else min)(busy, key=seconds, default=None)


def seconds(name: str) -> int:
    return SECONDS.get(name, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Schedule | None:
    """This schedule, unless `--dist` asks for another than the usual one."""
    return Schedule(config, log) if config.getvalue("dist") == "load" else None


class Schedule(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands out whole units, in the order of `choose`."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False  # `choose` looks at all that are left
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)

    def _assign_work_unit(self, node: WorkerController) -> None:
        # At the start each worker gets something: its tests must end, even if there is nothing for it to take.
        name = self._choice(node) or next(iter(self.workqueue))
        self.workqueue.move_to_end(name, last=False)
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if self._choice(node) is None and not node.shutting_down:
            node.shutdown()
        super()._reschedule(node)

    def _choice(self, node: WorkerController) -> str | None:
        worker = int(node.gateway.id.removeprefix("gw"))  # a worker that replaces another has a number beyond all
        return choose(self.workqueue, worker=worker, workers=self.numnodes)
