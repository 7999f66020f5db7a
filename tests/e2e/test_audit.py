"""A day of acts in a running system is in its audit log, with who, what, whom and from where, and without a secret."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from services.auth.adapters.dynamodb_audit import DynamoAuditStore
from services.auth.audit.events import AuditEvent, AuditKind, event_to_json
from services.auth.audit.ports import AuditFilter
from stack.demo import DemoDevice
from stack.up import Stack
from syncline.model.identifiers import new_text_id
from tests.e2e.conftest import PASSWORD
from tests.gateway.client import Api

DEADLINE_SECONDS = 180.0
"""Counts of refusals are appended within a minute and a half."""


def log(stack: Stack, *parties: str) -> list[AuditEvent]:
    """Return the events in which persons or addresses have a part, oldest first."""

    async def read() -> list[AuditEvent]:
        async with stack.aws.client("dynamodb") as client:
            store = DynamoAuditStore(client, table=stack.resources.audit_table_name, days=400)
            found = list[AuditEvent]()
            before = ""
            while True:
                page = await store.page(AuditFilter(involving=parties), before=before, limit=1000)
                found += page.events
                if not (before := page.before):
                    return found[::-1]

    return asyncio.run(read())


def told(event: AuditEvent) -> tuple[str, str, dict[str, str]]:
    return event.kind, event.actor.device, {one.kind.value: one.ident for one in event.subjects}


def test_a_day_of_acts_is_told(stack: Stack, new_device: Callable[..., DemoDevice]) -> None:
    ann = new_device("laptop")
    ben = new_device("telephone")
    name = f"Plans {new_text_id()[:6]}"
    ann.run("spaces", "create", name)
    ann.run("share", name, ben.email, "--role", "viewer")
    ann.run("share", name, ben.email, "--role", "editor")
    (ann.folder / "a secret name.txt").write_text("hello")
    ann.sync("--space", name)
    ann.sync()
    api = Api(stack.endpoint)
    wrong = {"email": ann.email, "password": "a wrong password", "device_name": "phone"}
    for _ in range(3):
        api.ask("POST", "/v1/sessions", wrong).refused(401, "WRONG_PASSWORD")
    signed_in = api.done("POST", "/v1/sessions", wrong | {"password": PASSWORD}, status=201)
    here = Api(stack.endpoint, {"authorization": f"Bearer {signed_in['tokens']['access_token']}"})
    user, phone = signed_in["account"]["user_id"], signed_in["device"]["device_id"]
    expiry = int(time.time() * 1000) + 86_400_000
    key = here.done("POST", "/v1/keys", {"name": "backup", "expires_at_ms": expiry}, status=201)
    personal = signed_in["account"]["personal_space_id"]
    link = here.done(
        "POST", f"/v1/spaces/{personal}/links", {"node": "root", "password": "password of a link"}, status=201
    )
    here.done("DELETE", f"/v1/spaces/{personal}/links/{link['link_id']}", status=204)
    ann.run("unshare", name, ben.email)
    ben.run("logout")

    events = log(stack, user)
    laptop = events[0].actor.device
    (space,) = [one["space"] for kind, _, one in map(told, events) if kind == "space.created"]
    (member,) = [one["user"] for kind, _, one in map(told, events) if kind == "member.added"]
    assert [told(event) for event in events] == [
        ("account.created", laptop, {"address": ann.email}),
        ("space.created", laptop, {"space": space}),
        ("member.added", laptop, {"user": member, "space": space}),
        ("member.changed", laptop, {"user": member, "space": space}),
        ("credentials.issued", laptop, {"space": space}),
        ("sign_in.succeeded", phone, {}),
        ("key.created", phone, {"device": key["key_id"] if "key_id" in key else key["device"]["device_id"]}),
        ("link.created", phone, {"space": personal, "link": link["link_id"]}),
        ("link.ended", phone, {"space": personal, "link": link["link_id"]}),
        ("member.removed", laptop, {"user": member, "space": space}),
    ]
    of_ben = [event.kind for event in log(stack, member)]
    assert of_ben == ["account.created", "member.added", "member.changed", "member.removed", "device.signed_out"]
    assert {event.network for event in events} == {"127.0.0.1"}
    assert all(event.request for event in events)

    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (failed := [one for one in log(stack, ann.email) if one.kind == AuditKind.SIGN_IN_FAILED]):
        assert time.monotonic() < deadline, "the refusals are not appended"
        time.sleep(1)
    assert (sum(event.count for event in failed), failed[0].network) == (3, "127.0.0.1")

    text = "\n".join(map(event_to_json, log(stack, user, member, ann.email, ben.email)))
    tokens = signed_in["tokens"]
    secrets = [PASSWORD, "a wrong password", "password of a link", "a secret name", key["key"], link["token"]]
    secrets += [tokens["access_token"], tokens["refresh_token"]]
    assert [secret for secret in secrets if secret in text] == []
