"""Work at tiny rates: what consists of many calls goes on more slowly, what is one call is told when to come again."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stack.running import running_stack
from stack.up import Stack
from tests.e2e import dav
from tests.gateway.api.test_links import opened
from tests.gateway.client import Answer, Api, Person, sign_up

RATES = {
    "READS": 20,
    "LISTS": 10,
    "SEARCHES": 1,
    "COMMITS": 2,
    "SEALS": 5,
    "STREAMS": 2,
    "CREDENTIALS": 2,
    "SHARES": 2,
    "MAKES": 1,
    "BURST_SECONDS": 1,
}
DIRECTORIES = 40
"""Four bursts of listings."""
DEADLINE = 90.0


@pytest.fixture(scope="module")
def slow() -> Iterator[Stack]:
    """A system in which everybody is held to tiny rates."""
    variables = {f"SYNCLINE_RATE_{name}": str(rate) for name, rate in RATES.items()}
    with running_stack(variables=variables) as running:
        yield running


def wanted(answer: Callable[[], Answer]) -> Answer:
    """What is answered once the rate allows it: each refusal says when to come again, and nothing else is refused."""
    deadline = time.monotonic() + DEADLINE
    while (last := answer()).status == 429:
        assert last.refused(429, "RATE_EXCEEDED")
        assert time.monotonic() < deadline
        time.sleep(float(last.headers["retry-after"]))
    return last


class Patient(Person):
    """A program that comes again when it is told to."""

    def ask(self, *args: Any, **more: Any) -> Answer:
        return wanted(lambda: Api.ask(self, *args, **more))


def patient(stack: Stack) -> Patient:
    person = sign_up(stack.endpoint)
    return Patient(person.endpoint, person.headers, person.email, person.space, person.account)


def tree(person: Person) -> str:
    """A directory that holds DIRECTORIES directories, each with one more; its id."""
    top = person.folder("top")["id"]
    changes: list[dict[str, Any]] = []
    for number in range(DIRECTORIES // 2):
        changes.append({"create": {"parent": top, "name": f"d{number:02}", "kind": "directory"}})
        changes.append({"create": {"parent": {"change": len(changes) - 1}, "name": "below", "kind": "directory"}})
    results = person.done("POST", f"{person.top}/changes", {"changes": changes})["results"]
    assert {result["verdict"] for result in results} == {"ACCEPTED"}
    return str(top)


def names() -> set[str]:
    return {f"d{number:02}/{below}" for number in range(DIRECTORIES // 2) for below in ("", "below/")}


def unpacked(answer: Answer) -> set[str]:
    assert answer.status == 200
    return {name.removeprefix("top/") for name in zipfile.ZipFile(io.BytesIO(answer.body)).namelist()} - {""}


def test_who_asks_for_one_thing_is_told_when_to_come_again(slow: Stack) -> None:
    ann = sign_up(slow.endpoint)
    answers = [ann.ask("GET", f"{ann.top}/search", query={"q": "a"}) for _ in range(3)]
    late = [answer for answer in answers if answer.status != 200]
    assert late
    for answer in late:
        answer.refused(429, "RATE_EXCEEDED")
        assert 1 <= int(answer.headers["retry-after"]) <= 2


def test_an_archive_of_many_directories_is_complete(slow: Stack) -> None:
    ann = patient(slow)
    top = tree(ann)
    assert unpacked(ann.ask("GET", f"{ann.top}/nodes/{top}/archive")) == names()


def test_an_archive_of_many_choices_is_complete(slow: Stack) -> None:
    """Each is asked for before the first byte goes out."""
    ann = patient(slow)
    top = tree(ann)
    (children,) = [ann.done("GET", f"{ann.top}/nodes/{top}/children")["nodes"]]
    chosen = [child["id"] for child in children]
    assert unpacked(ann.ask("GET", f"{ann.top}/archive", query={"node": chosen})) == names()


def test_a_copy_of_many_directories_is_complete(slow: Stack) -> None:
    ann = patient(slow)
    top = tree(ann)
    body = {"parent": "root", "name": "copy"}
    copy = ann.done("POST", f"{ann.top}/nodes/{top}/copy", body, status=201, idempotency_key="once")
    assert unpacked(ann.ask("GET", f"{ann.top}/nodes/{copy['id']}/archive")) == {f"copy/{name}" for name in names()} | {
        "copy/"
    }
    assert sorted(ann.children()) == ["copy", "top"]


def test_visitors_of_one_link_share_its_rate_and_all_get_what_they_want(slow: Stack) -> None:
    ann = patient(slow)
    top = tree(ann)
    link = ann.done("POST", f"{ann.top}/links", {"node": top}, status=201)
    guests = [opened(ann.endpoint, link)[0] for _ in range(3)]
    at = f"/v1/links/{link['link_id']}/nodes/{top}/archive"
    with ThreadPoolExecutor(len(guests)) as visits:
        archives = list(visits.map(lambda guest: wanted(lambda: guest.ask("GET", at)), guests))
    for archive in archives:
        assert unpacked(archive) == names()


def test_programs_that_mount_a_space_wait_and_are_never_refused(slow: Stack) -> None:
    """At eight requests at once, as rclone has them."""
    ann = dav.Person(slow.endpoint)
    files = [f"personal/f{number}" for number in range(16)]

    def each(request: Callable[[str], dav.Answer]) -> set[int]:
        with ThreadPoolExecutor(8) as many:
            return {answer.status for answer in many.map(request, files)}

    assert each(lambda path: ann.put(path, path.encode())) == {201}
    assert each(lambda path: ann.dav("PROPFIND", path, depth="1")) == {207}
    assert each(lambda path: ann.dav("GET", path)) == {200}
    moved = each(lambda path: ann.dav("MOVE", path, destination=f"{slow.endpoint}{dav.address(path + '.moved')}"))
    assert moved == {201}
    assert sorted(ann.listing("personal")) == sorted(f"/dav/{path}.moved" for path in files)
    assert each(lambda path: ann.dav("DELETE", f"{path}.moved")) == {204}
    assert ann.listing("personal") == []
