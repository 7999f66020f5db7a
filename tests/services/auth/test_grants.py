"""The decision who may change whose role, alone, for every case."""

import pytest

from services.auth.grants import decide_role
from services.auth.ports import GrantMoved
from services.auth.records import Account, GrantRecord, SpaceInvitation, SpaceRecord
from syncline.model.accounts import Role
from syncline.model.errors import Contended, LastOwner, NoSuchAccount, NoSuchSpace, PermissionDenied
from syncline.model.identifiers import SpaceId, UserId, new_request_id, new_text_id
from tests.services.auth.support import new_device, new_grants, new_login
from tests.support.auth import InMemoryIdentityStore

ANN, BOB = UserId(new_text_id()), UserId(new_text_id())
SPACE = SpaceId(new_text_id())


def space(owners: int = 1, *, personal: bool = False) -> SpaceRecord:
    return SpaceRecord(SPACE, "team", personal, owners, 1_000)


def grant(user: UserId, role: Role | None) -> GrantRecord | None:
    return GrantRecord(SPACE, user, "somebody@example.com", role, "team") if role else None


@pytest.mark.parametrize("before", [None, Role.VIEWER, Role.EDITOR])
@pytest.mark.parametrize("to", [None, *Role])
def test_an_owner_decides_about_others(before, to):
    decide_role(space(), caller=grant(ANN, Role.OWNER), target=grant(BOB, before), to=to, oneself=False)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
@pytest.mark.parametrize("to", [None, *Role])
def test_others_do_not(role, to):
    with pytest.raises(PermissionDenied):
        decide_role(space(), caller=grant(ANN, role), target=grant(BOB, Role.VIEWER), to=to, oneself=False)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
def test_everybody_may_leave_but_not_rise(role):
    me = grant(ANN, role)
    decide_role(space(), caller=me, target=me, to=None, oneself=True)
    with pytest.raises(PermissionDenied):
        decide_role(space(), caller=me, target=me, to=Role.OWNER, oneself=True)


@pytest.mark.parametrize("to", [None, Role.VIEWER, Role.EDITOR])
def test_the_last_owner_stays(to):
    me = grant(ANN, Role.OWNER)
    with pytest.raises(LastOwner):
        decide_role(space(owners=1), caller=me, target=me, to=to, oneself=True)
    decide_role(space(owners=2), caller=me, target=me, to=to, oneself=True)
    decide_role(space(owners=2), caller=me, target=grant(BOB, Role.OWNER), to=to, oneself=False)


def test_who_has_no_grant_learns_nothing():
    with pytest.raises(NoSuchSpace):
        decide_role(space(personal=True), caller=None, target=grant(BOB, Role.OWNER), to=None, oneself=False)


def test_a_personal_space_is_not_shared():
    with pytest.raises(PermissionDenied, match="personal"):
        decide_role(space(personal=True), caller=grant(ANN, Role.OWNER), target=None, to=Role.VIEWER, oneself=False)


class Team:
    """Ann owns the space, over memory."""

    ann: Account

    def __init__(self, store: InMemoryIdentityStore) -> None:
        self.store = store
        self.now_ms = 1000
        self.grants = new_grants(store, clock=lambda: self.now_ms)

    async def sign_up(self) -> Account:
        login = new_login()
        await self.store.create_account(login, device=new_device(login.account.user))
        return login.account


@pytest.fixture
async def team():
    team = Team(InMemoryIdentityStore())
    team.ann = await team.sign_up()
    await team.store.create_space(space(), owner=team.ann, alias="team")
    return team


async def test_a_role_given_is_a_role_checked(team):
    bob = await team.sign_up()
    given = await team.grants.set(
        SPACE, request=new_request_id(), caller=team.ann.user, email=bob.email, role=Role.EDITOR
    )
    assert given == GrantRecord(SPACE, bob.user, bob.email, Role.EDITOR, alias=None)
    assert (await team.grants.check(SPACE, user=bob.user, device=None)).role is Role.EDITOR
    await team.grants.remove(SPACE, request=new_request_id(), caller=team.ann.user, email=bob.email)
    assert (await team.grants.check(SPACE, user=bob.user, device=None)).role is None
    await team.grants.remove(
        SPACE, request=new_request_id(), caller=team.ann.user, email=bob.email
    )  # once more changes nothing


async def test_since_when_a_member_may_write(team):
    bob = await team.sign_up()

    async def since(role: Role | None) -> int:
        team.now_ms += 1
        if role is None:
            await team.grants.remove(SPACE, request=new_request_id(), caller=team.ann.user, email=bob.email)
        else:
            await team.grants.set(SPACE, request=new_request_id(), caller=team.ann.user, email=bob.email, role=role)
        checked = await team.grants.check(SPACE, user=bob.user, device=None)
        return int(checked.writes_since_ms)

    assert await since(Role.VIEWER) == 0
    assert await since(Role.EDITOR) == 1002
    assert await since(Role.EDITOR) == 1002
    assert await since(Role.OWNER) == 1002
    assert await since(Role.EDITOR) == 1002
    assert await since(None) == 0
    assert await since(Role.EDITOR) == 1007
    assert await since(Role.VIEWER) == 0
    assert await since(Role.OWNER) == 1009
    assert (await team.grants.check(SPACE, user=team.ann.user, device=None)).writes_since_ms == 0


async def test_only_owners_learn_whether_an_address_has_an_account(team):
    bob = await team.sign_up()
    await team.grants.set(SPACE, request=new_request_id(), caller=team.ann.user, email=bob.email, role=Role.VIEWER)
    for change in (
        team.grants.set(SPACE, request=new_request_id(), caller=bob.user, email="nobody@example.com", role=Role.VIEWER),
        team.grants.remove(SPACE, request=new_request_id(), caller=bob.user, email="nobody@example.com"),
    ):
        with pytest.raises(PermissionDenied):
            await change
    with pytest.raises(NoSuchAccount):
        await team.grants.remove(SPACE, request=new_request_id(), caller=team.ann.user, email="nobody@example.com")
    invited = await team.grants.set(
        SPACE, request=new_request_id(), caller=team.ann.user, email="nobody@example.com", role=Role.VIEWER
    )
    assert isinstance(invited, SpaceInvitation)


class Unsettled(InMemoryIdentityStore):
    """Somebody else always comes first."""

    async def change_grants(self, *args, **kwargs):
        raise GrantMoved


async def test_it_gives_up_after_a_while():
    team = Team(Unsettled())
    ann, bob = await team.sign_up(), await team.sign_up()
    await team.store.create_space(space(), owner=ann, alias="team")
    with pytest.raises(Contended):
        await team.grants.set(SPACE, request=new_request_id(), caller=ann.user, email=bob.email, role=Role.VIEWER)
