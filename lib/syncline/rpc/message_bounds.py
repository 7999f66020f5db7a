"""Checks of the size of a serialised message and of the number of its fields, before the message is parsed.

A parsed message can take many times the memory of its bytes: an empty sub-message has two bytes on the wire, and up to
160 in memory. Checks of a parsed message come too late.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from syncline.model.errors import RequestTooLarge

Shape: TypeAlias = "Mapping[int, Shape]"
"""The part of a kind of message that has to be looked into when its fields are counted: it maps the number of each
field whose values are sub-messages with many parts to the shape of these sub-messages.
"""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GROUPS: Final = frozenset({3, 4})
"""Wire types of the begin and the end of a group, which no message of ours has and the parser skips."""


class Malformed(ValueError):
    """The bytes are no protobuf message."""


def check_bytes(size: int, most: int) -> None:
    """Raise RequestTooLarge if a request of `size` bytes exceeds `most`, the maximum of its method in bytes."""
    if size > most:
        raise RequestTooLarge(f"a request of this method has at most {most:,} bytes, not {size:,}; send less at once")


def shape_of(kind: Descriptor) -> Shape:
    """Return the shape of a kind of message, which must not contain itself."""
    return {
        field.number: shape_of(field.message_type)
        for field in kind.fields
        if field.message_type is not None and _has_parts(field.message_type)
    }


def _has_parts(kind: Descriptor) -> bool:
    """Return True if a message of this kind can have many parts in memory beside its own bytes: messages, or texts."""
    return any(
        field.message_type is not None
        or (field.is_repeated and field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES})
        for field in kind.fields
    )


def check_fields(raw: bytes, shape: Shape, most: int) -> None:
    """Check a serialised message without parsing it. Raise RequestTooLarge if it has more than `most` fields, counted
    in the message itself and in those of its sub-messages that `shape` has; Malformed if the bytes are no message.
    """
    count = 0
    waiting = [(0, len(raw), shape)]
    try:
        while waiting:
            at, end, inner = waiting.pop()
            while at < end:
                count += 1
                if count > most:
                    raise RequestTooLarge(f"a request of this method has at most {most:,} fields; send less at once")
                tag, at = _varint(raw, at)
                wire_type = tag & 7
                if wire_type == _BYTES:
                    length, at = _varint(raw, at)
                    below = inner.get(tag >> 3)
                    if below is not None:
                        waiting.append((at, at + length, below))
                    at += length
                elif wire_type == _VARINT:
                    _, at = _varint(raw, at)
                elif wire_type == _FIXED64:
                    at += 8
                elif wire_type == _FIXED32:
                    at += 4
                elif wire_type not in _GROUPS:
                    raise Malformed
            if at > end:
                raise Malformed
    except IndexError:
        raise Malformed from None


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at the position `at`, and the position after it. Raise Malformed if it has more
    than ten bytes, and IndexError if the bytes end before.
    """
    byte = raw[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value = byte & 0x7F
    for shift in range(7, 70, 7):
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Malformed
