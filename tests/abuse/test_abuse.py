"""Attacks in short: nobody is stopped by what somebody else does.

`make abuse` makes all of them, for longer, and also demands that nobody is slowed down much, which a machine that runs
other tests meanwhile cannot tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest
from typing_extensions import override

from stack.running import running_stack
from stack.up import Stack
from tests.abuse.__main__ import main
from tests.abuse.attacks import ATTACKS
from tests.abuse.innocent import Samples, p99, usual_p99
from tests.abuse.run import ATTEMPTS, MOST_RATIO, MOST_TOTAL_GROWTH, VARIABLES, Result, Siege

SECONDS = 2.0
SHORT = ("giant-path", "refusals-that-tell-much", "guessed-links", "unread-changes", "slow-visitors")
"""Some attacks of each section of attacks.py."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system for nothing else: its processes are measured."""
    with running_stack(variables=VARIABLES) as running:
        yield running


@pytest.fixture(scope="module")
def siege(stack: Stack) -> Iterator[Siege]:
    opened = Siege(stack, seconds=SECONDS, attempts=1)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", SHORT)
def test_nobody_is_stopped(siege: Siege, name: str) -> None:
    result = siege.attack(name)
    print(result)
    assert not result.harm, result


def test_every_attack_is_described() -> None:
    assert [name for name, attack in ATTACKS.items() if not attack.__doc__] == []


def test_all_attacks_are_listed_with_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(ATTACKS)
    assert main(["--list", "--json", "giant-path"]) == 0
    (attack,) = json.loads(capsys.readouterr().out)["attacks"]
    assert attack["name"] == "giant-path"
    assert attack["description"]


@pytest.mark.parametrize("arguments", [["no-such-attack"], ["--seconds", "0"], ["--seconds", "nan"]])
def test_an_error_of_usage_is_no_attack(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize("samples", [50, 110, 199, 1000])
def test_one_stop_among_many_short_waits_is_seen(samples: int) -> None:
    """A person who waits for three seconds begins nothing else, so that these are one sample of many."""
    pause = 0.06
    quiet = p99([0.01] * samples, pause=pause)
    assert quiet == 0.01
    assert p99([*[0.01] * samples, 3.0], pause=pause) > MOST_RATIO * quiet


def test_a_quiet_time_in_which_an_attack_lasts_is_no_measure() -> None:
    quiet, disturbed = Samples({"check": [0.01] * 100}), Samples({"check": [0.5] * 100})
    assert usual_p99([quiet, disturbed, quiet, quiet, disturbed], "check") == 0.01


def test_waits_that_are_a_little_longer_weigh_what_they_are() -> None:
    assert p99([0.01] * 980 + [0.02] * 20, pause=0.06) == 0.02
    assert p99([0.01] * 995 + [0.02] * 5, pause=0.06) == 0.01


class Scripted(Siege):
    """Attacks whose figures are given."""

    def __init__(self, ratios: Sequence[float], *, errors: Sequence[str] = ()) -> None:
        self._attempts = ATTEMPTS
        self.made = 0
        self._ratios = ratios
        self._errors = list(errors)

    @override
    def quiet(self) -> None:
        pass

    @override
    def _attack(self, name: str) -> Result:
        self.made += 1
        return Result(name, {"OK": 1}, {"check": self._ratios[self.made - 1]}, errors=self._errors)


@pytest.mark.parametrize(
    ("ratios", "harmed", "made"),
    [
        ([1.0], False, 1),
        ([6.0, 1.0, 1.0], False, 3),
        ([6.0, 6.0], True, 2),
        ([6.0, 1.0, 6.0], True, 3),
    ],
)
def test_an_attack_that_slows_most_of_the_times_is_a_fault(ratios: list[float], harmed: bool, made: int) -> None:
    siege = Scripted(ratios)
    result = siege.attack("one")
    assert (bool(result.faults), siege.made, result.attempts) == (harmed, made, made)


def test_harm_is_never_taken_for_chance() -> None:
    siege = Scripted([1.0, 1.0, 1.0], errors=["check: it failed"])
    assert siege.attack("one").faults
    assert siege.made == 1


def test_a_leak_that_is_small_each_time_is_seen() -> None:
    result = Result("one", {"OK": 1}, peak={"auth": 1}, kept={"auth": 1}, grown={"auth": MOST_TOTAL_GROWTH + 1})
    assert "since the first attack" in result.faults[0]
    assert json.loads(json.dumps(result.document()))["faults"] == result.faults
    assert "auth +0/+0/+300" in str(result)
