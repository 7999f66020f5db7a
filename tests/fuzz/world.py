"""A system with people who have one of everything, so that generated calls get beyond the first check."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc.aio
import pyotp

from runtime.tokens import service_authorization
from stack.up import Stack
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.metadata.v1.metadata_pb2_grpc import MetadataServiceStub
from syncline.model.identifiers import ROOT, new_request_id, new_text_id
from tests.gateway.administrators import administrator
from tests.gateway.client import PASSWORD, Person
from tests.support.mails import mailed_token
from tests.support.passwords import OTHER_STRONG

VARIABLES: Final = {
    "SYNCLINE_LOG_LEVEL": "error",
    "SYNCLINE_RATE_MAKES": "1000",
    "SYNCLINE_ANONYMOUS_CALLS_PER_NETWORK": "1000",
    "SYNCLINE_ANONYMOUS_CALLS_PER_SECRET": "1000",
    "SYNCLINE_PROVE_ADDRESSES": "true",
    "SYNCLINE_SIGN_IN_LIMIT_PER_NETWORK": "100000",
    "SYNCLINE_CODES_PER_ACCOUNT": "10000",
    "SYNCLINE_CODES_PER_DAY": "10000",
    "SYNCLINE_PROOF_MAILS_PER_ACCOUNT": "1000",
    "SYNCLINE_PROOF_MAILS_PER_ADDRESS": "1000",
    "SYNCLINE_RESETS_PER_ADDRESS": "10000",
    "SYNCLINE_RESETS_PER_NETWORK": "10000",
    "SYNCLINE_RESETS_IN_TOTAL": "10000",
}
"""Settings of the system. One person makes nearly all the calls; refusals for that would hide what else they do."""
PEOPLE: Final = ("owner", "viewer", "stranger", "newcomer", "managed", "changer", "protected")
"""The changer changes the password, which signs out all other devices. The protected one has added an authenticator
app: codes are needed to sign in once it is confirmed.
"""
TOKEN_SECONDS: Final = 600
"""An access token lasts for fifteen minutes."""
KEPT: Final = 60
"""Values of a field that are remembered, beside those of the beginning."""


@dataclass
class World:
    """The callers, and the values that there are, by names of fields."""

    tokens: dict[str, str]
    known: dict[str, list[Any]]
    keys: dict[str, str]
    """The keys of the people's browsers: each gives a new access token at any time."""
    service: Callable[[], str]
    """Gives the token of a service."""
    managed: str
    """The id of the person about whom the administrator makes calls."""
    right: dict[str, dict[str, Any]]
    """By method, the fields with which a call of it succeeds, at least the first one. None is a field that is not set,
    and a function gives the value at the time of the call. Other fields have any known value.
    """
    signed_in_at: float = field(default_factory=time.monotonic)
    _first: dict[str, int] = field(default_factory=dict)

    def learn(self, name: str, value: Any) -> None:
        """Remember a value that was answered, or sent and accepted, for a while."""
        if name in OWN:
            return
        held = self.known.setdefault(name, [])
        first = self._first.setdefault(name, len(held))
        if value not in held:
            held.append(value)
            if len(held) > first + KEPT:
                del held[first]


OWN: Final = frozenset(
    {"email", "password", "current_password", "new_password", "refresh_token", "device_id", "access_token", "size"}
    | {"role", "access", "user_id"}
)
"""Not learnt: whoever tried the owner's device or address could end the whole run, and roles and sizes are known."""


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


async def build(stack: Stack, target: str) -> World:
    """Sign people up and let them make things. `target` is where auth listens."""
    admin = administrator(stack)
    async with grpc.aio.insecure_channel(target) as channel:
        auth = AuthServiceStub(channel)
        people = [await _sign_up(auth, stack.endpoint, name) for name in PEOPLE]
        proofs = {person.email: await _mailed(stack, person.email) for person, _ in people}
        (owner, _), (viewer, _), (stranger, _), (newcomer, _), (managed, _), (changer, _), (protected, _) = people
        loser, _ = await _sign_up(auth, stack.endpoint, "loser")
        # The generated calls may change the password of an administrator, so that each world has one of its own.
        chief, chief_key = await _sign_up(auth, stack.endpoint, "chief")
        for person in (loser, chief):
            proofs[person.email] = await _mailed(stack, person.email)
        # The newcomer proves an address only by a generated call.
        for person in (owner, viewer, stranger, managed, changer, protected, loser, chief):
            person.done("POST", "/v1/session/proof", {"token": proofs[person.email]})
        admin.done("PUT", f"/v1/admin/users/{chief.account['user_id']}/administrator", {"admin": True})
        await auth.RequestReset(auth_pb2.RequestResetRequest(email=loser.email))
        reset = await _mailed(stack, loser.email, page="reset")
    docs = owner.folder("docs")
    deep = owner.folder("deep", docs["id"])
    first, second = b"first" * 100, b"second" * 100
    node = owner.file("a.txt", first, docs["id"])
    node = owner.update(node, second)
    below = owner.file("b.txt", second, deep["id"])
    gone = owner.file("gone.txt", b"x")
    back = owner.file("back.txt", b"x")
    for one in (gone, back):
        owner.done("DELETE", f"{owner.top}/nodes/{one['id']}", status=204)
    shared, renamed, given, deleted, buried = [
        owner.done("POST", "/v1/spaces", {"name": name}, status=201)["space_id"]
        for name in ("shared", "renamed", "given", "deleted", "buried")
    ]
    owner.done("DELETE", f"/v1/spaces/{buried}")
    owner.done("PUT", f"/v1/spaces/{shared}/members/{viewer.email}", {"role": "viewer"})
    owner.done("PUT", f"/v1/spaces/{shared}/members/{stranger.email}", {"role": "viewer"})
    invited = [f"{name}-{new_text_id()}@example.com" for name in ("revoked", "refused", "asked")]
    for email in invited:
        owner.done("PUT", f"/v1/spaces/{shared}/members/{email}", {"role": "viewer"}, status=202)
    link = owner.done("POST", f"{owner.top}/links", {"node": docs["id"]}, status=201)
    ended = owner.done("POST", f"{owner.top}/links", {"node": docs["id"]}, status=201)
    guarded = owner.done(
        "POST", f"{owner.top}/links", {"node": "root", "password": PASSWORD, "max_downloads": 3}, status=201
    )
    opened = owner.signed_out().done("POST", "/v1/links/open", {"token": link["token"]})
    async with grpc.aio.insecure_channel(target) as channel:
        auth = AuthServiceStub(channel)
        spare, renewed = [
            await auth.SignIn(auth_pb2.SignInRequest(email=owner.email, password=PASSWORD, device_name=name))
            for name in ("spare", "renewed")
        ]
        key = owner.done("POST", "/v1/keys", {"name": "key", "expires_at_ms": _soon()}, status=201)
    answered, copied = new_request_id(), new_request_id()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{stack.ports.metadata}") as channel:
        for request, name in ((answered, "answered"), (copied, "copied")):
            make = metadata_pb2.CreateNode(parent=ROOT, name=name, kind=journal_pb2.NODE_KIND_DIRECTORY)
            asked = metadata_pb2.CommitChangesRequest(space_id=owner.space, request_id=request)
            asked.mutations.add().create.CopyFrom(make)
            metadata = (("authorization", owner.headers["authorization"]),)
            await MetadataServiceStub(channel).CommitChanges(asked, metadata=metadata)
    nodes = [bytes.fromhex(one["id"]) for one in (docs, deep, node, below, gone)]
    digests = [_digest(data) for data in (first, second, b"")]
    requests = [new_request_id() for _ in range(40)]
    known: dict[str, list[Any]] = {
        "space_id": [owner.space, owner.space, owner.space, shared, viewer.space],
        "space_ids": [owner.space, shared, viewer.space],
        "node": [*nodes, ROOT],
        "node_ids": [nodes[2], b"".join(nodes)],
        "parent": [nodes[0], nodes[1], ROOT, ROOT],
        "from_parent": [nodes[0], nodes[1], ROOT],
        "name": ["a.txt", "new", "docs", "x.txt", "\u00e9"],
        "from_name": ["a.txt", "docs", "b.txt"],
        "path": ["docs/a.txt", "docs", "docs/deep/b.txt", "gone.txt", ""],
        "paths": ["docs/a.txt", "docs/deep/b.txt", "nothing"],
        "digest": digests,
        "digests": [digests[0], digests[1], b"".join([digests[1]] * len(nodes))],
        "sha256": digests,
        "objects": [digests[0], digests[1], digests[0] + digests[1]],
        "blocks": [digests[0], digests[1]],
        "size": [len(first), len(second), 0],
        "lengths": [len(first), len(second)],
        "offsets": [0],
        "object_index": [0, 1],
        "request_id": requests,
        "copy_request_id": requests,
        "kind": [1, 2, 3],
        "version": [1, 2],
        "base_version": [0, 1, 2],
        "writes_since_ms": [0],
        "page_size": [0, 1, 2, 100, 1000],
        "page_token": [""],
        "cursor": [b""],
        "query": ["txt", "a", "deep b"],
        "mtime_ns": [0, 1_764_000_000_000_000_000],
        "refused": [False],
        "role": [1, 2],
        "access": [1, 2],
        "mode": [1, 2],
        "email": [viewer.email, stranger.email],
        "password": [PASSWORD],
        "current_password": [PASSWORD],
        "new_password": [OTHER_STRONG],
        "device_name": ["laptop"],
        "device_id": [spare.device.device_id],
        "user_id": [owner.account["user_id"], viewer.account["user_id"], managed.account["user_id"]],
        "state": [0, 1, 2, 3],
        "email_prefix": ["", "owner", "x"],
        "reason": ["", "left"],
        "link_id": [link["link_id"], guarded["link_id"]],
        "token": [link["token"], guarded["token"], proofs[newcomer.email], reset],
        "key": [key["key"]],
        "refresh_token": [renewed.tokens.refresh_token],
        "expires_at_ms": [_soon(), 0],
        "max_downloads": [0, 3],
        "target": ["", "docs/a.txt"],
        "manifest_object": [b""],
    }
    tokens = {"link": opened["access_token"], "nobody": "", "liar": "x.y.z"}
    keys = {name: key for name, (_, key) in zip(PEOPLE, people, strict=True) if name != "managed"}
    keys["administrator"] = chief_key
    secret = (stack.data / "secrets" / "service-secret").read_text().strip()
    app = pyotp.TOTP(protected.done("POST", "/v1/factors", {"password": PASSWORD}, status=201)["secret"])
    declared = metadata_pb2.ObjectDeclaration(sha256=digests[0], size=len(first))
    own, of_shared = {"space_id": owner.space}, {"space_id": shared}
    file, invitation = {**own, "node": nodes[2]}, await _mailed(stack, invited[2], page="join")
    right: dict[str, dict[str, Any]] = {
        "SignUp": {"kind": 1, "invitation": ""},
        "SignIn": {"email": owner.email, "kind": 1},
        "ResetPassword": {"token": reset},
        "ProveAddress": {"token": proofs[newcomer.email]},
        "ConfirmTotp": {"code": app.now},
        "RemoveFactor": {"password": PASSWORD, "code": lambda: app.at(int(time.time()) + 30)},
        "OpenLink": {"token": link["token"]},
        "CreateKey": {"scopes": [], "space_ids": [], "expires_at_ms": _soon()},
        "GetUser": {"email": ""},  # either of both fields
        "CheckAccess": {**own, "user_id": "", "device_id": ""},  # only a service asks about somebody else
        "BatchCheckAccess": {"device_ids": [spare.device.device_id]},
        "CheckWriters": {**own, "device_ids": [spare.device.device_id]},
        "ListAuditEvents": {"kind": "", "since_ms": 0, "until_ms": 0, "actor": "", "subject": ""},
        "SetSpaceOwner": {**of_shared, "user_id": managed.account["user_id"]},
        "SetUserQuota": {"user_id": managed.account["user_id"], "quota_bytes": 1 << 40},
        "SetSpaceQuota": {**of_shared, "quota_bytes": 1 << 40},
        "ReserveBytes": {**own, "used_bytes": 0, "wanted_bytes": 0},
        "SetMember": of_shared,
        "RemoveMember": {**of_shared, "email": stranger.email},
        "RenameSpace": {"space_id": renamed, "name": "other"},
        "CreateSpace": {"name": "one more"},
        "TransferSpace": {"space_id": given, "email": viewer.email, "keep_role": 1},
        "DeleteSpace": {"space_id": deleted},
        "UndeleteSpace": {"space_id": buried},
        "ListInvitations": of_shared,
        "RevokeInvitation": {**of_shared, "email": invited[0]},
        "GetInvitation": {"token": invitation},
        "RefuseInvitation": {"token": await _mailed(stack, invited[1], page="join")},
        "AcceptInvitation": of_shared,
        "RevokeLink": {**own, "link_id": ended["link_id"]},
        "SealObjects": {**own, "objects": [declared]},
        "FindMissingObjects": own,
        "CommitChanges": own,
        "GetAnswer": {**own, "request_id": answered},
        "UndoCopy": {**own, "copy_request_id": copied},
        "RestoreNode": {**own, "node": bytes.fromhex(back["id"]), "parent": b"", "name": "", "path": None},
        "RestoreVersion": {**file, "version": 1, "base_version": 2},
        "GetVersion": {**file, "version": 1},
        "ListVersions": file,
        "GetNode": {**file, "path": None},
        "ListNodes": {**own, "parent": ROOT},
        "ListChanges": {**own, "cursor": b""},
        "MeasureTree": {**own, "nodes": [nodes[0]]},
        "Watch": {"space_ids": [owner.space]},
    }
    reads = ("ListMembers", "ListLinks", "ListActivity", "ListTrash", "SearchNodes", "GetPreference")
    right |= dict.fromkeys((*reads, "IssueCredentials", "CreateLink", "SetPreference"), own)
    world = World(tokens, known, keys, service_authorization("metadata", secret), managed.account["user_id"], right)
    await renew(world, target)
    return world


async def _sign_up(auth: Any, endpoint: str, name: str) -> tuple[Person, str]:
    """A new person, and the key of their browser."""
    email = f"{name}-{new_text_id()}@example.com"
    asked = auth_pb2.SignUpRequest(email=email, password=PASSWORD, device_name=name, kind=auth_pb2.DEVICE_KIND_BROWSER)
    made = await auth.SignUp(asked)
    headers = {"authorization": f"Bearer {made.tokens.access_token}"}
    account = {"user_id": made.account.user_id}
    return Person(endpoint, headers, email, made.account.personal_space_id, account), made.key


async def _mailed(stack: Stack, email: str, *, page: str = "prove") -> str:
    """The token in the link to a page that was mailed to an address."""
    return await asyncio.to_thread(mailed_token, stack, email, page)


async def renew(world: World, target: str) -> None:
    """Get new access tokens, if those there are expire soon."""
    world.tokens["service"] = world.service()
    if "owner" in world.tokens and time.monotonic() - world.signed_in_at < TOKEN_SECONDS:
        return
    async with grpc.aio.insecure_channel(target) as channel:
        auth = AuthServiceStub(channel)
        for name, key in world.keys.items():
            traded = await auth.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=key))
            world.tokens[name] = traded.tokens.access_token
        opened = await auth.OpenLink(auth_pb2.OpenLinkRequest(token=world.known["token"][0]))
        world.tokens["link"] = opened.access_token
    world.signed_in_at = time.monotonic()


def commit(world: World, rng: Any) -> metadata_pb2.CommitChangesRequest:
    """A request that is accepted as a rule: it makes, changes, moves and deletes."""
    known, request = world.known, metadata_pb2.CommitChangesRequest(request_id=rng.randbytes(16))
    request.space_id = known["space_id"][0]
    for _ in range(rng.randint(1, 5)):
        name = f"{rng.getrandbits(24):x}.txt"
        content = journal_pb2.Content(digest=_digest(b""), mtime_ns=rng.choice(known["mtime_ns"]))
        if rng.random() < 0.5:
            at = rng.randrange(2)
            content = journal_pb2.Content(
                digest=known["digest"][at],
                size=known["size"][at],
                manifest=journal_pb2.Manifest(blocks=known["digest"][at], lengths=[known["size"][at]]),
            )
        node = rng.choice(known["node"])
        match rng.randrange(5):
            case 0:
                create = metadata_pb2.CreateNode(
                    parent=rng.choice(known["parent"]), name=name[:-4], kind=journal_pb2.NODE_KIND_DIRECTORY
                )
                request.mutations.add().create.CopyFrom(create)
            case 1:
                update = metadata_pb2.UpdateContent(node=node, base_version=rng.choice((1, 2, 3)), content=content)
                request.mutations.add().update.CopyFrom(update)
            case 2:
                request.mutations.add().delete.CopyFrom(metadata_pb2.DeleteNode(node=node, base_version=1))
            case _:
                create = metadata_pb2.CreateNode(
                    parent=rng.choice(known["parent"]), name=name, kind=journal_pb2.NODE_KIND_FILE, content=content
                )
                request.mutations.add().create.CopyFrom(create)
    return request


def _soon() -> int:
    return int(time.time() * 1000) + 86_400_000
