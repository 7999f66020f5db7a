"""Queues of the emulator that record which of their messages have changed since the last call of `StoredQueue.change`.

The emulator represents a queue as a dictionary whose `messages` are a list of dictionaries. It appends to the list,
empties it, replaces it in order to remove messages, and sets keys of messages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MessageChange:
    """The difference between the messages of a queue at two calls of `StoredQueue.change`. `removed` has the ids of
    removed messages.
    """

    written: Mapping[str, Mapping[str, Any]]
    """New and changed messages, by id."""
    removed: Collection[str]


class Queues(dict[Any, Any]):
    """Dictionary of the emulator's queues by their keys; each value that is set is converted to a StoredQueue."""

    def __setitem__(self, key: Any, queue: Mapping[str, Any]) -> None:
        super().__setitem__(key, queue if isinstance(queue, StoredQueue) else StoredQueue(queue))

    def adopt(self) -> None:
        """Convert to StoredQueue the queues that were added without this class being notified, as by `dict.update`."""
        for key, queue in list(self.items()):
            if not isinstance(queue, StoredQueue):
                self[key] = queue


class StoredQueue(dict[str, Any]):
    """A queue of the emulator that records which messages have changed since the last call of `change`."""

    def __init__(self, queue: Mapping[str, Any]) -> None:
        super().__init__(queue)
        self._known: set[str] = set()
        self._changed: dict[str, StoredMessage] = {}
        self._replaced = False
        self["messages"] = queue["messages"]

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "messages":
            value = QueueMessages(value, self)
            self._replaced = True
        super().__setitem__(name, value)

    def change(self) -> MessageChange:
        """Return the changes of the messages since the last call of this method; at the first call, all messages are
        new. The cost is proportional to the number of changed messages; if some were removed, to the number of all
        messages.
        """
        changed, self._changed = self._changed, {}
        removed: set[str] = set()
        if self._replaced or len(self["messages"]) != len(self._known) + len(changed.keys() - self._known):
            there = {message["id"] for message in self["messages"]}
            removed = self._known - there
            changed = {ident: message for ident, message in changed.items() if ident in there}
            self._replaced = False
        self._known = (self._known - removed) if removed else self._known
        self._known.update(changed)
        return MessageChange(changed, removed)

    def note(self, message: StoredMessage) -> None:
        """Record that a message is new or has changed."""
        self._changed[message["id"]] = message


class QueueMessages(list[Any]):
    """List of the messages of a queue, which reports to the queue the messages that are added."""

    def __init__(self, messages: Iterable[Any], queue: StoredQueue) -> None:
        self._queue = queue
        super().__init__(self._of_queue(message) for message in messages)

    def append(self, message: Any) -> None:
        super().append(self._of_queue(message))

    def _of_queue(self, message: Any) -> StoredMessage:
        return (
            message
            if isinstance(message, StoredMessage) and message.queue is self._queue
            else StoredMessage(message, self._queue)
        )


class StoredMessage(dict[str, Any]):
    """A message of the emulator, which reports to its queue that one of its keys was set."""

    def __init__(self, message: Mapping[str, Any], queue: StoredQueue) -> None:
        super().__init__(message)
        self.queue = queue
        queue.note(self)

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.queue.note(self)
