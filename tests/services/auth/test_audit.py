"""The acts of people are in the audit log, each once, with who did what to whom, and without any secret."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from runtime.network import bind_network
from runtime.permissions import RPCS
from services.auth.audit.catalogue import AUDITED, OF_THE_OPERATOR
from services.auth.audit.counts import MAX_COUNTED_NETWORKS, OTHERS, STALE_MS, RefusalCounts
from services.auth.audit.events import (
    MAX_SUBJECTS,
    ActorKind,
    AuditEvent,
    AuditKind,
    AuditResult,
    Subject,
    SubjectKind,
    event_to_json,
)
from services.auth.records import DAY_MS, HOUR_MS, MINUTE_MS
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import Unavailable
from syncline.model.identifiers import ROOT, new_request_id
from tests.services.auth.support import PASSWORD, Clock, Person, Service, refused, serving
from tests.support.auth import InMemoryAuditStore

VIEWER, EDITOR, OWNER = auth_pb2.ROLE_VIEWER, auth_pb2.ROLE_EDITOR, auth_pb2.ROLE_OWNER
SERVICES = ("syncline.auth.v1.AuthService", "syncline.admin.v1.AdminService")


@pytest.fixture
async def auth(tmp_path):
    async with serving(tmp_path) as service:
        yield service


def events(auth: Service, *kinds: AuditKind) -> list[AuditEvent]:
    return [event for event in auth.store.audit.events if not kinds or event.kind in kinds]


def subjects(event: AuditEvent) -> dict[str, str]:
    return {subject.kind.value: subject.ident for subject in event.subjects}


async def make_key(auth: Service, by: Person, request: bytes | None = None) -> auth_pb2.CreateKeyResponse:
    asked = auth_pb2.CreateKeyRequest(
        request_id=request or new_request_id(), name="backup", expires_at_ms=auth.clock() + DAY_MS
    )
    return await auth.stub.CreateKey(asked, metadata=by.credentials)


async def make_link(auth: Service, by: Person, request: bytes | None = None) -> auth_pb2.CreateLinkResponse:
    asked = auth_pb2.CreateLinkRequest(
        request_id=request or new_request_id(),
        space_id=by.account.personal_space_id,
        node=ROOT,
        password="the password of the link",
    )
    return await auth.stub.CreateLink(asked, metadata=by.credentials)


# ---- the catalogue


def test_every_rpc_has_a_row_and_every_kind_a_cause() -> None:
    rpcs = {rpc for rpc in RPCS if rpc.rpartition("/")[0] in SERVICES}
    assert AUDITED.keys() == rpcs, "an rpc without a row: decide what of it the audit log keeps (catalogue.py)"
    assert {kind for kinds in AUDITED.values() for kind in kinds} | OF_THE_OPERATOR == set(AuditKind)


# ---- acts


async def test_who_did_what_to_whom_is_told(auth):
    ann, ben = await auth.sign_up("ann@example.com"), await auth.sign_up("ben@example.com", device="<b>phone</b> ${x}")
    space = await auth.create_space(ann, "Plans")
    await auth.share(space, ann, "ben@example.com", VIEWER)
    await auth.share(space, ann, "ben@example.com", EDITOR)
    await auth.unshare(space, ann, "ben@example.com")
    key = await make_key(auth, ann)
    link = await make_link(auth, ann)
    revoke = auth_pb2.RevokeLinkRequest(
        request_id=new_request_id(), space_id=ann.account.personal_space_id, link_id=link.link.link_id
    )
    await auth.stub.RevokeLink(revoke, metadata=ann.credentials)
    phone = await auth.sign_in("ann@example.com")
    await auth.stub.RevokeDevice(
        auth_pb2.RevokeDeviceRequest(device_id=ann.device.device_id), metadata=phone.credentials
    )
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=ben.credentials)
    told = [(event.kind, event.actor.user, event.actor.device, subjects(event)) for event in events(auth)]
    one, other = ann.account.user_id, ben.account.user_id
    laptop, device = ann.device.device_id, ben.device.device_id
    personal = ann.account.personal_space_id
    assert told == [
        ("account.created", one, laptop, {"address": "ann@example.com"}),
        ("account.created", other, device, {"address": "ben@example.com"}),
        ("space.created", one, laptop, {"space": space}),
        ("member.added", one, laptop, {"user": other, "space": space}),
        ("member.changed", one, laptop, {"user": other, "space": space}),
        ("member.removed", one, laptop, {"user": other, "space": space}),
        ("key.created", one, laptop, {"device": key.device.device_id}),
        ("link.created", one, laptop, {"space": personal, "link": link.link.link_id}),
        ("link.ended", one, laptop, {"space": personal, "link": link.link.link_id}),
        ("sign_in.succeeded", one, phone.device.device_id, {}),
        ("device.ended", one, phone.device.device_id, {"user": one, "device": laptop}),
        ("key.ended", one, phone.device.device_id, {"user": one, "device": key.device.device_id}),
        ("device.signed_out", other, device, {"user": other, "device": device}),
    ]
    assert all(event.actor.kind is ActorKind.SESSION for event in events(auth))
    assert {event.network for event in events(auth)} == {"127.0.0.1"}
    assert all(event.request and event.result is AuditResult.DONE for event in events(auth))
    changed = events(auth, AuditKind.MEMBER_CHANGED)[0]
    assert changed.details == {"before": "viewer", "after": "editor"}
    assert events(auth)[1].details["name"] == "<b>phone</b> ${x}", "hostile texts are kept as they are"
    assert events(auth)[1].details["admin"] == "no"


async def test_an_event_names_the_request_in_the_logs(auth):
    ann = await auth.sign_up("ann@example.com")
    request = auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name="team")
    await auth.stub.CreateSpace(request, metadata=(*ann.credentials, ("x-request-id", "seen-in-the-log")))
    assert [event.request for event in events(auth, AuditKind.SPACE_CREATED)] == ["seen-in-the-log"]


async def test_a_program_is_told_from_its_person(auth):
    ann = await auth.sign_up("ann@example.com")
    made = await make_key(auth, ann)
    token = (await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=made.key))).tokens.access_token
    await auth.stub.SignOut(auth_pb2.SignOutRequest(), metadata=(("authorization", f"Bearer {token}"),))
    (event,) = events(auth, AuditKind.DEVICE_SIGNED_OUT)
    assert (event.actor.kind, event.actor.device) == (ActorKind.PROGRAM, made.device.device_id)


async def test_a_repeated_request_leaves_one_event(auth):
    ann, ben = await auth.sign_up("ann@example.com"), await auth.sign_up("ben@example.com")
    space_request = auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name="team")
    request = new_request_id()
    for _ in range(3):
        await asyncio.gather(*(make_key(auth, ann, request) for _ in range(3)))
        await make_link(auth, ann, request)
        space = (await auth.stub.CreateSpace(space_request, metadata=ann.credentials)).space.space_id
        share = auth_pb2.SetMemberRequest(request_id=request, space_id=space, email="ben@example.com", role=VIEWER)
        await auth.stub.SetMember(share, metadata=ann.credentials)
        # The same role by another request changes nothing.
        await auth.share(space, ann, "ben@example.com", VIEWER)
        await auth.stub.RevokeDevice(
            auth_pb2.RevokeDeviceRequest(device_id=ben.device.device_id),
            metadata=(await auth.sign_in("ben@example.com")).credentials,
        )
    kinds = [event.kind for event in events(auth)]
    for kind in (
        AuditKind.KEY_CREATED,
        AuditKind.LINK_CREATED,
        AuditKind.SPACE_CREATED,
        AuditKind.MEMBER_ADDED,
        AuditKind.DEVICE_ENDED,
    ):
        assert kinds.count(kind) == 1, kind


async def test_a_copied_refresh_token_is_found_once(auth):
    ann = await auth.sign_up("ann@example.com")
    first = ann.tokens.refresh_token
    second = (await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=first))).tokens.refresh_token
    await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=second))
    with refused("UNAUTHENTICATED", "REFRESH_TOKEN_REUSED"):
        await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=first))
    with refused("UNAUTHENTICATED", "DEVICE_REVOKED"):
        await auth.stub.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=first))
    (event,) = events(auth, AuditKind.DEVICE_COPIED, AuditKind.DEVICE_ENDED)
    assert event.kind == AuditKind.DEVICE_COPIED
    assert (event.actor.kind, subjects(event)["device"]) == (ActorKind.ANONYMOUS, ann.device.device_id)


async def test_an_act_whose_event_cannot_be_stored_is_not_carried_out(auth):
    ann = await auth.sign_up("ann@example.com")
    request = new_request_id()
    auth.store.audit.down = True
    with refused("UNAVAILABLE", "UNAVAILABLE"):
        await make_key(auth, ann, request)
    with refused("UNAVAILABLE", "UNAVAILABLE"):
        await auth.credentials(ann.account.personal_space_id, ann)
    auth.store.audit.down = False
    listed = await auth.stub.ListDevices(auth_pb2.ListDevicesRequest(), metadata=ann.credentials)
    assert len(listed.devices) == 1
    await make_key(auth, ann, request)
    assert len(events(auth, AuditKind.KEY_CREATED)) == 1


async def test_credentials_leave_one_event_for_each_device_space_access_and_hour(auth):
    ann = await auth.sign_up("ann@example.com")
    auth.clock.now = auth.clock.now // HOUR_MS * HOUR_MS
    space = ann.account.personal_space_id
    for _ in range(3):
        await auth.credentials(space, ann)
        await auth.credentials(space, ann, auth_pb2.ACCESS_WRITE)
    told = [
        (event.details["access"], event.actor.device, subjects(event))
        for event in events(auth, AuditKind.CREDENTIALS_ISSUED)
    ]
    assert told == [(access, ann.device.device_id, {"space": space}) for access in ("read", "write")]
    auth.clock.advance(HOUR_MS - 1)
    ann = await auth.sign_in("ann@example.com")
    await auth.credentials(space, ann)
    auth.clock.advance(1)
    await auth.credentials(space, ann)
    assert len(events(auth, AuditKind.CREDENTIALS_ISSUED)) == 4


async def test_no_event_has_a_secret(tmp_path):
    async with serving(tmp_path) as auth:
        ann = await auth.sign_up("ann@example.com", kind=auth_pb2.DEVICE_KIND_BROWSER)
        key, link = await make_key(auth, ann), await make_link(auth, ann)
        with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
            await auth.sign_in("ann@example.com", password="a wrong password")
        with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
            await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=link.token, password="another wrong password"))
        laptop = await auth.sign_in("ann@example.com")
        issued = await auth.credentials(ann.account.personal_space_id, laptop)
    # The counts of refusals are appended when the service stops.
    text = "\n".join(map(event_to_json, auth.store.audit.events))
    assert len(events(auth, AuditKind.SIGN_IN_FAILED, AuditKind.LINK_PASSWORD_FAILED)) == 2
    secrets = (
        *(PASSWORD, "a wrong password", "another wrong password", "the password of the link"),
        *(ann.key, key.key, link.token, laptop.tokens.refresh_token, laptop.tokens.access_token),
        *(ann.tokens.access_token, issued.secret_access_key, issued.session_token, issued.access_key_id),
    )
    assert all(len(secret) > 5 for secret in secrets)
    assert [secret for secret in secrets if secret in text] == []


# ---- refusals


async def test_wrong_passwords_of_a_network_are_one_event(tmp_path):
    async with serving(tmp_path, sign_in_limit_per_peer=4) as auth:
        await auth.sign_up("ann@example.com")
        for code, reason, times in (
            ("UNAUTHENTICATED", "WRONG_PASSWORD", 4),
            ("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS", 9),
        ):
            for _ in range(times):
                auth.clock.advance(10)
                with refused(code, reason):
                    await auth.sign_in("ann@example.com", password="a guess")
        began = auth.clock() - 13 * 10
        assert not events(auth, AuditKind.SIGN_IN_FAILED), "nothing is written for a refusal"
    failed = events(auth, AuditKind.SIGN_IN_FAILED)
    assert [(event.details["reason"], event.count) for event in failed] == [
        ("WRONG_PASSWORD", 4),
        ("TOO_MANY_ATTEMPTS", 9),
    ]
    for event in failed:
        assert event.subjects == (Subject(SubjectKind.ADDRESS, "ann@example.com"),)
        assert (event.network, event.result, event.actor.kind) == (
            "127.0.0.1",
            AuditResult.REFUSED,
            ActorKind.ANONYMOUS,
        )
    assert failed[0].details["first_at_ms"] == str(began + 10)
    assert failed[0].details["last_at_ms"] == str(began + 40)


async def test_sign_ups_and_proofs_that_are_refused_are_counted(tmp_path):
    async with serving(tmp_path, prove_addresses=True) as auth:
        ann = await auth.sign_up("ann@example.com")
        await auth.stub.RequestProof(auth_pb2.RequestProofRequest(), metadata=ann.credentials)
        for token in ("no token", "A" * 43):
            with refused("INVALID_ARGUMENT", "PROOF_INVALID"):
                await auth.stub.ProveAddress(auth_pb2.ProveAddressRequest(token=token), metadata=ann.credentials)
        mail: Any = auth.mail.sent[-1]
        await auth.stub.ProveAddress(auth_pb2.ProveAddressRequest(token=mail.token), metadata=ann.credentials)
        with pytest.raises(grpc.aio.AioRpcError):
            await auth.stub.SignUp(
                auth_pb2.SignUpRequest(
                    email="eve@example.com", password=PASSWORD, device_name="laptop", invitation="no invitation"
                )
            )
    told = [(event.kind, event.count, subjects(event)) for event in events(auth)]
    user = ann.account.user_id
    address = {"address": "ann@example.com"}
    assert told == [
        ("account.created", 1, address),
        ("proof.requested", 1, {"user": user} | address),
        ("proof.requested", 1, {"user": user} | address),
        ("address.proven", 1, {"user": user} | address),
        ("proof.failed", 2, {"user": user}),
        ("sign_up.failed", 1, {"address": "eve@example.com"}),
    ]
    assert mail.token not in "".join(map(event_to_json, events(auth)))


class World:
    """Counts over a log in memory; each call comes from a network of its own."""

    def __init__(self) -> None:
        self.clock, self.store = Clock(), InMemoryAuditStore()
        self.counts = RefusalCounts(self.store, clock=self.clock)

    def fail(self, network: str, address: str) -> None:
        bind_network(network, None)
        self.counts.count(AuditKind.SIGN_IN_FAILED, "WRONG_PASSWORD", address=address)


async def test_a_flood_is_a_bounded_number_of_events():
    world = World()
    for number in range(20_000):
        world.fail(f"192.0.{number // 250 % 250}.{number % 5_000}", f"{number}@example.com")
    await world.counts.append_counts()
    assert len(world.store.events) == MAX_COUNTED_NETWORKS + 1
    assert sum(event.count for event in world.store.events) == 20_000, "each refusal is counted"
    assert all(len(event.subjects) <= MAX_SUBJECTS for event in world.store.events)
    (others,) = [event for event in world.store.events if event.network == OTHERS]
    assert others.count > 15_000
    await world.counts.append_counts()
    assert len(world.store.events) == MAX_COUNTED_NETWORKS + 1, "nothing is appended twice"


class Lossy(InMemoryAuditStore):
    """A log that stores a part and fails, or stores all and fails, as a lost answer does."""

    def __init__(self) -> None:
        super().__init__()
        self.stores: list[int] = []

    async def append(self, given):
        if not self.stores:
            await super().append(given)
            return
        await super().append(given[: self.stores.pop(0)])
        raise Unavailable("the audit log does not answer; try again")


async def test_counts_that_could_not_be_appended_are_appended_once():
    world = World()
    world.store = Lossy()
    world.counts = RefusalCounts(world.store, clock=world.clock)
    for number in range(60):
        world.fail(f"192.0.2.{number}", "ann@example.com")
    world.store.stores = [0, 10, 25]
    for _ in range(3):
        with pytest.raises(Unavailable):
            await world.counts.append_counts()
        world.fail("192.0.2.1", "ann@example.com")
    await world.counts.append_counts()
    assert sum(event.count for event in world.store.events) == 60
    await world.counts.append_counts()
    assert sum(event.count for event in world.store.events) == 63
    assert len(world.store.events) == 61


async def test_counts_of_an_outage_are_in_the_hour_in_which_they_are_written():
    """The hour of the refusals may have been exported meanwhile."""
    world = World()
    world.fail("192.0.2.1", "ann@example.com")
    world.store.down = True
    with pytest.raises(Unavailable):
        await world.counts.append_counts()
    world.clock.advance(STALE_MS + MINUTE_MS)
    world.store.down = False
    await world.counts.append_counts()
    (event,) = world.store.events
    assert event.at_ms == world.clock()
    assert event.details["last_at_ms"] == str(world.clock() - STALE_MS - MINUTE_MS)
