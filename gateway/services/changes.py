"""Changes of a space as metadata commits them: what it refuses is an error for each reason."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from gateway.services.calls import Services, ask, known_node
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.errors import Kind, QuotaExceeded, SynclineError
from syncline.model.identifiers import RequestId
from syncline.model.tree import Mutation, Node
from syncline.model.verdicts import Verdict
from syncline.wire.tree import mutation_to_wire


class MutationRefused(SynclineError):
    """A change was refused. Each verdict is a subclass of its own."""


_TEXTS: Final[dict[Verdict, tuple[Kind, str]]] = {
    Verdict.NODE_NOT_FOUND: (Kind.NOT_FOUND, "there is no such file or directory"),
    Verdict.NODE_DELETED: (Kind.NOT_FOUND, "it is in the trash"),
    Verdict.WRONG_KIND: (Kind.CONFLICT, "that cannot be done with a node of this kind"),
    Verdict.PARENT_NOT_FOUND: (Kind.NOT_FOUND, "the directory does not exist, or is in the trash"),
    Verdict.NAME_TAKEN: (Kind.ALREADY_EXISTS, "the directory holds something of that name already"),
    Verdict.NAME_INVALID: (Kind.INVALID, "that cannot be a name"),
    Verdict.VERSION_CONFLICT: (Kind.CONFLICT, "the file has a newer version; look at it and decide anew"),
    Verdict.MOVED: (Kind.CONFLICT, "it was moved or renamed meanwhile; look at it and decide anew"),
    Verdict.CYCLE: (Kind.CONFLICT, "a directory cannot be put below itself"),
    Verdict.NOT_DELETED: (Kind.CONFLICT, "it is not in the trash"),
    Verdict.VERSION_NOT_FOUND: (Kind.NOT_FOUND, "the file has no such version"),
    Verdict.QUOTA_EXCEEDED: (Kind.EXHAUSTED, "the space is full; ask whoever runs the system for a larger quota"),
    Verdict.OBJECT_MISSING: (Kind.CONFLICT, "an object of the content was not uploaded"),
    Verdict.OBJECT_NOT_SEALED: (Kind.CONFLICT, "an object of the content was not sealed"),
    Verdict.BLOCK_OUT_OF_BOUNDS: (Kind.INVALID, "a block reaches beyond its object"),
    Verdict.BLOCK_NOT_IN_PACK: (Kind.INVALID, "a block is not one of its pack's"),
    Verdict.PATH_TOO_LONG: (Kind.INVALID, "a path would have more than 128 names or 4,096 bytes"),
    Verdict.MANIFEST_INVALID: (Kind.INVALID, "the content's blocks do not make up the file"),
}
_ALSO: Final[dict[Verdict, type[SynclineError]]] = {Verdict.QUOTA_EXCEEDED: QuotaExceeded}
"""The error of the same reason, by which services refuse other things than changes."""
_CLASSES: Final[dict[Verdict, type[SynclineError]]] = {
    verdict: type(
        f"Refused{verdict.name}",
        (MutationRefused, _ALSO[verdict]) if verdict in _ALSO else (MutationRefused,),
        {"reason": verdict.name, "kind": kind, "__doc__": text},
    )
    for verdict, (kind, text) in _TEXTS.items()
}


def refused(verdict: Verdict) -> SynclineError:
    """The error that a verdict is."""
    return _CLASSES[verdict]()


def refusal(result: journal_pb2.MutationResult) -> SynclineError | None:
    """Why a change was not accepted; None if it was. The node in the way is named in the details."""
    verdict = Verdict(result.verdict)
    if verdict is Verdict.ACCEPTED:
        return None
    details = {"node": result.node.id.hex()} if result.HasField("node") else {}
    return _CLASSES[verdict](**details)


async def commit_mutations(
    services: Services, token: str, *, space: str, request: RequestId, mutations: Sequence[Mutation]
) -> metadata_pb2.CommitChangesResponse:
    """Apply mutations in one request, each with its own verdict."""
    return await ask(
        services.metadata.CommitChanges,
        metadata_pb2.CommitChangesRequest(
            space_id=space, request_id=request, mutations=[mutation_to_wire(mutation) for mutation in mutations]
        ),
        token=token,
    )


def accepted(result: journal_pb2.MutationResult) -> Node:
    """The node's new state; Refused."""
    if (error := refusal(result)) is not None:
        raise error
    return known_node(result.node)


def derived(request: RequestId, index: int) -> RequestId:
    """The id of one of several requests that make up one."""
    return RequestId(hashlib.sha256(request + index.to_bytes(4, "big")).digest()[:16])
