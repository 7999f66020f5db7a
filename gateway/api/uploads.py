"""Uploads: the caller puts objects directly into S3, has them sealed, and commits files that consist of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from fastapi import APIRouter, Request

from gateway.api import conversions, models
from gateway.api.idempotency import Named
from gateway.api.identifiers import Space, digest_of_hex, node_id_of
from gateway.identity.caller import GatewayServices, Signed
from gateway.ports import UploadAddresses, WriteCredentials
from gateway.services.calls import ask, in_turns
from gateway.services.changes import commit_mutations
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.blocks import BlockRef, Manifest
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import NodeId, RequestId, SpaceId, created_node_id
from syncline.model.tree import Content, CreateNode, Mutation, NodeKind, UpdateContent

router: Final = APIRouter(tags=["uploads"])

_ADDRESS_SECONDS: Final = 900
_NANOSECONDS: Final = 1_000_000


@router.post("/spaces/{space}/uploads")
async def create_uploads(
    space: Space, body: models.WantedObjects, request: Request, caller: Signed, services: GatewayServices
) -> models.Uploads:
    """Find the objects that are not stored yet, and get an address to upload each of them to.

    An address accepts only the bytes with this SHA-256, for 15 minutes, and never overwrites an object.
    """
    digests = [digest_of_hex(wanted.sha256) for wanted in body.objects]
    found = await ask(
        services.metadata.FindMissingObjects,
        metadata_pb2.FindMissingObjectsRequest(space_id=space, objects=b"".join(digests)),
        token=caller.token,
    )
    missing = set(found.missing)
    if not missing:
        return models.Uploads(uploads=[models.Upload(sha256=one.sha256, stored=True) for one in body.objects])
    issued = await ask(
        services.auth.IssueCredentials,
        auth_pb2.IssueCredentialsRequest(space_id=space, access=auth_pb2.ACCESS_WRITE),
        token=caller.token,
    )
    credentials = WriteCredentials(
        issued.access_key_id, issued.secret_access_key, issued.session_token, issued.expires_at_ms
    )
    addresses: UploadAddresses = request.app.state.addresses
    uploads = []
    for i, wanted in enumerate(body.objects):
        if i not in missing:
            uploads.append(models.Upload(sha256=wanted.sha256, stored=True))
            continue
        address = addresses.sign(
            credentials, space=SpaceId(space), digest=digests[i], size=wanted.size, seconds=_ADDRESS_SECONDS
        )
        uploads.append(
            models.Upload(
                sha256=wanted.sha256,
                stored=False,
                method="PUT",
                url=address.url,
                headers=dict(address.headers),
                expires_at_ms=address.expires_at_ms,
            )
        )
    return models.Uploads(uploads=uploads)


@router.post("/spaces/{space}/objects")
async def seal_objects(
    space: Space, body: models.StoredObjects, caller: Signed, services: GatewayServices
) -> models.Sealed:
    """Seal uploaded objects: the service checks that each holds the bytes that its name promises. A version can name
    only sealed objects. Each object has its own verdict, in the order of the request.
    """
    answer = await ask(
        services.metadata.SealObjects,
        metadata_pb2.SealObjectsRequest(space_id=space, objects=[_declaration(stored) for stored in body.objects]),
        token=caller.token,
    )
    return models.Sealed(
        verdicts=[metadata_pb2.SealVerdict.Name(verdict).removeprefix("SEAL_VERDICT_") for verdict in answer.verdicts]
    )


@router.post("/spaces/{space}/changes")
async def commit_changes(
    space: Space, body: models.Changes, name: Named, caller: Signed, services: GatewayServices
) -> models.Results:
    """Create files and directories, and give files new versions: in order, in one journal entry.

    Each change has its own verdict; a refused change does not affect the others.
    """
    every = _mutations(SpaceId(space), body.changes, name.id)
    mutations = [one async for some in in_turns(body.changes, caller.token) for one in islice(every, len(some))]
    answer = await commit_mutations(services, caller.token, space=space, request=name.id, mutations=mutations)
    return models.Results(
        seq=answer.seq,
        results=await conversions.each(answer.results, _result, token=caller.token),
    )


def _result(result: journal_pb2.MutationResult) -> models.Result:
    return models.Result(
        verdict=journal_pb2.Verdict.Name(result.verdict).removeprefix("VERDICT_"),
        node=conversions.node_of(result.node) if result.HasField("node") else None,
    )


def _declaration(stored: models.StoredObject) -> metadata_pb2.ObjectDeclaration:
    pb = metadata_pb2.ObjectDeclaration(sha256=digest_of_hex(stored.sha256), size=stored.size)
    if stored.pack is not None and stored.manifest:
        raise InvalidArgument("an object is a pack or a manifest, not both")
    if stored.pack is not None:
        blocks = b"".join(map(bytes.fromhex, stored.pack.blocks))
        pb.pack.CopyFrom(
            metadata_pb2.PackEntries(blocks=blocks, offsets=stored.pack.offsets, lengths=stored.pack.lengths)
        )
    elif stored.manifest:
        pb.manifest.SetInParent()
    return pb


def _mutations(space: SpaceId, changes: list[models.Change], request: RequestId) -> Iterator[Mutation]:
    for i, change in enumerate(changes):
        match change.create, change.update:
            case models.Create() as create, None:
                yield CreateNode(
                    _parent(space, create.parent, request, before=i),
                    create.name,
                    NodeKind.FILE if create.kind == "file" else NodeKind.DIRECTORY,
                    _content(create.content) if create.content is not None else None,
                )
            case None, models.Update() as update:
                yield UpdateContent(node_id_of(update.node), update.base_version, _content(update.content))
            case _:
                raise InvalidArgument(f"changes[{i}] is either `create` or `update`")


def _parent(space: SpaceId, parent: str | models.Made, request: RequestId, *, before: int) -> NodeId:
    if isinstance(parent, str):
        return node_id_of(parent)
    if parent.change >= before:
        raise InvalidArgument(f"changes[{before}] can only be put below what an earlier change makes")
    return created_node_id(space, request, parent.change)


def _content(content: models.Content) -> Content:
    refs = []
    for row in content.blocks:
        digest = digest_of_hex(row[0])
        if len(row) == 2:
            refs.append(BlockRef(digest, row[1], digest, 0))
        else:
            refs.append(BlockRef(digest, row[1], digest_of_hex(row[2]), row[3]))
    return Content(
        digest=digest_of_hex(content.digest),
        size=content.size,
        mtime_ns=content.mtime_ms * _NANOSECONDS,
        executable=content.executable,
        manifest=Manifest.of(refs),
        manifest_object=digest_of_hex(content.manifest_object) if content.manifest_object is not None else b"",
    )
