"""AWS may answer more than yes and no: throttling, conflicts, half an answer, none at all."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, CredentialRetrievalError, EndpointConnectionError, ReadTimeoutError

from services.auth.adapters.dynamodb import DynamoIdentityStore
from services.auth.adapters.dynamodb_audit import DynamoAuditStore
from services.auth.adapters.sts import StsCredentialSource
from services.auth.ports import GrantMoved
from services.auth.records import Chain, Done, SpaceRecord
from syncline.model.accounts import Role
from syncline.model.errors import Unavailable
from syncline.model.identifiers import DeviceId, LinkId, SpaceId, UserId, new_request_id, new_text_id
from tests.services.auth.support import change_grant, new_account, new_device, new_link, new_login

Answer = Exception | Callable[[dict[str, Any]], dict[str, Any]]


class Scripted:
    """A client whose calls have these outcomes, one after the other; the last one is repeated."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str):
        async def call(**request):
            self.requests.append((operation, request))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer(request)

        return call


def client_error(code: str, status: int = 400, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(response, "AnyOperation")


def cancelled(*reasons: str) -> ClientError:
    return client_error("TransactionCanceledException", CancellationReasons=[{"Code": code} for code in reasons])


PASSING = [
    client_error("ThrottlingException"),
    client_error("ProvisionedThroughputExceededException"),
    client_error("InternalServerError", 500),
    EndpointConnectionError(endpoint_url="http://aws"),
    ReadTimeoutError(endpoint_url="http://aws"),
    CredentialRetrievalError(provider="container-role", error_msg="Read timeout on endpoint URL"),
]

USER, DEVICE, SPACE = UserId(new_text_id()), DeviceId(new_text_id()), SpaceId(new_text_id())
LINK = LinkId(new_text_id())
CHAIN = Chain(b"family", b"second", b"first", 1_000)

TEAM = SpaceRecord(SPACE, "team", False, 1, 1_000)
DONE = Done(USER, new_request_id(), b"fingerprint", 1_000)


async def change_one_grant(store: DynamoIdentityStore) -> None:
    space = SpaceRecord(SPACE, "team", False, 1, 1_000)
    await change_grant(store, space, member=new_account(), before=None, after=Role.OWNER, by=USER, alias="team")


CALLS: dict[str, Callable[[DynamoIdentityStore], Any]] = {
    "create_account": lambda store: store.create_account(new_login(), device=new_device(USER)),
    "login": lambda store: store.login("ann@example.com"),
    "account": lambda store: store.account(USER),
    "replace_password_hash": lambda store: store.replace_password_hash("ann@example.com", old="a", new="b"),
    "add_device": lambda store: store.add_device(new_device(USER)),
    "device": lambda store: store.device(DEVICE),
    "devices": lambda store: store.devices(USER, including=DEVICE),
    "advance_chain": lambda store: store.advance_chain(DEVICE, expected=CHAIN, to=CHAIN, seen_at_ms=1_000),
    "key_used": lambda store: store.key_used(DEVICE, seen_at_ms=1_000, expires_at_ms=2_000),
    "add_link": lambda store: store.add_link(new_link(SPACE, USER)),
    "link": lambda store: store.link(SPACE, LINK),
    "link_with_token": lambda store: store.link_with_token(bytes(32)),
    "links": lambda store: store.links(SPACE),
    "links_of": lambda store: store.links_of(USER),
    "revoke_link": lambda store: store.revoke_link(new_link(SPACE, USER), at_ms=1_000),
    "without_ended": lambda store: store.without_ended([new_link(SPACE, USER)]),
    "count_download": lambda store: store.count_download(SPACE, LINK, new_request_id(), now_ms=1_000),
    "revoke_device": lambda store: store.revoke_device(DEVICE, at_ms=1_000),
    "create_space": lambda store: store.create_space(
        SpaceRecord(SPACE, "team", False, 1, 1_000), owner=new_account(), alias="team"
    ),
    "done": lambda store: store.done(USER, new_request_id()),
    "note": lambda store: store.note(Done(USER, new_request_id(), b"fingerprint", 1_000)),
    "give_alias": lambda store: store.give_alias(SPACE, USER, "team"),
    "memberships": lambda store: store.memberships(USER),
    "members": lambda store: store.members(SPACE),
    "space_with_grants": lambda store: store.space_with_grants(SPACE, USER),
    "change_grants": change_one_grant,
    "change_space": lambda store: store.change_space(TEAM, replace(TEAM, name="crew"), by=USER, done=DONE),
    "forget_membership": lambda store: store.forget_membership(SPACE, USER),
    "deletions": lambda store: store.deletions([SPACE], user=USER),
    "access": lambda store: store.access(SPACE, user=USER, device=DEVICE),
    "accesses": lambda store: store.accesses([(SPACE, USER)], [DEVICE]),
    "count_attempt": lambda store: store.count_attempt(
        subject="ann@example.com", peer=None, limit=1, window_ms=1_000, now_ms=1_000
    ),
    "know_network": lambda store: store.know_network(subject="ann@example.com", peer="192.0.2.1", until_ms=1_000),
    "knows_network": lambda store: store.knows_network(subject="ann@example.com", peer="192.0.2.1", now_ms=1_000),
    "forget_device": lambda store: store.forget_device(DEVICE, until_ms=1_000),
    "drop_link": lambda store: store.drop_link(new_link(SPACE, USER)),
    "gates": lambda store: store.gates("spaces ann"),
    "forget_attempts": lambda store: store.forget_attempts(subject="ann@example.com", peer="192.0.2.1"),
}


def identity_store(client: Any) -> DynamoIdentityStore:
    audit = DynamoAuditStore(client, table="audit", days=400)
    return DynamoIdentityStore(client, table="identity", audit=audit)


def store_with(*answers: Answer) -> DynamoIdentityStore:
    client: Any = Scripted(*answers)
    return identity_store(client)


@pytest.mark.parametrize("fault", PASSING, ids=str)
@pytest.mark.parametrize("name", CALLS)
async def test_a_passing_fault_is_unavailable(name, fault):
    with pytest.raises(Unavailable):
        await CALLS[name](store_with(fault))


@pytest.mark.parametrize("name", CALLS)
async def test_what_does_not_pass_is_not_hidden(name):
    with pytest.raises(ClientError):
        await CALLS[name](store_with(client_error("AccessDeniedException")))


@pytest.mark.parametrize(
    "name", ["create_account", "create_space", "change_grants", "give_alias", "add_link", "revoke_link", "add_device"]
)
async def test_a_throttled_transaction_is_unavailable(name):
    with pytest.raises(Unavailable):
        await CALLS[name](store_with(cancelled("None", "ThrottlingError")))


async def test_a_conflict_of_transactions_is_another_writer():
    conflict = cancelled("None", "TransactionConflict", "None")
    with pytest.raises(GrantMoved):
        await change_one_grant(store_with(conflict))
    for name in ("create_account", "create_space", "give_alias", "add_link", "revoke_link", "add_device"):
        with pytest.raises(Unavailable):
            await CALLS[name](store_with(conflict))


async def test_a_device_of_the_time_before_kinds_is_a_client():
    written = new_device(USER)
    item: dict[str, Any] = {}

    def keep(request):
        item.update(request["TransactItems"][0]["Put"]["Item"])
        return {}

    await store_with(keep).add_device(written)
    del item["kind"]
    assert await store_with(lambda _: {"Item": item}).device(written.device) == written


async def test_a_revoked_link_is_closed_although_its_token_was_left_behind():
    link = new_link(SPACE, USER)
    items: list[dict[str, Any]] = []

    def keep(request):
        items.extend(write["Put"]["Item"] for write in request["TransactItems"])
        return {}

    await store_with(keep).add_link(link)
    stored, token, _ = items
    answers: list[Answer] = [lambda _: {"Item": token}, lambda _: {"Item": stored}]
    assert await store_with(*answers).link_with_token(link.token) == link
    stored["revoked_at"] = {"N": "5000"}
    assert await store_with(*answers).link_with_token(link.token) is None


async def test_a_link_is_revoked_whole_or_not_at_all():
    link = new_link(SPACE, USER)
    client: Any = Scripted(lambda _: {}, EndpointConnectionError(endpoint_url="http://aws"))
    await identity_store(client).revoke_link(link, at_ms=1_000)
    [(operation, request)] = client.requests
    assert operation == "transact_write_items"
    written = {write[kind]["Key"]["pk"]["S"]: kind for write in request["TransactItems"] for kind in write}
    token = next(key for key in written if key.startswith("L#"))
    assert written == {f"S#{SPACE}#L": "Update", token: "Delete", f"U#{USER}": "Delete"}


async def test_what_was_left_of_a_revoked_link_leaves_the_list_of_its_maker():
    link = new_link(SPACE, USER)
    client: Any = Scripted(lambda _: {"Responses": {"identity": []}})
    assert await identity_store(client).without_ended([link]) == []
    [(_, asked), (operation, deleted)] = client.requests
    assert asked["RequestItems"]["identity"]["ConsistentRead"]
    assert operation == "delete_item"
    assert deleted["Key"] == {"pk": {"S": f"U#{USER}"}, "sk": {"S": f"L#{link.link}"}}


async def test_keys_that_were_left_out_are_asked_for_again():
    space: dict[str, Any] = {"pk": {"S": f"S#{SPACE}"}, "sk": {"S": "SPACE"}, "name": {"S": "team"}}
    space |= {"personal": {"BOOL": False}, "owners": {"N": "1"}, "created_at": {"N": "1000"}}
    grant = {"pk": space["pk"], "sk": {"S": f"U#{USER}"}, "email": {"S": "a@example.com"}, "role": {"S": "owner"}}

    def half(request):
        left = {"identity": {"Keys": request["RequestItems"]["identity"]["Keys"][1:], "ConsistentRead": True}}
        return {"Responses": {"identity": [space]}, "UnprocessedKeys": left}

    client: Any = Scripted(half, lambda _: {"Responses": {"identity": [grant]}, "UnprocessedKeys": {}})
    found = await identity_store(client).space_with_grants(SPACE, USER)
    assert found is not None
    assert found[1][USER].role is Role.OWNER
    keys = [request["RequestItems"]["identity"]["Keys"] for _, request in client.requests]
    assert [len(asked) for asked in keys] == [2, 1]


async def test_keys_that_are_left_out_for_ever_are_unavailable():
    def none(request):
        return {"Responses": {}, "UnprocessedKeys": request["RequestItems"]}

    with pytest.raises(Unavailable):
        await CALLS["space_with_grants"](store_with(none))


async def test_every_read_is_consistent():
    def nothing(_):
        return {"Responses": {}, "Items": []}

    for name in ("login", "account", "device", "memberships", "members", "space_with_grants", "access"):
        client: Any = Scripted(nothing)
        await CALLS[name](identity_store(client))
        for _, request in client.requests:
            assert request.get("ConsistentRead") or request["RequestItems"]["identity"]["ConsistentRead"]


@pytest.mark.parametrize("fault", PASSING, ids=str)
async def test_sts_that_does_not_answer_is_unavailable(fault):
    client: Any = Scripted(fault)
    source = StsCredentialSource(client, role_arn="arn:aws:iam::000000000000:role/transfer")
    with pytest.raises(Unavailable):
        await source.assume(session_name="ann", policy="{}", seconds=900)


@asynccontextmanager
async def answering(status: str, body: bytes):
    """An AWS that says only this."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_throttling_as_it_comes_over_the_wire():
    from stack.embedded_aws import Aws, AwsCredentials

    body = b'{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slow down"}'
    async with answering("400 Bad Request", body) as endpoint:
        aws = Aws(endpoint, AwsCredentials("key", "secret"))
        async with aws.client("dynamodb", retries={"total_max_attempts": 1}) as client:
            with pytest.raises(Unavailable):
                await identity_store(client).login("ann@example.com")
