"""The right of a device in a space, as its key limits it."""

from dataclasses import replace

import pytest

from services.auth.key_limits import check_scope, check_space, limited_grant, limited_role
from services.auth.records import GrantRecord, KeyLimits
from syncline.model.accounts import DeviceKind, KeyScope, Role
from syncline.model.errors import NoSuchSpace, PermissionDenied
from syncline.model.identifiers import SpaceId, UserId, new_text_id
from tests.services.auth.support import new_device, new_key_device

USER, SPACE, OTHER = UserId(new_text_id()), SpaceId(new_text_id()), SpaceId(new_text_id())
READ, WRITE, SHARE = KeyScope


def program(*scopes, spaces=None):
    limits = KeyLimits(frozenset(scopes), spaces)
    return replace(new_key_device(USER, kind=DeviceKind.PROGRAM), limits=limits)


@pytest.mark.parametrize(
    ("scopes", "roles"),
    [
        ({READ}, [Role.VIEWER, Role.VIEWER, Role.VIEWER]),
        ({READ, WRITE}, list(Role)),
        ({READ, SHARE}, list(Role)),
        (set(KeyScope), list(Role)),
    ],
)
def test_the_role_of_a_program(scopes, roles):
    assert [limited_role(role, program(*scopes)) for role in Role] == roles


@pytest.mark.parametrize("device", [new_device(USER), new_key_device(USER)])
def test_no_other_device_is_limited(device):
    assert [limited_role(role, device) for role in Role] == list(Role)
    grant = GrantRecord(SPACE, USER, "ann@example.com", Role.OWNER, "team", 7)
    assert limited_grant(grant, device) is grant
    check_space(SPACE, device)
    check_scope(SHARE, device)


def test_a_grant_by_means_of_a_program():
    grant = GrantRecord(SPACE, USER, "ann@example.com", Role.OWNER, "team", 7)
    assert limited_grant(grant, program(READ, spaces=frozenset({OTHER}))) is None
    assert limited_grant(None, program(READ)) is None
    seen = limited_grant(grant, program(READ, spaces=frozenset({SPACE})))
    assert seen is not None
    assert (seen.role, seen.writes_since_ms) == (Role.VIEWER, 0)
    written = limited_grant(grant, program(READ, WRITE))
    assert written is not None
    assert (written.role, written.writes_since_ms) == (Role.OWNER, 7)


def test_what_a_program_lacks_is_told():
    with pytest.raises(NoSuchSpace):
        check_space(SPACE, program(READ, spaces=frozenset({OTHER})))
    check_space(SPACE, program(READ, spaces=frozenset({SPACE})))
    with pytest.raises(PermissionDenied, match="'write'"):
        check_scope(WRITE, program(READ, SHARE))


def test_a_key_that_changes_something_also_reads():
    assert KeyScope.completed([WRITE]) == {READ, WRITE}
    assert KeyScope.completed([SHARE]) == {READ, SHARE}
    assert KeyScope.completed([READ]) == {READ}
    assert KeyScope.completed([]) == frozenset()
