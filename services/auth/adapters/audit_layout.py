"""The items of the audit table. Items are added, never changed, and expire.

| item | pk | sk | holds |
|---|---|---|---|
| EVENT | `E#{shard}` | `{time}{event}` | an event as JSON |
| OF KIND | `K#{kind}#{shard}` | `{time}{event}` | the same event again, for readers who ask for its kind |
| OF PARTY | `P#{id or address}` | `{time}{event}` | the same event again, once for each of its actor and its subjects |
| ONCE | `O#{SHA-256 of a text, hex}` | `ONCE` | marks that an event was stored for this text |
| EXPORTED | `EXPORTED` | `{hour since 1970}` | marks that all events of this hour are in the archive |

The events are spread over SHARDS partitions by their id, because DynamoDB writes only a thousand items per second to
one partition. The sort key begins with the time in milliseconds since 1970. `expires_at` is DynamoDB's time to live, in
seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from aws.dynamodb import Item, attribute, expiry, key_of, text_of
from services.auth.audit.events import AuditEvent, event_from_json, event_to_json, place_at

SHARDS: Final = 4
"""Number of partitions over which the events of all people are spread."""

EXPORTED_PK: Final = "EXPORTED"
"""The partition key of all EXPORTED items."""

_HOUR_DIGITS: Final = 10


def event_pks() -> list[str]:
    """Return the partition keys of all EVENT items."""
    return [f"E#{shard}" for shard in range(SHARDS)]


def kind_pks(kind: str) -> list[str]:
    """Return the partition keys of all OF KIND items of one kind."""
    return [f"K#{kind}#{shard}" for shard in range(SHARDS)]


def party_pk(party: str) -> str:
    return f"P#{party}"


def event_items(event: AuditEvent, *, kept_ms: int) -> Iterator[Item]:
    """Yield the EVENT, OF KIND and OF PARTY items of an event, which expire `kept_ms` milliseconds after it."""
    shard = int.from_bytes(hashlib.sha256(event.ident.encode()).digest()[:1]) % SHARDS
    body = {
        "sk": attribute(event.place),
        "event": attribute(event_to_json(event)),
        "expires_at": expiry(event.at_ms + kept_ms),
    }
    for pk in (f"E#{shard}", f"K#{event.kind}#{shard}", *map(party_pk, sorted(event.parties))):
        yield {"pk": attribute(pk), **body}


def event_from_item(item: Item) -> AuditEvent:
    return event_from_json(text_of(item, "event"))


def once_item(once: str, *, until_ms: int) -> Item:
    """Return the ONCE item of the text `once`, which expires at `until_ms`, in milliseconds since 1970."""
    return {**key_of(f"O#{hashlib.sha256(once.encode()).hexdigest()}", "ONCE"), "expires_at": expiry(until_ms)}


def exported_item(hour: int, *, until_ms: int) -> Item:
    return {**key_of(EXPORTED_PK, f"{hour:0{_HOUR_DIGITS}}"), "expires_at": expiry(until_ms)}


def exported_hour_of(item: Item) -> int:
    """Return the hour of an EXPORTED item."""
    return int(text_of(item, "sk"))


def place_of(item: Item) -> str:
    """Return the place of the event in an item: its sort key."""
    return text_of(item, "sk")


def place_bounds(since_ms: int, until_ms: int, before: str) -> tuple[str, str]:
    """Return two sort keys, between which lie the items of the events from `since_ms` until before `until_ms`, in
    milliseconds since 1970, whose place is less than `before`. An empty `before` is no condition; another one is the
    place of an event.
    """
    latest = place_at(until_ms)
    if before:  # all places have the same length, so that no place is between this text and `before`
        latest = min(latest, before[:-1] + chr(ord(before[-1]) - 1))
    return place_at(since_ms), latest
