"""Every store owes this to the audit log: an event is there with its act, and is found by those who ask for it."""

import asyncio
import secrets
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.auth.audit.events import (
    ANONYMOUS,
    OPERATOR,
    Actor,
    ActorKind,
    AuditEvent,
    AuditKind,
    AuditResult,
    Subject,
    SubjectKind,
    audit_event,
)
from services.auth.audit.ports import ONCE_KEPT_MS, AuditFilter
from services.auth.ports import GrantMoved, InvitationSpent, MakerEnded, ProofSpent
from services.auth.records import HOUR_MS, Account, DeviceRecord, GrantChange, Invitation, Login, Proof, SpaceRecord
from syncline.model.accounts import Role
from syncline.model.errors import AccountExists
from syncline.model.identifiers import SpaceId, UserId, new_text_id
from tests.contract.auth.conftest import IN_MEMORY, MINISTACK
from tests.services.auth.support import new_account, new_device, new_link, new_login

# Not moto, which loses acknowledged writes when transactions run at the same time.
pytestmark = pytest.mark.parametrize("backend", [IN_MEMORY, MINISTACK], indirect=True)


@pytest.fixture
async def opened(open_stores):
    return await open_stores()


@pytest.fixture
def store(opened):
    return opened[0]


@pytest.fixture
def audit(opened):
    return opened[1]


def new_event(*, about: str, at_ms: int = 1_000, kind: AuditKind = AuditKind.SIGNED_IN) -> AuditEvent:
    return audit_event(kind, at_ms=at_ms, actor=Actor(ActorKind.SESSION, new_text_id(), new_text_id()), space=about)


async def found(audit, about: str) -> list[AuditEvent]:
    page = await audit.page(AuditFilter(subject=about), before="", limit=1_000)
    assert not page.before
    return list(page.events)


# ---- events of acts


async def sign_up(store) -> tuple[Account, DeviceRecord]:
    login = new_login()
    device = new_device(login.account.user)
    await store.create_account(login, device=device)
    return login.account, device


async def test_an_account_and_its_event_are_stored_together_or_not_at_all(store, audit):
    about, login = new_text_id(), new_login()
    event = new_event(about=about)
    await store.create_account(login, device=new_device(login.account.user), events=[event])
    assert await found(audit, about) == [event]
    second = new_login(login.account.email)
    with pytest.raises(AccountExists):
        await store.create_account(second, device=new_device(second.account.user), events=[new_event(about=about)])
    third = new_login()
    spent = Invitation(new_text_id().encode(), third.account.email, 5_000)
    with pytest.raises(InvitationSpent):
        await store.create_account(
            third, device=new_device(third.account.user), invitation=spent, events=[new_event(about=about)]
        )
    assert await found(audit, about) == [event]


async def test_proofs_and_invitations_leave_their_events(store, audit):
    about, account = new_text_id(), replace(new_account(), proven=False)
    login = Login(account, "the hash")
    await store.create_account(login, device=new_device(account.user))
    proof = Proof(new_text_id().encode(), account.user, account.email, 5_000)
    asked, proven, invited = (new_event(about=about, at_ms=at) for at in (3_000, 2_000, 1_000))
    await store.add_proof(proof, events=[asked])
    await store.prove(login, proof, events=[proven])
    with pytest.raises(ProofSpent):
        await store.prove(login, proof, events=[new_event(about=about)])
    await store.add_invitation(Invitation(new_text_id().encode(), None, 5_000), events=[invited])
    assert await found(audit, about) == [asked, proven, invited]


async def test_a_device_ends_once_and_so_does_its_event(store, audit):
    about, device = new_text_id(), new_device(UserId(new_text_id()))
    added, ended = new_event(about=about, at_ms=2_000), new_event(about=about, at_ms=1_000)
    assert await store.add_device(device, events=[added])
    assert not await store.add_device(device, events=[new_event(about=about)])
    await store.revoke_device(device.device, at_ms=3_000, events=[ended])
    await store.revoke_device(device.device, at_ms=4_000, events=[new_event(about=about)])
    await store.revoke_device(new_device(device.user).device, at_ms=4_000, events=[new_event(about=about)])
    made = replace(new_device(device.user), made_by=device.device)
    with pytest.raises(MakerEnded):
        await store.add_device(made, events=[new_event(about=about)])
    assert await found(audit, about) == [added, ended]


async def test_a_space_is_made_once_and_so_is_its_event(store, audit):
    about, (owner, _) = new_text_id(), await sign_up(store)
    space = SpaceRecord(SpaceId(new_text_id()), "team", personal=False, owners=1, created_at_ms=2_000)
    event = new_event(about=about)
    gates = await store.gates(f"spaces {owner.user}")
    assert await store.create_space(space, owner=owner, alias="team", gates=gates, events=[event])
    gates = await store.gates(f"spaces {owner.user}")
    again = [new_event(about=about)]
    assert not await store.create_space(space, owner=owner, alias="team", gates=gates, events=again)
    assert await found(audit, about) == [event]


async def test_a_grant_that_was_not_changed_leaves_no_event(store, audit):
    about, (owner, _), (member, _) = new_text_id(), await sign_up(store), await sign_up(store)
    space = SpaceRecord(SpaceId(new_text_id()), "team", personal=False, owners=1, created_at_ms=2_000)
    await store.create_space(space, owner=owner, alias="team")
    added, changed, removed = (new_event(about=about, at_ms=at) for at in (3_000, 2_000, 1_000))

    async def change(before: Role | None, after: Role | None, event: AuditEvent) -> None:
        change = GrantChange(member.user, member.email, before, after, "team")
        await store.change_grants(space, [change], by=owner.user, events=[event])

    await change(None, Role.VIEWER, added)
    with pytest.raises(GrantMoved):
        await change(Role.EDITOR, Role.VIEWER, new_event(about=about))
    await change(Role.VIEWER, Role.EDITOR, changed)
    await change(Role.EDITOR, None, removed)
    assert await found(audit, about) == [added, changed, removed]


async def test_a_link_is_made_and_ends_once_and_so_do_its_events(store, audit):
    about, link = new_text_id(), new_link(SpaceId(new_text_id()), UserId(new_text_id()))
    made, ended = new_event(about=about, at_ms=2_000), new_event(about=about, at_ms=1_000)
    assert await store.add_link(link, events=[made])
    assert not await store.add_link(link, events=[new_event(about=about)])
    await store.revoke_link(link, at_ms=3_000, events=[ended])
    await store.revoke_link(link, at_ms=4_000, events=[new_event(about=about)])
    assert await store.link_with_token(link.token) is None
    assert await found(audit, about) == [made, ended]


async def test_at_once_a_device_ends_with_one_event(open_stores, opened):
    store, audit = opened
    others = [(await open_stores())[0] for _ in range(4)]
    about, device = new_text_id(), new_device(UserId(new_text_id()))
    await store.add_device(device)
    await asyncio.gather(
        *(other.revoke_device(device.device, at_ms=3_000, events=[new_event(about=about)]) for other in others)
    )
    assert len(await found(audit, about)) == 1


# ---- events that belong to no act of a store


async def test_a_repeated_append_stores_each_event_once(audit):
    about = new_text_id()
    events = [new_event(about=about, at_ms=at) for at in range(30, 0, -1)]
    await audit.append(events[:20])
    await audit.append(events)
    assert await found(audit, about) == events


async def test_of_equal_acts_one_is_stored(open_stores, audit):
    about, once = new_text_id(), new_text_id()
    logs = [(await open_stores())[1] for _ in range(4)]
    stored = await asyncio.gather(*(log.append_once(new_event(about=about), once=once) for log in logs))
    assert sorted(stored) == [False, False, False, True]
    assert await audit.append_once(new_event(about=about), once=f"{once} of the next hour")
    assert not await audit.append_once(new_event(about=about, at_ms=ONCE_KEPT_MS), once=once)
    assert len(await found(audit, about)) == 2


async def test_an_event_comes_back_as_it_was(audit):
    about = new_text_id()
    events = [
        AuditEvent(
            new_text_id(),
            3_000,
            "a kind of a later release",
            Actor(ActorKind.SERVICE, name="metadata"),
            (Subject(SubjectKind.SPACE, about), Subject(SubjectKind.ADDRESS, "\u202eann@b\u00fccher.example")),
            "2001:db8::",
            "a-request",
            AuditResult.REFUSED,
            17,
            {"name": "\x1b[31mred\u202e\u0000\n{}\"'", "long": "\U0001f600" * 300},
        ),
        audit_event(AuditKind.INVITATION_CREATED, at_ms=2_000, actor=OPERATOR, space=about),
        audit_event(AuditKind.SIGN_IN_FAILED, at_ms=1_000, actor=ANONYMOUS, space=about),
    ]
    await audit.append(events)
    assert await found(audit, about) == events


# ---- reading


USERS, SPACES, KINDS = (
    [f"{'u' * 25}{letter}" for letter in "abc"],
    [f"{'s' * 25}{letter}" for letter in "abc"],
    [AuditKind.SIGNED_IN, AuditKind.MEMBER_ADDED, AuditKind.KEY_ENDED],
)


def in_world(text: str, world: str) -> str:
    """Return an id that no other example of the property has."""
    return world[:-1] + text[-1] if text else text


@st.composite
def events(draw):
    return (
        draw(st.integers(1_000, 1_060)),
        draw(st.sampled_from(KINDS)),
        draw(st.sampled_from(USERS)),
        draw(st.sampled_from([*USERS, ""])),
        draw(st.sampled_from([*SPACES, ""])),
    )


filters = st.builds(
    AuditFilter,
    since_ms=st.integers(990, 1_070),
    until_ms=st.integers(990, 1_070),
    kind=st.sampled_from(["", *KINDS]),
    actor=st.sampled_from(["", *USERS]),
    subject=st.sampled_from(["", *USERS, *SPACES]),
    involving=st.lists(st.sampled_from([*USERS, *SPACES]), max_size=2, unique=True).map(tuple),
)


@given(
    told=st.lists(events(), max_size=40),
    asked=st.lists(filters, min_size=1, max_size=6),
    limit=st.integers(1, 12),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_pages_are_what_a_plain_list_would_be(backend, open_stores, told, asked, limit):
    _, audit = await open_stores()
    # Each example has ids and a day of its own: the log cannot be emptied.
    users, spaces = new_text_id(), new_text_id()
    day = 10**13 + secrets.randbelow(10**6) * 10**7

    def party(text: str) -> str:
        return in_world(text, users if text in USERS else spaces)

    all_events = [
        audit_event(
            kind,
            at_ms=day + at,
            actor=Actor(ActorKind.SESSION, party(actor)),
            user=party(user),
            space=party(space),
        )
        for at, kind, actor, user, space in told
    ]
    await audit.append(all_events)
    for wanted in asked:
        mine = replace(
            wanted,
            since_ms=day + wanted.since_ms,
            until_ms=day + wanted.until_ms,
            actor=party(wanted.actor),
            subject=party(wanted.subject),
            involving=tuple(map(party, wanted.involving)),
        )
        listed, before, pages = [], "", 0
        while True:
            page = await audit.page(mine, before=before, limit=limit)
            assert len(page.events) <= limit
            assert page.read <= 4 * (limit + 8)
            listed += page.events
            pages += 1
            if not page.before:
                break
            assert not before or page.before < before, "each page goes on"
            before = page.before
        expected = sorted((one for one in all_events if mine.matches(one)), key=lambda one: one.place, reverse=True)
        assert listed == expected
        assert pages <= len(all_events) + 2
    between = [event async for event in audit.between(day + 1_010, day + 1_050)]
    assert between == sorted((one for one in all_events if 1_010 <= one.at_ms - day < 1_050), key=lambda one: one.place)
    first = await audit.first_since(day)
    assert first == min((one.at_ms for one in all_events), default=first)


async def test_the_work_of_a_page_is_bounded_by_what_is_asked_for(audit):
    actor, day = new_text_id(), 2 * 10**12
    crowd = [
        audit_event(AuditKind.SIGNED_IN, at_ms=day + at, actor=Actor(ActorKind.SESSION, actor), space=new_text_id())
        for at in range(80)
    ]
    await audit.append(crowd)
    page = await audit.page(AuditFilter(since_ms=day, until_ms=day + HOUR_MS), before="", limit=10)
    assert len(page.events) == 10
    assert page.read <= 4 * 11
    assert list(page.events) == crowd[:-11:-1]
    page = await audit.page(AuditFilter(actor=actor, subject=crowd[0].subjects[0].ident), before="", limit=10)
    assert page.read <= 10, "what matches nothing is bounded as well"


async def test_the_last_exported_hour_is_known(audit):
    before = await audit.exported_hour() or 0
    for hour in (before + 3, before + 1, before + 3):
        await audit.note_exported(hour)
    assert await audit.exported_hour() == before + 3
