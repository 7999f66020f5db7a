"""Every object index owes this."""

import asyncio
import itertools
import struct

import pytest

from services.metadata.adapters.dynamodb_objects import DynamoObjectIndex
from services.metadata.ports import MAX_SEALED_ENTRIES, Recorded, Removal, Sealed
from syncline.model.blocks import MAX_OBJECT_BYTES, MAX_PACK_ENTRIES
from syncline.model.identifiers import SpaceId, new_text_id
from tests.contract.metadata.conftest import EMBEDDED, everywhere, where_concurrent
from tests.contract.metadata.support import digest


def pack(entries: int) -> Sealed:
    lengths = tuple(1 + i % 4000 for i in range(entries))
    offsets = tuple(i * 4000 for i in range(entries))
    return Sealed(MAX_OBJECT_BYTES, offsets, lengths, b"".join(digest(str(i)) for i in range(entries)))


@everywhere
async def test_each_form_of_object_comes_back_as_it_was(index, space):
    sealed = {
        digest("block"): Sealed(5_000_000),
        digest("pack"): pack(3),
        digest("full pack"): pack(MAX_PACK_ENTRIES),
        digest("manifest"): Sealed(900, content_size=1 << 40),
        digest("manifest of nothing"): Sealed(0, content_size=0),
    }
    await index.seal(space, sealed)
    assert await index.sealed(space, [*sealed, digest("another")]) == sealed


@everywhere
async def test_what_is_not_sealed_is_absent(index, space):
    assert await index.sealed(space, []) == {}
    assert await index.sealed(space, [digest("block")]) == {}
    await index.seal(space, {})


@everywhere
async def test_spaces_have_objects_of_their_own(index, space):
    await index.seal(space, {digest("block"): Sealed(7)})
    assert await index.sealed(SpaceId(new_text_id()), [digest("block")]) == {}


@everywhere
async def test_sealing_twice_is_sealing_once(index, space):
    for _ in range(2):
        await index.seal(space, {digest("pack"): pack(10)})
    assert await index.sealed(space, [digest("pack"), digest("pack")]) == {digest("pack"): pack(10)}


@everywhere
async def test_what_is_sealed_is_known(index, space):
    await index.seal(space, {digest("pack"): pack(10), digest("block"): Sealed(7)})
    many = [digest(f"object {i}") for i in range(230)]
    assert await index.known(space, [digest("pack"), *many, digest("block")]) == {digest("pack"), digest("block")}
    assert await index.known(space, []) == set()


@everywhere
async def test_many_objects_are_sealed_and_read_together(index, space):
    sealed = {digest(f"object {i}"): pack(2) if i % 2 else Sealed(i) for i in range(330)}
    await index.seal(space, sealed)
    assert await index.sealed(space, sealed) == sealed


@everywhere
async def test_many_full_packs_are_sealed_and_read_together(index, space):
    sealed = {digest(f"pack {i}"): pack(MAX_PACK_ENTRIES) for i in range(30)}
    await index.seal(space, sealed)
    assert await index.sealed(space, sealed) == sealed


# ---- one object that is several things

BLOCK = Sealed(1000)
PACK = Sealed(1000, (0, 400), (400, 600), digest("0+400") + digest("400+600"))
OTHER_PACK = Sealed(1000, (0, 300, 400), (300, 100, 600), digest("0+300") + digest("300+100") + digest("400+600"))
MANIFEST = Sealed(1000, content_size=77)
ALL = Sealed(
    1000,
    (0, 0, 300, 400),
    (300, 400, 100, 600),
    digest("0+300") + digest("0+400") + digest("300+100") + digest("400+600"),
    content_size=77,
)


@everywhere
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
async def test_an_object_is_everything_that_was_proven_of_it_in_any_order(index, space, order):
    forms = [BLOCK, PACK, OTHER_PACK, MANIFEST]
    for i in order:
        await index.seal(space, {digest("object"): forms[i]})
    assert await index.sealed(space, [digest("object")]) == {digest("object"): ALL}
    for form in forms:
        await index.seal(space, {digest("object"): form})
    assert await index.sealed(space, [digest("object")]) == {digest("object"): ALL}


@where_concurrent
async def test_what_processes_prove_of_one_object_at_once_is_all_recorded(open_stores, space):
    indexes = [(await open_stores()).index for _ in range(4)]
    forms = [BLOCK, PACK, OTHER_PACK, MANIFEST]
    await asyncio.gather(
        *(index.seal(space, {digest("object"): form}) for index, form in zip(indexes, forms, strict=True))
    )
    assert await indexes[0].sealed(space, [digest("object")]) == {digest("object"): ALL}


@everywhere
async def test_an_object_among_many_that_is_more_keeps_what_it_was(index, space):
    await index.seal(space, {digest("7"): PACK, digest("9"): MANIFEST})
    await index.seal(space, {digest(str(i)): BLOCK for i in range(30)})
    assert await index.sealed(space, [digest(str(i)) for i in range(30)]) == {
        digest(str(i)): {7: PACK, 9: MANIFEST}.get(i, BLOCK) for i in range(30)
    }


def cut(length: int) -> Sealed:
    offsets = tuple(range(0, length * MAX_PACK_ENTRIES, length))
    blocks = b"".join(digest(f"{offset}+{length}") for offset in offsets)
    return Sealed(MAX_OBJECT_BYTES, offsets, (length,) * MAX_PACK_ENTRIES, blocks)


@everywhere
async def test_two_full_packs_over_the_same_bytes_are_kept_and_of_three_the_last(index, space):
    packs = [cut(length) for length in (2000, 2001, 2002)]
    for pack in packs[:2]:
        await index.seal(space, {digest("pack"): pack})
    (both,) = (await index.sealed(space, [digest("pack")])).values()
    assert both.proves(packs[0])
    assert both.proves(packs[1])
    await index.seal(space, {digest("pack"): packs[2]})
    (sealed,) = (await index.sealed(space, [digest("pack")])).values()
    assert sealed.proves(packs[2])
    assert len(sealed.offsets) == MAX_SEALED_ENTRIES
    await index.seal(space, {digest("pack"): packs[0]})
    (again,) = (await index.sealed(space, [digest("pack")])).values()
    assert again.proves(packs[0])


@pytest.mark.parametrize("backend", [EMBEDDED], indirect=True)
async def test_a_record_from_before_revisions_is_read_and_added_to(backend, space):
    old = {
        "pk": {"S": f"S#{space}#O"},
        "sk": {"S": digest("object").hex()},
        "size": {"N": "1000"},
        "verified_at": {"N": "1700000000000"},
        "blocks": {"B": PACK.blocks},
        "offsets": {"B": struct.pack("<2I", *PACK.offsets)},
        "lengths": {"B": struct.pack("<2I", *PACK.lengths)},
    }
    async with backend.aws.client("dynamodb", backend.metadata) as client:
        await client.put_item(TableName=backend.table, Item=old)
        index = DynamoObjectIndex(client, table=backend.table)
        assert await index.sealed(space, [digest("object")]) == {digest("object"): PACK}
        await index.seal(space, {digest("object"): OTHER_PACK})
        await index.seal(space, {digest("object"): MANIFEST})
        assert await index.sealed(space, [digest("object")]) == {digest("object"): ALL}


# ---- removals of what is not sealed


@everywhere
async def test_what_is_removed_is_not_sealed_and_is_told(index, space):
    name = digest("block")
    assert await index.begin_removal(space, name, now_ms=1_000, until_ms=9_000) == 1
    assert await index.look(space, [name, digest("other")]) == Recorded({}, {name: Removal(1, 9_000)})
    assert await index.sealed(space, [name]) == {}
    assert await index.known(space, [name]) == set()
    await index.end_removal(space, name, 1)
    assert await index.look(space, [name]) == Recorded({}, {name: Removal(1, 0)})


@everywhere
async def test_what_is_sealed_is_not_removed(index, space):
    await index.seal(space, {digest("block"): Sealed(7)})
    assert await index.begin_removal(space, digest("block"), now_ms=1_000, until_ms=9_000) is None
    assert await index.look(space, [digest("block")]) == Recorded({digest("block"): Sealed(7)}, {})


@everywhere
async def test_removals_come_one_after_the_other(index, space):
    name = digest("block")
    begun = [await index.begin_removal(space, name, now_ms=now, until_ms=9_000) for now in (1_000, 2_000, 9_000)]
    assert begun == [1, None, None]
    assert await index.begin_removal(space, name, now_ms=9_001, until_ms=20_000) == 2
    await index.end_removal(space, name, 1)  # by the first, which is late
    assert (await index.look(space, [name])).removals == {name: Removal(2, 20_000)}
    await index.end_removal(space, name, 2)
    assert await index.begin_removal(space, name, now_ms=9_002, until_ms=30_000) == 3
    assert await index.begin_removal(SpaceId(new_text_id()), name, now_ms=1_000, until_ms=9_000) == 1
    await index.end_removal(space, digest("never removed"), 1)
    assert await index.look(space, [digest("never removed")]) == Recorded({}, {})


@everywhere
async def test_what_was_proven_before_a_removal_began_is_not_recorded(index, space):
    names = [digest(f"object {i}") for i in range(7)]
    lost = names[3]
    await index.begin_removal(space, lost, now_ms=1_000, until_ms=9_000)
    await index.end_removal(space, lost, 1)
    proven = {name: Sealed(7) for name in names}
    assert await index.seal(space, proven) == {lost}
    assert await index.known(space, names) == set(names) - {lost}
    assert await index.seal(space, {lost: Sealed(7)}, after={lost: 2}) == {lost}
    assert await index.seal(space, {lost: Sealed(7)}, after={lost: 1}) == set()
    assert await index.look(space, [lost]) == Recorded({lost: Sealed(7)}, {})
    assert await index.begin_removal(space, lost, now_ms=10_000, until_ms=19_000) is None


@everywhere
async def test_what_was_proven_between_two_removals_is_not_recorded_after_the_second(index, space):
    name = digest("block")
    for number in (1, 2):
        assert await index.begin_removal(space, name, now_ms=1_000, until_ms=9_000) == number
        await index.end_removal(space, name, number)
    assert await index.seal(space, {name: Sealed(7)}, after={name: 1}) == {name}
    assert await index.sealed(space, [name]) == {}


@where_concurrent
async def test_of_a_seal_and_a_removal_at_once_one_succeeds(open_stores, space):
    one, other = [(await open_stores()).index for _ in range(2)]
    names = [digest(f"object {i}") for i in range(30)]

    async def remove(name):
        return await other.begin_removal(space, name, now_ms=1_000, until_ms=9_000)

    lost, *removed = await asyncio.gather(
        one.seal(space, {name: Sealed(7) for name in names}), *(remove(name) for name in names)
    )
    assert {name for name, number in zip(names, removed, strict=True) if number is not None} == lost
    assert await one.known(space, names) == set(names) - lost
