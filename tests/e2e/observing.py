"""A system that is observed: where its processes serve metrics, and what these say."""

from __future__ import annotations

import json
import math
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from stack.services import NAMES
from stack.up import Stack

PATIENCE_SECONDS = 60.0

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """The samples of all processes at one moment: (process, name, labels) -> value."""

    samples: Mapping[tuple[str, str, Labels], float]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that have these labels; 0 if there is none."""
        wanted = set(labels.items())
        return math.fsum(value for (_, found, own), value in self.samples.items() if found == name and wanted <= own)

    def names(self) -> set[str]:
        return {name for _, name, _ in self.samples}


def addresses(stack: Stack) -> dict[str, str]:
    """Where each process serves its metrics, as its log tells."""
    return dict(_addresses(stack))


def _addresses(stack: Stack) -> Iterator[tuple[str, str]]:
    for name in NAMES:
        (told,) = logged(stack, name, lambda event: event["event"] == "metrics")
        yield name, f"http://{told['host']}:{told['port']}/metrics"


def logged(stack: Stack, name: str, wanted: Callable[[Mapping[str, Any]], bool]) -> list[dict[str, Any]]:
    """The events in the log of a process that are wanted, once there is one: its lines reach the file a little later
    than what they tell happens.
    """
    log, deadline = stack.data / "logs" / f"{name}.log", time.monotonic() + PATIENCE_SECONDS
    while True:
        lines = log.read_text().splitlines(keepends=True)
        found = [event for event in (json.loads(line) for line in lines if line.endswith("\n")) if wanted(event)]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def texts(stack: Stack) -> dict[str, str]:
    """What each process says, as it says it."""
    found = {}
    for name, address in addresses(stack).items():
        with urllib.request.urlopen(address, timeout=60) as answer:
            found[name] = answer.read().decode()
    return found


def scrape(stack: Stack) -> Scrape:
    return Scrape(
        {
            (process, sample.name, frozenset(sample.labels.items())): sample.value
            for process, text in texts(stack).items()
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )


def eventually(stack: Stack, holds: Callable[[Scrape], bool]) -> Scrape:
    """The first scrape of which this holds, or the last one when patience is at its end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds(found := scrape(stack)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found
