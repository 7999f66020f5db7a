"""Spaces, members, and mail about them."""

from tests.gateway.client import Person


def shared(owner: Person, name: str = "Project") -> str:
    space: str = owner.done("POST", "/v1/spaces", {"name": name}, status=201)["space_id"]
    return space


def test_a_space_is_made_listed_and_shared(ann: Person, ben: Person):
    space = shared(ann)
    listed = ann.done("GET", "/v1/spaces")["spaces"]
    assert [(one["name"], one["role"], one["personal"]) for one in listed] == [
        ("personal", "owner", True),
        ("Project", "owner", False),
    ]
    ben.ask("GET", f"/v1/spaces/{space}").refused(404, "NO_SUCH_SPACE")
    member = ann.done("PUT", f"/v1/spaces/{space}/members/{ben.email}", {"role": "viewer"})
    assert (member["email"], member["role"]) == (ben.email, "viewer")
    assert ben.done("GET", f"/v1/spaces/{space}")["role"] == "viewer"
    members = ben.done("GET", f"/v1/spaces/{space}/members")
    assert members["space_name"] == "Project"
    assert {one["email"]: one["role"] for one in members["members"]} == {ann.email: "owner", ben.email: "viewer"}
    ben.ask("PUT", f"/v1/spaces/{space}/members/{ben.email}", {"role": "owner"}).refused(403, "PERMISSION_DENIED")
    ben.done("DELETE", f"/v1/spaces/{space}/members/{ben.email}", status=204)
    ben.ask("GET", f"/v1/spaces/{space}").refused(404, "NO_SUCH_SPACE")
    ann.ask("DELETE", f"/v1/spaces/{space}/members/{ann.email}").refused(412, "LAST_OWNER")


def test_a_repeated_request_makes_one_space(ann: Person):
    made = [
        ann.done("POST", "/v1/spaces", {"name": "Once"}, status=201, idempotency_key="k1")["space_id"] for _ in range(2)
    ]
    assert made[0] == made[1]
    other = ann.done("POST", "/v1/spaces", {"name": "Twice"}, status=201, idempotency_key="k1")["space_id"]
    assert other != made[0]
    assert [space["name"] for space in ann.done("GET", "/v1/spaces")["spaces"]] == ["personal", "Once", "Twice"]


def test_a_personal_space_is_not_shared(ann: Person, ben: Person):
    ann.ask("PUT", f"{ann.top}/members/{ben.email}", {"role": "editor"}).refused(403, "PERMISSION_DENIED")


def test_somebody_unknown_is_no_member(ann: Person):
    space = shared(ann)
    nobody = f"/v1/spaces/{space}/members/nobody-{space}@example.com"
    ann.ask("DELETE", nobody).refused(404, "NO_SUCH_ACCOUNT")
    assert ann.ask("PUT", nobody, {"role": "editor"}).status == 202
    assert [one["email"] for one in ann.done("GET", f"/v1/spaces/{space}/members")["members"]] == [ann.email]
    ann.ask("PUT", f"/v1/spaces/{space}/members/nobody@example.com", {"role": "king"}).refused(400, "INVALID_ARGUMENT")


def test_usage_grows_with_what_is_stored(ann: Person):
    assert ann.done("GET", f"{ann.top}/usage")["used_bytes"] == 0
    node = ann.file("a", b"x" * 1000)
    ann.update(node, b"y" * 500)
    usage = ann.done("GET", f"{ann.top}/usage")
    assert (usage["head"], usage["used_bytes"]) == (2, 1500)
    assert usage["quota_bytes"] > 10**9
    assert (usage["nodes"], usage["max_nodes"]) == (1, 1_000_000)
    assert (usage["unsealed_bytes"], usage["unsealed_objects"]) == (0, 0)


def test_mail_is_switched_off_and_on(ann: Person):
    assert ann.done("GET", f"{ann.top}/notifications") == {"mode": "instant"}
    assert ann.done("PUT", f"{ann.top}/notifications", {"mode": "off"}) == {"mode": "off"}
    assert ann.done("GET", f"{ann.top}/notifications") == {"mode": "off"}
    ann.ask("PUT", f"{ann.top}/notifications", {"mode": "sometimes"}).refused(400, "INVALID_ARGUMENT")


def test_what_belongs_to_others_does_not_exist(ann: Person, ben: Person):
    node = ben.file("secret", b"secret")["id"]
    asked = [
        ("GET", "", None),
        ("GET", "/usage", None),
        ("GET", "/members", None),
        ("GET", "/notifications", None),
        ("PUT", "/notifications", {"mode": "off"}),
        ("GET", "/nodes?path=secret", None),
        ("GET", f"/nodes/{node}", None),
        ("GET", f"/nodes/{node}/content", None),
        ("GET", "/content/secret", None),
        ("GET", f"/nodes/{node}/versions", None),
        ("GET", f"/nodes/{node}/versions/1/content", None),
        ("POST", f"/nodes/{node}/versions/1/restore", None),
        ("GET", "/nodes/root/children", None),
        ("GET", "/nodes/root/archive", None),
        ("GET", f"/archive?node={node}", None),
        ("POST", "/folders", {"parent": "root", "name": "mine"}),
        ("PATCH", f"/nodes/{node}", {"name": "mine"}),
        ("DELETE", f"/nodes/{node}", None),
        ("POST", f"/nodes/{node}/copy", {"parent": "root", "name": "mine"}),
        ("GET", "/trash", None),
        ("POST", f"/trash/{node}/restore", {}),
        ("GET", "/activity", None),
        ("GET", "/search?q=secret", None),
        ("POST", "/uploads", {"objects": [{"sha256": "0" * 64, "size": 1}]}),
        ("POST", "/objects", {"objects": [{"sha256": "0" * 64, "size": 1}]}),
        ("POST", "/changes", {"changes": [{"create": {"parent": "root", "name": "mine", "kind": "directory"}}]}),
        ("GET", "/links", None),
        ("POST", "/links", {"node": node}),
        ("DELETE", f"/links/{'a' * 26}", None),
        ("GET", "/invitations", None),
        ("DELETE", "/invitations/nobody@example.com", None),
    ]
    for method, path, body in asked:
        ann.ask(method, f"{ben.top}{path}", body).refused(404, "NO_SUCH_SPACE")
        # Nodes of others are not found in a space of one's own either.
        if node in path and "/trash/" not in path and "/versions/1/restore" not in path:
            ann.ask(method, f"{ann.top}{path}", body).refused(404, "NO_SUCH_NODE")
    assert ben.children() == ["secret"]


def test_lists_come_in_pages(ann: Person):
    spaces = {ann.done("POST", "/v1/spaces", {"name": f"Page {n}"}, status=201)["space_id"] for n in range(3)}
    for n in range(2):
        ann.done("POST", f"{ann.top}/links", {"node": "root"}, status=201, idempotency_key=str(n))
    some = min(spaces)
    for n in range(2):
        ann.ask("PUT", f"/v1/spaces/{some}/members/page-{n}-{some}@example.com", {"role": "viewer"})
    for path, name, least in (
        ("/v1/spaces", "spaces", 4),
        (f"{ann.top}/members", "members", 1),
        (f"{ann.top}/links", "links", 2),
        ("/v1/devices", "devices", 1),
        ("/v1/keys", "devices", 0),
        ("/v1/invitations", "invitations", 0),
        (f"/v1/spaces/{some}/invitations", "invitations", 2),
    ):
        whole = ann.done("GET", path)
        assert whole["next_page_token"] is None
        found, token = [], ""
        while token is not None:
            page = ann.done("GET", path, query={"page_size": 1, "page_token": token})
            assert len(page[name]) <= 1
            found += page[name]
            token = page["next_page_token"]
        assert found == whole[name]
        assert len(found) >= least
        ann.ask("GET", path, query={"page_size": 1001}).refused(400, "INVALID_ARGUMENT")
        ann.ask("GET", path, query={"page_token": "x"}).refused(400, "INVALID_PAGE_TOKEN")
    for space in spaces:
        assert ann.done("GET", f"/v1/spaces/{space}")["space_id"] == space


def test_a_space_is_renamed_deleted_and_undeleted(ann: Person, ben: Person):
    space = shared(ann, "Harbour")
    ann.done("PUT", f"/v1/spaces/{space}/members/{ben.email}", {"role": "editor"})
    renamed = ann.done("PATCH", f"/v1/spaces/{space}", {"name": "Pier"})
    assert (renamed["name"], renamed["alias"], renamed["deleted_at_ms"]) == ("Pier", "Harbour", None)
    before = ben.done("GET", f"/v1/spaces/{space}")
    assert before["name"] == "Pier"
    ben.ask("PATCH", f"/v1/spaces/{space}", {"name": "Mine"}).refused(403, "PERMISSION_DENIED")
    ben.ask("DELETE", f"/v1/spaces/{space}").refused(403, "PERMISSION_DENIED")
    ann.ask("PATCH", f"/v1/spaces/{space}", {"name": ""}).refused(400, "INVALID_ARGUMENT")
    ann.ask("PATCH", f"/v1/spaces/{space}", {"name": "personal"}).refused(400, "INVALID_ARGUMENT")
    ann.ask("DELETE", ann.top).refused(403, "PERMISSION_DENIED")

    gone = ann.done("DELETE", f"/v1/spaces/{space}")
    assert gone["restorable_until_ms"] - gone["deleted_at_ms"] == 30 * 86_400_000
    assert ann.done("GET", "/v1/deleted-spaces") == {"spaces": [gone], "next_page_token": None}
    assert ben.done("GET", "/v1/deleted-spaces")["spaces"] == []
    for one in (ann, ben):
        assert [found["personal"] for found in one.done("GET", "/v1/spaces")["spaces"]] == [True]
        for path in ("/usage", "/members", "/nodes/root/children", "/notifications", "/trash", "/links"):
            told = one.ask("GET", f"/v1/spaces/{space}{path}").refused(404, "SPACE_DELETED")
            assert "undelete" in told["detail"]
    back = ann.done("POST", f"/v1/spaces/{space}/undelete")
    assert back == renamed
    assert ben.done("GET", f"/v1/spaces/{space}") == before
    assert ann.done("GET", "/v1/deleted-spaces")["spaces"] == []


def test_a_space_is_transferred(ann: Person, ben: Person):
    space = shared(ann)
    path = f"/v1/spaces/{space}/transfer"
    ann.ask("POST", path, {"email": ben.email}).refused(400, "INVALID_ARGUMENT")
    ann.ask("POST", path, {"email": ben.email, "keep_role": "king"}).refused(400, "INVALID_ARGUMENT")
    ann.ask("POST", path, {"email": ann.email, "keep_role": "editor"}).refused(400, "INVALID_ARGUMENT")
    ann.ask("POST", path, {"email": f"nobody-{space}@example.com", "keep_role": None}).refused(404, "NO_SUCH_ACCOUNT")
    ann.ask("POST", f"{ann.top}/transfer", {"email": ben.email, "keep_role": None}).refused(403, "PERMISSION_DENIED")
    owner = ann.done("POST", path, {"email": ben.email, "keep_role": "viewer"})
    assert (owner["email"], owner["role"]) == (ben.email, "owner")
    assert ann.done("GET", f"/v1/spaces/{space}")["role"] == "viewer"
    ben.done("POST", path, {"email": ann.email, "keep_role": None})
    ben.ask("GET", f"/v1/spaces/{space}").refused(404, "NO_SUCH_SPACE")
    assert ann.done("GET", f"/v1/spaces/{space}")["role"] == "owner"
