"""Attack after attack on one system, with an innocent person at work beside each; and what is demanded."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from stack.up import Stack
from tests.abuse.innocent import Innocent, Samples, p99, pause_of, usual_p99
from tests.abuse.target import Scene, build

MOST_RATIO: Final = 5.0
"""The innocent person's p99 under an attack, to that of the median of the quiet times."""
MOST_GROWTH: Final = 150_000_000
"""Bytes by which a process may have grown when an attack has been over for a while."""
MOST_TOTAL_GROWTH: Final = 2 * MOST_GROWTH
"""Bytes by which a process may have grown after all attacks so far: a leak may be small each time."""
CALM_SECONDS: Final = 30.0
AFTERWARDS_SECONDS: Final = 1.0
ATTEMPTS: Final = 3
"""An attack with too high a figure is made again, and fails if most attempts have one: other work on the machine hits
one time, an attack that works hits most."""
WITHIN_SECONDS: Final = 60.0
"""An attack that does not end by itself so long after its time is killed."""
PROCESSES: Final = ("auth", "metadata", "notify", "gateway")
REPOSITORY: Final = Path(__file__).parents[2]
VARIABLES: Final = {
    "SYNCLINE_LOG_LEVEL": "error",
    # The gateway's own address alone: who attacks and who is attacked have others of this machine's, as if far away.
    "SYNCLINE_TRUSTED_NETWORKS": "127.0.0.1/32",
}
"""The settings of the system under attack."""


@dataclass
class Result:
    """The result of an attack."""

    name: str
    answers: dict[str, int] = field(default_factory=dict)
    """The answers that the attacker got, with the number of each."""
    ratios: dict[str, float] = field(default_factory=dict)
    """The p99 of each kind of the innocent person's work, to the quiet one."""
    errors: list[str] = field(default_factory=list)
    peak: dict[str, int] = field(default_factory=dict)
    """Bytes that each process grew by at most while the attack lasted."""
    kept: dict[str, int] = field(default_factory=dict)
    """Bytes that it had not given back when it had been over for a while."""
    grown: dict[str, int] = field(default_factory=dict)
    """Bytes by which it had grown by then since before the first attack."""
    samples: dict[str, int] = field(default_factory=dict)
    """The number of times that the innocent person did each kind of work."""
    attempts: int = 1
    """The number of times that the attack was made."""

    @property
    def faults(self) -> list[str]:
        """The harm that the attack did, and the ratios of slowness that are too large."""
        slow = [f"{kind} takes {ratio:.1f}x" for kind, ratio in self.ratios.items() if ratio > MOST_RATIO]
        return self.harm + slow

    @property
    def harm(self) -> list[str]:
        """The harm that the attack did, which no other work on the machine explains."""
        found = [f"an innocent error: {error}" for error in self.errors[:3]]
        found += [f"{name} keeps {size / 1e6:.0f} MB" for name, size in self.kept.items() if size > MOST_GROWTH]
        found += [
            f"{name} has grown by {size / 1e6:.0f} MB since the first attack"
            for name, size in self.grown.items()
            if size > MOST_TOTAL_GROWTH
        ]
        if not self.answers:
            found.append("the attacker was never answered, so that nothing was tried")
        return found

    def __str__(self) -> str:
        ratios = " ".join(f"{kind} {ratio:.1f}x" for kind, ratio in self.ratios.items())
        memory = " ".join(
            f"{name} {self.peak[name] / 1e6:+.0f}/{self.kept[name] / 1e6:+.0f}/{self.grown[name] / 1e6:+.0f}"
            for name in self.peak
        )
        told = " ".join(f"{answer}:{count}" for answer, count in sorted(self.answers.items(), key=lambda one: -one[1]))
        return (
            f"{self.name}\n    {ratios}; {len(self.errors)} errors; MB {memory}; answered {told[:200]}"
            f"{f'; in {self.attempts} attempts' if self.attempts > 1 else ''}"
        )

    def document(self) -> dict[str, Any]:
        """The result as `--json` prints it: ratios, and bytes by process."""
        return {
            "name": self.name,
            "ratios": {kind: round(ratio, 2) for kind, ratio in self.ratios.items()},
            "samples": self.samples,
            "errors": self.errors,
            "peak_bytes": self.peak,
            "kept_bytes": self.kept,
            "grown_bytes": self.grown,
            "answers": self.answers,
            "attempts": self.attempts,
            "faults": self.faults,
        }


class NoCalm(Exception):
    """The innocent person cannot work although no attack is under way: an earlier one lasts."""


class Siege:
    """Attacks on one system."""

    def __init__(self, stack: Stack, *, seconds: float, attempts: int = ATTEMPTS) -> None:
        """Each attack lasts for so many seconds, and is made so often at most."""
        self._attempts = attempts
        self._processes = {name: psutil.Process(stack.pids[name]) for name in PROCESSES}
        self._seconds = seconds
        self.scene: Scene = build(stack)
        self._innocent = Innocent(self.scene)
        self._quiet: list[Samples] = []
        self.quiet()  # the first calls load modules, and are no measure
        self._quiet.clear()
        self._first = self._memory()

    def close(self) -> None:
        """Send the innocent person home."""
        self._innocent.close()

    def quiet(self) -> None:
        """Watch the innocent person work alone for as long as an attack lasts, once the one before is forgotten."""
        deadline = time.monotonic() + CALM_SECONDS
        while True:
            with self._innocent.at_work() as samples:
                time.sleep(self._seconds)
            if not samples.errors:
                self._quiet.append(samples)
                return
            if time.monotonic() > deadline:
                raise NoCalm(samples.errors[0])

    def attack(self, name: str) -> Result:
        """Make an attack. Figures that are too high, maybe by chance, are a fault if most attempts have them."""
        results: list[Result] = []
        while True:
            self.quiet()
            result = self._attack(name)
            results.append(result)
            result.attempts = len(results)
            slow = [one for one in results if one.faults]
            if result.harm or 2 * len(slow) >= self._attempts:
                return result if result.faults else slow[-1]
            if not slow or 2 * (len(results) - len(slow)) > self._attempts:
                return result

    def _attack(self, name: str) -> Result:
        self.scene = self.scene.refreshed()
        before, result = self._memory(), Result(name)
        command = [sys.executable, "-m", "tests.abuse.attacker", name, str(self._seconds)]
        with (
            self._innocent.at_work() as samples,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as one,
        ):
            try:
                assert one.stdin is not None
                one.stdin.write(self.scene.target.as_json())
                one.stdin.close()
                one.stdin = None
                deadline = time.monotonic() + self._seconds + WITHIN_SECONDS
                while one.poll() is None and time.monotonic() < deadline:
                    self._note(result.peak, before, max)
                    time.sleep(0.05)
            finally:
                one.kill()
            said, _ = one.communicate()
            time.sleep(AFTERWARDS_SECONDS)  # calls that were begun may still be in the way
        result.answers = json.loads(said) if one.returncode == 0 else {}
        result.errors = samples.errors
        result.samples = {kind: len(seconds) for kind, seconds in samples.seconds.items()}
        result.ratios = {
            kind: p99(seconds, pause=pause_of(kind)) / usual_p99(self._quiet, kind)
            for kind, seconds in samples.seconds.items()
        }
        self._calm(before, result)
        return result

    def _calm(self, before: dict[str, int], result: Result) -> None:
        deadline = time.monotonic() + CALM_SECONDS
        while True:
            self._note(result.kept, before, lambda _, now: now)
            self._note(result.grown, self._first, lambda _, now: now)
            is_back = max(result.kept.values()) <= MOST_GROWTH and max(result.grown.values()) <= MOST_TOTAL_GROWTH
            if is_back or time.monotonic() > deadline:
                return
            time.sleep(0.5)

    def _memory(self) -> dict[str, int]:
        return {name: process.memory_info().rss for name, process in self._processes.items()}

    def _note(self, into: dict[str, int], before: dict[str, int], choose: Callable[[int, int], int]) -> None:
        for name, size in self._memory().items():
            into[name] = choose(into.get(name, 0), size - before[name])


def siege(stack: Stack, names: Sequence[str], *, seconds: float, say: Callable[[str], None]) -> list[Result]:
    """The results of these attacks. One that lasts beyond its end is a fault; new people are there for the next one."""
    results: list[Result] = []
    left = list(names)
    while left:
        under_siege = Siege(stack, seconds=seconds)
        try:
            while left:
                result = under_siege.attack(left[0])
                say(f"{result}{''.join(f'{chr(10)}    FAULT: {fault}' for fault in result.faults)}")
                results.append(result)
                del left[0]
        except NoCalm as error:
            if not results:
                raise
            results[-1].errors.append(f"{CALM_SECONDS:.0f} s later: {error}")
            say(f"    FAULT: it lasts: {error}")
        finally:
            under_siege.close()
    return results
