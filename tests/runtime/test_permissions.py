"""Each kind of caller has calls that it must not reach, said once more apart from the table: neither changes alone.

That the table is what happens is shown by `tests/e2e/test_permissions.py`.
"""

from runtime.permissions import DAV, PEOPLE, ROUTES, RPCS, CallerKind

AUTH = "syncline.auth.v1.AuthService"
METADATA = "syncline.metadata.v1.MetadataService"


def open_to(kind, table):
    """Return the operations that take callers of this kind, without those that take everybody."""
    return {name for name, callers in table.items() if kind in callers and CallerKind.ANONYMOUS not in callers}


def test_a_key_of_a_program_changes_no_rights_wherever_it_asks():
    changing = {"CreateKey", "RevokeDevice", "SetMember", "RemoveMember", "CreateLink", "RevokeLink"}
    changing |= {"RequestProof", "ProveAddress"}
    session, program = (open_to(kind, RPCS) for kind in (CallerKind.SESSION, CallerKind.PROGRAM))
    assert session - program == {f"{AUTH}/{method}" for method in changing}
    assert program <= session
    over_rest = {"create_key", "revoke_device", "set_member", "remove_member", "create_link", "revoke_link"}
    over_rest |= {"request_proof", "prove_address"}
    session, program = (open_to(kind, ROUTES) for kind in (CallerKind.SESSION, CallerKind.PROGRAM))
    assert session - program == over_rest
    assert program <= session
    assert set(DAV.values()) == {PEOPLE}


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
    uploads = {f"{AUTH}/ListWrittenSpaces", f"{AUTH}/SetUploads"}
    assert open_to(CallerKind.SERVICE, RPCS) == rights | uploads
    assert open_to(CallerKind.SERVICE, ROUTES) == set()


def test_without_a_token_nobody_gets_to_what_is_somebodys():
    anybody = {name.rpartition("/")[2] for name, callers in RPCS.items() if CallerKind.ANONYMOUS in callers}
    signing_in = {"SignUp", "SignIn", "RefreshToken", "ExchangeKey", "OpenLink", "GetJwks"}
    assert anybody == signing_in | {"Check", "Watch", "List", "ServerReflectionInfo"}
    assert CallerKind.ANONYMOUS not in RPCS["syncline.notify.v1.NotifyService/Watch"]
    assert {name for name, callers in ROUTES.items() if CallerKind.ANONYMOUS in callers} == {
        *("syncline", "keys", "healthz", "readyz", "openapi", "page", "asset"),
        *("sign_up", "sign_in", "refresh", "open_link"),
    }
