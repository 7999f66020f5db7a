"""Single-request changes: idempotent under repetition, and applied only to the state that the caller has seen."""

from __future__ import annotations

from gateway.api.conversions import node_etag
from gateway.api.idempotency import RequestName
from gateway.identity.caller import Caller
from gateway.services.calls import Services, ask
from gateway.services.changes import accepted, commit_mutations
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import Kind, NoSuchRequest, SynclineError
from syncline.model.identifiers import RequestId
from syncline.model.tree import Mutation, Node


class NodeChanged(SynclineError):
    """The node has changed since you read it: read it again, then repeat the request with its new entity tag."""

    reason = "ETAG_MISMATCH"
    kind = Kind.PRECONDITION


async def commit_one(services: Services, caller: Caller, *, space: str, request: RequestId, mutation: Mutation) -> Node:
    """Apply one mutation of the space as the request with the id `request`, and return the node's new state. Raise the
    subclass of MutationRefused for its verdict if the mutation is refused; nothing is changed then.
    """
    answer = await commit_mutations(services, caller.token, space=space, request=request, mutations=[mutation])
    return accepted(answer.results[0])


async def answered(
    services: Services, caller: Caller, *, space: str, name: RequestName
) -> metadata_pb2.GetAnswerResponse | None:
    """Return the answer that metadata gave to the request `name` before. Return None if the request was not carried out
    before, or has no `Idempotency-Key`, so that it cannot be a repetition.
    """
    if not name.given:
        return None
    try:
        return await ask(
            services.metadata.GetAnswer,
            metadata_pb2.GetAnswerRequest(space_id=space, request_id=name.id),
            token=caller.token,
        )
    except NoSuchRequest:
        return None


def check_etag(node: Node, if_match: str | None) -> None:
    """Raise NodeChanged unless `if_match`, the header If-Match of the request, is missing, "*", or a list that contains
    the entity tag of the node.
    """
    tags = ["*"] if if_match is None else [tag.strip() for tag in if_match.split(",")]
    if tags != ["*"] and node_etag(node) not in tags:
        raise NodeChanged
