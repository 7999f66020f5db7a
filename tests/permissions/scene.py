"""A space with everybody who may be a caller: its members, who was one, a stranger, programs, visitors of its links."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any, Final

from runtime.tokens import mint_service_token
from services.auth.records import SECOND_MS
from services.auth.tokens import AccessTokens, SigningKeys
from stack.up import Stack
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.model.identifiers import DeviceId, UserId, new_text_id
from syncline.model.limits import ACCESS_TOKEN_SECONDS, REVOCATION_SECONDS
from syncline.rpc.channel import sync_channel
from tests.gateway.administrators import administrator
from tests.gateway.client import PASSWORD, Api, Person, sign_up

CALLERS: Final = (
    "anonymous",
    "stranger",
    "former",
    "viewer",
    "editor",
    "owner",
    "admin",
    "suspended",
    "key",
    "reading",
    "sharing",
    "elsewhere",
    "revoked",
    "expired",
    "visitor",
    "counted",
    "service",
)
"""The callers, by the heads of the columns of docs/permissions.md."""
MEMBERS: Final = ("viewer", "editor", "owner")
SUSPENDED: Final = "suspended"
SPARES: Final = 2
"""The number of operations that end the device of their caller."""
PROGRAMS: Final = {
    "key": ("read", "write"),
    "reading": ("read",),
    "sharing": ("share",),
    "elsewhere": ("read", "write", "share"),
}
"""The scopes of the keys of the owner, by caller."""
SESSIONS: Final = ("stranger", "former", *MEMBERS)
"""The callers who are people with a session of their own."""
BYTES: Final = b"seen by members"


@dataclass
class Scene:
    """The space, what is in it, and the people."""

    stack: Stack
    people: dict[str, Person]
    """The people, by the name of the caller."""
    space: str
    file: dict[str, Any]
    """A file with two versions, which stays."""
    folder: str
    """The id of a directory, to which the public links lead."""
    inner: str
    """The id of a file in this directory."""
    spare_space: str
    """Another space of the owner's, which may get other owners."""
    links: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The links of the two kinds of visitors, by the name of the caller."""
    _tokens: dict[str, str] = field(default_factory=dict)
    _spares_of_suspended: list[str] = field(default_factory=list)
    """Tokens of the suspended person's other devices, which signed in before the suspension."""

    @property
    def owner(self) -> Person:
        return self.people["owner"]

    @property
    def digest(self) -> bytes:
        """The digest of a block in the space."""
        return hashlib.sha256(BYTES).digest()

    def target(self, service: str) -> str:
        """The address at which a service listens."""
        found: str = self.owner.done("GET", "/.well-known/syncline")[service]["target"]
        return found

    def api(self, caller: str, *, spare: bool = False) -> Api:
        """The API, with the token of a caller."""
        token = self.spare(caller) if spare else self.token(caller)
        return Api(self.owner.endpoint, {"authorization": f"Bearer {token}"} if token else {})

    def token(self, caller: str) -> str:
        """The access token of a caller; empty for nobody's."""
        if caller == "service":  # such a token is valid for some seconds only
            secret = (self.stack.data / "secrets" / "service-secret").read_text().strip()
            return mint_service_token("metadata", secret)
        if caller not in self._tokens:
            self._tokens[caller] = self._new_token(caller)
        return self._tokens[caller]

    def spare(self, caller: str) -> str:
        """Another token of the same caller, for an operation that ends the device of the token."""
        if caller == SUSPENDED:
            self.token(caller)
            return self._spares_of_suspended.pop()
        return self._new_token(caller) if caller in {*SESSIONS, *PROGRAMS, "admin"} else self.token(caller)

    def session_of_owner(self) -> dict[str, Any]:
        """The answer to a sign-in of the owner at a new device."""
        return self._signed_in(self.owner)

    def undelete(self) -> None:
        """Bring the space back that a caller has deleted."""
        self.owner.done("POST", f"{self.owner.top}/undelete")

    def link_of(self, caller: str) -> str:
        """The id of the public link that a visitor has opened; of some link for anybody else."""
        return str(self.links.get(caller, self.links["visitor"])["link_id"])

    def alias_of(self, caller: str) -> str:
        """The name by which a member addresses the space over WebDAV; that of the owner for anybody else."""
        member = self.people[caller if caller in MEMBERS else "owner"]
        spaces = member.done("GET", "/v1/spaces")["spaces"]
        return str(next(one["alias"] for one in spaces if one["space_id"] == self.space))

    def _new_token(self, caller: str) -> str:
        if caller in SESSIONS:
            return str(self._signed_in(self.people[caller])["tokens"]["access_token"])
        if caller in PROGRAMS:
            return self._exchanged(self.key(caller))
        match caller:
            case "anonymous":
                return ""
            case "admin":
                return administrator(self.stack).headers["authorization"].removeprefix("Bearer ")
            case "suspended":
                return self._suspended()
            case "revoked":
                return self._revoked()
            case "expired":
                return self._expired()
            case _:
                return self._visiting(caller)

    def _signed_in(self, person: Person) -> dict[str, Any]:
        body = {"email": person.email, "password": PASSWORD, "device_name": "another"}
        answer: dict[str, Any] = Api(person.endpoint).done("POST", "/v1/sessions", body, status=201)
        return answer

    def key(self, caller: str = "key") -> str:
        """A new key of the owner, as this caller has it."""
        until = int(time.time() * 1000) + 3_600_000
        body = {"name": "program", "expires_at_ms": until, "scopes": PROGRAMS[caller]}
        if caller == "elsewhere":
            body["spaces"] = [self.owner.account["account"]["personal_space_id"]]
        return str(self.owner.done("POST", "/v1/keys", body, status=201)["key"])

    def _exchanged(self, key: str) -> str:
        with sync_channel(self.target("auth")) as channel:
            answer: auth_pb2.ExchangeKeyResponse = AuthServiceStub(channel).ExchangeKey(
                auth_pb2.ExchangeKeyRequest(key=key)
            )
        return answer.tokens.access_token

    def _suspended(self) -> str:
        """A token of another owner who was suspended longer ago than services may remember."""
        person = self.people[SUSPENDED]
        self._spares_of_suspended += [str(self._signed_in(person)["tokens"]["access_token"]) for _ in range(SPARES)]
        user = person.account["account"]["user_id"]
        administrator(self.stack).done("PUT", f"/v1/admin/users/{user}/suspension", {"reason": "a test"})
        time.sleep(REVOCATION_SECONDS)
        return person.headers["authorization"].removeprefix("Bearer ")

    def _revoked(self) -> str:
        """A token of the owner whose device was revoked longer ago than services may remember."""
        signed_in = self._signed_in(self.owner)
        self.owner.done("DELETE", f"/v1/devices/{signed_in['device']['device_id']}")
        time.sleep(REVOCATION_SECONDS)
        return str(signed_in["tokens"]["access_token"])

    def _expired(self) -> str:
        """A token of the owner's present device that was issued so long ago that it has expired."""
        issued_at_ms = int(time.time() * SECOND_MS) - 2 * ACCESS_TOKEN_SECONDS * SECOND_MS
        keys = SigningKeys.from_files(self.stack.data / "secrets" / "signing-key.pem", None)
        account = self.owner.account
        user, device = UserId(account["account"]["user_id"]), DeviceId(account["device"]["device_id"])
        return AccessTokens(keys, clock=lambda: issued_at_ms).issue(user=user, device=device).text

    def _visiting(self, caller: str) -> str:
        opened = self.owner.signed_out().done("POST", "/v1/links/open", {"token": self.links[caller]["token"]})
        return str(opened["access_token"])


def build(stack: Stack) -> Scene:
    """Make the space, and sign everybody up."""
    people = {name: sign_up(stack.endpoint, name) for name in (*SESSIONS, SUSPENDED)}
    owner = people["owner"]
    owner.space = owner.done("POST", "/v1/spaces", {"name": f"team {new_text_id()}"}, status=201)["space_id"]
    for name, role in (("viewer", "viewer"), ("editor", "editor"), ("former", "editor"), (SUSPENDED, "owner")):
        owner.done("PUT", f"{owner.top}/members/{people[name].email}", {"role": role})
    owner.done("DELETE", f"{owner.top}/members/{people['former'].email}", status=204)
    file = owner.update(owner.file("file.txt", b"first"), BYTES)
    folder = owner.folder("linked")["id"]
    inner = owner.file("inner.txt", BYTES, parent=folder)["id"]
    links = {
        name: owner.done("POST", f"{owner.top}/links", {"node": folder, "max_downloads": most}, status=201)
        for name, most in (("visitor", None), ("counted", 1_000))
    }
    spare = owner.done("POST", "/v1/spaces", {"name": f"spare {new_text_id()}"}, status=201)["space_id"]
    return Scene(stack, people, owner.space, file, folder, inner, spare, links)
