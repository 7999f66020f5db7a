# ruff: noqa: N802 - rpcs have the names of the contract

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from syncline.auth.v1 import auth_pb2
from syncline.model.accounts import DeviceKind, MailMode, Role
from syncline.model.errors import AccountExists, DeviceRevoked, InvalidArgument, NoSuchSpace, Unavailable, WrongPassword
from syncline.model.identifiers import DeviceId, SpaceId, new_text_id
from syncline.sdk.account import Accounts, sign_in, sign_up
from syncline.sdk.account_file import AccountFile
from syncline.sdk.errors import AlreadySignedIn, AmbiguousSpace, EndpointUnreachable, UnexpectedAnswer
from syncline.sdk.pages import MAX_EMPTY_PAGES
from syncline.sdk.session import Session
from tests.clients.sdk.conftest import enter
from tests.clients.sdk.servicers import PASSWORD, PERSONAL, USER, Auth, Running, running


def test_signing_up_signs_in(services: Running, home: Path) -> None:
    with enter(services, home) as session:
        me = Accounts(session).who_am_i()
    assert (me.user, me.email, me.personal_space, me.device_name) == (USER, "ann@example.com", PERSONAL, "laptop")
    account = AccountFile(home).load()
    assert account is not None
    assert (account.user, account.email, account.personal_space) == (USER, "ann@example.com", PERSONAL)
    assert account.endpoint == services.endpoint


def test_a_failed_sign_up_leaves_nothing(services: Running, home: Path) -> None:
    with pytest.raises(AccountExists):
        sign_up(home, endpoint=services.endpoint, email="taken@example.com", password=PASSWORD, device_name="x")
    with pytest.raises(EndpointUnreachable):
        sign_up(home, endpoint="http://127.0.0.1:9", email="ann@example.com", password=PASSWORD, device_name="x")
    assert AccountFile(home).load() is None


def test_signing_in(services: Running, home: Path) -> None:
    with pytest.raises(WrongPassword):
        sign_in(home, endpoint=services.endpoint, email="ann@example.com", password="wrong", device_name="x")
    endpoint = services.endpoint + "/"
    with sign_in(home, endpoint=endpoint, email="ann@example.com", password=PASSWORD, device_name="x") as session:
        Accounts(session).who_am_i()
        assert session.account.endpoint == services.endpoint


def test_who_is_signed_in_cannot_sign_in_again(services: Running, session: Session, home: Path) -> None:
    with pytest.raises(AlreadySignedIn):
        enter(services, home)


def test_a_revoked_device_can_sign_in_again(services: Running, session: Session, home: Path) -> None:
    services.auth.revoked = True
    with pytest.raises(DeviceRevoked):
        Accounts(session).who_am_i()
    with sign_in(
        home, endpoint=services.endpoint, email="ann@example.com", password=PASSWORD, device_name="x"
    ) as again:
        Accounts(again).who_am_i()


def test_signing_out_forgets_the_account(services: Running, session: Session, home: Path) -> None:
    Accounts(session).sign_out()
    assert services.auth.revoked
    assert AccountFile(home).load() is None


def test_signing_out_a_revoked_device_forgets_it_too(services: Running, session: Session, home: Path) -> None:
    services.auth.revoked = True
    Accounts(session).sign_out()
    assert AccountFile(home).load() is None


def test_signing_out_without_the_service_changes_nothing(services: Running, session: Session, home: Path) -> None:
    services.servers[0].stop(None).wait()
    with pytest.raises(Unavailable):
        Accounts(session).sign_out()
    assert AccountFile(home).load() is not None


def test_devices(services: Running, session: Session) -> None:
    accounts = Accounts(session)
    device, of_an_older_service = accounts.devices()
    assert (device.kind, of_an_older_service.kind) == (DeviceKind.PROGRAM, None)
    assert (device.name, device.created_at_ms, device.last_seen_at_ms, device.current) == ("laptop", 1, 2, False)
    accounts.revoke(DeviceId("d" * 26))
    assert services.auth.requests[-1] == auth_pb2.RevokeDeviceRequest(device_id="d" * 26)


def test_spaces_and_members(services: Running, session: Session) -> None:
    accounts = Accounts(session)
    created = accounts.create_space("Project")
    assert len(services.auth.requests[-1].request_id) == 16
    assert [(one.name, one.role, one.personal) for one in accounts.spaces()] == [
        ("personal", Role.OWNER, True),
        ("Project", Role.OWNER, False),
    ]
    member = accounts.set_member(created.space, "ben@example.com", Role.VIEWER)
    assert (member.email, member.role) == ("ben@example.com", Role.VIEWER)
    assert services.auth.requests[-1].space_id == created.space
    assert [one.email for one in accounts.members(created.space)] == ["ann@example.com"]
    accounts.remove_member(created.space, "ben@example.com")
    assert services.auth.requests[-1].email == "ben@example.com"


def test_a_space_is_renamed_deleted_undeleted_and_handed_over(services: Running, session: Session) -> None:
    accounts = Accounts(session)
    space = accounts.create_space("Project").space
    renamed = accounts.rename_space(space, "Pier")
    assert (renamed.name, renamed.alias, renamed.deleted_at_ms) == ("Pier", "Project", 0)
    assert accounts.deleted_spaces() == []
    deleted = accounts.delete_space(space)
    assert (deleted.deleted_at_ms, deleted.restorable_until_ms) == (1_000, 2_000)
    assert accounts.deleted_spaces() == [deleted]
    assert accounts.undelete_space(space).deleted_at_ms == 0
    assert accounts.deleted_spaces() == []
    assert accounts.transfer_space(space, "ben@example.com", keep=Role.EDITOR).role is Role.OWNER
    assert services.auth.requests[-1].keep_role == auth_pb2.ROLE_EDITOR
    accounts.transfer_space(space, "ben@example.com", keep=None)
    assert services.auth.requests[-1].keep_role == auth_pb2.ROLE_UNSPECIFIED
    accounts.leave_space(space)
    assert services.auth.requests[-1].email == "ann@example.com"
    made = services.auth.requests[-7:]
    assert len({request.request_id for request in made}) == len(made)


def test_a_space_is_found_by_name_or_id(services: Running, session: Session) -> None:
    accounts = Accounts(session)
    project = accounts.create_space("Project").space
    some_id = new_text_id()
    calls = session.requests.counts().grpc
    assert accounts.resolve("personal") == PERSONAL
    assert accounts.resolve(some_id) == some_id
    assert session.requests.counts().grpc == calls, "known without asking"
    assert accounts.resolve("Project") == project
    with pytest.raises(InvalidArgument, match="empty"):
        accounts.resolve("")
    with pytest.raises(NoSuchSpace, match="no space 'project'"):
        accounts.resolve("project")
    accounts.create_space("Project")
    with pytest.raises(AmbiguousSpace, match="2 of your spaces are called 'Project'"):
        accounts.resolve("Project")


def test_roles_and_modes_are_those_of_the_wire() -> None:
    assert {role.name: role.value for role in Role} == {
        name.removeprefix("ROLE_"): value for name, value in auth_pb2.Role.items() if value
    }
    from syncline.notify.v1 import notify_pb2

    assert {mode.name: mode.value for mode in MailMode} == {
        name.removeprefix("MAIL_MODE_"): value for name, value in notify_pb2.MailMode.items() if value
    }
    assert SpaceId(PERSONAL)


class Endless(Auth):
    """A service whose listings have no end."""

    token = "the same"

    def ListSpaces(
        self, request: auth_pb2.ListSpacesRequest, context: grpc.ServicerContext
    ) -> auth_pb2.ListSpacesResponse:
        self.requests.append(request)
        return auth_pb2.ListSpacesResponse(next_page_token=self.token or new_text_id())


@pytest.mark.parametrize(("token", "pages"), [("the same", 2), ("", MAX_EMPTY_PAGES + 1)])
def test_a_listing_of_spaces_without_an_end_is_given_up(home: Path, token: str, pages: int) -> None:
    auth = Endless()  # type: ignore[abstract]  # the generated stubs are stricter than the classes
    auth.token = token
    with (
        running(auth=auth) as services,
        enter(services, home) as session,
        pytest.raises(UnexpectedAnswer, match="without making progress"),
    ):
        Accounts(session).spaces()
    assert len(auth.requests) == pages


def test_a_role_that_the_contract_does_not_have_is_refused_in_words(services: Running, session: Session) -> None:
    services.auth.spaces.append(auth_pb2.Space(space_id=new_text_id(), name="odd", role=99))  # type: ignore[arg-type]
    with pytest.raises(UnexpectedAnswer, match="does not understand"):
        Accounts(session).spaces()
