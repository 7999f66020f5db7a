"""Changes of a space by commits of metadata; each reason for a refusal has its own error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.services.calls import Services, ask, in_turns, known_node
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.errors import Kind, QuotaExceeded, SynclineError
from syncline.model.identifiers import RequestId
from syncline.model.tree import Mutation, Node
from syncline.model.verdicts import Verdict
from syncline.wire.tree import mutation_to_wire


class MutationRefused(SynclineError):
    """A change was refused. Each verdict is a subclass of its own."""


_KINDS: Final[Mapping[Verdict, Kind]] = {
    Verdict.NODE_NOT_FOUND: Kind.NOT_FOUND,
    Verdict.NODE_DELETED: Kind.NOT_FOUND,
    Verdict.WRONG_KIND: Kind.CONFLICT,
    Verdict.PARENT_NOT_FOUND: Kind.NOT_FOUND,
    Verdict.NAME_TAKEN: Kind.ALREADY_EXISTS,
    Verdict.NAME_INVALID: Kind.INVALID,
    Verdict.VERSION_CONFLICT: Kind.CONFLICT,
    Verdict.MOVED: Kind.CONFLICT,
    Verdict.CYCLE: Kind.CONFLICT,
    Verdict.NOT_DELETED: Kind.CONFLICT,
    Verdict.VERSION_NOT_FOUND: Kind.NOT_FOUND,
    Verdict.QUOTA_EXCEEDED: Kind.EXHAUSTED,
    Verdict.NODES_EXCEEDED: Kind.EXHAUSTED,
    Verdict.OBJECT_MISSING: Kind.CONFLICT,
    Verdict.OBJECT_NOT_SEALED: Kind.CONFLICT,
    Verdict.BLOCK_OUT_OF_BOUNDS: Kind.INVALID,
    Verdict.BLOCK_NOT_IN_PACK: Kind.INVALID,
    Verdict.PATH_TOO_LONG: Kind.INVALID,
    Verdict.MANIFEST_INVALID: Kind.INVALID,
}
_ALSO: Final[dict[Verdict, type[SynclineError]]] = {Verdict.QUOTA_EXCEEDED: QuotaExceeded}
"""By verdict, the error that services raise with the same reason in other calls. The class of the verdict's error also
inherits from it.
"""
_CLASSES: Final[dict[Verdict, type[SynclineError]]] = {
    verdict: type(
        f"Refused{verdict.name}",
        (MutationRefused, _ALSO[verdict]) if verdict in _ALSO else (MutationRefused,),
        {"reason": verdict.name, "kind": kind, "__doc__": verdict.text},
    )
    for verdict, kind in _KINDS.items()
}


def refused(verdict: Verdict) -> SynclineError:
    """Return the error to raise for a mutation that was refused with `verdict`: an instance of the subclass of
    MutationRefused for this verdict.
    """
    return _CLASSES[verdict]()


def refusal(result: journal_pb2.MutationResult) -> SynclineError | None:
    """Return the error for the result of a mutation that was refused; None if the mutation was accepted. The details of
    the error name the node that prevents the mutation, if there is one.
    """
    verdict = Verdict(result.verdict)
    if verdict is Verdict.ACCEPTED:
        return None
    details = {"node": result.node.id.hex()} if result.HasField("node") else {}
    return _CLASSES[verdict](**details)


async def commit_mutations(
    services: Services,
    token: str,
    *,
    space: str,
    request: RequestId,
    mutations: Sequence[Mutation],
    all_or_nothing: bool = False,
) -> metadata_pb2.CommitChangesResponse:
    """Apply mutations of a space in one commit of metadata, the request with the id `request`, and return the answer,
    which has the verdict on each. `token` is the caller's access token. If `all_or_nothing` is True, no mutation takes
    effect unless all are accepted.
    """
    asked = metadata_pb2.CommitChangesRequest(space_id=space, request_id=request, all_or_nothing=all_or_nothing)
    async for some in in_turns(mutations, token):
        asked.mutations.extend(map(mutation_to_wire, some))
    return await ask(services.metadata.CommitChanges, asked, token=token)


def accepted(result: journal_pb2.MutationResult) -> Node:
    """Return the node's new state from the result of a mutation. Raise the subclass of MutationRefused for the verdict
    if the mutation was refused.
    """
    if (error := refusal(result)) is not None:
        raise error
    return known_node(result.node)
