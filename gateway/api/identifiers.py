"""Ids in paths and bodies: nodes as 32 hex digits or `root`, all other ids in the form of the services."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path
from pydantic import StringConstraints

from syncline.model.blocks import Digest
from syncline.model.identifiers import ROOT, NodeId

_NODE: Final = r"^(?:[0-9a-f]{32}|root)$"

TextId = Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{26}$")]
NodeText = Annotated[str, StringConstraints(pattern=_NODE)]
HexDigest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

Space = Annotated[TextId, Path(description="The space.")]
Node = Annotated[NodeText, Path(description="The node's id; `root` for the top of the space.")]


def node_id_of(text: str) -> NodeId:
    """Return the node id in `text`, 32 hex digits or `root`, whose form was checked before."""
    return ROOT if text == "root" else NodeId(bytes.fromhex(text))


def node_text(node: bytes) -> str:
    """Return a node id in the form of the API: 32 hex digits, or `root`."""
    return "root" if node == ROOT else node.hex()


def digest_of_hex(text: str) -> Digest:
    """Return the digest in `text`, 64 hex digits, whose form was checked before."""
    return Digest(bytes.fromhex(text))
