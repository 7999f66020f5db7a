"""People without an account are invited to spaces, and become members when their address is proven."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.auth.attempts import AttemptLimits
from services.auth.records import DAY_MS, SpaceInvitation, SpaceInvitationMail
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import RequestId, new_request_id, new_text_id
from syncline.model.limits import SPACE_INVITATION_DAYS
from tests.services.auth.support import PASSWORD, Person, Service, refused, serving
from tests.services.auth.test_invitations import invitations as operators
from tests.services.auth.test_invitations import join

EMAIL = "ann@example.com"
VIEWER, EDITOR, OWNER = auth_pb2.ROLE_VIEWER, auth_pb2.ROLE_EDITOR, auth_pb2.ROLE_OWNER


@pytest.fixture
async def auth(tmp_path):
    """A service in which addresses have to be proven, and everybody may sign up."""
    async with serving(tmp_path, prove_addresses=True, rate_shares=1000, rate_makes=1000) as service:
        yield service


async def proven(auth: Service, email: str = "ben@example.com") -> Person:
    person = await auth.sign_up(email)
    await prove(auth, person)
    return person


def proof_of(auth: Service, person: Person) -> str:
    token: str = next(
        mail.token or "" for mail in auth.mail.sent if getattr(mail, "user", "") == person.account.user_id
    )
    return token


async def prove(auth: Service, person: Person) -> None:
    request = auth_pb2.ProveAddressRequest(token=proof_of(auth, person))
    await auth.stub.ProveAddress(request, metadata=person.credentials)


async def set_member(
    auth: Service, space: str, by: Person, email: str = EMAIL, *, role: Any = EDITOR, request: RequestId | None = None
) -> auth_pb2.SetMemberResponse:
    auth.clock.advance(1)  # invitations are taken up in the order in which they were made
    asked = auth_pb2.SetMemberRequest(request_id=request or new_request_id(), space_id=space, email=email, role=role)
    answer: auth_pb2.SetMemberResponse = await auth.stub.SetMember(asked, metadata=by.credentials)
    return answer


def mailed(auth: Service, email: str = EMAIL) -> list[SpaceInvitationMail]:
    """The mails with invitations to spaces to an address."""
    mails = [mail for mail in auth.mail.sent if isinstance(mail, SpaceInvitationMail)]
    return [mail for mail in mails if mail.invitation.email == email]


async def listed(auth: Service, by: Person, space: str = "") -> list[auth_pb2.Invitation]:
    asked = auth_pb2.ListInvitationsRequest(space_id=space)
    return list((await auth.stub.ListInvitations(asked, metadata=by.credentials)).invitations)


async def revoke(auth: Service, by: Person, space: str, email: str = EMAIL, request: RequestId | None = None) -> None:
    asked = auth_pb2.RevokeInvitationRequest(request_id=request or new_request_id(), space_id=space, email=email)
    await auth.stub.RevokeInvitation(asked, metadata=by.credentials)


async def accept(auth: Service, person: Person, space: str) -> auth_pb2.Space:
    asked = auth_pb2.AcceptInvitationRequest(request_id=new_request_id(), space_id=space)
    return (await auth.stub.AcceptInvitation(asked, metadata=person.credentials)).space


async def decline(auth: Service, person: Person, space: str, request: RequestId | None = None) -> None:
    asked = auth_pb2.DeclineInvitationRequest(request_id=request or new_request_id(), space_id=space)
    await auth.stub.DeclineInvitation(asked, metadata=person.credentials)


async def members(auth: Service, by: Person, space: str) -> dict[str, int]:
    answer = await auth.stub.ListMembers(auth_pb2.ListMembersRequest(space_id=space), metadata=by.credentials)
    return {one.email: one.role for one in answer.members}


async def roles(auth: Service, person: Person) -> dict[str, int]:
    """The roles of a person by the names of the spaces."""
    answer = await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(), metadata=person.credentials)
    return {space.name: space.role for space in answer.spaces}


# ---- an address is invited


async def test_an_address_without_an_account_is_invited_and_mailed(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben, "Harbour")
    answer = await set_member(auth, space, ben, "Ann@Example.com")
    assert not answer.HasField("member")
    told = answer.invitation
    assert (told.space_id, told.space_name, told.email) == (space, "Harbour", EMAIL)
    assert (told.role, told.invited_by) == (EDITOR, "ben@example.com")
    assert told.expires_at_ms == auth.clock.now + SPACE_INVITATION_DAYS * DAY_MS
    (mail,) = mailed(auth)
    assert mail.token not in repr(mail)
    assert mail.token.encode() not in auth.store._invitations
    assert await listed(auth, ben, space) == [told]
    assert await members(auth, ben, space) == {"ben@example.com": OWNER}


async def test_an_unproven_account_of_the_address_gets_nothing_and_the_answer_does_not_tell_of_it(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben, "Harbour")
    without = (await set_member(auth, space, ben, "nobody@example.com")).invitation
    squatter = await auth.sign_up(EMAIL)
    with_one = (await set_member(auth, space, ben)).invitation
    without.email = with_one.email
    without.created_at_ms = with_one.created_at_ms
    without.expires_at_ms = with_one.expires_at_ms
    assert with_one == without
    for call in (listed(auth, squatter), accept(auth, squatter, space), decline(auth, squatter, space)):
        with refused("PERMISSION_DENIED", "ADDRESS_UNPROVEN"):
            await call
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await auth.credentials(space, squatter)
    await auth.sign_in(EMAIL)
    assert await roles(auth, squatter) == {"personal": OWNER}
    assert await members(auth, ben, space) == {"ben@example.com": OWNER}


# ---- the invitation becomes the grant, whichever way the address is proven


async def test_the_proof_of_the_address_makes_the_member(auth):
    ben = await proven(auth)
    space, other = await auth.create_space(ben, "Harbour"), await auth.create_space(ben, "Lake")
    squatter, ann = await auth.sign_up(EMAIL), await auth.sign_up(EMAIL)
    await set_member(auth, space, ben, role=VIEWER)
    await set_member(auth, other, ben)
    await prove(auth, ann)
    assert await roles(auth, ann) == {"personal": OWNER, "Harbour": VIEWER, "Lake": EDITOR}
    assert await roles(auth, squatter) == {"personal": OWNER}
    assert await members(auth, ben, space) == {EMAIL: VIEWER, "ben@example.com": OWNER}
    assert await listed(auth, ben, space) == []
    assert await listed(auth, ann) == []
    with refused("ALREADY_EXISTS", "ADDRESS_TAKEN"):
        await prove(auth, squatter)
    (mail,) = [mail for mail in mailed(auth) if mail.invitation.space == space]
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await join(auth, mail.token)


async def test_a_sign_up_by_the_invitation_makes_a_proven_member_and_leads_to_the_space(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben, "Harbour")
    await set_member(auth, space, ben)
    (mail,) = mailed(auth)
    request = auth_pb2.SignUpRequest(email=EMAIL, password=PASSWORD, device_name="laptop", invitation=mail.token)
    answer = await auth.stub.SignUp(request)
    assert answer.space_id == space
    assert (answer.account.unproven, answer.account.guest, answer.account.admin) == (False, False, False)
    assert await members(auth, ben, space) == {EMAIL: EDITOR, "ben@example.com": OWNER}
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await auth.stub.SignUp(request)


async def test_an_invitation_of_the_operator_proves_the_address_as_well(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben, "Harbour")
    await set_member(auth, space, ben)
    ann = await join(auth, await operators(auth).invite(EMAIL))
    assert not ann.account.guest
    assert await roles(auth, ann) == {"personal": OWNER, "Harbour": EDITOR}


async def test_where_each_address_counts_as_proven_a_sign_up_makes_the_member(tmp_path):
    async with serving(tmp_path) as auth:
        ben = await auth.sign_up("ben@example.com")
        space = await auth.create_space(ben, "Harbour")
        await set_member(auth, space, ben)
        ann = await auth.sign_up(EMAIL)
        assert await roles(auth, ann) == {"personal": OWNER, "Harbour": EDITOR}


async def test_whoever_has_a_proven_account_is_a_member_at_once(auth):
    ben, ann = await proven(auth), await proven(auth, EMAIL)
    space = await auth.create_space(ben, "Harbour")
    answer = await set_member(auth, space, ben)
    assert answer.member.user_id == ann.account.user_id
    assert not answer.HasField("invitation")
    assert mailed(auth) == []


async def test_an_invitation_to_a_space_makes_no_administrator(tmp_path):
    async with serving(tmp_path) as auth:
        ben = await auth.sign_up("ben@example.com")
        await set_member(auth, await auth.create_space(ben), ben)
        ann = await join(auth, mailed(auth)[0].token)
        assert not ann.account.admin


# ---- the right of the inviter counts when the invitation is used


async def test_an_inviter_who_owns_the_space_no_more_invites_nobody(auth):
    ben, cat = await proven(auth), await proven(auth, "cat@example.com")
    space = await auth.create_space(ben, "Harbour")
    await auth.share(space, ben, "cat@example.com", OWNER)
    await set_member(auth, space, ben)
    (mail,) = mailed(auth)
    await auth.share(space, cat, "ben@example.com", EDITOR)
    assert await listed(auth, cat, space) == []
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await join(auth, mail.token)
    ann = await proven(auth, EMAIL)
    assert await roles(auth, ann) == {"personal": OWNER}
    assert await listed(auth, ann) == []
    with refused("NOT_FOUND", "NO_SUCH_INVITATION"):
        await accept(auth, ann, space)


async def test_an_expired_invitation_is_worth_nothing_at_its_last_moment(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben, "Harbour")
    await set_member(auth, space, ben)
    (mail,) = mailed(auth)
    auth.clock.advance(SPACE_INVITATION_DAYS * DAY_MS)
    ben = await auth.sign_in("ben@example.com")
    assert await listed(auth, ben, space) == []
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await join(auth, mail.token)
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await auth.stub.GetInvitation(auth_pb2.GetInvitationRequest(token=mail.token))
    with refused("NOT_FOUND", "NO_SUCH_INVITATION"):
        await revoke(auth, ben, space)
    ann = await proven(auth, EMAIL)
    assert await roles(auth, ann) == {"personal": OWNER}


async def test_a_moment_before_its_end_an_invitation_makes_a_member(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben, "Harbour")
    await set_member(auth, space, ben)
    auth.clock.advance(SPACE_INVITATION_DAYS * DAY_MS - 1)
    ann = await join(auth, mailed(auth)[0].token)
    assert await roles(auth, ann) == {"personal": OWNER, "Harbour": EDITOR}


# ---- revoked, declined, replaced


async def test_a_revoked_invitation_admits_nobody_and_makes_no_member(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben, "Harbour")
    await set_member(auth, space, ben)
    request = new_request_id()
    for _ in range(2):  # a repetition has no further effect
        await revoke(auth, ben, space, request=request)
    with refused("NOT_FOUND", "NO_SUCH_INVITATION"):
        await revoke(auth, ben, space)
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await join(auth, mailed(auth)[0].token)
    assert await roles(auth, await proven(auth, EMAIL)) == {"personal": OWNER}
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED"):
        await revoke(auth, ben, space, "other@example.com", request=request)


async def test_only_owners_see_and_revoke(auth):
    ben, cat, dan = [await proven(auth, f"{name}@example.com") for name in ("ben", "cat", "dan")]
    space = await auth.create_space(ben, "Harbour")
    await auth.share(space, ben, "cat@example.com", EDITOR)
    await set_member(auth, space, ben)
    for person, code, reason in (
        (cat, "PERMISSION_DENIED", "PERMISSION_DENIED"),
        (dan, "NOT_FOUND", "NO_SUCH_SPACE"),
    ):
        for call in (listed(auth, person, space), revoke(auth, person, space), set_member(auth, space, person)):
            with refused(code, reason):
                await call
    assert [one.email for one in await listed(auth, ben, space)] == [EMAIL]
    assert len(mailed(auth)) == 1


async def test_the_latest_invitation_of_an_address_counts(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben, "Harbour")
    await set_member(auth, space, ben, role=EDITOR)
    await set_member(auth, space, ben, role=VIEWER)
    assert [one.role for one in await listed(auth, ben, space)] == [VIEWER]
    first, second = mailed(auth)
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await join(auth, first.token)
    ann = await join(auth, second.token)
    assert await roles(auth, ann) == {"personal": OWNER, "Harbour": VIEWER}


async def test_whoever_has_no_account_declines_by_the_token(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben, "Harbour")
    await set_member(auth, space, ben)
    (mail,) = mailed(auth)
    told = await auth.stub.GetInvitation(auth_pb2.GetInvitationRequest(token=mail.token))
    assert told.invitation == (await listed(auth, ben, space))[0]
    assert not told.guest
    await auth.stub.RefuseInvitation(auth_pb2.RefuseInvitationRequest(token=mail.token))
    assert await listed(auth, ben, space) == []
    for call in (
        auth.stub.RefuseInvitation(auth_pb2.RefuseInvitationRequest(token=mail.token)),
        auth.stub.GetInvitation(auth_pb2.GetInvitationRequest(token=mail.token)),
        join(auth, mail.token),
    ):
        with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
            await call


async def test_an_invitation_of_the_operator_is_told_and_not_declined(auth):
    token = await operators(auth).invite(EMAIL)
    told = await auth.stub.GetInvitation(auth_pb2.GetInvitationRequest(token=token))
    assert (told.invitation.email, told.invitation.space_id, told.guest) == (EMAIL, "", False)
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await auth.stub.RefuseInvitation(auth_pb2.RefuseInvitationRequest(token=token))
    await join(auth, token)


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "é" * 43, "x" * 10_000], ids=["", "x", "43", "é", "long"])
async def test_what_is_no_token_is_no_invitation(auth, token):
    for call in (
        auth.stub.GetInvitation(auth_pb2.GetInvitationRequest(token=token)),
        auth.stub.RefuseInvitation(auth_pb2.RefuseInvitationRequest(token=token)),
    ):
        with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
            await call


async def test_what_could_not_be_taken_up_waits_and_is_accepted_or_declined(tmp_path):
    """A list of spaces that is full leaves an invitation, until there is room again."""
    async with serving(tmp_path, prove_addresses=True, memberships_per_person=3) as auth:
        ben = await proven(auth)
        spaces = [await auth.create_space(ben, name) for name in ("Harbour", "Lake", "Sea")]
        for space in spaces:
            await set_member(auth, space, ben)
        ann = await proven(auth, EMAIL)
        assert await roles(auth, ann) == {"personal": OWNER, "Harbour": EDITOR}
        assert {one.space_name for one in await listed(auth, ann)} == {"Lake", "Sea"}
        with refused("RESOURCE_EXHAUSTED", "LIMIT_REACHED", limit="memberships"):
            await accept(auth, ann, spaces[1])
        request = new_request_id()
        for _ in range(2):
            await decline(auth, ann, spaces[2], request)
        with refused("NOT_FOUND", "NO_SUCH_INVITATION"):
            await decline(auth, ann, spaces[2])
        with refused("NOT_FOUND", "NO_SUCH_INVITATION"):
            await accept(auth, ann, spaces[2])
        await auth.unshare(spaces[0], ann, EMAIL)
        assert (await accept(auth, ann, spaces[1])).alias == "Lake"
        assert (await accept(auth, ann, spaces[1])).alias == "Lake", "a member already"
        assert await roles(auth, ann) == {"personal": OWNER, "Lake": EDITOR}


async def test_an_invitation_that_waits_is_taken_up_at_the_next_sign_in(tmp_path):
    async with serving(tmp_path, prove_addresses=True, memberships_per_person=3) as auth:
        ben = await proven(auth)
        spaces = [await auth.create_space(ben, name) for name in ("Harbour", "Lake")]
        for space in spaces:
            await set_member(auth, space, ben)
        ann = await proven(auth, EMAIL)
        await auth.unshare(spaces[0], ann, EMAIL)
        assert await roles(auth, await auth.sign_in(EMAIL)) == {"personal": OWNER, "Lake": EDITOR}


async def test_an_invitation_that_waits_gives_back_nothing_that_an_owner_takes(tmp_path):
    """A person who is removed does not come back by an invitation from before."""
    async with serving(tmp_path, prove_addresses=True, memberships_per_person=3) as auth:
        ben, cat = await proven(auth), await proven(auth, "cat@example.com")
        first, space = [await auth.create_space(ben, name) for name in ("Harbour", "Lake")]
        await auth.share(space, ben, "cat@example.com", OWNER)
        for one in (first, space):
            await set_member(auth, one, ben)
        ann = await proven(auth, EMAIL)
        assert [one.space_name for one in await listed(auth, ann)] == ["Lake"]
        await auth.unshare(first, ann, EMAIL)
        await set_member(auth, space, cat, role=VIEWER)
        assert await listed(auth, ann) == []
        await auth.unshare(space, cat, EMAIL)
        with refused("NOT_FOUND", "NO_SUCH_INVITATION"):
            await accept(auth, ann, space)


# ---- repeated requests, and mail


async def test_a_repeated_request_invites_once_and_has_the_mail_sent(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben, "Harbour")
    request = new_request_id()
    auth.mail.down = True
    with refused("UNAVAILABLE", "UNAVAILABLE"):
        await set_member(auth, space, ben, request=request)
    auth.mail.down = False
    first, second = [await set_member(auth, space, ben, request=request) for _ in range(2)]
    assert first == second
    one, two = mailed(auth)
    assert (one.ident, one.token) == (two.ident, two.token), "notify mails a request once"
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED"):
        await set_member(auth, space, ben, role=VIEWER, request=request)
    await revoke(auth, ben, space)
    with refused("NOT_FOUND", "NO_SUCH_INVITATION"):
        await set_member(auth, space, ben, request=request)
    ann = await proven(auth, EMAIL)
    assert (await set_member(auth, space, ben, request=request)).member.user_id == ann.account.user_id
    assert await roles(auth, ann) == {"personal": OWNER}, "the repetition gave nothing"


async def test_mails_are_limited_by_pair_by_inviter_and_by_address(tmp_path):
    limits = {
        "invitation_mails_per_pair": 2,
        "invitation_mails_per_person": 4,
        "invitation_mails_per_address": 3,
        "rate_shares": 1000,
    }
    async with serving(tmp_path, **limits) as auth:
        ben, cat = await auth.sign_up("ben@example.com"), await auth.sign_up("cat@example.com")
        space, other = await auth.create_space(ben), await auth.create_space(cat)
        for _ in range(2):
            await set_member(auth, space, ben)
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await set_member(auth, space, ben)
        await set_member(auth, other, cat)
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await set_member(auth, other, cat)
        for name in "de":
            await set_member(auth, space, ben, f"{name}@example.com")
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await set_member(auth, space, ben, "f@example.com")
        assert len([mail for mail in auth.mail.sent if isinstance(mail, SpaceInvitationMail)]) == 5
        auth.clock.advance(DAY_MS)
        ben = await auth.sign_in("ben@example.com")
        await set_member(auth, space, ben)


async def test_who_may_not_invite_uses_up_no_mails_of_the_address(tmp_path):
    async with serving(tmp_path, invitation_mails_per_address=1, invitation_mails_per_pair=1) as auth:
        ben, eve = await auth.sign_up("ben@example.com"), await auth.sign_up("eve@example.com")
        space = await auth.create_space(ben)
        for _ in range(3):
            with refused("NOT_FOUND", "NO_SUCH_SPACE"):
                await set_member(auth, space, eve)
        await set_member(auth, space, ben)


async def test_lists_of_invitations_are_limited_and_nobody_fills_that_of_an_address(tmp_path):
    limits = {
        "invitations_per_space": 3,
        "invitations_per_person": 5,
        "invitations_per_address": 4,
        "invitation_mails_per_pair": 100,
        "rate_shares": 1000,
        "rate_makes": 1000,
    }
    async with serving(tmp_path, **limits) as auth:
        ben, cat = await auth.sign_up("ben@example.com"), await auth.sign_up("cat@example.com")
        spaces = [await auth.create_space(ben, f"space {n}") for n in range(4)]
        for space in spaces[:2]:
            await set_member(auth, space, ben)
        with refused("RESOURCE_EXHAUSTED", "LIMIT_REACHED", limit="invitations_received"):
            await set_member(auth, spaces[2], ben)
        await set_member(auth, spaces[0], ben, role=VIEWER)  # another invitation of the address replaces the first
        await set_member(auth, await auth.create_space(cat), cat)  # somebody else finds room
        for name in "de":
            await set_member(auth, spaces[0], ben, f"{name}@example.com")
        with refused("RESOURCE_EXHAUSTED", "LIMIT_REACHED", limit="invitations"):
            await set_member(auth, spaces[0], ben, "f@example.com")
        await set_member(auth, spaces[1], ben, "g@example.com")
        with refused("RESOURCE_EXHAUSTED", "LIMIT_REACHED", limit="invitations_made"):
            await set_member(auth, spaces[2], ben, "h@example.com")
        await revoke(auth, ben, spaces[1], "g@example.com")
        await set_member(auth, spaces[2], ben, "h@example.com")
        auth.clock.advance(SPACE_INVITATION_DAYS * DAY_MS)  # expired invitations take no room
        ben = await auth.sign_in("ben@example.com")
        await set_member(auth, spaces[0], ben, "f@example.com")


def test_one_person_leaves_mails_to_others() -> None:
    limits = AttemptLimits()
    assert limits.invitations_per_pair * 5 < limits.invitations_per_address


# ---- guests


@pytest.fixture
async def closed(tmp_path):
    """A service for people of one domain."""
    policy = {"sign_up_policy": "domains", "sign_up_domains": ("example.com",)}
    async with serving(tmp_path, prove_addresses=True, **policy) as service:
        yield service


GUEST = "ann@elsewhere.example"


async def guest_of(auth: Service, ben: Person, role: Any = EDITOR) -> tuple[Person, str]:
    """A guest, and the space to which the guest was invited."""
    space = await auth.create_space(ben, "Harbour")
    await set_member(auth, space, ben, GUEST, role=role)
    return await join(auth, mailed(auth, GUEST)[-1].token, GUEST), space


async def test_whom_the_policy_would_not_admit_is_a_guest_who_works_in_the_space(closed):
    ben = await proven(closed)
    space = await closed.create_space(ben, "Harbour")
    await set_member(closed, space, ben, GUEST)
    token = mailed(closed, GUEST)[0].token
    assert (await closed.stub.GetInvitation(auth_pb2.GetInvitationRequest(token=token))).guest
    guest = await join(closed, token, GUEST)
    assert (guest.account.guest, guest.account.unproven, guest.account.admin) == (True, False, False)
    assert (await closed.sign_in(GUEST)).account.guest
    assert await roles(closed, guest) == {"personal": VIEWER, "Harbour": EDITOR}
    await closed.credentials(space, guest, auth_pb2.ACCESS_WRITE)
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
        await closed.credentials(guest.account.personal_space_id, guest, auth_pb2.ACCESS_WRITE)


async def test_a_guest_makes_no_spaces_links_or_keys(closed):
    guest, space = await guest_of(closed, await proven(closed))
    with refused("PERMISSION_DENIED", "GUEST"):
        await closed.create_space(guest)
    key = auth_pb2.CreateKeyRequest(
        request_id=new_request_id(), name="program", expires_at_ms=closed.clock.now + DAY_MS
    )
    with refused("PERMISSION_DENIED", "GUEST"):
        await closed.stub.CreateKey(key, metadata=guest.credentials)
    link = auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=space, node=bytes(16))
    with refused("PERMISSION_DENIED", "GUEST"):
        await closed.stub.CreateLink(link, metadata=guest.credentials)


async def test_a_guest_owns_no_space(closed):
    ben = await proven(closed)
    guest, space = await guest_of(closed, ben)
    with refused("PERMISSION_DENIED", "GUEST"):
        await set_member(closed, space, ben, GUEST, role=OWNER)
    with refused("PERMISSION_DENIED", "GUEST"):
        await set_member(closed, space, ben, "other@elsewhere.example", role=OWNER)
    assert mailed(closed, "other@elsewhere.example") == []
    assert await roles(closed, guest) == {"personal": VIEWER, "Harbour": EDITOR}


async def test_an_owner_whom_the_policy_admits_is_invited_as_an_owner(closed):
    ben = await proven(closed)
    space = await closed.create_space(ben, "Harbour")
    await set_member(closed, space, ben, role=OWNER)
    ann = await join(closed, mailed(closed)[0].token)
    assert not ann.account.guest
    assert await roles(closed, ann) == {"personal": OWNER, "Harbour": OWNER}


async def test_without_an_invitation_the_policy_holds(closed):
    ben = await proven(closed)
    await set_member(closed, await closed.create_space(ben), ben, GUEST)
    with refused("PERMISSION_DENIED", "SIGN_UP_CLOSED"):
        await closed.sign_up(GUEST)
    with refused("INVALID_ARGUMENT", "INVITATION_INVALID"):
        await join(closed, mailed(closed, GUEST)[0].token, "eve@elsewhere.example")


# ---- races


async def test_a_revocation_against_a_proof_leaves_a_member_or_nobody(auth):
    ben = await proven(auth)
    for number in range(10):
        email = f"ann-{number}@example.com"
        space = await auth.create_space(ben, f"space {number}")
        ann = await auth.sign_up(email)
        await set_member(auth, space, ben, email)
        revoked, _ = await asyncio.gather(revoke(auth, ben, space, email), prove(auth, ann), return_exceptions=True)
        is_member = email in await members(auth, ben, space)
        assert is_member is isinstance(revoked, Exception)
        assert await listed(auth, ben, space) == []


async def test_an_address_that_is_proven_while_it_is_invited_becomes_a_member(auth):
    ben = await proven(auth)
    for number in range(10):
        email = f"ann-{number}@example.com"
        space = await auth.create_space(ben, f"space {number}")
        ann = await auth.sign_up(email)
        await asyncio.gather(set_member(auth, space, ben, email), prove(auth, ann))
        assert email in await members(auth, ben, space)
        assert await listed(auth, ben, space) == []


async def test_two_proofs_of_an_address_make_one_member(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben)
    await set_member(auth, space, ben)
    people = [await auth.sign_up(EMAIL) for _ in range(2)]
    answers = await asyncio.gather(*(prove(auth, person) for person in people), return_exceptions=True)
    assert sum(answer is None for answer in answers) == 1
    assert await members(auth, ben, space) == {EMAIL: EDITOR, "ben@example.com": OWNER}


async def test_two_owners_who_invite_an_address_at_once_leave_one_invitation(auth):
    ben, cat = await proven(auth), await proven(auth, "cat@example.com")
    space = await auth.create_space(ben)
    await auth.share(space, ben, "cat@example.com", OWNER)
    await asyncio.gather(*(set_member(auth, space, one) for one in (ben, cat)))
    (left,) = await listed(auth, ben, space)
    stored = list(auth.store._space_invitations.values())
    assert [one.by_email for one in stored] == [left.invited_by]
    good = [mail for mail in mailed(auth) if mail.invitation == stored[0]]
    ann = await join(auth, good[0].token)
    assert "team" in await roles(auth, ann)


async def test_nothing_is_left_of_an_invitation_that_was_taken_up(auth):
    ben = await proven(auth)
    space = await auth.create_space(ben)
    await set_member(auth, space, ben)
    assert all(isinstance(one, SpaceInvitation) for one in auth.store._space_invitations.values())
    await join(auth, mailed(auth)[0].token)
    assert auth.store._space_invitations == {}
    assert auth.store._invitations == {}


async def test_an_unknown_space_has_no_invitations(auth):
    ben = await proven(auth)
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await listed(auth, ben, new_text_id())
    with refused("NOT_FOUND", "NO_SUCH_INVITATION"):
        await accept(auth, ben, new_text_id())
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
        await set_member(auth, ben.account.personal_space_id, ben)
