"""The obligations of every adapter of DoorbellQueues."""

import pytest

from services.notify.ports import QueueGone
from syncline.model.identifiers import new_text_id
from tests.contract.notify.conftest import Outside
from tests.contract.notify.test_queue import received


def fresh(outside: Outside) -> str:
    return outside.doorbell_queues.prefix + new_text_id()


async def test_every_queue_gets_everything_as_it_was_announced(outside):
    queues = [await outside.doorbell_queues.open(fresh(outside)) for _ in range(2)]
    body = '{"v": 1, "text": "ä\\u0000<&>\\"" }'
    await outside.announce(body)
    for queue in queues:
        (message,) = await received(queue, 1)
        assert message.body == body
        await queue.delete([message])


async def test_a_closed_queue_is_gone_and_the_others_stay(outside):
    queues = outside.doorbell_queues
    first, second = fresh(outside), fresh(outside)
    closed, open_ = await queues.open(first), await queues.open(second)
    await queues.close(first)
    await queues.close(first)
    assert first not in await queues.names()
    assert second in await queues.names()
    with pytest.raises(QueueGone):
        await closed.receive()
    await outside.announce("a")
    assert [message.body for message in await received(open_, 1)] == ["a"]


async def test_names_tell_of_every_queue(outside):
    names = {fresh(outside) for _ in range(3)}
    for name in names:
        await outside.doorbell_queues.open(name)
    assert names <= set(await outside.doorbell_queues.names())


async def test_whatever_is_left_of_a_queue_can_be_closed(outside):
    queues, name = outside.doorbell_queues, fresh(outside)
    await outside.remove(await queues.open(name))
    if name in await queues.names():  # a subscription that leads nowhere
        await queues.close(name)
    assert name not in await queues.names()
