"""Each kind of caller has calls that it must not reach, said once more apart from the table: neither changes alone.

That the table is what happens is shown by `tests/e2e/test_permissions.py`.
"""

import pytest

from runtime.permissions import DAV, ROUTES, RPCS, CallerKind, check_caller
from syncline.model.accounts import KeyScope
from syncline.model.errors import PermissionDenied

AUTH = "syncline.auth.v1.AuthService"
METADATA = "syncline.metadata.v1.MetadataService"


def open_to(kind, table):
    """Return the operations that take callers of this kind, or programs of this scope, without those that take
    everybody.
    """
    return {name for name, callers in table.items() if kind in callers and CallerKind.ANONYMOUS not in callers}


def of_programs(table, *scopes):
    """Return the operations that take programs whose key has one of these scopes."""
    return set().union(*(open_to(scope, table) for scope in scopes))


def test_a_key_of_a_program_changes_no_account_and_no_space_as_a_whole():
    changing = {"CreateKey", "RevokeDevice", "RequestProof", "ProveAddress", "ChangePassword"}
    changing |= {"ListFactors", "AddTotp", "ConfirmTotp", "RemoveFactor"}
    changing |= {"RenameSpace", "DeleteSpace", "UndeleteSpace", "TransferSpace"}
    changing |= {"AcceptInvitation", "DeclineInvitation"}
    session, program = open_to(CallerKind.SESSION, RPCS), of_programs(RPCS, *KeyScope)
    assert session - program == {f"{AUTH}/{method}" for method in changing}
    assert program <= session
    session, program = open_to(CallerKind.SESSION, ROUTES), of_programs(ROUTES, *KeyScope)
    over_rest = {"create_key", "revoke_device", "request_proof", "prove_address", "change_password"}
    over_rest |= {"list_factors", "add_factor", "confirm_factor", "remove_factor"}
    over_rest |= {"rename_space", "delete_space", "undelete_space", "transfer_space"}
    over_rest |= {"accept_invitation", "decline_invitation"}
    assert session - program == over_rest
    assert program <= session


def test_only_a_key_that_shares_changes_members_and_links():
    sharing = {
        f"{AUTH}/{method}" for method in ("SetMember", "RemoveMember", "RevokeInvitation", "CreateLink", "RevokeLink")
    }
    usual = of_programs(RPCS, KeyScope.READ, KeyScope.WRITE)
    assert open_to(KeyScope.SHARE, RPCS) - usual == sharing
    over_rest = {"set_member", "remove_member", "revoke_invitation", "create_link", "revoke_link"}
    usual = of_programs(ROUTES, KeyScope.READ, KeyScope.WRITE)
    assert open_to(KeyScope.SHARE, ROUTES) - usual == over_rest


def test_a_key_that_reads_changes_nothing():
    writing = {"PROPPATCH", "PUT", "MKCOL", "DELETE", "MOVE", "COPY", "LOCK", "UNLOCK"}
    assert open_to(KeyScope.READ, DAV) == set(DAV) - writing
    assert open_to(KeyScope.WRITE, DAV) == writing
    reads = {name.rpartition("/")[2] for name in open_to(KeyScope.READ, RPCS)}
    assert [name for name in reads if not name.startswith(("Get", "List", "Check", "Search", "Measure"))] == [
        name for name in reads if name in {"SignOut", "IssueCredentials", "Watch"}
    ]


@pytest.mark.parametrize(
    ("scopes", "operation", "hint"),
    [
        ({KeyScope.READ}, "PUT", "scope 'write'"),
        (set(), "GET", "scope 'read'"),
    ],
)
def test_a_program_is_told_the_scope_that_it_lacks(scopes, operation, hint):
    with pytest.raises(PermissionDenied, match=hint):
        check_caller(CallerKind.PROGRAM, DAV[operation], scopes=scopes)


def test_what_no_scope_opens_asks_for_a_session():
    with pytest.raises(PermissionDenied, match="sign in"):
        check_caller(CallerKind.PROGRAM, RPCS[f"{AUTH}/CreateKey"], scopes=set(KeyScope))


def test_a_visitor_reads_what_a_link_opens_and_nothing_else():
    assert open_to(CallerKind.VISITOR, RPCS) == {
        f"{AUTH}/CheckAccess",
        f"{AUTH}/CountLinkDownload",
        f"{METADATA}/GetNode",
        f"{METADATA}/ListNodes",
        f"{METADATA}/MeasureTree",
    }
    linked = {"get_linked_node", "list_linked_children", "linked_content", "linked_archive"}
    assert open_to(CallerKind.VISITOR, ROUTES) == linked
    assert {name for name, callers in ROUTES.items() if callers == {CallerKind.VISITOR}} == linked


def test_a_service_asks_who_may_what_tells_what_it_measured_and_nothing_else():
    rights = {f"{AUTH}/CheckAccess", f"{AUTH}/BatchCheckAccess", f"{AUTH}/ListMembers"}
    uploads = {f"{AUTH}/ListWrittenSpaces", f"{AUTH}/SetUploads", f"{AUTH}/ReserveBytes"}
    assert open_to(CallerKind.SERVICE, RPCS) == rights | uploads
    assert open_to(CallerKind.SERVICE, ROUTES) == set()


def test_without_a_token_nobody_gets_to_what_is_somebodys():
    anybody = {name.rpartition("/")[2] for name, callers in RPCS.items() if CallerKind.ANONYMOUS in callers}
    signing_in = {"SignUp", "SignIn", "RefreshToken", "ExchangeKey", "OpenLink", "GetJwks"}
    signing_in |= {"GetInvitation", "RefuseInvitation"}
    signing_in |= {"RequestReset", "ResetPassword"}
    assert anybody == signing_in | {"Check", "Watch", "List", "ServerReflectionInfo"}
    assert CallerKind.ANONYMOUS not in RPCS["syncline.notify.v1.NotifyService/Watch"]
    assert {name for name, callers in ROUTES.items() if CallerKind.ANONYMOUS in callers} == {
        *("syncline", "keys", "healthz", "readyz", "openapi", "page", "asset"),
        *("sign_up", "sign_in", "refresh", "open_link", "get_invitation", "refuse_invitation"),
        *("request_reset", "reset_password"),
    }
