"""A system with tiny rates: the pages wait as they are told, and say so when that lasts too long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from stack.running import running_stack
from stack.up import Stack
from tests.web.conftest import NewPerson
from tests.web.people import Person

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Response

FOLDERS = 6


@pytest.fixture(scope="module")
def stack(chromium: Browser) -> Iterator[Stack]:  # only where there is a browser to use it with
    rates = {"READS": 4, "LISTS": 2, "SEARCHES": 1, "COMMITS": 1, "SEALS": 1, "BURST_SECONDS": 1}
    with running_stack(variables={f"SYNCLINE_RATE_{name}": str(rate) for name, rate in rates.items()}) as running:
        yield running


@pytest.fixture
def ann(new_person: NewPerson) -> Person:
    """Somebody who has just signed up, and may come too fast."""
    ann = new_person("ann")
    ann.expect(r"429 ")
    ann.sign_up()
    return ann


def refusals(ann: Person) -> list[Response]:
    """Collect the requests that are refused from now on since they come too fast."""
    found: list[Response] = []
    ann.page.on("response", lambda response: found.append(response) if response.status == 429 else None)
    return found


def test_folders_and_uploads_are_made_more_slowly(ann: Person):
    refused = refusals(ann)
    for number in range(FOLDERS):
        ann.make_folder(f"folder {number}")
    ann.upload({f"file {number}.txt": f"text {number}".encode() for number in range(FOLDERS)})
    for number in range(FOLDERS):
        expect(ann.row(f"folder {number}")).to_be_visible()
        expect(ann.row(f"file {number}.txt")).to_be_visible()
    assert refused
    expect(ann.toast).to_be_hidden()


def test_a_search_as_one_types_finds_what_was_typed_last(ann: Person):
    ann.make_folder("alphabet")
    refused = refusals(ann)
    box = ann.page.get_by_role("searchbox")
    for word in ("b", "be", "t", "alpha", "bet", "alphab"):
        box.fill(word)
        ann.page.wait_for_timeout(400)
    expect(ann.row("alphabet")).to_be_visible()
    assert refused
    expect(ann.toast).to_be_hidden()


@pytest.mark.parametrize(
    ("reason", "retry_after", "text"),
    [
        ("RATE_EXCEEDED", "3600", "You make these requests faster than one person may."),
        ("LIMIT_REACHED", None, "You own 100 spaces, as many as one person may; delete one first."),
    ],
)
def test_what_is_not_worth_waiting_for_is_said(ann: Person, reason: str, retry_after: str | None, text: str):
    """Once, in the service's own words where only those say what to do."""
    asked: list[str] = []

    def refuse(route):
        asked.append(route.request.method)
        detail = "you own 100 spaces, as many as one person may; delete one first"
        headers = {"retry-after": retry_after} if retry_after else {}
        route.fulfill(status=429, headers=headers, json={"reason": reason, "detail": detail, "status": 429})

    ann.page.route("**/v1/spaces", lambda route: refuse(route) if route.request.method == "POST" else route.continue_())
    ann.button("New space").click()
    ann.dialog.get_by_label("Name").fill("One more")
    ann.dialog.get_by_role("button", name="Create").click()
    ann.see(ann.dialog.get_by_role("alert").get_by_text(text))
    assert asked == ["POST"]


def test_a_request_waits_for_a_minute_in_all_whatever_breaks_meanwhile(ann: Person):
    """A gateway that is gone in between begins no new minute."""
    asked = 0

    def refuse(route):
        nonlocal asked
        asked += 1
        if asked % 2 == 0:
            route.fulfill(status=503, json={"reason": "UNAVAILABLE", "detail": "gone", "status": 503})
            return
        route.fulfill(
            status=429,
            headers={"retry-after": "40"},
            json={"reason": "RATE_EXCEEDED", "detail": "go on more slowly", "status": 429},
        )

    ann.expect(r"503 ")
    ann.page.route("**/v1/for-this-test", refuse)
    ann.page.clock.install()
    ann.page.evaluate("""async () => {
        const { call } = await import("/web/api.js");
        call("GET", "/v1/for-this-test").catch((problem) => (globalThis.told = problem.reason));
    }""")
    for _ in range(200):  # each round takes a second
        ann.page.clock.run_for(1_000)
        if ann.page.evaluate("globalThis.told ?? null"):
            break
    assert ann.page.evaluate("globalThis.told") == "RATE_EXCEEDED"
    assert asked == 3
