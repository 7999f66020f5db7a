"""What the gateway asks of the outside. All methods raise Unavailable when what is behind them does not answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from core.blocks import Digest
from core.identifiers import SpaceId
from core.tree import Node


class ObjectUnreadable(Exception):
    """An object that a manifest names is missing, shorter than it must be, or holds other bytes: a defect."""


class Nodes(Protocol):
    """Trees, as metadata knows them."""

    async def find(self, space: SpaceId, path: str, *, token: str) -> Node:
        """The live node at a path, if the token's owner may see it; else whatever error metadata has for it."""


class Keys(Protocol):
    """The keys that verify access tokens."""

    async def current(self) -> Mapping[str, bytes]:
        """Raw Ed25519 public keys by their id."""


class Peer(Protocol):
    """A service that must be there for the gateway to be of use."""

    async def serves(self) -> bool:
        """Whether it says so itself, within a second. Never raises."""


class ObjectSource(Protocol):
    """Objects of spaces."""

    async def read(self, space: SpaceId, digest: Digest, *, offset: int, length: int) -> bytes:
        """Exactly these bytes of the object; ObjectUnreadable."""

    async def read_all(self, space: SpaceId, digest: Digest) -> bytes:
        """The whole object, of at most MAX_OBJECT_BYTES, not verified; ObjectUnreadable."""
