"""Every identity store owes this to auth."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from services.auth.adapters import layout
from services.auth.derived import derived_id
from services.auth.ports import (
    AdminExists,
    AliasTaken,
    ChainMoved,
    GateMoved,
    GrantMoved,
    InvitationSpent,
    MakerEnded,
    ProofSpent,
)
from services.auth.records import (
    DAY_MS,
    Account,
    Chain,
    DeviceEnding,
    DeviceRecord,
    Done,
    GrantRecord,
    Invitation,
    Key,
    KeyLimits,
    Login,
    Membership,
    Proof,
    SpaceInvitation,
    SpaceRecord,
    SpaceUploads,
)
from syncline.model.accounts import DeviceKind, KeyScope, Role
from syncline.model.errors import AccountExists, AddressTaken
from syncline.model.identifiers import DeviceId, LinkId, NodeId, RequestId, SpaceId, UserId, new_request_id, new_text_id
from tests.contract.auth.conftest import IN_MEMORY, MINISTACK, MOTO
from tests.services.auth.support import change_grant, new_account, new_device, new_key_device, new_link, new_login

pytestmark = pytest.mark.parametrize("backend", [IN_MEMORY, MINISTACK, MOTO], indirect=True)


async def sign_up(store) -> tuple[Account, DeviceRecord]:
    login = new_login()
    device = new_device(login.account.user)
    await store.create_account(login, device=device)
    return login.account, device


async def make_space(store, owner: Account, name: str = "team") -> SpaceRecord:
    space = SpaceRecord(SpaceId(new_text_id()), name, personal=False, owners=1, created_at_ms=2_000)
    assert await store.create_space(space, owner=owner, alias=name)
    return space


# ---- accounts


async def test_an_account_is_found_by_address_and_by_id(store):
    login = new_login()
    account, device = login.account, new_device(login.account.user)
    await store.create_account(login, device=device)
    assert await store.login(account.email) == login
    assert await store.account(account.user) == account
    assert await store.device(device.device) == device
    personal = Membership(
        account.personal_space, "personal", personal=True, role=Role.OWNER, alias="personal", by=account.user
    )
    assert await store.memberships(account.user) == [personal]
    space, grants = await store.members(account.personal_space)
    assert space == SpaceRecord(account.personal_space, "personal", True, 1, account.created_at_ms)
    assert grants == [GrantRecord(account.personal_space, account.user, account.email, Role.OWNER, "personal")]


async def test_what_is_not_there_is_none(store):
    user = UserId(new_text_id())
    assert await store.login(f"{user}@example.com") is None
    assert await store.account(user) is None
    assert await store.device(DeviceId(new_text_id())) is None
    assert await store.memberships(user) == []
    assert await store.members(SpaceId(new_text_id())) is None
    assert await store.space_with_grants(SpaceId(new_text_id()), user) is None
    assert await store.access(SpaceId(new_text_id()), user=user, device=DeviceId(new_text_id())) == (None, None)


async def test_a_taken_address_leaves_nothing_behind(store):
    first, _ = await sign_up(store)
    second = new_login(first.email)
    device = new_device(second.account.user)
    with pytest.raises(AccountExists):
        await store.create_account(second, device=device)
    assert (await store.login(first.email)).account == first
    assert await store.account(second.account.user) is None
    assert await store.device(device.device) is None
    assert await store.memberships(second.account.user) == []
    assert await store.members(second.account.personal_space) is None


async def test_a_hash_is_replaced_only_if_it_is_the_one_that_was_read(store):
    account, _ = await sign_up(store)
    await store.replace_password_hash(account.email, old="another", new="newer")
    assert (await store.login(account.email)).password_hash == "the hash"
    await store.replace_password_hash(account.email, old="the hash", new="newer")
    assert (await store.login(account.email)).password_hash == "newer"
    await store.replace_password_hash(f"{new_text_id()}@example.com", old="the hash", new="newer")


# ---- accounts that are not proven, and proofs


async def claim(store, email: str, password_hash: str = "the hash") -> Login:
    """Create an account that is not proven."""
    account = replace(new_account(email), proven=False)
    login = Login(account, password_hash)
    await store.create_account(login, device=new_device(account.user))
    return login


async def new_proof(store, login: Login) -> Proof:
    proof = Proof(new_text_id().encode(), login.account.user, login.account.email, 5_000)
    await store.add_proof(proof)
    return proof


async def test_an_account_that_is_not_proven_claims_its_address_and_no_more(store):
    email = f"{new_text_id()}@example.com"
    login = await claim(store, email)
    assert await store.login(email) is None
    assert await store.claim(email) == login
    assert await store.account(login.account.user) == login.account
    assert await store.unproven(login.account.user) == login
    assert [one.personal for one in await store.memberships(login.account.user)] == [True]


async def test_the_last_claim_counts_and_an_earlier_account_stays(store):
    email = f"{new_text_id()}@example.com"
    first, second = await claim(store, email, "first"), await claim(store, email, "second")
    assert await store.claim(email) == second
    assert await store.unproven(first.account.user) == first


async def test_whoever_proves_an_address_has_it(store):
    email = f"{new_text_id()}@example.com"
    login = await claim(store, email)
    proof = await new_proof(store, login)
    assert await store.proof(proof.token) == proof
    await store.prove(login, proof)
    account = replace(login.account, proven=True)
    assert await store.login(email) == Login(account, login.password_hash)
    assert await store.account(account.user) == account
    assert await store.claim(email) is None
    assert await store.unproven(account.user) is None
    assert await store.proof(proof.token) is None


async def test_an_earlier_account_can_be_proven_and_leaves_the_claim_of_another(store):
    email = f"{new_text_id()}@example.com"
    first, second = await claim(store, email, "first"), await claim(store, email, "second")
    await store.prove(first, await new_proof(store, first))
    assert (await store.login(email)).password_hash == "first"
    assert await store.claim(email) == second


async def test_a_proven_address_is_not_proven_for_another_account(store):
    account, _ = await sign_up(store)
    late = await claim(store, account.email)
    proof = await new_proof(store, late)
    with pytest.raises(AddressTaken):
        await store.prove(late, proof)
    assert (await store.login(account.email)).account == account
    assert await store.unproven(late.account.user) == late
    assert await store.claim(account.email) == late


async def test_a_proof_is_spent_once(store):
    login = await claim(store, f"{new_text_id()}@example.com")
    first, second = await new_proof(store, login), await new_proof(store, login)
    await store.prove(login, first)
    for proof in (first, second):
        with pytest.raises(ProofSpent):
            await store.prove(login, proof)
    assert await store.proof(new_text_id().encode()) is None


async def test_an_account_from_before_addresses_were_proven_is_proven(backend, store):
    account, _ = await sign_up(store)
    if backend is not None:
        async with backend.aws.client("dynamodb", backend.auth) as client:
            await client.update_item(
                TableName=backend.resources.identity_table_name,
                Key=layout.account_key(account.user),
                UpdateExpression="REMOVE proven",
            )
    assert await store.account(account.user) == account
    assert account.proven
    assert await store.unproven(account.user) is None


# ---- invitations


async def invited(store, email: str | None = None) -> Invitation:
    invitation = Invitation(new_text_id().encode(), email, 5_000)
    await store.add_invitation(invitation)
    return invitation


@pytest.mark.parametrize("email", ["ann@example.com", None])
async def test_an_invitation_makes_one_account(store, email):
    invitation = await invited(store, email)
    assert await store.invitation(invitation.token) == invitation
    first, second = new_login(), new_login()
    await store.create_account(first, device=new_device(first.account.user), invitation=invitation)
    assert await store.login(first.account.email) == first
    assert await store.invitation(invitation.token) is None
    device = new_device(second.account.user)
    with pytest.raises(InvitationSpent):
        await store.create_account(second, device=device, invitation=invitation)
    assert await store.login(second.account.email) is None
    assert await store.device(device.device) is None
    assert await store.invitation(new_text_id().encode()) is None


async def test_a_taken_address_spends_no_invitation(store):
    account, _ = await sign_up(store)
    invitation = await invited(store, account.email)
    login = new_login(account.email)
    with pytest.raises(AccountExists):
        await store.create_account(login, device=new_device(login.account.user), invitation=invitation)
    assert await store.invitation(invitation.token) == invitation


async def test_there_is_one_first_administrator(store, forget_admin):
    await forget_admin()
    assert not await store.has_admin()
    logins = [Login(replace(new_account(), admin=True), "the hash") for _ in range(2)]
    invitations = [await invited(store) for _ in logins]
    await store.create_account(logins[0], device=new_device(logins[0].account.user), invitation=invitations[0])
    assert await store.has_admin()
    assert (await store.account(logins[0].account.user)).admin
    assert (await store.login(logins[0].account.email)).account.admin
    with pytest.raises(AdminExists):
        await store.create_account(logins[1], device=new_device(logins[1].account.user), invitation=invitations[1])
    assert await store.account(logins[1].account.user) is None
    assert await store.invitation(invitations[1].token) == invitations[1]


# ---- invitations to spaces


def offer(space: SpaceRecord, by: Account, email: str, role: Role = Role.EDITOR) -> SpaceInvitation:
    token = new_text_id().encode()
    return SpaceInvitation(space.space, space.name, email, role, by.user, by.email, 1_000, 5_000, token)


def request_of(user: UserId) -> Done:
    return Done(user, new_request_id(), b"what was asked", 2_000)


async def offered(store, space: SpaceRecord, by: Account, email: str) -> SpaceInvitation:
    invitation = offer(space, by, email)
    await store.add_space_invitation(invitation, replacing=None, done=request_of(by.user))
    return invitation


async def lists(store, invitation: SpaceInvitation) -> list[list[SpaceInvitation]]:
    """The three lists that an invitation is in."""
    return [
        await store.invitations_to(invitation.space),
        await store.invitations_for(invitation.email),
        await store.invitations_by(invitation.by),
    ]


async def test_an_invitation_to_a_space_is_found_in_all_its_lists_and_admits_its_address(store):
    ann, _ = await sign_up(store)
    space, email = await make_space(store, ann), f"{new_text_id()}@example.com"
    invitation = offer(space, ann, email)
    assert await store.space_invitation(space.space, email) is None
    done = request_of(ann.user)
    await store.add_space_invitation(invitation, replacing=None, done=done)
    assert await store.space_invitation(space.space, email) == invitation
    assert await lists(store, invitation) == [[invitation]] * 3
    right = Invitation(invitation.token, email, invitation.expires_at_ms, space.space)
    assert await store.invitation(invitation.token) == right
    assert await store.done(ann.user, done.request) == done.fingerprint
    await store.end_space_invitation(invitation)
    assert await lists(store, invitation) == [[]] * 3
    assert await store.space_invitation(space.space, email) is None
    assert await store.invitation(invitation.token) is None
    with pytest.raises(GrantMoved):
        await store.end_space_invitation(invitation)


async def test_an_address_has_one_invitation_to_a_space(store):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    space, email = await make_space(store, ann), f"{new_text_id()}@example.com"
    await change_grant(store, space, member=bob, before=None, after=Role.OWNER, by=ann.user, alias="team")
    first, second = await offered(store, space, ann, email), offer(space, bob, email, Role.VIEWER)
    for replacing in (None, second):
        with pytest.raises(GrantMoved):
            await store.add_space_invitation(second, replacing=replacing, done=request_of(bob.user))
    assert await lists(store, first) == [[first]] * 3
    await store.add_space_invitation(second, replacing=first, done=request_of(bob.user))
    assert await lists(store, second) == [[second]] * 3
    assert await store.invitations_by(ann.user) == []
    assert await store.invitation(first.token) is None
    with pytest.raises(GrantMoved):
        await store.end_space_invitation(first)
    third = offer(space, bob, email)
    await store.add_space_invitation(third, replacing=second, done=request_of(bob.user))
    assert await lists(store, third) == [[third]] * 3


async def test_nobody_is_invited_by_somebody_who_is_no_owner_twice_or_with_an_account(store):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    space, email = await make_space(store, ann), f"{new_text_id()}@example.com"
    done = request_of(ann.user)
    await store.note(done)
    for invitation, request in (
        (offer(space, bob, email), request_of(bob.user)),
        (offer(space, ann, bob.email), request_of(ann.user)),
        (offer(space, ann, email), done),
    ):
        with pytest.raises(GrantMoved):
            await store.add_space_invitation(invitation, replacing=None, done=request)
        assert await lists(store, invitation) == [[]] * 3
        assert await store.invitation(invitation.token) is None


async def test_two_invitations_do_not_rely_on_the_same_count(store):
    ann, _ = await sign_up(store)
    space = await make_space(store, ann)
    gates = await store.gates(f"invited {space.space}")
    one, two = (offer(space, ann, f"{new_text_id()}@example.com") for _ in range(2))
    await store.add_space_invitation(one, replacing=None, done=request_of(ann.user), gates=gates)
    with pytest.raises(GateMoved):
        await store.add_space_invitation(two, replacing=None, done=request_of(ann.user), gates=gates)
    assert await store.invitations_to(space.space) == [one]


async def test_an_invitation_ends_with_the_grant_that_it_becomes_or_nothing_happens(store):
    ann, _ = await sign_up(store)
    space = await make_space(store, ann)
    login = new_login()
    bob = login.account
    invitation = await offered(store, space, ann, bob.email)
    await store.create_account(login, device=new_device(bob.user))
    other = replace(invitation, token=new_text_id().encode())
    change: dict[str, Any] = {"member": bob, "before": None, "after": Role.EDITOR, "by": ann.user, "alias": "team"}
    with pytest.raises(GrantMoved):
        await change_grant(store, space, **change, ends=other)
    assert (await store.access(space.space, user=bob.user, device=None))[0] is None
    await change_grant(store, space, **change, ends=invitation)
    assert (await store.access(space.space, user=bob.user, device=None))[0].role is Role.EDITOR
    assert await lists(store, invitation) == [[]] * 3
    change = {"member": bob, "before": Role.EDITOR, "after": None, "by": ann.user}
    with pytest.raises(GrantMoved):
        await change_grant(store, space, **change, ends=invitation)
    assert (await store.access(space.space, user=bob.user, device=None))[0].role is Role.EDITOR


async def test_an_invitation_is_ended_by_a_request_once(store):
    ann, _ = await sign_up(store)
    space, email = await make_space(store, ann), f"{new_text_id()}@example.com"
    invitation, done = await offered(store, space, ann, email), request_of(ann.user)
    await store.end_space_invitation(invitation, done=done)
    assert await store.done(ann.user, done.request) == done.fingerprint
    again = await offered(store, space, ann, email)
    with pytest.raises(GrantMoved):
        await store.end_space_invitation(again, done=done)
    assert await store.space_invitation(space.space, email) == again


async def test_a_guest_reads_the_personal_space_and_owns_none(store):
    login = new_login()
    guest = replace(login.account, guest=True)
    await store.create_account(replace(login, account=guest), device=new_device(guest.user))
    assert await store.account(guest.user) == guest
    assert (await store.login(guest.email)).account == guest
    space, grants = await store.members(guest.personal_space)
    assert space.owners == 0
    assert [grant.role for grant in grants] == [Role.VIEWER]
    assert [one.role for one in await store.memberships(guest.user)] == [Role.VIEWER]


# ---- devices


async def test_devices_of_a_user(store):
    account, first = await sign_up(store)
    await sign_up(store)
    others = [new_device(account.user, name=f"device {number}") for number in range(3)]
    for device in others:
        await store.add_device(device)
    found = await store.devices(account.user, including=others[-1].device)
    assert sorted(found, key=lambda device: device.device) == sorted([first, *others], key=lambda device: device.device)


async def test_more_devices_than_one_batch_reads(store):
    account, first = await sign_up(store)
    await asyncio.gather(*(store.add_device(new_device(account.user)) for _ in range(120)))
    assert len(await store.devices(account.user, including=first.device)) == 121


def after(chain: Chain | None, token: bytes) -> Chain:
    assert chain is not None
    return Chain(chain.family, token, chain.current, chain.expires_at_ms + 5)


async def test_a_chain_advances(store):
    _, device = await sign_up(store)
    chain = after(device.chain, b"second")
    await store.advance_chain(device.device, expected=device.chain, to=chain, seen_at_ms=7_000)
    assert await store.device(device.device) == replace(device, chain=chain, last_seen_at_ms=7_000)
    # Once more, as when the answer was lost on the way.
    await store.advance_chain(device.device, expected=device.chain, to=chain, seen_at_ms=7_000)
    assert (await store.device(device.device)).chain == chain
    # The successor is replaced: what was before it stays the predecessor.
    replaced = replace(chain, current=b"second again")
    await store.advance_chain(device.device, expected=chain, to=replaced, seen_at_ms=8_000)
    assert (await store.device(device.device)).chain == replaced


async def test_a_chain_that_moved_stays(store):
    _, device = await sign_up(store)
    second = after(device.chain, b"second")
    await store.advance_chain(device.device, expected=device.chain, to=second, seen_at_ms=7_000)
    rival, unknown = after(device.chain, b"rival"), DeviceId(new_text_id())
    with pytest.raises(ChainMoved):
        await store.advance_chain(device.device, expected=device.chain, to=rival, seen_at_ms=8_000)
    assert (await store.device(device.device)).chain == second
    with pytest.raises(ChainMoved):
        await store.advance_chain(unknown, expected=device.chain, to=second, seen_at_ms=8_000)


async def test_a_revoked_device_stays_revoked(store):
    _, device = await sign_up(store)
    for at in (5_000, 6_000):
        await store.revoke_device(device.device, at_ms=at)
    assert (await store.device(device.device)).revoked_at_ms == 5_000
    second = after(device.chain, b"second")
    with pytest.raises(ChainMoved):
        await store.advance_chain(device.device, expected=device.chain, to=second, seen_at_ms=7_000)
    assert (await store.device(device.device)).chain == device.chain
    unknown = DeviceId(new_text_id())
    await store.revoke_device(unknown, at_ms=5_000)
    assert await store.device(unknown) is None


@pytest.mark.parametrize("kind", [DeviceKind.BROWSER, DeviceKind.PROGRAM])
async def test_a_device_with_a_key(store, kind):
    account, first = await sign_up(store)
    device = new_key_device(account.user, kind=kind)
    await store.add_device(device)
    assert await store.device(device.device) == device
    assert {found.device for found in await store.devices(account.user, including=device.device)} == {
        first.device,
        device.device,
    }
    with pytest.raises(ChainMoved):
        await store.advance_chain(device.device, expected=first.chain, to=after(first.chain, b"x"), seen_at_ms=9_000)
    assert await store.device(device.device) == device


@pytest.mark.parametrize("spaces", [None, 1, 50])
async def test_the_limits_of_a_key_are_kept(store, spaces):
    account, _ = await sign_up(store)
    named = None if spaces is None else frozenset(SpaceId(new_text_id()) for _ in range(spaces))
    limits = KeyLimits(frozenset({KeyScope.READ, KeyScope.SHARE}), named)
    device = replace(new_key_device(account.user, kind=DeviceKind.PROGRAM), limits=limits)
    await store.add_device(device)
    assert await store.device(device.device) == device
    assert device in await store.devices(account.user, including=device.device)
    _, found = await store.accesses([], [device.device])
    assert found[device.device].limits == limits


async def test_the_use_of_a_key_is_noted_unless_a_later_one_is(store):
    account, client = await sign_up(store)
    device = new_key_device(account.user)
    await store.add_device(device)
    for seen in (7_000, 6_000):
        await store.key_used(device.device, seen_at_ms=seen, expires_at_ms=seen + 30 * DAY_MS)
    assert device.key is not None
    noted = replace(device, last_seen_at_ms=7_000, key=Key(device.key.digest, 7_000 + 30 * DAY_MS))
    assert await store.device(device.device) == noted
    await store.revoke_device(device.device, at_ms=8_000)
    for other in (device.device, client.device, DeviceId(new_text_id())):
        await store.key_used(other, seen_at_ms=9_000, expires_at_ms=9_000)
    assert await store.device(device.device) == replace(noted, revoked_at_ms=8_000)
    assert await store.device(client.device) == client


# ---- spaces and grants


async def test_a_space_is_made_once(store):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    space = SpaceRecord(SpaceId(derived_id("space", ann.user, RequestId(bytes(16)))), "team", False, 1, 2_000)
    assert await store.create_space(space, owner=ann, alias="team")
    assert not await store.create_space(replace(space, name="other"), owner=bob, alias="other")
    assert await store.members(space.space) == (
        space,
        [GrantRecord(space.space, ann.user, ann.email, Role.OWNER, "team")],
    )
    assert len(await store.memberships(bob.user)) == 1


async def test_a_role_is_given_changed_and_taken(store):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    space = await make_space(store, ann)
    for before, to in [(None, Role.VIEWER), (Role.VIEWER, Role.EDITOR), (Role.EDITOR, Role.OWNER), (Role.OWNER, None)]:
        await change_grant(store, space, member=bob, before=before, after=to, by=ann.user, alias="team")
        found, grants = await store.space_with_grants(space.space, ann.user, bob.user)
        assert found.owners == (2 if to is Role.OWNER else 1)
        assert grants.get(bob.user) == (GrantRecord(space.space, bob.user, bob.email, to, "team") if to else None)
        shared = [membership for membership in await store.memberships(bob.user) if not membership.personal]
        assert shared == (
            [Membership(space.space, "team", personal=False, role=to, alias="team", by=ann.user)] if to else []
        )
        assert len((await store.members(space.space))[1]) == (2 if to else 1)


async def aliases(store, user: UserId) -> dict[str, SpaceId]:
    return {one.alias: one.space for one in await store.memberships(user) if not one.personal}


async def test_an_alias_of_a_user_means_one_space_for_ever(store):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    hers, his = await make_space(store, ann, "Straße"), await make_space(store, bob, "Straße")
    for taken in ("Straße", "STRASSE", "Stra\N{LATIN SMALL LETTER SHARP S}e", "personal", "Ｐｅｒｓｏｎａｌ"):
        with pytest.raises(AliasTaken):
            await change_grant(store, his, member=ann, before=None, after=Role.EDITOR, by=bob.user, alias=taken)
        another = SpaceRecord(SpaceId(new_text_id()), "Straße", False, 1, 2_000)
        with pytest.raises(AliasTaken):
            await store.create_space(another, owner=ann, alias=taken)
        assert await store.members(another.space) is None
    assert await aliases(store, ann.user) == {"Straße": hers.space}
    await change_grant(store, his, member=ann, before=None, after=Role.EDITOR, by=bob.user, alias="His")
    # A changed role leaves it alone, and it stays taken when the grant has gone, but not for the same space.
    await change_grant(store, his, member=ann, before=Role.EDITOR, after=Role.VIEWER, by=bob.user, alias="Other")
    assert await aliases(store, ann.user) == {"Straße": hers.space, "His": his.space}
    await change_grant(store, his, member=ann, before=Role.VIEWER, after=None, by=ann.user)
    third = await make_space(store, bob, "third")
    with pytest.raises(AliasTaken):
        await change_grant(store, third, member=ann, before=None, after=Role.EDITOR, by=bob.user, alias="HIS")
    await change_grant(store, his, member=ann, before=None, after=Role.EDITOR, by=bob.user, alias="His")
    found, grants = await store.space_with_grants(his.space, ann.user, bob.user)
    assert (grants[ann.user].alias, grants[bob.user].alias) == ("His", "Straße")
    assert found.name == "Straße"


async def test_a_grant_from_before_aliases_gets_one_once(store, forget_alias):
    ann, _ = await sign_up(store)
    one, two = await make_space(store, ann, "one"), await make_space(store, ann, "two")
    await forget_alias(one.space, ann.user, "one")
    await forget_alias(two.space, ann.user, "two")
    assert await aliases(store, ann.user) in ({None: one.space}, {None: two.space})
    assert (await store.space_with_grants(one.space, ann.user))[1][ann.user].alias is None
    await store.give_alias(two.space, ann.user, "Team")
    with pytest.raises(AliasTaken):
        await store.give_alias(one.space, ann.user, "team")
    await store.give_alias(one.space, ann.user, "one")
    await store.give_alias(one.space, ann.user, "another")  # the space has an alias already
    await store.give_alias(SpaceId(new_text_id()), ann.user, "nothing")
    assert await aliases(store, ann.user) == {"Team": two.space, "one": one.space}
    assert (await store.space_with_grants(one.space, ann.user))[1][ann.user].alias == "one"


async def test_since_when_a_member_writes_is_kept(store):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    space = await make_space(store, ann)
    for before, to, since in ((None, Role.EDITOR, 17), (Role.EDITOR, Role.VIEWER, 0), (Role.VIEWER, Role.OWNER, 18)):
        await change_grant(
            store, space, member=bob, before=before, after=to, by=ann.user, alias="team", writes_since_ms=since
        )
        grant, _ = await store.access(space.space, user=bob.user, device=None)
        assert grant.writes_since_ms == since
        _, grants = await store.space_with_grants(space.space, bob.user)
        assert grants[bob.user] == grant


@pytest.mark.parametrize(
    ("before", "to"),
    [(None, Role.OWNER), *((before, to) for before in (Role.EDITOR, Role.OWNER) for to in (Role.OWNER, None))],
)
async def test_a_grant_that_changed_meanwhile_stays(store, before, to):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    space = await make_space(store, ann)
    await change_grant(store, space, member=bob, before=None, after=Role.VIEWER, by=ann.user, alias="team")
    with pytest.raises(GrantMoved):
        await change_grant(store, space, member=bob, before=before, after=to, by=ann.user, alias="team")
    found, grants = await store.space_with_grants(space.space, bob.user)
    assert (found.owners, grants[bob.user].role) == (1, Role.VIEWER)


@pytest.mark.parametrize("to", [None, Role.VIEWER, Role.EDITOR])
async def test_the_last_owner_stays(store, to):
    ann, _ = await sign_up(store)
    space = await make_space(store, ann)
    with pytest.raises(GrantMoved):
        await change_grant(store, space, member=ann, before=Role.OWNER, after=to, by=ann.user)
    found, grants = await store.space_with_grants(space.space, ann.user)
    assert (found.owners, grants[ann.user].role) == (1, Role.OWNER)
    assert len(await store.memberships(ann.user)) == 2


async def test_who_is_no_owner_any_more_changes_nothing(store):
    ann, _ = await sign_up(store)
    bob, _ = await sign_up(store)
    carol, _ = await sign_up(store)
    dave, _ = await sign_up(store)
    space = await make_space(store, ann)
    await change_grant(store, space, member=bob, before=None, after=Role.EDITOR, by=ann.user, alias="team")
    for by in (bob.user, dave.user):
        with pytest.raises(GrantMoved):
            await change_grant(store, space, member=carol, before=None, after=Role.VIEWER, by=by, alias="team")
    assert (await store.space_with_grants(space.space, carol.user))[1] == {}
    # Everybody may leave.
    await change_grant(store, space, member=bob, before=Role.EDITOR, after=None, by=bob.user)


async def test_more_spaces_than_one_page_holds(store):
    ann, _ = await sign_up(store)
    spaces = [await make_space(store, ann, f"space {number} {'x' * 60_000}") for number in range(20)]
    names = {membership.name for membership in await store.memberships(ann.user)}
    assert names == {"personal", *(space.name for space in spaces)}


async def test_access_is_one_answer(store):
    ann, device = await sign_up(store)
    bob, other = await sign_up(store)
    space = await make_space(store, ann)
    grant = GrantRecord(space.space, ann.user, ann.email, Role.OWNER, "team")
    assert await store.access(space.space, user=ann.user, device=device.device) == (grant, device)
    assert await store.access(space.space, user=ann.user, device=None) == (grant, None)
    assert await store.access(space.space, user=bob.user, device=other.device) == (None, other)


async def test_many_accesses_are_one_answer(store):
    ann, device = await sign_up(store)
    bob, other = await sign_up(store)
    spaces = [await make_space(store, ann, f"space {number}") for number in range(3)]
    grants = [(space.space, user.user) for space in spaces for user in (ann, bob)]
    unknown = DeviceId(new_text_id())
    granted, devices = await store.accesses(grants, [device.device, other.device, unknown, device.device])
    assert {*granted} == {(space.space, ann.user) for space in spaces}
    assert all((grant.space, grant.user, grant.role) == (*key, Role.OWNER) for key, grant in granted.items())
    assert devices == {device.device: device, other.device: other}
    assert await store.accesses([], []) == ({}, {})


# ---- links


async def test_a_link_is_found_by_its_space_and_by_its_token(store):
    ann, _ = await sign_up(store)
    space = await make_space(store, ann)
    plain = new_link(space.space, ann.user)
    given = {"expires_at_ms": 9_000, "password_hash": "the hash", "max_downloads": 4_294_967_295}
    full = replace(new_link(space.space, ann.user, **given), node=NodeId(bytes(range(16))))
    await store.add_link(new_link(ann.personal_space, ann.user))
    for link in (plain, full):
        await store.add_link(link)
        assert await store.link(space.space, link.link) == link
        assert await store.link_with_token(link.token) == link
    found = await store.links(space.space)
    assert sorted(found, key=lambda link: link.link) == sorted([plain, full], key=lambda link: link.link)
    assert await store.link(ann.personal_space, plain.link) is None
    assert await store.link_with_token(bytes(32)) is None
    assert await store.links(SpaceId(new_text_id())) == []
    # The grants of the space are what they were.
    assert [grant.user for grant in (await store.members(space.space))[1]] == [ann.user]


async def test_a_revoked_link_stays_revoked(store):
    ann, _ = await sign_up(store)
    link = new_link(ann.personal_space, ann.user, max_downloads=1)
    await store.add_link(link)
    for at in (5_000, 6_000):
        await store.revoke_link(link, at_ms=at)
    assert await store.link(link.space, link.link) == replace(link, revoked_at_ms=5_000)
    assert await store.link_with_token(link.token) is None
    assert not await store.count_download(link.space, link.link, new_request_id(), now_ms=1_000)
    unknown = LinkId(new_text_id())
    await store.revoke_link(replace(link, link=unknown), at_ms=5_000)
    assert await store.link(link.space, unknown) is None


async def test_downloads_are_counted_up_to_the_limit(store):
    ann, _ = await sign_up(store)
    link = new_link(ann.personal_space, ann.user, max_downloads=2)
    await store.add_link(link)
    requests = [new_request_id() for _ in range(4)]

    async def count(request, of=link.link):
        return await store.count_download(link.space, of, request, now_ms=1_000)

    assert [await count(request) for request in requests] == [True, True, False, False]
    assert await store.link(link.space, link.link) == replace(link, downloads=2)
    assert not await count(new_request_id(), LinkId(new_text_id()))


async def test_a_download_is_counted_once_however_often_its_request_comes(store):
    ann, _ = await sign_up(store)
    link, other = (new_link(ann.personal_space, ann.user, max_downloads=2) for _ in range(2))
    await store.add_link(link)
    await store.add_link(other)
    first, second = new_request_id(), new_request_id()
    for request in (first, first, second, second, first):
        assert await store.count_download(link.space, link.link, request, now_ms=1_000)
    assert (await store.link(link.space, link.link)).downloads == 2
    assert not await store.count_download(link.space, link.link, new_request_id(), now_ms=1_000)
    assert await store.count_download(link.space, link.link, second, now_ms=1_000), (
        "the last one, as after a lost answer"
    )
    assert await store.count_download(other.space, other.link, first, now_ms=1_000), "a request of another link"
    assert (await store.link(other.space, other.link)).downloads == 1


# ---- attempts


async def count(store, email, peer="192.0.2.1", *, limit=3, now=10_000):
    return await store.count_attempt(subject=email, peer=peer, limit=limit, window_ms=1_000, now_ms=now)


async def test_attempts_are_counted_up_to_the_limit(store):
    email = f"{new_text_id()}@example.com"
    assert [await count(store, email, now=10_000 + number) for number in range(5)] == [0, 0, 0, 997, 996]
    assert await count(store, email, "192.0.2.2") == 0
    assert await count(store, email, None) == 0
    assert await count(store, f"{new_text_id()}@example.com") == 0


async def test_a_counter_ends_with_its_window(store):
    email = f"{new_text_id()}@example.com"
    assert await count(store, email, limit=1) == 0
    assert await count(store, email, limit=1, now=10_999) == 1
    assert await count(store, email, limit=1, now=11_000) == 0
    assert await count(store, email, limit=1, now=11_000) == 1_000


async def test_a_counter_that_is_forgotten_begins_anew(store):
    email = f"{new_text_id()}@example.com"
    for peer in ("192.0.2.1", "192.0.2.2", None):
        assert await count(store, email, peer, limit=1) == 0
    await store.forget_attempts(subject=email, peer="192.0.2.1")
    assert await count(store, email, "192.0.2.1", limit=1) == 0
    assert await count(store, email, "192.0.2.2", limit=1) > 0
    assert await count(store, email, None, limit=1) == 0
    await store.forget_attempts(subject=f"{new_text_id()}@example.com", peer="192.0.2.1")


async def test_an_attempt_can_be_taken_back(store):
    subject, peer = new_text_id(), "192.0.2.1"
    await store.take_back_attempt(subject=subject, peer=peer)
    assert [await count(store, subject, limit=2) for _ in range(3)] == [0, 0, 1_000]
    await store.take_back_attempt(subject=subject, peer=peer)
    assert [await count(store, subject, limit=2) for _ in range(2)] == [0, 1_000]
    for _ in range(3):
        await store.take_back_attempt(subject=subject, peer=peer)
    assert [await count(store, subject, limit=2) for _ in range(3)] == [0, 0, 1_000]


async def test_what_is_there_is_not_added_again(store):
    ann, _ = await sign_up(store)
    device = new_device(ann.user)
    assert await store.add_device(device)
    assert not await store.add_device(replace(device, name="another"))
    assert await store.device(device.device) == device
    link = new_link(ann.personal_space, ann.user)
    assert await store.add_link(link)
    assert not await store.add_link(replace(link, max_downloads=9))
    assert await store.link(link.space, link.link) == link
    # Nor a token that opens something else.
    assert not await store.add_link(replace(new_link(ann.personal_space, ann.user), token=link.token))
    assert await store.link_with_token(link.token) == link


async def test_a_device_that_is_forgotten_is_found_by_its_id_alone(store):
    ann, laptop = await sign_up(store)
    phone = new_device(ann.user)
    await store.add_device(phone)
    await store.revoke_device(phone.device, at_ms=5_000)
    await store.forget_device(phone.device, until_ms=9_000)
    await store.forget_device(DeviceId(new_text_id()), until_ms=9_000)
    assert [one.device for one in await store.devices(ann.user)] == [laptop.device]
    assert await store.device(phone.device) == replace(phone, revoked_at_ms=5_000)
    assert not await store.add_device(phone)


async def test_the_keys_that_a_device_has_made(store):
    ann, laptop = await sign_up(store)
    keys = [replace(new_key_device(ann.user, kind=DeviceKind.PROGRAM), made_by=laptop.device) for _ in range(3)]
    others = new_key_device(ann.user, kind=DeviceKind.PROGRAM), new_device(ann.user)
    for one in (*keys, *others):
        assert await store.add_device(one)
    await store.revoke_device(keys[0].device, at_ms=5_000)
    keys[0] = replace(keys[0], revoked_at_ms=5_000)
    found = await store.keys_of(laptop.device)
    assert sorted(found, key=lambda one: one.device) == sorted(keys, key=lambda one: one.device)
    assert await store.keys_of(others[1].device) == []
    assert await store.device(keys[1].device) == keys[1]


async def test_a_device_that_has_ended_makes_nothing_any_more(store):
    ann, laptop = await sign_up(store)
    link = new_link(ann.personal_space, ann.user, made_by=laptop.device, writes_since_ms=4_000)
    assert await store.add_link(link, gates=await store.gates("links of ann"))
    assert await store.link(link.space, link.link) == link
    assert await store.links_of(ann.user) == [link]
    await store.revoke_device(laptop.device, at_ms=5_000)
    key = replace(new_key_device(ann.user, kind=DeviceKind.PROGRAM), made_by=laptop.device)
    late = replace(new_link(ann.personal_space, ann.user), made_by=laptop.device)
    for maker in (laptop.device, DeviceId(new_text_id())):
        with pytest.raises(MakerEnded):
            await store.add_device(replace(key, made_by=maker), gates=await store.gates("keys of ann"))
        with pytest.raises(MakerEnded):
            await store.add_link(replace(late, made_by=maker), gates=await store.gates("links of ann"))
    assert not await store.add_link(link)  # a link that is there stays there without its maker
    assert await store.device(key.device) is None
    assert await store.link(late.space, late.link) is None
    assert await store.keys_of(laptop.device) == []


async def test_ends_are_noted_until_they_are_done_and_taken_once(open_store):
    store, other = await open_store(), await open_store()
    ann, laptop = await sign_up(store)
    first, second = (
        DeviceEnding(new_text_id(), laptop.device, ann.user, last, not last, due_at_ms=5_000) for last in (True, False)
    )

    async def noted() -> list[DeviceEnding]:
        return [one for one in await other.endings() if one.device == laptop.device]

    for ending in (first, second):
        await store.begin_ending(ending)
    assert sorted(await noted(), key=lambda one: one.ident) == sorted((first, second), key=lambda one: one.ident)
    taken = await store.take_ending(first, due_at_ms=9_000)
    assert taken == replace(first, due_at_ms=9_000, attempts=1)
    assert await other.take_ending(first, due_at_ms=10_000) is None
    for _ in range(2):
        await other.forget_ending(taken)
    assert await store.take_ending(taken, due_at_ms=10_000) is None
    assert await noted() == [second]
    await store.forget_ending(second)


async def test_the_links_that_somebody_made(store):
    (ann, _), (bob, _) = await sign_up(store), await sign_up(store)
    team = await make_space(store, ann)
    here, there, his = (
        new_link(ann.personal_space, ann.user, expires_at_ms=9_000),
        new_link(team.space, ann.user),
        new_link(team.space, bob.user),
    )
    for link in (here, there, his):
        await store.add_link(link)
    assert {link.link: link for link in await store.links_of(ann.user)} == {here.link: here, there.link: there}
    await store.revoke_link(here, at_ms=5_000)
    assert await store.links_of(ann.user) == [there]


async def test_links_that_are_revoked_or_gone_are_taken_for_ended(store):
    ann, _ = await sign_up(store)
    kept, revoked, gone = (new_link(ann.personal_space, ann.user) for _ in range(3))
    for link in (kept, revoked):
        await store.add_link(link)
    await store.revoke_link(revoked, at_ms=5_000)
    assert await store.without_ended([kept, revoked, gone]) == [kept]
    assert await store.without_ended([]) == []
    assert await store.links_of(ann.user) == [kept]


async def test_a_link_that_is_dropped_was_never_there(store):
    ann, _ = await sign_up(store)
    link = new_link(ann.personal_space, ann.user)
    await store.add_link(link)
    for _ in range(2):
        await store.drop_link(link)
        assert await store.link(link.space, link.link) is None
        assert await store.link_with_token(link.token) is None
        assert await store.links(link.space) == await store.links_of(ann.user) == []
    assert await store.add_link(link)


async def test_who_gave_a_membership(store):
    (ann, _), (bob, _) = await sign_up(store), await sign_up(store)
    space = await make_space(store, ann)
    await change_grant(store, space, member=bob, before=None, after=Role.EDITOR, by=ann.user, alias="team")
    await change_grant(store, space, member=bob, before=Role.EDITOR, after=Role.OWNER, by=ann.user)
    await change_grant(store, space, member=ann, before=Role.OWNER, after=Role.VIEWER, by=bob.user)
    assert {one.by for one in await store.memberships(bob.user) if not one.personal} == {ann.user}
    assert {one.by for one in await store.memberships(ann.user)} == {ann.user}  # ann made it herself


async def test_a_network_is_known_for_a_while(store):
    subject, peer = new_text_id(), "192.0.2.1"
    assert not await store.knows_network(subject=subject, peer=peer, now_ms=1_000)
    await store.know_network(subject=subject, peer=peer, until_ms=5_000)
    assert await store.knows_network(subject=subject, peer=peer, now_ms=4_999)
    assert not await store.knows_network(subject=subject, peer=peer, now_ms=5_000)
    assert not await store.knows_network(subject=subject, peer="192.0.2.2", now_ms=1_000)
    assert not await store.knows_network(subject=new_text_id(), peer=peer, now_ms=1_000)
    await store.know_network(subject=subject, peer=peer, until_ms=9_000)
    assert await store.knows_network(subject=subject, peer=peer, now_ms=5_000)


# ---- requests


async def test_a_request_is_noted_once(store):
    ann, _ = await sign_up(store)
    request = new_request_id()
    assert await store.done(ann.user, request) is None
    await store.note(Done(ann.user, request, b"first", 1_000))
    await store.note(Done(ann.user, request, b"second", 2_000))
    assert await store.done(ann.user, request) == b"first"
    assert await store.done(UserId(new_text_id()), request) is None


async def test_a_grant_is_changed_by_a_request_once(store):
    (ann, _), (bob, _) = await sign_up(store), await sign_up(store)
    space = await make_space(store, ann)
    done = Done(ann.user, new_request_id(), b"fingerprint", 1_000)
    given: dict[str, Any] = {
        "member": bob,
        "before": None,
        "after": Role.EDITOR,
        "by": ann.user,
        "alias": "team",
        "done": done,
    }
    await change_grant(store, space, **given)
    assert await store.done(ann.user, done.request) == b"fingerprint"
    await change_grant(store, space, member=bob, before=Role.EDITOR, after=None, by=ann.user)
    with pytest.raises(GrantMoved):
        await change_grant(store, space, **given)
    assert [grant.user for grant in (await store.members(space.space))[1]] == [ann.user]
    assert [one.space for one in await store.memberships(bob.user)] == [bob.personal_space]


# ---- uploads


async def test_spaces_that_are_written_to_are_listed_by_the_hour(store):
    hour = int(new_text_id(), 36) % 10**9  # no other test has this hour
    spaces = sorted(SpaceId(new_text_id()) for _ in range(5))
    for space in (*reversed(spaces), spaces[2]):
        await store.note_writing(space, hour=hour)
    await store.note_writing(SpaceId(new_text_id()), hour=hour + 1)
    assert await store.written(hour=hour, after="", limit=10) == spaces
    assert await store.written(hour=hour, after="", limit=2) == spaces[:2]
    assert await store.written(hour=hour, after=spaces[1], limit=2) == spaces[2:4]
    assert await store.written(hour=hour, after=spaces[-1], limit=2) == []


async def test_what_was_said_last_of_the_uploads_of_a_space_is_kept(store):
    owner, _ = await sign_up(store)
    space = await make_space(store, owner)
    assert await store.uploads(space.space) is None
    for refused, at in ((True, 1), (False, 1 << 42), (True, 1 << 42)):
        said = SpaceUploads(refused, 1 << 40, 7, 1 << 41, 1 << 39, at)
        assert await store.set_uploads(space.space, said)
        assert await store.uploads(space.space) == said
    assert not await store.set_uploads(
        space.space, replace(said, refused=False, measured_at_ms=said.measured_at_ms - 1)
    )
    assert await store.uploads(space.space) == said
    found = await store.members(space.space)  # the call read all that lies beside the space
    assert (found[0], [grant.user for grant in found[1]]) == (space, [owner.user])
