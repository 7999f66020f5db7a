"""The obligations of every adapter of Queue."""

import asyncio

import pytest

from services.notify.ports import QueueGone
from services.notify.records import QueueMessage


async def received(queue, count):
    """Receive until `count` messages came."""
    messages: list[QueueMessage] = []
    async with asyncio.timeout(60):
        while len(messages) < count:
            messages += await queue.receive()
    return messages


async def test_what_was_put_comes_out(outside):
    queue = await outside.queue()
    await outside.put(queue, "a", "b", "c")
    messages = await received(queue, 3)
    assert sorted(message.body for message in messages) == ["a", "b", "c"]
    assert [message.receives for message in messages] == [1, 1, 1]


async def test_whoever_waits_gets_what_comes(outside):
    queue = await outside.queue()
    waiting = asyncio.create_task(received(queue, 1))
    await asyncio.sleep(0.05)
    await outside.put(queue, "a")
    assert [message.body for message in await waiting] == ["a"]


async def test_what_is_not_deleted_comes_again(outside):
    queue = await outside.queue()
    await outside.put(queue, "a", "b")
    messages = await received(queue, 2)
    await outside.put(queue, "c")
    for message in messages:
        if message.body == "a":
            await queue.delete([message])
        else:
            await queue.hide(message, seconds=0)
    again = await received(queue, 2)
    assert {message.body: message.receives for message in again} == {"b": 2, "c": 1}


async def test_a_message_stays_hidden_for_as_long_as_it_is_said(outside):
    queue = await outside.queue()
    await outside.put(queue, "a")
    (message,) = await received(queue, 1)
    began = asyncio.get_running_loop().time()  # before it is hidden: the answer may be late
    await queue.hide(message, seconds=1)
    assert (await received(queue, 1))[0].body == "a"
    assert asyncio.get_running_loop().time() - began > 0.8


async def test_what_is_put_back_comes_later_as_a_new_message_that_goes_on_counting(outside):
    queue = await outside.shared_queue()
    await outside.put(queue, "a")
    (message,) = await received(queue, 1)
    await queue.hide(message, seconds=0)
    (message,) = await received(queue, 1)
    assert message.receives == 2
    began = asyncio.get_running_loop().time()
    await queue.put_back(message, seconds=1)
    (again,) = await received(queue, 1)
    assert (again.body, again.receives, again.first_ms) == ("a", 2, message.first_ms)
    assert asyncio.get_running_loop().time() - began > 0.8
    await queue.put_back(again, seconds=0)
    (again,) = await received(queue, 1)
    assert (again.receives, again.first_ms) == (2, message.first_ms), "that it was put back is no attempt"
    await queue.hide(again, seconds=0)
    (again,) = await received(queue, 1)
    assert again.receives == 3
    await outside.remove(queue)
    with pytest.raises(QueueGone):
        await queue.put_back(again, seconds=1)


async def test_many_are_deleted_at_once(outside):
    queue = await outside.queue()
    await outside.put(queue, *map(str, range(12)))
    await queue.delete(await received(queue, 12))
    await outside.put(queue, "last")
    assert [message.body for message in await received(queue, 1)] == ["last"]


async def test_a_message_that_is_gone_can_be_dealt_with_again(outside):
    queue = await outside.queue()
    await outside.put(queue, "a")
    (message,) = await received(queue, 1)
    await queue.delete([message])
    await queue.delete([message])
    await queue.hide(message, seconds=1)


async def test_a_queue_that_is_gone_says_so(outside):
    queue = await outside.queue()
    await outside.put(queue, "a")
    (message,) = await received(queue, 1)
    await outside.remove(queue)
    for attempt in (queue.receive(), queue.delete([message]), queue.hide(message, seconds=1)):
        with pytest.raises(QueueGone):
            await attempt
