"""The metadata table when DynamoDB refuses: conflicts, throttling, half answers."""

import json
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

import aws.dynamodb
from aws.session import config, session
from services.metadata.adapters import dynamodb_objects, dynamodb_tree
from services.metadata.adapters.dynamodb_journal import DynamoJournal
from services.metadata.adapters.dynamodb_objects import DynamoObjectIndex
from services.metadata.adapters.dynamodb_tree import DynamoTable
from services.metadata.entry import Projection
from services.metadata.ports import EntryTaken, ProjectionState, Sealed
from syncline.model.errors import Unavailable
from syncline.model.identifiers import ROOT, new_request_id
from tests.contract.metadata.interposed import Faults, cancelled, interposed, refusal
from tests.contract.metadata.support import creation, digest, file_node, updated

CONFLICT, FAILED, NONE = "TransactionConflict", "ConditionalCheckFailed", "None"


@pytest.fixture
async def client(embedded):
    async with embedded.aws.client("dynamodb", embedded.metadata) as client:
        yield client


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def table(client, faults, embedded):
    return DynamoTable(interposed(client, faults), table=embedded.table)


@pytest.fixture
def journal(client, faults, embedded):
    return DynamoJournal(interposed(client, faults), table=embedded.table)


def be_hasty(monkeypatch):
    """Let the pauses between attempts be short."""
    hasty = replace(aws.dynamodb.RETRIES, first_pause_seconds=0.0001)
    for module in (aws.dynamodb, dynamodb_objects, dynamodb_tree):
        monkeypatch.setattr(module, "RETRIES", hasty)


async def assert_stored(table, space, projection):
    rows = await table.rows(space, nodes=projection.nodes, names=projection.names, requests=projection.requests)
    assert (rows.nodes, rows.names, rows.requests) == (projection.nodes, projection.names, projection.requests)


async def test_a_conflicting_transaction_is_tried_again(table, faults, space):
    projection = creation(*(file_node(f"file {i}", seq=1) for i in range(10)))
    faults.waiting["transact_write_items"] = [
        cancelled(CONFLICT, *[NONE] * 19),
        cancelled(*[NONE] * 19, "ThrottlingError"),
    ]
    await table.project(space, projection)
    assert len(faults.of("transact_write_items")) == 3
    await assert_stored(table, space, projection)


async def test_what_is_newer_in_the_table_is_left_out_of_the_next_attempt(table, faults, space):
    nodes = [file_node(f"file {i}", seq=1) for i in range(10)]
    newer = [replace(node, seq=9) for node in nodes[:3]]
    await table.project(space, Projection(nodes={node.id: node for node in newer}))
    faults.calls.clear()
    await table.project(space, Projection(nodes={node.id: node for node in nodes}))
    assert [len(call["TransactItems"]) for call in faults.of("transact_write_items")] == [10, 7]
    stored = (await table.rows(space, nodes=[node.id for node in nodes])).nodes
    assert stored == {node.id: node for node in [*newer, *nodes[3:]]}


@pytest.fixture
async def repeated(embedded):
    """A client as services open it that repeats each transaction which was carried out, and the bodies that it sent.

    The SDK does so when it does not get the answer.
    """
    bodies = []

    def once_more(attempts, **_):
        return 0 if attempts == 1 else None

    key = embedded.metadata
    opening = session().create_client(
        "dynamodb",
        endpoint_url=embedded.aws.endpoint,
        region_name=embedded.aws.region,
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret_access_key,
        aws_session_token=key.session_token,
        config=config(proxies={}),
    )
    async with opening as client:
        client.meta.events.register("needs-retry.dynamodb.TransactWriteItems", once_more)
        client.meta.events.register(
            "before-send.dynamodb.TransactWriteItems", lambda request, **_: bodies.append(json.loads(request.body))
        )
        yield client, bodies


async def test_a_projection_needs_no_token_since_its_repetition_does_no_harm(repeated, embedded, space):
    client, bodies = repeated
    table = DynamoTable(client, table=embedded.table)
    nodes = [file_node(f"file {i}", seq=1) for i in range(10)]
    newer = [replace(node, seq=9) for node in nodes[:7]]
    await table.project(space, creation(*nodes))
    await table.project(space, Projection(nodes={node.id: node for node in newer}))
    assert len(bodies) >= 4
    assert all("ClientRequestToken" not in body for body in bodies)
    stored = (await table.rows(space, nodes=[node.id for node in nodes])).nodes
    assert stored == {node.id: node for node in [*newer, *nodes[7:]]}


async def test_objects_that_are_new_are_put_with_a_token_so_that_a_repetition_finds_none_that_is_held(
    repeated, embedded, space
):
    client, bodies = repeated
    table = aws.dynamodb.Table(client, embedded.table, called="the table")
    items = [aws.dynamodb.key_of(f"S#{space}#O", f"{number}") for number in range(10)]
    assert await table.put_new(items) == []
    assert len(bodies) == 2
    assert len({body["ClientRequestToken"] for body in bodies}) == 1


async def test_conflicts_without_end_are_unavailable(table, faults, space, monkeypatch):
    be_hasty(monkeypatch)
    faults.waiting["transact_write_items"] = [cancelled(*[CONFLICT] * 20)] * 100
    with pytest.raises(Unavailable):
        await table.project(space, creation(*(file_node(f"file {i}", seq=1) for i in range(10))))
    assert len(faults.of("transact_write_items")) == 8


async def test_a_transaction_that_can_never_succeed_is_not_tried_again(table, faults, space):
    faults.waiting["transact_write_items"] = [cancelled("ValidationError", *[NONE] * 19)]
    with pytest.raises(ClientError, match="injected"):
        await table.project(space, creation(*(file_node(f"file {i}", seq=1) for i in range(10))))
    assert len(faults.of("transact_write_items")) == 1


async def test_a_put_that_meets_a_transaction_is_tried_again(table, faults, space):
    projection = creation(file_node("a", seq=1))
    faults.waiting["put_item"] = [refusal("TransactionConflictException")] * 3
    await table.project(space, projection)
    await assert_stored(table, space, projection)


async def test_unprocessed_keys_and_items_are_asked_for_again(client, embedded, space, monkeypatch):
    be_hasty(monkeypatch)
    calls = 0

    async def halves(operation, call, arguments):
        """Carries out the first half of a batch, and nothing of every other one."""
        nonlocal calls
        if operation not in {"batch_get_item", "batch_write_item"}:
            return await call(**arguments)
        calls += 1
        [(name, asked)] = arguments["RequestItems"].items()
        reading = operation == "batch_get_item"
        items = asked["Keys"] if reading else asked
        done = 0 if calls % 2 else (len(items) + 1) // 2
        left = {name: {**asked, "Keys": items[done:]} if reading else items[done:]} if items[done:] else {}
        field = "UnprocessedKeys" if reading else "UnprocessedItems"
        if not done:
            return {"Responses": {}, field: left}
        answer = await call(RequestItems={name: {**asked, "Keys": items[:done]} if reading else items[:done]})
        return {**answer, field: left}

    table = DynamoTable(interposed(client, halves), table=embedded.table)
    answered = {new_request_id(): i for i in range(8)}
    await table.project(space, Projection(requests=answered))
    assert (await table.rows(space, requests=answered)).requests == answered
    assert calls > 8


@pytest.mark.parametrize("field", ["UnprocessedKeys", "UnprocessedItems"])
async def test_a_batch_of_which_nothing_is_ever_done_is_unavailable(client, embedded, space, monkeypatch, field):
    async def nothing(operation, call, arguments):
        return {"Responses": {}, field: arguments["RequestItems"]}

    be_hasty(monkeypatch)
    table = DynamoTable(interposed(client, nothing), table=embedded.table)
    request = new_request_id()
    with pytest.raises(Unavailable):
        await (
            table.rows(space, requests=[request])
            if field == "UnprocessedKeys"
            else table.project(space, Projection(requests={request: 1}))
        )


async def test_what_two_processes_prove_of_one_object_at_once_is_all_recorded(client, embedded, space, monkeypatch):
    """Between each reading of the record and its writing, another process adds to it."""
    be_hasty(monkeypatch)
    other = DynamoObjectIndex(client, table=embedded.table)
    length = 0

    def pack(length):
        return Sealed(1000, (0,), (length,), digest(str(length)))

    async def adding(operation, call, arguments):
        nonlocal length
        if operation == "put_item" and length < 5:
            length += 1
            await other.seal(space, {digest("a"): pack(length)})
        return await call(**arguments)

    index = DynamoObjectIndex(interposed(client, adding), table=embedded.table)
    await index.seal(space, {digest("a"): Sealed(1000, (10,), (7,), digest("7"), content_size=9)})
    lengths = (*range(1, 6), 7)
    assert (await index.sealed(space, [digest("a")]))[digest("a")] == Sealed(
        1000, (0, 0, 0, 0, 0, 10), lengths, b"".join(digest(str(length)) for length in lengths), content_size=9
    )


async def test_a_record_that_meets_a_transaction_is_added_to_again(client, embedded, space, monkeypatch):
    be_hasty(monkeypatch)
    conflicts = 3

    async def conflicting(operation, call, arguments):
        nonlocal conflicts
        if operation == "put_item" and "revision" in arguments["Item"] and conflicts:
            conflicts -= 1
            raise refusal("TransactionConflictException")
        return await call(**arguments)

    index = DynamoObjectIndex(interposed(client, conflicting), table=embedded.table)
    await index.seal(space, {digest("a"): Sealed(1000)})
    await index.seal(space, {digest("a"): Sealed(1000, content_size=7)})
    assert not conflicts
    assert await index.sealed(space, [digest("a")]) == {digest("a"): Sealed(1000, content_size=7)}


async def test_no_node_is_written_before_the_version_that_it_replaces(table, faults, space):
    first = file_node("a", seq=1)
    await table.project(space, creation(first))
    faults.waiting["batch_write_item"] = [refusal("InternalServerError", ResponseMetadata={"HTTPStatusCode": 500})]
    later = Projection(nodes={first.id: updated(first, 2)}, updated={first.id})
    with pytest.raises(Unavailable):
        await table.project(space, later)
    assert (await table.rows(space, nodes=[first.id])).nodes == {first.id: first}
    await table.project(space, later)
    assert [version.number for version in await table.versions(space, first.id, before=9, limit=9)] == [1]


async def test_after_a_failure_no_further_call_is_begun(table, faults, space):
    projection = creation(*(file_node(f"file {i}", seq=1) for i in range(1000)))
    faults.waiting["transact_write_items"] = [refusal("ThrottlingException")]
    with pytest.raises(Unavailable):
        await table.project(space, projection)
    begun = len(faults.calls)
    assert begun <= 5
    await table.project(space, projection)
    await assert_stored(table, space, projection)


async def test_an_append_whose_answer_was_lost_finds_its_own_entry(client, embedded, space):
    async def deaf(operation, call, arguments):
        await call(**arguments)
        raise EndpointConnectionError(endpoint_url=embedded.aws.endpoint)

    with pytest.raises(Unavailable):
        await DynamoJournal(interposed(client, deaf), table=embedded.table).append(space, 1, b"ours")
    with pytest.raises(EntryTaken) as taken:
        await DynamoJournal(client, table=embedded.table).append(space, 1, b"ours")
    assert taken.value.blob == b"ours"


async def test_throttling_is_unavailable_and_a_defect_stays_one(table, journal, faults, space):
    for operation, call in (
        ("get_item", lambda: table.state(space)),
        ("get_item", lambda: journal.read(space, 0, 1)),
        ("query", lambda: journal.read(space, 0, 9)),
        ("query", lambda: journal.before(space, 9, 9)),
        ("query", lambda: table.list_names(space, ROOT, after="", limit=9)),
        ("query", lambda: table.stale(1, 9)),
        ("put_item", lambda: journal.append(space, 1, b"entry")),
        ("update_item", lambda: table.mark_dirty(space, "one", 1)),
    ):
        faults.waiting[operation] = [refusal("ProvisionedThroughputExceededException"), refusal("ValidationException")]
        with pytest.raises(Unavailable):
            await call()
        with pytest.raises(ClientError, match="injected"):
            await call()


async def test_a_state_that_others_change_all_the_time_is_unavailable(table, faults, space, monkeypatch):
    be_hasty(monkeypatch)
    await table.mark_dirty(space, "one", 1)
    found = (await table._items.get({"pk": {"S": f"S#{space}"}, "sk": {"S": "STATE"}})) or {}
    faults.waiting["update_item"] = [refusal("ConditionalCheckFailedException", Item=found)] * 100
    with pytest.raises(Unavailable):
        await table.mark_dirty(space, "two", 1)
    faults.waiting.clear()
    assert await table.state(space) == ProjectionState(marks={"one": 1})
