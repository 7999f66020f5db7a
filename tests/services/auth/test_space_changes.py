"""A space is renamed, deleted, undeleted and transferred, and nobody is left with more or less than was meant."""

from __future__ import annotations

from typing import Any

import pytest

from services.auth.records import DAY_MS, ProofMail
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import new_request_id, new_text_id
from tests.services.auth.support import Person, Service, refused, serving

VIEWER, EDITOR, OWNER = auth_pb2.ROLE_VIEWER, auth_pb2.ROLE_EDITOR, auth_pb2.ROLE_OWNER
NONE = auth_pb2.ROLE_UNSPECIFIED
DAYS = 7


@pytest.fixture
async def auth(tmp_path):
    async with serving(
        tmp_path, deleted_space_days=DAYS, spaces_per_person=3, links_per_person=2, rate_makes=1000, rate_shares=1000
    ) as service:
        yield service


@pytest.fixture
async def ann(auth):
    return await auth.sign_up("ann@example.com")


@pytest.fixture
async def ben(auth):
    return await auth.sign_up("ben@example.com")


async def rename(auth: Service, by: Person, space: str, name: str, **given: Any) -> auth_pb2.Space:
    request = auth_pb2.RenameSpaceRequest(**({"request_id": new_request_id()} | given), space_id=space, name=name)
    return (await auth.stub.RenameSpace(request, metadata=by.credentials)).space


async def delete(auth: Service, by: Person, space: str, **given: Any) -> auth_pb2.Space:
    request = auth_pb2.DeleteSpaceRequest(**({"request_id": new_request_id()} | given), space_id=space)
    return (await auth.stub.DeleteSpace(request, metadata=by.credentials)).space


async def undelete(auth: Service, by: Person, space: str, **given: Any) -> auth_pb2.Space:
    request = auth_pb2.UndeleteSpaceRequest(**({"request_id": new_request_id()} | given), space_id=space)
    return (await auth.stub.UndeleteSpace(request, metadata=by.credentials)).space


async def transfer(auth: Service, by: Person, space: str, email: str, keep: Any = NONE, **given: Any):
    request = auth_pb2.TransferSpaceRequest(
        **({"request_id": new_request_id()} | given), space_id=space, email=email, keep_role=keep
    )
    return (await auth.stub.TransferSpace(request, metadata=by.credentials)).owner


async def spaces(auth: Service, one: Person) -> dict[str, auth_pb2.Space]:
    answer = await auth.stub.ListSpaces(auth_pb2.ListSpacesRequest(), metadata=one.credentials)
    return {space.space_id: space for space in answer.spaces if not space.personal}


async def deleted(auth: Service, one: Person) -> dict[str, auth_pb2.Space]:
    answer = await auth.stub.ListDeletedSpaces(auth_pb2.ListDeletedSpacesRequest(), metadata=one.credentials)
    return {space.space_id: space for space in answer.spaces}


async def roles(auth: Service, space: str, by: Person) -> dict[str, int]:
    answer = await auth.stub.ListMembers(auth_pb2.ListMembersRequest(space_id=space), metadata=by.credentials)
    return {member.email: member.role for member in answer.members}


async def checked(auth: Service, space: str, one: Person) -> auth_pb2.CheckAccessResponse:
    return await auth.stub.CheckAccess(auth_pb2.CheckAccessRequest(space_id=space), metadata=one.credentials)


# ---- names


async def test_a_renamed_space_has_its_name_for_everybody_and_its_aliases_as_before(auth, ann, ben):
    space = await auth.create_space(ann, "Harbour")
    await auth.share(space, ann, ben.account.email, VIEWER)
    renamed = await rename(auth, ann, space, " Pier ")
    assert (renamed.name, renamed.alias, renamed.role) == ("Pier", "Harbour", OWNER)
    for one in (ann, ben):
        listed = (await spaces(auth, one))[space]
        assert (listed.name, listed.alias) == ("Pier", "Harbour")
    members = await auth.stub.ListMembers(auth_pb2.ListMembersRequest(space_id=space), metadata=ben.credentials)
    assert members.space_name == "Pier"
    carol = await auth.sign_up("carol@example.com")
    await auth.share(space, ann, carol.account.email, EDITOR)
    assert (await spaces(auth, carol))[space].alias == "Pier"
    other = await auth.create_space(ann, "Harbour")
    assert (await spaces(auth, ann))[other].alias == f"Harbour ({other[:6]})"


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb"])
async def test_a_bad_name_changes_nothing(auth, ann, name):
    space = await auth.create_space(ann, "Harbour")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await rename(auth, ann, space, name)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", field="name"):
        await rename(auth, ann, space, "Personal")
    assert (await spaces(auth, ann))[space].name == "Harbour"


async def test_only_owners_change_a_shared_space_as_a_whole(auth, ann, ben):
    space = await auth.create_space(ann)
    stranger = await auth.sign_up("carol@example.com")
    await auth.share(space, ann, ben.account.email, EDITOR)
    for change in (
        lambda one, where: rename(auth, one, where, "other"),
        lambda one, where: delete(auth, one, where),
        lambda one, where: undelete(auth, one, where),
        lambda one, where: transfer(auth, one, where, "carol@example.com"),
    ):
        with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
            await change(ben, space)
        with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):
            await change(ann, ann.account.personal_space_id)
        with refused("NOT_FOUND", "NO_SUCH_SPACE", space_id=space):
            await change(stranger, space)
        with refused("NOT_FOUND", "NO_SUCH_SPACE"):
            await change(ann, new_text_id())
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
            await change(ann, "no id")
    assert (await spaces(auth, ann))[space].name == "team"


# ---- deletion


async def test_a_deleted_space_gives_nobody_a_right_and_is_back_as_it_was(auth, ann, ben):
    space = await auth.create_space(ann)
    await auth.share(space, ann, ben.account.email, EDITOR)
    link = await auth.stub.CreateLink(
        auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=space, node=bytes(16)),
        metadata=ben.credentials,
    )
    before = {one.account.email: await checked(auth, space, one) for one in (ann, ben)}
    listed = {one.account.email: (await spaces(auth, one))[space] for one in (ann, ben)}
    opened = await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=link.token))
    visitor = (("authorization", f"Bearer {opened.access_token}"),)

    gone = await delete(auth, ann, space)
    times = {"deleted_at_ms": str(auth.clock()), "restorable_until_ms": str(auth.clock() + DAYS * DAY_MS)}
    assert (gone.deleted_at_ms, gone.restorable_until_ms) == (auth.clock(), auth.clock() + DAYS * DAY_MS)
    assert await deleted(auth, ann) == {space: gone}
    assert await deleted(auth, ben) == {}
    for one in (ann, ben):
        assert space not in await spaces(auth, one)
        answer = await checked(auth, space, one)
        assert (answer.role, answer.writes_since_ms) == (NONE, 0)
        assert (answer.deleted_at_ms, answer.restorable_until_ms) == (gone.deleted_at_ms, gone.restorable_until_ms)
        many = await auth.stub.BatchCheckAccess(
            auth_pb2.BatchCheckAccessRequest(
                user_id=one.account.user_id, space_ids=[space, one.account.personal_space_id, new_text_id()]
            ),
            metadata=auth.as_service("notify"),
        )
        assert list(many.space_ids) == [one.account.personal_space_id]
        assert [found.space_id for found in many.deleted_spaces] == [space]
        for access in (auth_pb2.ACCESS_READ, auth_pb2.ACCESS_WRITE):
            with refused("NOT_FOUND", "SPACE_DELETED", space_id=space, **times):
                await auth.credentials(space, one, access)
        with refused("NOT_FOUND", "SPACE_DELETED", **times):
            await roles(auth, space, one)
        with refused("NOT_FOUND", "SPACE_DELETED", **times):
            await auth.unshare(space, one, ben.account.email)
    for refusal in (
        rename(auth, ann, space, "other"),
        transfer(auth, ann, space, ben.account.email),
        auth.share(space, ann, ben.account.email, VIEWER),
    ):
        with refused("NOT_FOUND", "SPACE_DELETED", **times):
            await refusal
    with refused("NOT_FOUND", "SPACE_DELETED"):  # nobody is mailed about it
        await auth.stub.ListMembers(auth_pb2.ListMembersRequest(space_id=space), metadata=auth.as_service("notify"))
    with refused("NOT_FOUND", "NO_SUCH_LINK"):
        await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=link.token))
    seen = await auth.stub.CheckAccess(auth_pb2.CheckAccessRequest(space_id=space), metadata=visitor)
    assert (seen.role, seen.deleted_at_ms) == (NONE, 0)
    stranger = await auth.sign_up("carol@example.com")
    assert (await checked(auth, space, stranger)).deleted_at_ms == 0
    with refused("NOT_FOUND", "NO_SUCH_SPACE"):
        await auth.credentials(space, stranger)

    auth.clock.advance(DAYS * DAY_MS - 1)
    back = await undelete(auth, await again(auth, ann), space)
    assert (back.deleted_at_ms, back.restorable_until_ms) == (0, 0)
    for one in (await again(auth, ann), await again(auth, ben)):
        assert (await spaces(auth, one))[space] == listed[one.account.email]
        assert await checked(auth, space, one) == before[one.account.email]
    assert (await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=link.token))).link.link_id == link.link.link_id


async def again(auth: Service, one: Person) -> Person:
    """Return the person, signed in anew: the clock went on past the end of the access token."""
    return await auth.sign_in(one.account.email)


async def test_after_its_days_a_deleted_space_is_gone_for_everybody(auth, ann, ben):
    space = await auth.create_space(ann)
    await auth.share(space, ann, ben.account.email, OWNER)
    await delete(auth, ann, space)
    auth.clock.advance(DAYS * DAY_MS)
    for one in (await again(auth, ann), await again(auth, ben)):
        assert await deleted(auth, one) == {}
        assert await spaces(auth, one) == {}
        assert (await checked(auth, space, one)).deleted_at_ms == 0
        for refusal in (undelete(auth, one, space), delete(auth, one, space), rename(auth, one, space, "x")):
            with refused("NOT_FOUND", "NO_SUCH_SPACE"):
                await refusal
    assert len(await auth.store.memberships(ann.account.user_id)) == 2
    auth.clock.advance(DAY_MS)  # the lists of its members forget it
    assert await spaces(auth, await again(auth, ann)) == {}
    assert len(await auth.store.memberships(ann.account.user_id)) == 1
    assert len(await auth.store.memberships(ben.account.user_id)) == 2, "the list of ben was not read"


async def test_another_owner_undeletes_and_a_second_deletion_changes_nothing(auth, ann, ben):
    space = await auth.create_space(ann)
    await auth.share(space, ann, ben.account.email, OWNER)
    gone = await delete(auth, ann, space)
    auth.clock.advance(60_000)
    assert (await delete(auth, ben, space)).restorable_until_ms == gone.restorable_until_ms
    assert (await undelete(auth, ben, space)).deleted_at_ms == 0
    assert (await undelete(auth, ann, space)).deleted_at_ms == 0
    assert set(await spaces(auth, ann)) == {space}


async def test_deleting_is_no_way_around_the_limit_of_spaces(auth, ann):
    made = [await auth.create_space(ann, name) for name in "abc"]
    for space in made:
        await delete(auth, ann, space)
    with refused("RESOURCE_EXHAUSTED", "LIMIT_REACHED", limit="spaces") as caught:
        await auth.create_space(ann, "d")
    assert "deleted" in (caught.value.details() or "")
    await undelete(auth, ann, made[0])
    auth.clock.advance(DAYS * DAY_MS)
    ann = await again(auth, ann)
    for name in "de":
        await auth.create_space(ann, name)
    with refused("RESOURCE_EXHAUSTED", "LIMIT_REACHED", limit="spaces"):
        await auth.create_space(ann, "f")


async def test_links_of_a_deleted_space_are_not_dropped_to_make_room(auth, ann):
    kept, other = await auth.create_space(ann, "kept"), await auth.create_space(ann, "other")

    def link(space: str) -> auth_pb2.CreateLinkRequest:
        return auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=space, node=bytes(16))

    tokens = [(await auth.stub.CreateLink(link(kept), metadata=ann.credentials)).token for _ in range(2)]
    await delete(auth, ann, kept)
    with refused("RESOURCE_EXHAUSTED", "LIMIT_REACHED", limit="links_made"):
        await auth.stub.CreateLink(link(other), metadata=ann.credentials)
    await undelete(auth, ann, kept)
    for token in tokens:
        assert (await auth.stub.OpenLink(auth_pb2.OpenLinkRequest(token=token))).link.space_id == kept
    await delete(auth, ann, kept)
    auth.clock.advance(DAYS * DAY_MS)
    ann = await again(auth, ann)
    await auth.stub.CreateLink(link(other), metadata=ann.credentials)


async def test_a_revoked_device_tells_of_its_links_in_deleted_spaces(auth, ann):
    space = await auth.create_space(ann)
    thief = await auth.sign_in("ann@example.com")
    await auth.stub.CreateLink(
        auth_pb2.CreateLinkRequest(request_id=new_request_id(), space_id=space, node=bytes(16)),
        metadata=thief.credentials,
    )
    await delete(auth, ann, space)
    revoke = auth_pb2.RevokeDeviceRequest(device_id=thief.device.device_id)
    assert (await auth.stub.RevokeDevice(revoke, metadata=ann.credentials)).remaining_link_count == 1


# ---- requests


async def test_a_repeated_request_is_carried_out_once(auth, ann, ben):
    space = await auth.create_space(ann)
    await auth.share(space, ann, ben.account.email, OWNER)
    first, second, third = (new_request_id() for _ in range(3))
    await rename(auth, ann, space, "first", request_id=first)
    await rename(auth, ben, space, "second")
    assert (await rename(auth, ann, space, "first", request_id=first)).name == "second"
    await delete(auth, ann, space, request_id=second)
    await undelete(auth, ben, space)
    assert (await delete(auth, ann, space, request_id=second)).deleted_at_ms == 0
    await delete(auth, ann, space)
    await undelete(auth, ann, space, request_id=third)
    await delete(auth, ann, space)
    assert (await undelete(auth, ann, space, request_id=third)).deleted_at_ms != 0
    await undelete(auth, ann, space)
    for request in (first, second, third):
        with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED"):
            await rename(auth, ann, space, "other", request_id=request)
    for call in (rename(auth, ann, space, "x", request_id=b"short"), delete(auth, ann, space, request_id=b"")):
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
            await call
    assert (await spaces(auth, ben))[space].name == "second"


async def test_a_repeated_creation_of_a_renamed_space_finds_it(auth, ann):
    request = auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name="team")
    space = (await auth.stub.CreateSpace(request, metadata=ann.credentials)).space.space_id
    await rename(auth, ann, space, "crew")
    await rename(auth, ann, space, "band")
    again = (await auth.stub.CreateSpace(request, metadata=ann.credentials)).space
    assert (again.space_id, again.name) == (space, "band")
    request.name = "band"
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED"):
        await auth.stub.CreateSpace(request, metadata=ann.credentials)


async def test_a_repeated_creation_of_a_deleted_space_says_that_it_is_deleted(auth, ann):
    request = auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name="team")
    space = (await auth.stub.CreateSpace(request, metadata=ann.credentials)).space.space_id
    await delete(auth, ann, space)
    with refused("NOT_FOUND", "SPACE_DELETED", space_id=space):
        await auth.stub.CreateSpace(request, metadata=ann.credentials)


# ---- transfers


@pytest.mark.parametrize("held", [None, VIEWER, EDITOR, OWNER])
@pytest.mark.parametrize("keep", [NONE, VIEWER, EDITOR, OWNER])
async def test_a_space_is_transferred_at_once(auth, ann, ben, held, keep):
    space = await auth.create_space(ann)
    if held is not None:
        await auth.share(space, ann, ben.account.email, held)
    owner = await transfer(auth, ann, space, ben.account.email, keep)
    assert (owner.email, owner.role) == (ben.account.email, OWNER)
    expected = {ben.account.email: OWNER} | ({ann.account.email: keep} if keep else {})
    assert await roles(auth, space, ben) == expected
    found = await auth.store.members(space)
    assert found is not None
    assert found[0].owners == 1 + (keep == OWNER)
    if keep != OWNER:
        gone = keep == NONE
        refusal = ("NOT_FOUND", "NO_SUCH_SPACE") if gone else ("PERMISSION_DENIED", "PERMISSION_DENIED")
        with refused(*refusal):
            await rename(auth, ann, space, "mine")
    await rename(auth, ben, space, "his")


async def test_a_repeated_transfer_is_carried_out_once(auth, ann, ben):
    space, request = await auth.create_space(ann), new_request_id()
    await transfer(auth, ann, space, ben.account.email, EDITOR, request_id=request)
    await auth.share(space, ben, ann.account.email, OWNER)
    await auth.share(space, ann, ben.account.email, VIEWER)
    assert (await transfer(auth, ann, space, ben.account.email, EDITOR, request_id=request)).role == OWNER
    assert await roles(auth, space, ann) == {ann.account.email: OWNER, ben.account.email: VIEWER}
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED"):
        await transfer(auth, ann, space, ben.account.email, VIEWER, request_id=request)


async def test_a_space_goes_to_somebody_else_who_has_an_account(auth, ann, ben):
    space = await auth.create_space(ann)
    with refused("NOT_FOUND", "NO_SUCH_ACCOUNT"):
        await transfer(auth, ann, space, "nobody@example.com")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", field="email"):
        await transfer(auth, ann, space, "ANN@example.com")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await transfer(auth, ann, space, "no address")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        await transfer(auth, ann, space, ben.account.email, 9)
    assert await roles(auth, space, ann) == {ann.account.email: OWNER}
    await auth.share(space, ann, ben.account.email, EDITOR)
    with refused("PERMISSION_DENIED", "PERMISSION_DENIED"):  # nothing is said of addresses
        await transfer(auth, ben, space, "nobody@example.com")


async def test_nothing_is_transferred_to_an_address_that_is_not_proven(tmp_path):
    async with serving(tmp_path, prove_addresses=True) as auth:
        ann = await auth.sign_up("ann@example.com")
        token = next(mail.token for mail in auth.mail.sent if isinstance(mail, ProofMail))
        await auth.stub.ProveAddress(auth_pb2.ProveAddressRequest(token=token or ""), metadata=ann.credentials)
        await auth.sign_up("ben@example.com")
        space = await auth.create_space(ann)
        with refused("NOT_FOUND", "NO_SUCH_ACCOUNT"):
            await transfer(auth, ann, space, "ben@example.com")


# ---- keys of programs


async def test_a_key_for_some_spaces_sees_only_those_of_them_that_are_deleted(auth, ann):
    opened, other = await auth.create_space(ann, "opened"), await auth.create_space(ann, "other")
    request = auth_pb2.CreateKeyRequest(
        request_id=new_request_id(),
        name="backup",
        expires_at_ms=auth.clock() + DAY_MS,
        scopes=[auth_pb2.KEY_SCOPE_READ],
        space_ids=[opened],
    )
    key = (await auth.stub.CreateKey(request, metadata=ann.credentials)).key
    for space in (opened, other):
        await delete(auth, ann, space)
    token = (await auth.stub.ExchangeKey(auth_pb2.ExchangeKeyRequest(key=key))).tokens.access_token
    by_key = (("authorization", f"Bearer {token}"),)
    listed = await auth.stub.ListDeletedSpaces(auth_pb2.ListDeletedSpacesRequest(), metadata=by_key)
    assert [(one.space_id, one.role) for one in listed.spaces] == [(opened, VIEWER)]
    assert set(await deleted(auth, ann)) == {opened, other}
