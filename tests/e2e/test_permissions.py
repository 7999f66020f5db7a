"""Each kind of token works at its own operations, and nowhere else."""

import importlib
import pkgutil
import re
import time
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from starlette.routing import Route

import gateway.api
from runtime.permissions import DAV, ROUTES, RPCS, CallerKind
from runtime.rpc import reflection
from runtime.tokens import mint_service_token
from stack.up import Stack
from syncline.admin.v1 import admin_pb2
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.metadata.v1 import metadata_pb2
from syncline.model.accounts import KeyScope
from syncline.model.errors import TokenInvalid, TokenMalformed, Unauthenticated
from syncline.model.identifiers import new_request_id, new_text_id
from syncline.notify.v1 import notify_pb2
from syncline.rpc.channel import sync_channel
from tests.gateway.administrators import administrator
from tests.gateway.client import Api, Person, sign_up
from tests.gateway.fakes import gateway as serving_gateway
from tests.services.refusals import methods_open_to

SERVICES = (
    ("auth", admin_pb2.DESCRIPTOR.services_by_name["AdminService"]),
    ("auth", auth_pb2.DESCRIPTOR.services_by_name["AuthService"]),
    ("metadata", metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"]),
    ("notify", notify_pb2.DESCRIPTOR.services_by_name["NotifyService"]),
)
"""Each service, with the name of the process that serves it."""
KINDS: dict[str, set[CallerKind | KeyScope]] = {
    "anonymous": {CallerKind.ANONYMOUS},
    "administrator": {CallerKind.ADMINISTRATOR},
    "session": {CallerKind.SESSION},
    "program": {KeyScope.READ, KeyScope.WRITE},
    "visitor": {CallerKind.VISITOR},
    "counted visitor": {CallerKind.VISITOR},
    "service": {CallerKind.SERVICE},
}
"""The callers who try everything. The table's word on visitors must hold whether their link counts downloads or not."""
NO_TOKEN_OF_OURS = (Unauthenticated.reason, TokenInvalid.reason, TokenMalformed.reason)


@pytest.fixture
def ann(stack: Stack) -> Person:
    return sign_up(stack.endpoint, "ann")


def program_of(person: Person) -> Api:
    """A program with a key of this person."""
    until = int(time.time() * 1000) + 3_600_000
    key = person.done("POST", "/v1/keys", {"name": "program", "expires_at_ms": until}, status=201)["key"]
    return Api(person.endpoint, {"authorization": f"Bearer {key}"})


class Everybody:
    """One caller of each kind, and what they could be after."""

    def __init__(self, stack: Stack, person: Person) -> None:
        person.space = person.done("POST", "/v1/spaces", {"name": "team"}, status=201)["space_id"]
        self.node = person.folder("linked")["id"]
        self.link = ""
        self.person = person
        self._stack = stack
        self._secret = (stack.data / "secrets" / "service-secret").read_text().strip()

    def token(self, kind: str) -> str:
        """An access token of this kind of caller; empty for nobody's."""
        match kind:
            case "anonymous":
                return ""
            case "session":
                return self.person.headers["authorization"].removeprefix("Bearer ")
            case "administrator":
                return administrator(self._stack).headers["authorization"].removeprefix("Bearer ")
            case "program":
                return self._exchanged(program_of(self.person).headers["authorization"].removeprefix("Bearer "))
            case "service":
                return mint_service_token("metadata", self._secret)
        most = 5 if kind == "counted visitor" else None
        made = self.person.done(
            "POST", f"{self.person.top}/links", {"node": self.node, "max_downloads": most}, status=201
        )
        self.link = made["link_id"]
        opened = self.person.signed_out().done("POST", "/v1/links/open", {"token": made["token"]})
        token: str = opened["access_token"]
        return token

    def _exchanged(self, key: str) -> str:
        with sync_channel(self.auth) as channel:
            answer: auth_pb2.ExchangeKeyResponse = AuthServiceStub(channel).ExchangeKey(
                auth_pb2.ExchangeKeyRequest(key=key)
            )
        return answer.tokens.access_token

    @property
    def auth(self) -> str:
        """Return the address at which auth listens."""
        return target(self.person, "auth")


def target(person: Person, service: str) -> str:
    """Return the address at which a service listens, as clients find it."""
    found: str = person.done("GET", "/.well-known/syncline")[service]["target"]
    return found


@pytest.fixture
def everybody(stack: Stack, ann: Person) -> Everybody:
    return Everybody(stack, ann)


# ---- nothing is missing in the table, and nothing is in it that there is not


def test_every_rpc_has_a_row():
    ours = {f"{service.full_name}/{method.name}" for _, service in SERVICES for method in service.methods}
    health = health_pb2.DESCRIPTOR.services_by_name["Health"]
    others = {f"{health.full_name}/{method.name}" for method in health.methods}
    mirror = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
    others |= {f"{name}/{method.name}" for name in reflection.NAMES for method in mirror.methods}
    assert set(RPCS) == ours | others


def test_these_are_all_services():
    """Found in the protos, so that a new one cannot be forgotten here."""
    root = Path(auth_pb2.__file__).parents[3]
    found = {
        service.full_name
        for path in root.rglob("*_pb2.py")
        for service in importlib.import_module(
            ".".join(path.relative_to(root).with_suffix("").parts)
        ).DESCRIPTOR.services_by_name.values()
    }
    assert found == {service.full_name for _, service in SERVICES}


async def test_every_route_has_a_row():
    modules = [
        importlib.import_module(f"gateway.api.{module.name}") for module in pkgutil.iter_modules(gateway.api.__path__)
    ]
    operations = [route.name for module in modules if hasattr(module, "router") for route in module.router.routes]
    async with serving_gateway() as world:
        assert world.gateway is not None
        app = world.gateway.app
        others = {route.endpoint.__name__ for route in app.routes if isinstance(route, Route)}  # type: ignore[attr-defined]
    assert len(operations) == len(set(operations))
    assert {*operations, *others} - {"dav"} == set(ROUTES)


# ---- what it says is what happens


@pytest.mark.parametrize("kind", KINDS)
async def test_rpcs_take_those_whom_the_table_has(everybody: Everybody, kind: str):
    for name, service in SERVICES:
        token = everybody.token(kind)
        credentials = (("authorization", f"Bearer {token}"),) if token else None
        async with grpc.aio.insecure_channel(target(everybody.person, name)) as channel:
            found = await methods_open_to(channel, service, credentials, refused=NO_TOKEN_OF_OURS)
        rows = {method: callers for method, callers in RPCS.items() if method.startswith(service.full_name)}
        to_all = {method for method, callers in rows.items() if CallerKind.ANONYMOUS in callers}
        assert found - to_all == {method for method, callers in rows.items() if KINDS[kind] & callers} - to_all


def _filled(path: str, everybody: Everybody) -> str:
    known = {"space": everybody.person.space, "node": everybody.node, "link_id": everybody.link or new_text_id()}
    known |= {"device_id": new_text_id(), "number": "1", "email": "nobody@example.com", "path": "linked"}
    known |= {"user_id": new_text_id()}
    return re.sub(r"\{(\w+)\}", lambda match: known[match[1]], path)


@pytest.mark.parametrize("kind", KINDS)
def test_routes_take_those_whom_the_table_has(everybody: Everybody, kind: str):
    described = everybody.person.done("GET", "/openapi.json")["paths"]
    token = everybody.token(kind)
    caller = Api(everybody.person.endpoint, {"authorization": f"Bearer {token}"} if token else {})
    asked = [(path, method, one["operationId"]) for path, all_of in described.items() for method, one in all_of.items()]
    asked.sort(key=lambda one: one[2] == "sign_out")  # the last that is asked
    wrong = []
    for path, method, operation in asked:
        callers = ROUTES[operation.removesuffix("_head")]
        if CallerKind.ANONYMOUS in callers or (operation == "watch" and KINDS[kind] & callers):
            continue  # an event stream has no end, see below
        body: dict[str, str] | None = {} if method in ("post", "put", "patch") else None
        answer = caller.ask(method.upper(), _filled(path, everybody), body, idempotency_key=new_request_id().hex())
        if (answer.status in (401, 403)) is bool(KINDS[kind] & callers):
            wrong.append((method, path, answer.status, answer.body))
    assert wrong == []


@pytest.mark.parametrize("kind", KINDS)
def test_webdav_takes_those_whom_the_table_has(everybody: Everybody, kind: str):
    token = everybody.token(kind)
    caller = Api(everybody.person.endpoint, {"authorization": f"Bearer {token}"} if token else {})
    for method in (*DAV, "POST", "PATCH", "REPORT"):
        answer = caller.ask(method, "/dav/personal/linked/new", depth="0")
        if method not in DAV:
            assert answer.status == 405, (method, answer.status, answer.body)
        else:
            assert (answer.status in (401, 403)) is not bool(KINDS[kind] & DAV[method]), (method, answer.status)


# ---- what fell once


@pytest.mark.parametrize("most", [None, 1])
def test_a_visitor_reads_nothing_where_downloads_are_not_counted(ann: Person, most: int | None):
    data = b"once " * 1000
    node = ann.file("once.txt", data)["id"]
    link = ann.done("POST", f"{ann.top}/links", {"node": node, "max_downloads": most}, status=201)
    opened = ann.signed_out().done("POST", "/v1/links/open", {"token": link["token"]})
    visitor = Api(ann.endpoint, {"authorization": f"Bearer {opened['access_token']}"})
    for path in (f"nodes/{node}/content", "content/once.txt", f"nodes/{node}/archive", f"nodes/{node}"):
        visitor.ask("GET", f"{ann.top}/{path}").refused(403, "PERMISSION_DENIED")
    here = f"/v1/links/{link['link_id']}/nodes/{node}/content"
    assert visitor.ask("GET", here).body == data
    again = visitor.ask("GET", here)
    if most is None:
        assert again.body == data
    else:
        again.refused(429, "LINK_EXHAUSTED")


def test_a_key_changes_no_members_links_devices_or_keys(ann: Person):
    ben = sign_up(ann.endpoint, "ben")
    space = ann.done("POST", "/v1/spaces", {"name": "team"}, status=201)["space_id"]
    members, links = f"/v1/spaces/{space}/members", f"/v1/spaces/{space}/links"
    ann.done("PUT", f"{members}/{ben.email}", {"role": "viewer"})
    link = ann.done("POST", links, {"node": "root"}, status=201)["link_id"]
    here = ann.done("GET", "/v1/session")["device"]["device_id"]
    program = program_of(ann)
    before = {path: ann.done("GET", path) for path in (members, links, "/v1/devices")}
    for method, path, body in (
        ("PUT", f"{members}/{ben.email}", {"role": "owner"}),
        ("PUT", f"{members}/{ann.email}", {"role": "viewer"}),
        ("DELETE", f"{members}/{ben.email}", None),
        ("DELETE", f"{members}/{ann.email}", None),
        ("POST", links, {"node": "root"}),
        ("PATCH", f"/v1/spaces/{space}", {"name": "mine"}),
        ("DELETE", f"/v1/spaces/{space}", None),
        ("POST", f"/v1/spaces/{space}/undelete", None),
        ("POST", f"/v1/spaces/{space}/transfer", {"email": ben.email, "keep_role": None}),
        ("DELETE", f"{links}/{link}", None),
        ("DELETE", f"/v1/devices/{here}", None),
        ("POST", "/v1/keys", {"name": "more", "expires_at_ms": int(time.time() * 1000) + 60_000}),
    ):
        program.ask(method, path, body).refused(403, "PERMISSION_DENIED")
    assert {path: ann.done("GET", path) for path in before} == before
    assert program.done("GET", members) == before[members]
    program.done("POST", f"/v1/spaces/{space}/folders", {"parent": "root", "name": "made"}, status=201)
    program.done("DELETE", "/v1/session", status=204)
    program.ask("GET", members).refused(401, "DEVICE_REVOKED")
