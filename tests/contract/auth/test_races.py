"""Many at once, through stores of their own: one wins, and what must hold holds."""

import asyncio
import itertools
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.auth.adapters.dynamodb import DynamoIdentityStore
from services.auth.attempts import AttemptLimits, Attempts
from services.auth.audit.counts import RefusalCounts
from services.auth.bootstrap import system_clock
from services.auth.derived import DerivedSecrets, derived_id
from services.auth.devices import DeviceLists
from services.auth.endings import Endings
from services.auth.holdings import HoldingLimits
from services.auth.keys import Keys
from services.auth.links import Links
from services.auth.passwords import Passwords
from services.auth.ports import ChainMoved, GateMoved, PasswordMoved, ResetSpent, StandingMoved
from services.auth.records import (
    DAY_MS,
    Account,
    Chain,
    DeviceRecord,
    Done,
    Login,
    PasswordChange,
    Proof,
    Reset,
    SecondFactor,
    SpaceRecord,
    Suspension,
)
from services.auth.sessions import RefreshToken, Sessions
from services.auth.space_changes import SpaceChanges
from services.auth.spaces import SpaceListing, Spaces
from services.auth.tokens import AccessTokens, SigningKeys
from syncline.model.accounts import Role
from syncline.model.errors import (
    AccountExists,
    AddressTaken,
    Contended,
    LastOwner,
    LimitReached,
    NoSuchSpace,
    PermissionDenied,
    Unavailable,
)
from syncline.model.identifiers import ROOT, DeviceId, RequestId, SpaceId, UserId, new_request_id, new_text_id
from tests.contract.auth.conftest import IN_MEMORY, MINISTACK
from tests.services.auth.support import Clock, change_grant, new_account, new_device, new_grants, new_link, new_login
from tests.support.auth import InMemoryAuditStore

# Not moto, which loses acknowledged writes when transactions run at the same time.
pytestmark = pytest.mark.parametrize("backend", [IN_MEMORY, MINISTACK], indirect=True)

MANY = 8


@pytest.fixture
async def stores(open_store):
    return [await open_store(), await open_store()]


async def at_once(stores, action):
    """The outcomes of `action` (store, number) done many times at once, by turns through each store."""
    return await asyncio.gather(
        *(action(stores[number % len(stores)], number) for number in range(MANY)), return_exceptions=True
    )


async def sign_up(store) -> Account:
    login = new_login()
    await store.create_account(login, device=new_device(login.account.user))
    return login.account


async def test_an_address_goes_to_one_account(stores):
    logins = [new_login(f"{new_text_id()}@example.com")]
    logins += [new_login(logins[0].account.email) for _ in range(MANY - 1)]

    async def create(store, number):
        await store.create_account(logins[number], device=new_device(logins[number].account.user))

    outcomes = await at_once(stores, create)
    assert outcomes.count(None) == 1
    assert all(isinstance(outcome, AccountExists | Unavailable) for outcome in outcomes if outcome is not None)
    winner = logins[outcomes.index(None)]
    assert await stores[0].login(winner.account.email) == winner
    for login in logins:
        known = login is winner
        assert (await stores[1].account(login.account.user) is not None) is known
        assert len(await stores[1].memberships(login.account.user)) == known


async def test_a_chain_advances_once(stores):
    device = new_device(UserId(new_text_id()))
    assert device.chain is not None
    await stores[0].add_device(device)
    chains = [
        Chain(device.chain.family, bytes([number]) * 32, device.chain.current, device.chain.expires_at_ms)
        for number in range(MANY)
    ]

    async def advance(store, number):
        await store.advance_chain(device.device, expected=device.chain, to=chains[number], seen_at_ms=5_000)

    outcomes = await at_once(stores, advance)
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, ChainMoved) for outcome in outcomes) == MANY - 1
    assert (await stores[1].device(device.device)).chain == chains[outcomes.index(None)]


async def test_of_many_refreshes_one_token_is_left(stores):
    """Calls that come second fail or, coming after the first, replace its answer; never are two answers good."""
    clock, keys = Clock(), SigningKeys.of(Ed25519PrivateKey.generate())
    sessions = [
        Sessions(
            store,
            AccessTokens(keys, clock=clock),
            endings=Endings(store, store, store, store, clock=clock),
            clock=clock,
        )
        for store in stores
    ]
    for _ in range(5):
        device, tokens = sessions[0].open(user=UserId(new_text_id()), name="laptop")
        await stores[0].add_device(device)

        async def refresh(session, _number, presented=tokens.refresh):
            return (await session.refresh(RefreshToken.parse(presented))).refresh

        outcomes = await at_once(sessions, refresh)
        answers = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert answers
        assert all(isinstance(outcome, str | Unavailable) for outcome in outcomes)
        current = (await stores[1].device(device.device)).chain.current
        good = [answer for answer in answers if RefreshToken.parse(answer).digest() == current]
        assert len(good) == 1
        assert await sessions[1].refresh(RefreshToken.parse(good[0]))


async def test_revoking_wins_over_refreshing(stores):
    for _ in range(5):
        device = new_device(UserId(new_text_id()))
        assert device.chain is not None
        await stores[0].add_device(device)
        chain = replace(device.chain, current=b"2" * 32, previous=device.chain.current)
        await asyncio.gather(
            stores[0].advance_chain(device.device, expected=device.chain, to=chain, seen_at_ms=5_000),
            stores[1].revoke_device(device.device, at_ms=5_000),
            return_exceptions=True,
        )
        found = await stores[0].device(device.device)
        assert found.revoked_at_ms == 5_000
        later = replace(chain, current=b"3" * 32, previous=chain.current)
        with pytest.raises(ChainMoved):
            await stores[0].advance_chain(device.device, expected=found.chain, to=later, seen_at_ms=6_000)


async def test_a_request_makes_one_space(stores):
    ann = await sign_up(stores[0])
    space = SpaceRecord(SpaceId(derived_id("space", ann.user, RequestId(bytes(16)))), "team", False, 1, 2_000)

    async def create(store, _number):
        return await store.create_space(space, owner=ann, alias="team")

    outcomes = await at_once(stores, create)
    assert outcomes.count(True) == 1
    assert all(outcome in (True, False) or isinstance(outcome, Unavailable) for outcome in outcomes)
    assert len(await stores[1].memberships(ann.user)) == 2


async def test_spaces_of_one_name_shared_at_once_get_aliases_of_their_own(stores):
    ann, ben = await sign_up(stores[0]), await sign_up(stores[0])
    grants = [new_grants(store, clock=system_clock) for store in stores]
    spaces = [SpaceRecord(SpaceId(new_text_id()), "Project", False, 1, 2_000 + number) for number in range(4)]
    for space in spaces:
        await stores[0].create_space(space, owner=ben, alias=space.space)

    async def share(number):
        await grants[number % 2].set(
            spaces[number].space, request=new_request_id(), caller=ben.user, email=ann.email, role=Role.EDITOR
        )

    await asyncio.gather(*(share(number) for number in range(4)))
    found = {one.alias: one.space for one in await stores[1].memberships(ann.user)}
    assert len(found) == 5
    assert found.pop("personal") == ann.personal_space
    first = found.pop("Project")
    assert found == {f"Project ({space.space[:6]})": space.space for space in spaces if space.space != first}


async def test_who_reads_grants_from_before_aliases_at_once_gives_them_the_same(stores, forget_alias):
    ann = await sign_up(stores[0])
    made = [SpaceRecord(SpaceId(new_text_id()), "Project", False, 1, 9_000 - number) for number in range(3)]
    for space in made:
        await stores[0].create_space(space, owner=ann, alias=space.space)
        await forget_alias(space.space, ann.user, space.space)
    readers = [Spaces(store, store, holdings=HoldingLimits(), clock=Clock()) for store in stores]
    outcomes = await asyncio.gather(*(reader.of_user(ann.user) for reader in readers), return_exceptions=True)
    assert any(isinstance(outcome, SpaceListing) for outcome in outcomes)
    oldest = made[-1].space
    wanted = {one.space: "Project" if one.space == oldest else f"Project ({one.space[:6]})" for one in made}
    for reader in readers:
        found = {one.space: one.alias for one in (await reader.of_user(ann.user)).spaces}
        assert found == {ann.personal_space: "personal", **wanted}


async def owned_by(stores, count: int) -> tuple[SpaceId, list[Account]]:
    owners = [await sign_up(stores[0]) for _ in range(count)]
    space = SpaceRecord(SpaceId(new_text_id()), "team", False, 1, 2_000)
    await stores[0].create_space(space, owner=owners[0], alias="team")
    for owner in owners[1:]:
        await change_grant(
            stores[0], space, member=owner, before=None, after=Role.OWNER, by=owners[0].user, alias="team"
        )
    return space.space, owners


async def test_when_all_owners_leave_at_once_one_stays(stores):
    grants = [new_grants(store, clock=system_clock) for store in stores]
    space, owners = await owned_by(stores, 4)

    async def leave(number):
        await grants[number % 2].remove(
            space, request=new_request_id(), caller=owners[number].user, email=owners[number].email
        )

    outcomes = await asyncio.gather(*(leave(number) for number in range(4)), return_exceptions=True)
    assert outcomes.count(None) == 3
    assert sum(isinstance(outcome, LastOwner) for outcome in outcomes) == 1
    found, left = await stores[1].members(space)
    assert found.owners == 1
    assert [(grant.user, grant.role) for grant in left] == [
        (owners[next(i for i, outcome in enumerate(outcomes) if outcome is not None)].user, Role.OWNER)
    ]


async def test_two_owners_cannot_both_remove_the_other(stores):
    grants = [new_grants(store, clock=system_clock) for store in stores]
    for _ in range(5):
        space, (ann, bob) = await owned_by(stores, 2)
        outcomes = await asyncio.gather(
            grants[0].remove(space, request=new_request_id(), caller=ann.user, email=bob.email),
            grants[1].remove(space, request=new_request_id(), caller=bob.user, email=ann.email),
            return_exceptions=True,
        )
        assert outcomes.count(None) == 1
        # The one who lost is not a member any more when the change is decided anew.
        assert sum(isinstance(outcome, NoSuchSpace) for outcome in outcomes) == 1
        found, left = await stores[0].members(space)
        assert (found.owners, len(left)) == (1, 1)


async def test_grants_and_owners_agree_whatever_happens_at_once(stores):
    grants = [new_grants(store, clock=system_clock) for store in stores]
    space, people = await owned_by(stores, 3)

    async def change(changer, caller, member, role):
        if role is None:
            await changer.remove(space, request=new_request_id(), caller=caller.user, email=member.email)
        else:
            await changer.set(space, request=new_request_id(), caller=caller.user, email=member.email, role=role)

    changes = itertools.product(grants, people, people, [Role.VIEWER, Role.OWNER, None])
    outcomes = await asyncio.gather(*(change(*chosen) for chosen in changes), return_exceptions=True)
    allowed = LastOwner | NoSuchSpace | PermissionDenied | Contended
    assert all(outcome is None or isinstance(outcome, allowed) for outcome in outcomes)
    found, left = await stores[0].members(space)
    assert found.owners == sum(grant.role is Role.OWNER for grant in left) >= 1
    for person in people:
        held = {grant.user: grant.role for grant in left}.get(person.user)
        listed = {membership.space: membership.role for membership in await stores[1].memberships(person.user)}
        assert listed.get(space) is held


async def test_a_space_has_an_owner_whatever_its_owners_do_at_once(stores):
    grants = [new_grants(store, clock=system_clock) for store in stores]
    changes = [SpaceChanges(store, store, reversible_days=1, clock=system_clock) for store in stores]
    space, people = await owned_by(stores, 3)

    async def act(at, caller, heir, what):
        given = {"request": new_request_id(), "caller": caller.user}
        match what:
            case "leave":
                await grants[at].remove(space, **given, email=caller.email)
            case "delete":
                await changes[at].delete(space, **given)
            case "undelete":
                await changes[at].undelete(space, **given)
            case keep:
                await grants[at].transfer(space, **given, email=heir.email, keep=keep)

    acts = [
        (at, caller, heir, what)
        for at, caller, heir in itertools.product((0, 1), people, people)
        for what in (("leave", "delete", "undelete") if heir is caller else (None, Role.EDITOR))
    ]
    outcomes = await asyncio.gather(*(act(*chosen) for chosen in acts), return_exceptions=True)
    allowed = LastOwner | NoSuchSpace | PermissionDenied | Contended
    assert [one for one in outcomes if one is not None and not isinstance(one, allowed)] == []
    found, left = await stores[0].members(space)
    assert found.owners == sum(grant.role is Role.OWNER for grant in left) >= 1
    for person in people:
        held = {grant.user: grant.role for grant in left}.get(person.user)
        listed = {one.space: (one.role, one.deletion) for one in await stores[1].memberships(person.user)}
        assert listed.get(space) == ((held, found.deletion) if held else None)


async def test_no_more_attempts_than_the_limit_are_counted(stores):
    email = f"{new_text_id()}@example.com"
    for now in (10_000, 11_000):  # a new counter, and one that ended

        async def attempt(store, _number, now=now):
            return await store.count_attempt(subject=email, peer="192.0.2.1", limit=5, window_ms=1_000, now_ms=now)

        outcomes = await at_once(stores, attempt)
        outcomes += await at_once(stores, attempt)
        assert outcomes.count(0) == 5
        assert outcomes.count(1_000) == 2 * MANY - 5


async def test_of_many_downloads_no_more_are_counted_than_the_link_allows(stores):
    link = new_link(SpaceId(new_text_id()), UserId(new_text_id()), max_downloads=3)
    await stores[0].add_link(link)

    async def download(store, _number):
        return await store.count_download(link.space, link.link, new_request_id(), now_ms=1_000)

    outcomes = await at_once(stores, download)
    assert outcomes.count(True) == 3
    assert outcomes.count(False) == MANY - 3
    assert (await stores[1].link(link.space, link.link)).downloads == 3


# ---- limits of what there may be: two processes that add at once do not both go by the same count

HOLDINGS = HoldingLimits(spaces=3, memberships=3, members=4, keys=3, links=6)


async def test_a_gate_that_was_passed_is_another_one(stores):
    one, other = stores
    ann = await sign_up(one)
    name = f"of {ann.user}"
    (gate,) = await one.gates(name)
    assert await one.add_device(new_device(ann.user), gates=[gate])
    again, refused = new_device(ann.user), [await one.gates(f"another of {ann.user}"), [gate]]
    with pytest.raises(GateMoved):
        await other.add_device(again, gates=[*refused[0], *refused[1]])
    assert await one.device(again.device) is None
    assert await one.add_device(again, gates=await other.gates(f"another of {ann.user}", name))


async def limited(stores, action) -> tuple[int, int]:
    """Return how many of MANY actions at once are done, and how many refused; one that meets others tries again."""

    async def until_decided(store, number):
        while True:
            try:
                return await action(store, number)
            except Contended:
                continue

    outcomes = await at_once(stores, until_decided)
    refused = [outcome for outcome in outcomes if isinstance(outcome, LimitReached)]
    done = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(done) + len(refused) == MANY, outcomes
    return len(done), len(refused)


async def test_spaces_made_in_two_processes_are_no_more_than_the_limit(stores):
    ann = await sign_up(stores[0])

    async def create(store, number):
        spaces = Spaces(store, store, holdings=HOLDINGS, clock=Clock())
        return await spaces.create(owner=ann, request=new_request_id(), name=f"team {number}")

    assert await limited(stores, create) == (3, MANY - 3)
    assert len(await stores[0].memberships(ann.user)) == 1 + 3


async def test_memberships_given_in_two_processes_are_no_more_than_the_limit(stores):
    victim = await sign_up(stores[0])
    owners = [await sign_up(stores[0]) for _ in range(MANY)]
    spaces = []
    for owner in owners:
        spaces.append(SpaceRecord(SpaceId(new_text_id()), "team", False, 1, 2_000))
        await stores[0].create_space(spaces[-1], owner=owner, alias="team")

    async def give(store, number):
        grants = new_grants(store, holdings=HOLDINGS, clock=Clock())
        return await grants.set(
            spaces[number].space,
            request=new_request_id(),
            caller=owners[number].user,
            email=victim.email,
            role=Role.VIEWER,
        )

    assert await limited(stores, give) == (3, MANY - 3)
    given = [one for one in await stores[1].memberships(victim.user) if not one.personal]
    assert len({one.by for one in given} & {owner.user for owner in owners}) == len(given) == 3


async def test_members_added_in_two_processes_are_no_more_than_the_limit(stores):
    ann = await sign_up(stores[0])
    space = SpaceRecord(SpaceId(new_text_id()), "team", False, 1, 2_000)
    await stores[0].create_space(space, owner=ann, alias="team")
    others = [await sign_up(stores[0]) for _ in range(MANY)]

    async def add(store, number):
        grants = new_grants(store, holdings=HOLDINGS, clock=Clock())
        email = others[number].email
        return await grants.set(space.space, request=new_request_id(), caller=ann.user, email=email, role=Role.VIEWER)

    assert await limited(stores, add) == (3, MANY - 3)
    assert len((await stores[1].members(space.space))[1]) == 4


def new_keys(store) -> Keys:
    tokens = AccessTokens(SigningKeys.of(Ed25519PrivateKey.generate()), clock=Clock())
    lists = DeviceLists(store, HOLDINGS, clock=Clock())
    return Keys(
        store, store, store, tokens, derived=DerivedSecrets("secret"), holdings=HOLDINGS, lists=lists, clock=Clock()
    )


async def signed_in(store) -> tuple[Account, DeviceRecord]:
    account = await sign_up(store)
    device = new_device(account.user, now=Clock().now)
    await store.add_device(device)
    return account, device


async def test_keys_made_in_two_processes_are_no_more_than_the_limit(stores):
    ann, laptop = await signed_in(stores[0])

    async def create(store, _number):
        return await new_keys(store).create(
            request=new_request_id(),
            name="backup",
            expires_at_ms=Clock().now + DAY_MS,
            user=ann.user,
            device=laptop.device,
        )

    assert await limited(stores, create) == (3, MANY - 3)
    assert len(await stores[0].devices(ann.user)) == 2 + 3


async def make_link(
    store, passwords: Passwords, ann: Account, laptop: DeviceRecord, *, holdings: HoldingLimits = HOLDINGS
):
    links = Links(
        store,
        store,
        store,
        store,
        holdings=holdings,
        passwords=passwords,
        attempts=Attempts(store, AttemptLimits(), clock=Clock()),
        access_tokens=AccessTokens(SigningKeys.of(Ed25519PrivateKey.generate()), clock=Clock()),
        derived=DerivedSecrets("secret"),
        refusals=RefusalCounts(InMemoryAuditStore(), clock=Clock()),
        clock=Clock(),
    )
    return await links.create(
        ann.personal_space,
        ROOT,
        request=new_request_id(),
        user=ann.user,
        device=laptop.device,
        peer="192.0.2.1",
        password=None,
        expires_at_ms=None,
        max_downloads=0,
    )


async def test_links_made_in_two_processes_are_no_more_than_the_limit(stores):
    ann, laptop = await signed_in(stores[0])
    with Passwords() as passwords:
        assert await limited(stores, lambda store, _: make_link(store, passwords, ann, laptop)) == (3, MANY - 3)
    assert len(await stores[0].links(ann.personal_space)) == len(await stores[1].links_of(ann.user)) == 3


async def test_what_was_left_of_a_revoked_link_takes_no_room(stores):
    if not isinstance(stores[0], DynamoIdentityStore):
        return  # one step revokes a link in memory, so that nothing can be left behind
    ann, laptop = await signed_in(stores[0])
    one = replace(HOLDINGS, links_made=1)
    with Passwords() as passwords:
        left, _ = await make_link(stores[0], passwords, ann, laptop, holdings=one)
        listed = {"pk": {"S": f"U#{ann.user}"}, "sk": {"S": f"L#{left.link}"}}
        row = await stores[0]._table.get(listed)
        assert row is not None
        await stores[0].revoke_link(left, at_ms=Clock().now)
        await stores[0]._table.put(row)  # a process that ended left it so
        assert [link.link for link in await stores[0].links_of(ann.user)] == [left.link]
        made, _ = await make_link(stores[1], passwords, ann, laptop, holdings=one)
        assert [link.link for link in await stores[0].links_of(ann.user)] == [made.link]
        with pytest.raises(LimitReached):
            await make_link(stores[1], passwords, ann, laptop, holdings=one)


async def test_of_many_calls_with_one_reset_one_changes_the_password(stores):
    login = new_login()
    await stores[0].create_account(login, device=new_device(login.account.user))
    reset = Reset(new_text_id().encode(), login.account.user, login.account.email, 0, 9_000)
    await stores[0].add_reset(reset)

    async def spend(store, number):
        change = PasswordChange(new_text_id(), login.account.user, login.account.email, 1, None, 5_000, 8_000)
        await store.change_password(login, f"hash {number}", change=change, reset=reset)

    outcomes = await at_once(stores, spend)
    assert outcomes.count(None) == 1
    assert {type(outcome) for outcome in outcomes} <= {type(None), ResetSpent, PasswordMoved, Unavailable}
    found = await stores[1].login(login.account.email)
    assert (found.password_hash, found.password_changes) == (f"hash {outcomes.index(None)}", 1)
    records = [one for one in await stores[1].password_changes() if one.user == login.account.user]
    assert len(records) == 1


async def test_devices_that_sign_in_while_the_password_changes_come_before_it_or_not_at_all(stores):
    login = new_login()
    await stores[0].create_account(login, device=new_device(login.account.user))
    devices = [new_device(login.account.user) for _ in range(MANY)]
    change = PasswordChange(new_text_id(), login.account.user, login.account.email, 1, None, 5_000, 8_000)

    async def sign_in_or_change(store, number):
        if number == MANY // 2:
            await store.change_password(login, "newer", change=change)
        else:
            await store.add_device(devices[number], login=login)

    outcomes = await at_once(stores, sign_in_or_change)
    assert {type(outcome) for outcome in outcomes} <= {type(None), PasswordMoved}
    assert outcomes[MANY // 2] is None
    with pytest.raises(PasswordMoved):
        await stores[1].add_device(devices[MANY // 2], login=login)


async def test_of_many_accounts_of_an_address_one_is_proven(stores):
    email = f"{new_text_id()}@example.com"
    logins, proofs = [], []
    for _ in range(MANY):
        account = replace(new_account(email), proven=False)
        login = Login(account, account.user)
        await stores[0].create_account(login, device=new_device(account.user))
        proof = Proof(new_text_id().encode(), account.user, email, 5_000)
        await stores[0].add_proof(proof)
        logins.append(login)
        proofs.append(proof)

    async def prove(store, number):
        await store.prove(logins[number], proofs[number])

    outcomes = await at_once(stores, prove)
    assert {type(outcome) for outcome in outcomes} <= {type(None), AddressTaken, Unavailable}
    (winner,) = [login for login, outcome in zip(logins, outcomes, strict=True) if outcome is None]
    found = await stores[1].login(email)
    assert (found.account.user, found.password_hash) == (winner.account.user, winner.account.user)
    assert [await stores[1].unproven(login.account.user) is None for login in logins].count(True) == 1


async def test_of_many_administrators_one_is_left(stores, forget_admin):
    """Administrators resign, or suspend each other, at once."""
    for resigns in (True, False):
        await forget_admin()
        admins = [replace(new_account(), admin=True)]
        await stores[0].create_account(Login(admins[0], "the hash"), device=new_device(admins[0].user))
        for _ in range(MANY - 1):
            ordinary = await sign_up(stores[0])
            admins.append(replace(ordinary, admin=True))
            done = Done(admins[0].user, new_request_id(), b"make", 5_000)
            await stores[0].change_standing(ordinary, admins[-1], by=admins[0].user, done=done)

        async def end(store, number, admins=admins, resigns=resigns):
            target, by = admins[number], admins[number if resigns else number - 1]
            suspended = replace(target, suspension=Suspension(6_000, by.user, ""))
            to = replace(target, admin=False) if resigns else suspended
            for _ in range(50):
                try:
                    done = Done(by.user, new_request_id(), b"end", 6_000)
                    await store.change_standing(target, to, by=by.user, done=done)
                except StandingMoved:
                    await asyncio.sleep(0.01)
                else:
                    return

        await at_once(stores, end)
        left = [await stores[1].account(admin.user) for admin in admins]
        assert any(account.administers for account in left), "one is left"
        if resigns:
            assert sum(account.administers for account in left) == 1


async def test_of_many_changes_of_a_second_factor_one_is_made(stores):
    factor = SecondFactor(UserId(new_text_id()), new_request_id(), DeviceId(new_text_id()), 0, bytes(16), 5_000)
    assert await stores[0].change_factor(None, factor)

    async def change(store, number):
        return await store.change_factor(factor, replace(factor, last_step=number + 1))

    outcomes = await at_once(stores, change)
    assert outcomes.count(True) == 1
    assert outcomes.count(False) == MANY - 1
    stored = await stores[1].factor(factor.user)
    assert (stored.last_step, stored.version) == (outcomes.index(True) + 1, 1)
