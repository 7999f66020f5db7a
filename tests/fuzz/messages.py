"""Messages from descriptors: well-formed ones of things that exist, hostile ones, and those in between."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

DIGEST: Final = 32
ID: Final = 16
MAX_BYTES: Final = 3_900_000
"""A server takes 4 MiB; gRPC itself refuses what is larger."""
ROOMS: Final = (60_000, 60_000, 60_000, MAX_BYTES)
"""Sizes that messages may have: three of four are within the bound of every method, which are refused otherwise."""
DEEPEST: Final = 6
SHORT: Final = 16
"""The length of values, in characters or bytes, of a message that is large enough."""

Text = TypeVar("Text", str, bytes)

INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
}
STRINGS: Final = (
    "",
    " ",
    "\0",
    "a\0b",
    "\n",
    "\x1b[31m",
    ".",
    "..",
    "/",
    "a/",
    "/a",
    "a//b",
    "a/../b",
    "./a",
    "%s%n{0}",
    "' OR 1=1 --",
    "e\u0301",
    "\u00e9",
    "\u202e\u2066",
    "\U0001f600",
    "\uffff",
    "I\u0307",
    "\u1e9e",
    "\ufdfa",
    "\ufeff",
    "a@b",
    "@",
    "a@[127.0.0.1]",
    '"a b"@example.com',
    "a@xn--a",
    "a@" + "b." * 150 + "example.com",
    "\u00e9@\u00e9.example",
    "-1",
    "9223372036854775808",
    "syncline",
    ".syncline",
    "personal",
    "root",
)


class Generator:
    """Makes messages from one source of chance. `known` holds values of things that exist, by names of fields."""

    def __init__(self, rng: random.Random, known: dict[str, list[Any]]) -> None:
        self.rng = rng
        self.known = known
        self._room = MAX_BYTES

    def message(self, kind: Descriptor, *, hostile: float = 0.0, depth: int = 0) -> Message:
        """A message of this kind, of which each value is hostile with this chance."""
        if depth == 0:
            self._room = self.rng.choice(ROOMS)
        made = GetMessageClass(kind)()
        for oneof in kind.oneofs:
            if self.rng.random() >= hostile / 2:
                self._set(made, self.rng.choice(oneof.fields), hostile, depth)
        for field in kind.fields:
            if field.containing_oneof is None and self.rng.random() >= hostile / 2:
                self._set(made, field, hostile, depth)
        return made

    def mutated(self, message: Message) -> Message:
        """A copy in which a few values are others."""
        self._room = self.rng.choice(ROOMS)
        copy = type(message)()
        copy.CopyFrom(message)
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            at, depth = copy, 0
            while True:
                fields: Any = at.DESCRIPTOR.fields
                field: FieldDescriptor | None = self.rng.choice(fields) if fields else None
                below = _messages(at, field) if field is not None else []
                if not below or self.rng.random() < 0.2:
                    break
                at, depth = self.rng.choice(below), depth + 1
            if field is None:
                continue
            if self.rng.random() < 0.3:
                at.ClearField(field.name)
            elif field.is_repeated and self.rng.random() < 0.3:
                values = getattr(at, field.name)
                times = self.rng.choice((1, 2, 50))
                if at.ByteSize() * times <= MAX_BYTES:
                    values.extend(list(values) * times)
            else:
                if field.is_repeated and self.rng.random() < 0.5:
                    at.ClearField(field.name)
                self._set(at, field, self.rng.choice((0.0, 1.0, 1.0)), depth)
        return copy

    def damaged(self, raw: bytes) -> bytes:
        """Bytes that may be no message any more."""
        data = bytearray(raw or b"\x0a")
        for _ in range(self.rng.randint(1, 4)):
            at = self.rng.randrange(len(data) + 1)
            match self.rng.randrange(4):
                case 0:
                    data[at:at] = self.rng.randbytes(self.rng.choice((1, 2, 9)))
                case 1:
                    del data[at : at + self.rng.randint(1, 9)]
                case 2:
                    del data[at:]
                case _:
                    data[at : at + 1] = self.rng.choice((b"\xff", b"\0", b"\x80", b"\xed\xa0\x80", b"\x0b", b"\x0c"))
        return bytes(data)

    def _set(self, made: Message, field: FieldDescriptor, hostile: float, depth: int) -> None:
        if field.message_type is not None:
            if depth < DEEPEST:
                count = self._count(hostile) if field.is_repeated else 1
                for _ in range(min(count, 40)):
                    value = self.message(field.message_type, hostile=hostile, depth=depth + 1)
                    target = getattr(made, field.name)
                    (target.add() if field.is_repeated else target).CopyFrom(value)
                if not field.is_repeated:
                    getattr(made, field.name).SetInParent()
        elif field.is_repeated:
            getattr(made, field.name).extend(self._value(field, hostile) for _ in range(self._count(hostile)))
        else:
            setattr(made, field.name, self._value(field, hostile))

    def _count(self, hostile: float) -> int:
        if self.rng.random() < hostile:
            return self.rng.choice((0, 0, 1, 2, 101, 1001, 2001))
        return self.rng.choice((1, 1, 2, 3))

    def _value(self, field: FieldDescriptor, hostile: float) -> Any:
        known = self.known.get(field.name, [])
        fitting = [value for value in known if _fits(field, value)]
        if fitting and self.rng.random() >= hostile:
            return self.rng.choice(fitting)
        match field.type:
            case FieldDescriptor.TYPE_BOOL:
                return self.rng.random() < 0.5
            case FieldDescriptor.TYPE_STRING:
                return self._fitting_in(self._string())
            case FieldDescriptor.TYPE_BYTES:
                return self._fitting_in(self._bytes())
            case FieldDescriptor.TYPE_ENUM:
                assert field.enum_type is not None
                numbers = [value.number for value in field.enum_type.values]
                return self.rng.choice([*numbers, *numbers, -1, 99, (1 << 31) - 1, -(1 << 31)])
            case _:
                low, high = INTEGERS[field.type]
                middle = [1, 2, 10, 1000, 1001, 1 << 31, 1 << 53, self.rng.getrandbits(62)]
                edges = [low, high, 0, -1, low + 1, high - 1]
                return self.rng.choice([value for value in (*middle, *edges) if low <= value <= high])

    def _fitting_in(self, value: Text) -> Text:
        """Return the value, or its beginning once a message has as much as any may have.

        Thousands of values of a megabyte in one message would be gigabytes, which protobuf cannot encode.
        """
        fitting = value if len(value) <= self._room else value[:SHORT]
        self._room -= len(fitting)
        return fitting

    def _string(self) -> str:
        match self.rng.randrange(8):
            case 0:
                return self.rng.choice(
                    ("a", "\u00e9", "a/", "/", " ", '"', "(", "\U0001f600", "a.", "a <")
                ) * self.rng.choice((100, 101, 255, 256, 1025, 4097, 5001, 60_000, 1_000_000))
            case 1:
                return "".join(chr(self.rng.randrange(1, 0xD800)) for _ in range(self.rng.randint(1, 60)))
            case 2:
                return "".join(chr(self.rng.randrange(0, 160)) for _ in range(self.rng.randint(1, 30)))
            case 3:
                return "".join(self.rng.choices("abcdefghijklmnopqrstuvwxyz234567", k=26))
            case _:
                return self.rng.choice(STRINGS)

    def _bytes(self) -> bytes:
        size = self.rng.choice((0, 1, 4, 15, 16, 16, 16, 17, 31, 32, 32, 33, 64, 16 * 1001, 32 * 10_001, 1_000_000))
        return self.rng.choice((bytes(size), b"\xff" * size, self.rng.randbytes(size)))


def _messages(at: Message, field: FieldDescriptor) -> list[Any]:
    """The messages that a field holds."""
    if field.message_type is None:
        return []
    if field.is_repeated:
        return list(getattr(at, field.name))
    return [getattr(at, field.name)] if at.HasField(field.name) else []


def _fits(field: FieldDescriptor, value: Any) -> bool:
    """Return True if a value that is known by a field's name has the type of the field, too."""
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return isinstance(value, str)
        case FieldDescriptor.TYPE_BYTES:
            return isinstance(value, bytes)
        case FieldDescriptor.TYPE_BOOL:
            return isinstance(value, bool)
        case FieldDescriptor.TYPE_ENUM:
            return isinstance(value, int)
        case _:
            low, high = INTEGERS[field.type]
            return isinstance(value, int) and low <= value <= high


def walk(message: Message, meet: Callable[[str, Any], None]) -> None:
    """Tell `meet` the name and value of every field that is set, at any depth, but for maps."""
    waiting = [message]
    while waiting:
        for field, value in waiting.pop().ListFields():
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                continue  # texts under keys that are no names of fields
            if field.message_type is not None:
                waiting.extend(value if field.is_repeated else [value])
            else:
                for one in value if field.is_repeated else [value]:
                    meet(field.name, one)


def readable(kind: Descriptor, raw: bytes) -> str:
    """A request for people: as text if it is a message, and shortened."""
    try:
        text = str(GetMessageClass(kind).FromString(raw))
    except DecodeError:
        text = f"no {kind.name}: {raw[:200].hex()}"
    return text if len(text) < 1500 else f"{text[:1500]}... ({len(raw)} bytes)"
