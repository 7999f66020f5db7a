"""Conversion of nodes, contents, manifests, mutations and results between protobuf and the model.

Functions named `*_from_wire` check what they read and raise InvalidArgument for a message that no correct peer sends.
Conditions on the state of the tree (a taken name, a missing object) are left to the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.blocks import DIGEST_BYTES, EMPTY_MANIFEST, Digest, MalformedManifest, Manifest
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import NodeId
from syncline.model.tree import (
    Change,
    Content,
    CreateNode,
    DeleteNode,
    MoveNode,
    Mutation,
    Node,
    NodeKind,
    Result,
    UpdateContent,
    Version,
)
from syncline.model.verdicts import SealVerdict, Verdict
from syncline.wire.identifiers import node_id_from_wire

PUT_AGAIN: Final = frozenset(verdict.value for verdict in SealVerdict if verdict.put_again)
"""Verdicts on objects that do not exist, or that were removed: the right bytes can be uploaded again."""


MAX_NUMBER: Final = (1 << 63) - 1
"""Maximum number that is accepted from the wire: the databases of both ends have 64 bits with a sign."""


def number_from_wire(number: int, *, what: str) -> int:
    """Return a number that fits into a database. Raise InvalidArgument, with `what` as the field, for a larger one."""
    if number > MAX_NUMBER:
        raise InvalidArgument(f"{what} must be at most {MAX_NUMBER}", field=what)
    return number


def digest_from_wire(raw: bytes, *, what: str) -> Digest:
    """Return a SHA-256 from the wire. Raise InvalidArgument, with `what` as the field, if it is missing or not 32 bytes
    long.
    """
    if not raw:
        raise InvalidArgument(f"{what} is missing: {DIGEST_BYTES} bytes", field=what)
    if len(raw) != DIGEST_BYTES:
        raise InvalidArgument(f"{what} must be {DIGEST_BYTES} bytes, not {len(raw)}", field=what)
    return Digest(raw)


def manifest_to_wire(manifest: Manifest) -> journal_pb2.Manifest:
    return journal_pb2.Manifest(
        blocks=manifest.blocks,
        lengths=manifest.lengths,
        objects=manifest.objects,
        object_index=manifest.object_index,
        offsets=manifest.offsets,
    )


def manifest_from_wire(pb: journal_pb2.Manifest) -> Manifest:
    """Return the manifest of a message, unchecked; `Manifest.check` checks that its arrays fit together."""
    if not pb.blocks and not pb.lengths:
        return EMPTY_MANIFEST
    return Manifest(
        blocks=pb.blocks,
        lengths=tuple(pb.lengths),
        objects=pb.objects,
        object_index=tuple(pb.object_index),
        offsets=tuple(pb.offsets),
    )


def manifest_from_bytes(data: bytes) -> Manifest:
    """Parse and check a serialised manifest, and return it. Raise MalformedManifest if it is invalid."""
    try:
        pb = journal_pb2.Manifest.FromString(data)
    except DecodeError:
        raise MalformedManifest("it is no Manifest") from None
    # checked before the columns are copied: a number of one byte on the wire takes some forty bytes in Python
    if max(len(pb.lengths), len(pb.object_index), len(pb.offsets)) > len(pb.blocks) // DIGEST_BYTES:
        raise MalformedManifest("there are more numbers than digests")
    manifest = manifest_from_wire(pb)
    manifest.check()
    return manifest


def content_to_wire(content: Content) -> journal_pb2.Content:
    return journal_pb2.Content(
        digest=content.digest,
        size=content.size,
        mtime_ns=content.mtime_ns,
        executable=content.executable,
        manifest=manifest_to_wire(content.manifest) if content.manifest.lengths else None,
        manifest_object=content.manifest_object,
        target=content.target,
    )


def content_from_wire(pb: journal_pb2.Content) -> Content:
    return Content(
        digest=digest_from_wire(pb.digest, what="content.digest"),
        size=number_from_wire(pb.size, what="content.size"),
        mtime_ns=pb.mtime_ns,
        executable=pb.executable,
        manifest=manifest_from_wire(pb.manifest) if pb.HasField("manifest") else EMPTY_MANIFEST,
        manifest_object=digest_from_wire(pb.manifest_object, what="content.manifest_object")
        if pb.manifest_object
        else b"",
        target=pb.target,
    )


def node_to_wire(node: Node) -> journal_pb2.Node:
    return journal_pb2.Node(
        id=node.id,
        parent=node.parent,
        name=node.name,
        kind=kind_to_wire(node.kind),
        version=node.version,
        content=content_to_wire(node.content) if node.content else None,
        seq=node.seq,
        deleted_at_ms=node.deleted_at_ms,
        user_id=node.user,
        device_id=node.device,
        committed_at_ms=node.committed_at_ms,
    )


def node_from_wire(pb: journal_pb2.Node) -> Node:
    return Node(
        id=node_id_from_wire(pb.id, what="node.id"),
        parent=node_id_from_wire(pb.parent, what="node.parent"),
        name=pb.name,
        kind=kind_from_wire(pb.kind),
        version=number_from_wire(pb.version, what="node.version"),
        content=content_from_wire(pb.content) if pb.HasField("content") else None,
        seq=number_from_wire(pb.seq, what="node.seq"),
        deleted_at_ms=pb.deleted_at_ms,
        user=pb.user_id,
        device=pb.device_id,
        committed_at_ms=pb.committed_at_ms,
    )


def kind_to_wire(kind: NodeKind) -> journal_pb2.NodeKind.ValueType:
    return journal_pb2.NodeKind.ValueType(kind.value)


def kind_from_wire(pb: journal_pb2.NodeKind.ValueType) -> NodeKind:
    try:
        return NodeKind(pb)
    except ValueError:
        raise InvalidArgument(f"{pb} is not a kind of node") from None


def result_to_wire(result: Result) -> journal_pb2.MutationResult:
    from_parent, from_name = result.moved_from or (b"", "")
    return journal_pb2.MutationResult(
        verdict=journal_pb2.Verdict.ValueType(result.verdict.value),
        node=node_to_wire(result.node) if result.node else None,
        from_parent=from_parent,
        from_name=from_name,
        change=journal_pb2.Change.ValueType(result.change.value if result.change else 0),
    )


def result_from_wire(pb: journal_pb2.MutationResult) -> Result:
    return Result(
        Verdict(pb.verdict),
        node_from_wire(pb.node) if pb.HasField("node") else None,
        Change(pb.change) if pb.change else None,
        (NodeId(pb.from_parent), pb.from_name) if pb.from_parent else None,
    )


def version_to_wire(version: Version) -> metadata_pb2.Version:
    return metadata_pb2.Version(
        version=version.number,
        content=content_to_wire(version.content),
        user_id=version.user,
        device_id=version.device,
        committed_at_ms=version.committed_at_ms,
    )


def version_from_wire(pb: metadata_pb2.Version) -> Version:
    return Version(pb.version, content_from_wire(pb.content), pb.user_id, pb.device_id, pb.committed_at_ms)


def mutation_to_wire(mutation: Mutation) -> metadata_pb2.Mutation:
    """Return the message for one mutation of CommitChanges; restores have rpcs of their own."""
    match mutation:
        case CreateNode(parent, name, kind, content):
            return metadata_pb2.Mutation(
                create=metadata_pb2.CreateNode(
                    parent=parent,
                    name=name,
                    kind=kind_to_wire(kind),
                    content=content_to_wire(content) if content else None,
                )
            )
        case UpdateContent(node, base_version, content):
            return metadata_pb2.Mutation(
                update=metadata_pb2.UpdateContent(
                    node=node, base_version=base_version, content=content_to_wire(content)
                )
            )
        case MoveNode(node, from_parent, from_name, parent, name):
            return metadata_pb2.Mutation(
                move=metadata_pb2.MoveNode(
                    node=node, from_parent=from_parent, from_name=from_name, parent=parent, name=name
                )
            )
        case DeleteNode(node, base_version, discard, kept_in):
            return metadata_pb2.Mutation(
                delete=metadata_pb2.DeleteNode(
                    node=node, base_version=base_version, discard=discard, kept_in=kept_in or b""
                )
            )
    raise TypeError(f"{type(mutation).__name__} is not a mutation of CommitChanges")


def mutations_from_wire(pbs: Sequence[metadata_pb2.Mutation], *, first: int = 0) -> tuple[Mutation, ...]:
    """Return the mutations of a request, or of a part of one that begins at position `first`.

    Raise InvalidArgument with the position of the first malformed mutation.
    """
    mutations = []
    for position, pb in enumerate(pbs, first):
        try:
            mutations.append(mutation_from_wire(pb))
        except InvalidArgument as error:
            where = f"mutations[{position}]"
            field = f"{where}.{error.details['field']}" if "field" in error.details else where
            raise InvalidArgument(f"{where}: {error}", field=field) from None
    return tuple(mutations)


def mutation_from_wire(pb: metadata_pb2.Mutation) -> Mutation:
    match pb.WhichOneof("kind"):
        case "create":
            return CreateNode(
                parent=node_id_from_wire(pb.create.parent, what="create.parent"),
                name=pb.create.name,
                kind=kind_from_wire(pb.create.kind),
                content=content_from_wire(pb.create.content) if pb.create.HasField("content") else None,
            )
        case "update":
            if not pb.update.HasField("content"):
                raise InvalidArgument("update.content is missing", field="update.content")
            return UpdateContent(
                node=node_id_from_wire(pb.update.node, what="update.node"),
                base_version=pb.update.base_version,
                content=content_from_wire(pb.update.content),
            )
        case "move":
            return MoveNode(
                node=node_id_from_wire(pb.move.node, what="move.node"),
                from_parent=node_id_from_wire(pb.move.from_parent, what="move.from_parent"),
                from_name=pb.move.from_name,
                parent=node_id_from_wire(pb.move.parent, what="move.parent"),
                name=pb.move.name,
            )
        case "delete":
            return DeleteNode(
                node=node_id_from_wire(pb.delete.node, what="delete.node"),
                base_version=pb.delete.base_version,
                discard=pb.delete.discard,
                kept_in=(node_id_from_wire(pb.delete.kept_in, what="delete.kept_in") if pb.delete.kept_in else None),
            )
        case _:
            raise InvalidArgument("a mutation is one of create, update, move, delete")
