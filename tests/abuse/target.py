"""The target of attacks: the things of an innocent person, and an attacker with an account and a link to visit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc

from stack.up import Stack
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.identifiers import new_request_id
from syncline.model.tree import MAX_MUTATIONS
from tests.gateway.client import PASSWORD, Person, sign_up

SERVICES: Final = ("auth", "metadata", "notify")
LARGE_BYTES: Final = 48 * 1024 * 1024
BLOCK_BYTES: Final = 4 * 1024 * 1024
LINKED_BYTES: Final = 8 * 1024 * 1024
CROWD: Final = 6_000
"""Directories in one directory of the attacker's."""


@dataclass(frozen=True)
class Target:
    """The knowledge of an attacker. It goes to the attacking process as JSON."""

    host: str
    ports: Mapping[str, int]
    """The ports of the three services and of `gateway`."""
    storage: str
    """The address of S3."""
    token: str
    """The access token of the attacker."""
    email: str
    key: str
    """The attacker's, for WebDAV."""
    space: str
    """The attacker's own."""
    shared: str
    """One in which the innocent person works, and of which the attacker is an editor."""
    lure: str
    """A space of the attacker's that others can be invited to."""
    crowd: str
    """The id of a directory with `CROWD` children in the attacker's space."""
    large: str
    """The id of a file of `LARGE_BYTES` in the attacker's space."""
    small: str
    """The id of a file of some bytes there."""
    link: str
    """The secret of a public link of the innocent person's."""
    guarded: str
    """Another, with a password that the attacker does not know."""
    linked: str
    """The id of a file of `LINKED_BYTES` that the first link opens."""
    victim: str
    """The innocent person's e-mail address."""
    sealed: str
    """The SHA-256 of a block in the attacker's space."""

    @property
    def gateway(self) -> tuple[str, int]:
        return self.host, self.ports["gateway"]

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Target:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Scene:
    """A target with the innocent person beside it."""

    target: Target
    innocent: Person
    key: str
    """The innocent person's, for WebDAV."""
    attacker: Person

    def refreshed(self) -> Scene:
        """The same with new access tokens: those that there were end after minutes."""
        for person in (self.innocent, self.attacker):
            person.refresh()
        return dataclasses.replace(self, target=dataclasses.replace(self.target, token=_token(self.attacker)))


def build(stack: Stack) -> Scene:
    """Sign both up, and let each have something."""
    innocent, attacker = sign_up(stack.endpoint, "innocent"), sign_up(stack.endpoint, "attacker")
    for number in range(20):
        innocent.file(f"{number}.txt", b"some bytes, %d" % number)
    linked = innocent.file("linked.bin", random.Random(1).randbytes(LINKED_BYTES // 2) * 2)
    shared = innocent.done("POST", "/v1/spaces", {"name": "shared"}, status=201)["space_id"]
    innocent.done("PUT", f"/v1/spaces/{shared}/members/{attacker.email}", {"role": "editor"})
    link = innocent.done("POST", f"{innocent.top}/links", {"node": linked["id"]}, status=201)
    guarded = innocent.done("POST", f"{innocent.top}/links", {"node": "root", "password": PASSWORD}, status=201)
    small = b"the attacker's"
    target = Target(
        host="127.0.0.1",
        ports={name: getattr(stack.ports, name) for name in (*SERVICES, "gateway")},
        storage=stack.aws.endpoint,
        token=_token(attacker),
        email=attacker.email,
        key=_key(attacker),
        space=attacker.space,
        shared=shared,
        lure=attacker.done("POST", "/v1/spaces", {"name": "lure"}, status=201)["space_id"],
        crowd=_crowd(stack, attacker),
        large=_large(attacker)["id"],
        small=attacker.file("small.txt", small)["id"],
        link=link["token"],
        guarded=guarded["token"],
        linked=linked["id"],
        victim=innocent.email,
        sealed=attacker.store(small),
    )
    return Scene(target, innocent, _key(innocent), attacker)


def _token(person: Person) -> str:
    return person.headers["authorization"].removeprefix("Bearer ")


def _key(person: Person) -> str:
    made = person.done(
        "POST", "/v1/keys", {"name": "key", "expires_at_ms": int((time.time() + 86_400) * 1000)}, status=201
    )
    return str(made["key"])


def _large(attacker: Person) -> dict[str, Any]:
    """A file of many blocks, of which a few have all the bytes."""
    pieces = [random.Random(seed).randbytes(BLOCK_BYTES) for seed in range(2)]
    order = [pieces[at % 2] for at in range(LARGE_BYTES // BLOCK_BYTES)]
    stored = {piece: attacker.store(piece) for piece in pieces}
    whole = hashlib.sha256()
    for piece in order:
        whole.update(piece)
    content = {
        "digest": whole.hexdigest(),
        "size": LARGE_BYTES,
        "mtime_ms": 1_764_000_000_000,
        "blocks": [[stored[piece], len(piece)] for piece in order],
    }
    return attacker.change({"create": {"parent": "root", "name": "large.bin", "kind": "file", "content": content}})


def _crowd(stack: Stack, attacker: Person) -> str:
    crowd: str = attacker.folder("crowd")["id"]
    metadata = (("authorization", attacker.headers["authorization"]),)
    with grpc.insecure_channel(f"127.0.0.1:{stack.ports.metadata}") as channel:
        stub = MetadataServiceStub(channel)
        for first in range(0, CROWD, MAX_MUTATIONS):
            request = metadata_pb2.CommitChangesRequest(space_id=attacker.space, request_id=new_request_id())
            for number in range(first, first + MAX_MUTATIONS):
                create = metadata_pb2.CreateNode(
                    parent=bytes.fromhex(crowd), name=f"{number:06}", kind=journal_pb2.NODE_KIND_DIRECTORY
                )
                request.mutations.add().create.CopyFrom(create)
            answer = stub.CommitChanges(request, metadata=metadata)
            assert answer.seq, answer.results[0]
    return crowd
