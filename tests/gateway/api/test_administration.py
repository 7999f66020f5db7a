"""Users, spaces of all people and the policy over HTTP, as administrators see and change them."""

from __future__ import annotations

import pytest

from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.gateway.administrators import administrator, join
from tests.gateway.client import Person, sign_up


@pytest.fixture(scope="module")
def root(stack: Stack) -> Person:
    return administrator(stack)


def user_id(person: Person) -> str:
    found: str = person.account["account"]["user_id"]
    return found


def test_users_are_listed_shown_suspended_and_resumed(root: Person, ann: Person) -> None:
    listed = root.done("GET", "/v1/admin/users", query={"email_prefix": ann.email[:10], "page_size": 1000})
    (user,) = [one for one in listed["users"] if one["email"] == ann.email]
    assert user == root.done("GET", f"/v1/admin/users/{user_id(ann)}")
    assert (user["proven"], user["admin"], user["suspension"]) == (True, False, None)
    devices = root.done("GET", f"/v1/admin/users/{user_id(ann)}/devices")["devices"]
    assert [one["device_id"] for one in devices] == [ann.account["device"]["device_id"]]
    spaces = root.done("GET", f"/v1/admin/users/{user_id(ann)}/spaces")["spaces"]
    assert [(one["space_id"], one["role"], one["personal"]) for one in spaces] == [(ann.space, "owner", True)]
    suspension = f"/v1/admin/users/{user_id(ann)}/suspension"
    suspended = root.done("PUT", suspension, {"reason": "left"})
    assert suspended["suspension"]["reason"] == "left"
    assert suspended["suspension"]["by_user_id"] == user_id(root)
    found = root.done("GET", "/v1/admin/users", query={"state": "suspended", "email_prefix": ann.email})
    assert found["users"] == [suspended]
    ann.ask("GET", "/v1/session").refused(401, "ACCOUNT_SUSPENDED")
    assert root.done("DELETE", suspension) == user
    ann.done("GET", "/v1/session")


def test_quotas_are_set_and_taken_back(root: Person, ann: Person) -> None:
    quota = f"/v1/admin/users/{user_id(ann)}/quota"
    limited = root.done("PUT", quota, {"quota_bytes": 0})
    assert (limited["usage"]["quota_bytes"], limited["quota_set"]) == (0, True)
    assert ann.done("GET", "/v1/session")["usage"]["quota_bytes"] == 0
    assert ann.done("GET", f"{ann.top}/usage")["quota_bytes"] == 0
    usual = root.done("PUT", quota, {})
    assert (usual["usage"]["quota_bytes"], usual["quota_set"]) == (None, False)
    of_space = f"/v1/admin/spaces/{ann.space}/quota"
    shown = root.done("PUT", of_space, {"quota_bytes": 1 << 30})
    assert (shown["quota_bytes"], shown["quota_set"], shown["payer_user_id"]) == (1 << 30, True, user_id(ann))
    assert shown == root.done("GET", f"/v1/admin/spaces/{ann.space}")
    assert root.done("PUT", of_space, {"quota_bytes": None})["quota_set"] is False
    for wrong in (-1, 1.5, "1G", 1 << 61):
        root.ask("PUT", quota, {"quota_bytes": wrong}).refused(400, "INVALID_ARGUMENT")
    ann.ask("PUT", quota, {"quota_bytes": 1 << 50}).refused(403, "PERMISSION_DENIED")
    root.ask("PUT", f"/v1/admin/users/{new_text_id()}/quota", {}).refused(404, "NO_SUCH_ACCOUNT")
    root.ask("PUT", f"/v1/admin/spaces/{new_text_id()}/quota", {}).refused(404, "NO_SUCH_SPACE")


def test_a_list_of_users_has_pages(root: Person, stack: Stack) -> None:
    word = f"paged{new_text_id()[:8]}"
    people = sorted(sign_up(stack.endpoint, f"{word}{number}").email for number in range(3))
    first = root.done("GET", "/v1/admin/users", query={"email_prefix": word, "page_size": 2})
    rest = root.done(
        "GET",
        "/v1/admin/users",
        query={"email_prefix": word, "page_size": 2, "page_token": first["next_page_token"]},
    )
    assert [one["email"] for one in first["users"] + rest["users"]] == people
    assert rest["next_page_token"] is None


def test_an_invitation_has_an_address(root: Person, stack: Stack) -> None:
    email = f"invited-{new_text_id()}@example.com"
    made = root.done("POST", "/v1/admin/invitations", {"email": email}, status=201, idempotency_key="i")
    assert made["url"] == f"{stack.endpoint}/join#{made['token']}"
    assert root.done("POST", "/v1/admin/invitations", {"email": email}, status=201, idempotency_key="i") == made
    join(stack, email, made["token"])
    root.ask("POST", "/v1/admin/invitations", {"email": email}).refused(409, "ACCOUNT_EXISTS")
    other = f"invited-{new_text_id()}@example.com"
    mailed = root.done("POST", "/v1/admin/invitations", {"email": other, "mail": True}, status=201)
    assert (mailed["token"], mailed["url"]) == (None, None)


def test_a_user_is_signed_out_and_made_an_administrator(root: Person, ann: Person) -> None:
    right = f"/v1/admin/users/{user_id(ann)}/administrator"
    assert root.done("PUT", right, {"admin": True})["admin"]
    assert ann.done("GET", "/v1/admin/policy")["sign_up_policy"] == "open"
    assert not root.done("PUT", right, {"admin": False})["admin"]
    ann.ask("GET", "/v1/admin/policy").refused(403, "PERMISSION_DENIED")
    signed_out = root.done("POST", f"/v1/admin/users/{user_id(ann)}/sign-out", {"end_keys": True})
    assert signed_out == {"device_count": 1, "key_count": 0}
    ann.ask("GET", "/v1/session").refused(401, "DEVICE_REVOKED")
    root.ask("PUT", f"/v1/admin/users/{user_id(root)}/administrator", {"admin": False}).refused(
        412, "LAST_ADMINISTRATOR"
    )


def test_spaces_of_all_people_are_shown_and_get_owners(root: Person, ann: Person, ben: Person) -> None:
    space = ann.done("POST", "/v1/spaces", {"name": "team"}, status=201)["space_id"]
    newest = root.done("GET", "/v1/admin/spaces", query={"page_size": 1})["spaces"]
    assert [(one["space_id"], one["name"], one["owners"]) for one in newest] == [(space, "team", 1)]
    assert root.done("GET", f"/v1/admin/spaces/{space}") == newest[0]
    owner = root.done("PUT", f"/v1/admin/spaces/{space}/owners/{user_id(ben)}")
    assert (owner["email"], owner["role"]) == (ben.email, "owner")
    members = root.done("GET", f"/v1/admin/spaces/{space}/members")
    assert members["space_name"] == "team"
    assert {(one["email"], one["role"]) for one in members["members"]} == {(ann.email, "owner"), (ben.email, "owner")}
    root.ask("GET", f"/v1/spaces/{space}/nodes/root/children").refused(404, "NO_SUCH_SPACE")
    root.ask("GET", f"/v1/admin/spaces/{new_text_id()}").refused(404, "NO_SUCH_SPACE")
    root.ask("GET", f"/v1/admin/users/{new_text_id()}").refused(404, "NO_SUCH_ACCOUNT")


def test_what_is_wrong_is_said(root: Person, ann: Person) -> None:
    root.ask("GET", "/v1/admin/users", query={"state": "happy"}).refused(400, "INVALID_ARGUMENT")
    root.ask("GET", "/v1/admin/users", query={"email_prefix": "x" * 300}).refused(400, "INVALID_ARGUMENT")
    suspension = f"/v1/admin/users/{user_id(ann)}/suspension"
    root.ask("PUT", suspension, {"reason": "x" * 501}).refused(400, "INVALID_ARGUMENT")
    root.ask("PUT", suspension, {"why": "x"}).refused(400, "INVALID_ARGUMENT")
    root.ask("POST", "/v1/admin/invitations", {"email": "nonsense"}).refused(400, "INVALID_ARGUMENT")
    ann.ask("PUT", suspension, {}).refused(403, "PERMISSION_DENIED")


def test_the_audit_log_is_read_by_kind_and_person(root: Person, ann: Person) -> None:
    space = ann.done("POST", "/v1/spaces", {"name": "audited"}, status=201)["space_id"]
    found = root.done("GET", "/v1/admin/audit", query={"involving": user_id(ann), "kind": "space.created"})
    (event,) = [one for one in found["events"] if {"kind": "space", "id": space} in one["subjects"]]
    assert (event["actor"]["user_id"], event["result"], event["count"]) == (user_id(ann), "done", 1)
    assert event["actor"]["device_id"] == ann.account["device"]["device_id"]
    later = {"involving": user_id(ann), "since_ms": event["at_ms"] + 1, "kind": "space.created"}
    assert root.done("GET", "/v1/admin/audit", query=later)["events"] == []
    ann.ask("GET", "/v1/admin/audit").refused(403, "PERMISSION_DENIED")
    root.ask("GET", "/v1/admin/audit", query={"kind": "no such kind"}).refused(400, "INVALID_ARGUMENT")
