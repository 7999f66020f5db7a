"""Long answers are shaped in slices, so that a round of the event loop has one of them, whoever asks for how many."""

from __future__ import annotations

import asyncio

from gateway.api import conversions
from runtime.turns import SLICE_ITEMS
from syncline.model.identifiers import new_text_id
from tests.support.tokens import unproven_token


async def test_a_round_of_the_loop_shapes_one_slice() -> None:
    shaped, most, before = 0, 0, 0

    def shape(item: int) -> str:
        nonlocal shaped
        shaped += 1
        return str(item)

    pages = [
        asyncio.create_task(conversions.each(range(10 * SLICE_ITEMS), shape, token=unproven_token(sub=new_text_id())))
        for _ in range(5)
    ]
    while not all(page.done() for page in pages):
        before = shaped
        await asyncio.sleep(0)
        most = max(most, shaped - before)
    assert most == SLICE_ITEMS
    assert [await page for page in pages] == [[str(item) for item in range(10 * SLICE_ITEMS)]] * 5


async def test_a_short_answer_waits_for_no_turn() -> None:
    coroutine = conversions.each(range(SLICE_ITEMS), str, token=unproven_token())
    assert await asyncio.wait_for(coroutine, 60) == [str(item) for item in range(SLICE_ITEMS)]
