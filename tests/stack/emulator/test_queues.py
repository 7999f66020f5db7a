"""The storage knows which messages of a queue have changed, at a cost of these alone."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stack.emulator.queues import Queues, StoredMessage, StoredQueue

KEY = ("000000000000", "us-east-1", "http://queue")


def message(number: int) -> dict[str, Any]:
    return {"id": str(number), "body": "text", "visible_at": 0.0, "receipt_handle": None, "receive_count": 0}


def changes(queue: StoredQueue) -> tuple[set[str], set[str]]:
    change = queue.change()
    return set(change.written), set(change.removed)


def test_messages_that_come_change_and_go() -> None:
    queues = Queues()
    queues[KEY] = {"url": "http://queue", "messages": [message(1)]}
    queue = queues[KEY]
    assert changes(queue) == ({"1"}, set())
    assert changes(queue) == (set(), set())
    queue["messages"].append(message(2))
    assert changes(queue) == ({"2"}, set())
    queue["messages"][0]["visible_at"] = 5.0
    assert changes(queue) == ({"1"}, set())
    queue["messages"] = [one for one in queue["messages"] if one["id"] != "1"]
    assert changes(queue) == (set(), {"1"})
    queue["messages"][0]["receive_count"] += 1
    queue["messages"].clear()
    assert changes(queue) == (set(), {"2"})
    queue["messages"].append(message(3))
    queue["messages"].clear()
    assert changes(queue) == (set(), set())


def test_a_message_that_moves_to_another_queue_belongs_to_that() -> None:
    queues = Queues()
    queues.update({KEY: {"messages": [message(1)]}, ("other",): {"messages": []}})
    queues.adopt()
    one, other = queues[KEY], queues["other",]
    changes(one)
    moved = dict(one["messages"][0])
    other["messages"].append(moved)
    one["messages"] = []
    assert changes(one) == (set(), {"1"})
    assert changes(other) == ({"1"}, set())
    other["messages"][0]["visible_at"] = 1.0
    assert (changes(one), changes(other)) == ((set(), set()), ({"1"}, set()))


def test_what_is_asked_costs_what_changed(monkeypatch: Any) -> None:
    """One message of ten thousand changes and is looked at, and no other."""
    queue = StoredQueue({"messages": [message(number) for number in range(10_000)]})
    queue.change()
    looked_at = 0
    read = StoredMessage.__getitem__

    def counting(self: StoredMessage, name: str) -> Any:
        nonlocal looked_at
        looked_at += 1
        return read(self, name)

    monkeypatch.setattr(StoredMessage, "__getitem__", counting)
    queue["messages"].append(message(10_000))
    queue["messages"][7]["visible_at"] = 1.0
    assert changes(queue) == ({"10000", "7"}, set())
    assert looked_at <= 4
    assert changes(queue) == (set(), set())
    assert looked_at <= 4


DEEDS = st.lists(st.tuples(st.sampled_from(["add", "change", "remove", "clear", "pop", "ask"]), st.integers(0, 20)))


@given(DEEDS)
def test_whatever_is_done_the_changes_add_up(deeds: list[tuple[str, int]]) -> None:
    queue = StoredQueue({"messages": []})
    written: dict[str, str] = {}
    for number, (deed, which) in enumerate(deeds):
        messages = queue["messages"]
        if deed == "add":
            messages.append(message(number))
        elif deed == "clear":
            messages.clear()
        elif deed == "pop" and messages:
            messages.pop()
        elif deed == "remove":
            queue["messages"] = [one for at, one in enumerate(messages) if at != which]
        elif deed == "change" and which < len(messages):
            messages[which]["receive_count"] += 1
        elif deed == "ask":
            apply(queue, written)
    apply(queue, written)
    assert written == {one["id"]: json.dumps(one) for one in queue["messages"]}


def apply(queue: StoredQueue, written: dict[str, str]) -> None:
    change = queue.change()
    for ident in change.removed:
        del written[ident]
    written.update({ident: json.dumps(one) for ident, one in change.written.items()})
