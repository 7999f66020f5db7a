"""Work at tiny rates: what consists of many calls goes on more slowly, what is one call is told when to come again."""

from __future__ import annotations

import io
import json
import signal
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stack.demo import DemoDevice, same_trees
from stack.up import Stack
from syncline.cli.main import INTERRUPTED
from syncline.model.identifiers import new_text_id
from tests.e2e import dav
from tests.e2e.items import journal_length
from tests.gateway.api.test_links import opened
from tests.gateway.client import Answer, Api, Person, sign_up

DIRECTORIES = 40
"""Four bursts of listings."""
DEADLINE = 90.0


def wanted(answer: Callable[[], Answer]) -> Answer:
    """Return the answer once the rate allows it: each refusal says when to come again, and nothing else is refused."""
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
    """Each node is asked for before the first byte goes out."""
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


def test_a_popular_link_serves_fifty_visitors_at_once(stack: Stack) -> None:
    """At the rates that a deployment has: none of them is told to come again."""
    ann = sign_up(stack.endpoint)
    top = ann.folder("top")["id"]
    files = {ann.file(f"f{number}", f"file {number}".encode(), top)["id"]: number for number in range(3)}
    link = ann.done("POST", f"{ann.top}/links", {"node": top, "max_downloads": 1000}, status=201)
    at = f"/v1/links/{link['link_id']}/nodes"

    def visit(_: int) -> int:
        guest, _link = opened(ann.endpoint, link)
        seen = guest.done("GET", f"{at}/{top}/children")["nodes"]
        assert {node["id"] for node in seen} == set(files)
        for node, number in files.items():
            answer = guest.ask("GET", f"{at}/{node}/content")
            assert (answer.status, answer.body) == (200, f"file {number}".encode())
        assert len(unpacked(guest.ask("GET", f"{at}/{top}/archive"))) == len(files)
        return len(files) + 1

    with ThreadPoolExecutor(50) as visitors:
        downloads = sum(visitors.map(visit, range(50)))
    (listed,) = ann.done("GET", f"{ann.top}/links")["links"]
    assert listed["downloads"] == downloads


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


FILES = 2500
WAITING = "syncline: slowing down, as the service asks: "


def test_a_sync_of_thousands_of_files_completes_in_two_devices_at_once(
    slow: Stack, new_device: Callable[..., DemoDevice]
) -> None:
    """Both devices have files for the other; they share the rates of their person. One that is interrupted goes on."""
    one = new_device("one", endpoint=slow.endpoint)
    two = new_device("two", one.owner, endpoint=slow.endpoint)
    for device in (one, two):
        for number in range(FILES // 2):
            path = device.folder / device.name / f"{number % 20:02}" / f"file {number:04}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{device.name} {number} {new_text_id()}".encode())
    with ThreadPoolExecutor(2) as both:
        figures = list(both.map(DemoDevice.sync, (one, two)))
    figures += [one.sync(), two.sync(), one.sync()]
    assert same_trees(one, two) == FILES + 2 * (1 + 20)
    assert sum(each["uploaded"] for each in figures) == FILES
    assert sum(each["downloaded"] for each in figures) == FILES
    assert sum(each["conflicts"] for each in figures) == 0
    assert sum(each["waited_seconds"] for each in figures) > 1
    assert sum(each["requests"]["grpc"] for each in figures) < 150, (
        "it waits as it is told, and does not try all the time"
    )
    space = json.loads(one.run("spaces", "list", "--json"))["spaces"][0]["space"]
    assert journal_length(slow, space) < 30

    (one.folder / "one").rename(one.folder / "renamed")
    for number in range(FILES):
        (one.folder / f"more {number}").write_bytes(new_text_id().encode())
    status, said = interrupted_while_it_waits(one)
    assert status == INTERRUPTED
    assert "as the service asks" in said
    assert one.sync()["problems"] == []
    two.sync()
    assert same_trees(one, two) == 2 * FILES + 2 * (1 + 20)


def interrupted_while_it_waits(device: DemoDevice) -> tuple[int, str]:
    """A sync that gets SIGINT when it says that it waits; its exit code, and what it said."""
    child = device.start("sync", str(device.folder))
    assert child.stderr is not None
    said = child.stderr.readline()
    assert said.startswith(WAITING), said
    child.send_signal(signal.SIGINT)
    _, rest = child.communicate(timeout=60)
    return child.returncode, said + rest


def test_commands_on_single_files_wait(slow: Stack, new_device: Callable[..., DemoDevice], tmp_path: Path) -> None:
    one = new_device("one", endpoint=slow.endpoint)
    for number in range(4):
        source = tmp_path / f"source {number}"
        source.write_bytes(f"content {number}".encode())
        one.run("put", str(source), f"/put {number}")
        one.run("mv", f"/put {number}", f"/moved {number}")
        one.run("get", f"/moved {number}", str(tmp_path / f"got {number}"))
        assert (tmp_path / f"got {number}").read_bytes() == source.read_bytes()
        one.run("rm", f"/moved {number}")
    assert len(json.loads(one.run("trash", "list", "--json"))["nodes"]) == 4
