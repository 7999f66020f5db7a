"""The tests show how the kit understands DynamoDB's answers, whichever adapter asks."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError

from aws.dynamodb import (
    CONDITION_FAILED,
    LONG_READS_AT_ONCE,
    MAX_FEW_KEYS,
    NEW,
    Cancelled,
    ConditionFailed,
    MetTransaction,
    Table,
    attribute,
    bytes_of,
    flag_of,
    key_of,
    number_of,
    text_of,
)
from runtime.network import charge_to
from runtime.pool import Share
from syncline.model.errors import Unavailable

ITEM = {**key_of("p", "s"), "n": attribute(7), "b": attribute(b"raw"), "yes": attribute(True)}


class Client:
    """Raises an error for each call, or gives the answers in turn; keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def __getattr__(self, operation: str) -> Any:
        async def call(**arguments: Any) -> Any:
            self.asked.append(arguments)
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def refusal(code: str, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}, **more}
    return ClientError(response, "AnyOperation")


def table(*answers: Any) -> tuple[Table, Client]:
    client: Any = Client(*answers)
    return Table(client, "t", called="the table"), client


def test_attributes_come_back_as_they_went_in():
    assert ITEM["n"] == {"N": "7"}
    assert ITEM["yes"] == {"BOOL": True}  # although True is an int
    assert (text_of(ITEM, "pk"), number_of(ITEM, "n"), bytes_of(ITEM, "b"), flag_of(ITEM, "yes")) == (
        "p",
        7,
        b"raw",
        True,
    )


async def test_a_condition_that_fails_tells_what_is_there():
    tested, client = table(refusal("ConditionalCheckFailedException", Item=ITEM))
    with pytest.raises(ConditionFailed) as failed:
        await tested.put(ITEM, NEW)
    assert failed.value.found == ITEM
    assert client.asked[0]["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"


@pytest.mark.parametrize(
    "write",
    [
        lambda tested: tested.put(ITEM),
        lambda tested: tested.update(key_of("p", "s"), update="SET n = :n", values={":n": attribute(1)}),
        lambda tested: tested.delete(key_of("p", "s")),
    ],
    ids=["put", "update", "delete"],
)
async def test_a_write_that_meets_a_transaction_may_be_repeated(write):
    tested, _ = table(refusal("TransactionConflictException"))
    with pytest.raises(Unavailable, match="try again") as met:
        await write(tested)
    assert isinstance(met.value, MetTransaction)


async def test_a_cancelled_transaction_tells_why_for_each_write():
    reasons = [{"Code": "None"}, {"Code": CONDITION_FAILED}]
    tested, _ = table(refusal("TransactionCanceledException", CancellationReasons=reasons))
    with pytest.raises(Cancelled) as cancelled:
        await tested.transact(tested.putting(ITEM), tested.deleting(key_of("p", "s")))
    assert cancelled.value.reasons == ["None", CONDITION_FAILED]


async def test_a_transaction_that_is_wrong_is_a_defect():
    reasons = [{"Code": CONDITION_FAILED}, {"Code": "ValidationError"}]
    tested, _ = table(refusal("TransactionCanceledException", CancellationReasons=reasons))
    with pytest.raises(ClientError):
        await tested.transact(tested.putting(ITEM))


async def test_long_reads_of_one_caller_leave_places_for_others():
    """The table answers nobody before it is released."""
    reading: list[str] = []
    released = asyncio.Event()

    class Slow:
        async def batch_get_item(self, *, RequestItems: Any) -> Any:  # noqa: N803 # as the SDK names it
            reading.append(RequestItems["t"]["Keys"][0]["pk"]["S"])
            await released.wait()
            return {"Responses": {}}

    client: Any = Slow()
    tested = Table(client, "t", called="the table")

    async def ask(caller: str, count: int) -> None:
        charge_to(Share(caller, f"network of {caller}"))
        await tested.get_all(key_of(caller, str(n)) for n in range(count))

    async def until(count: int) -> None:
        while len(reading) < count:
            await asyncio.sleep(0)

    async with asyncio.timeout(60):
        asking = [asyncio.create_task(ask("mallory", 100)) for _ in range(2 * LONG_READS_AT_ONCE)]
        await until(LONG_READS_AT_ONCE // 2)
        asking.append(asyncio.create_task(ask("ann", 100)))
        asking.append(asyncio.create_task(ask("mallory's few", MAX_FEW_KEYS)))
        await until(LONG_READS_AT_ONCE // 2 + 2)
        assert Counter(reading) == {"mallory": LONG_READS_AT_ONCE // 2, "ann": 1, "mallory's few": 1}
        released.set()
        await asyncio.gather(*asking)
    assert reading.count("mallory") == 2 * LONG_READS_AT_ONCE


async def test_a_query_goes_over_pages_up_to_its_limit():
    pages = [{"Items": [ITEM, ITEM], "LastEvaluatedKey": key_of("p", "s")}, {"Items": [ITEM], "LastEvaluatedKey": {}}]
    tested, client = table(*pages)
    assert len([item async for item in tested.query(3, KeyConditionExpression="pk = :p")]) == 3
    assert [asked["Limit"] for asked in client.asked] == [3, 1]
    assert client.asked[1]["ExclusiveStartKey"] == key_of("p", "s")
    assert all(asked["ConsistentRead"] for asked in client.asked)
