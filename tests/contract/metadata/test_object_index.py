"""What every object index owes."""

from core.blocks import MAX_OBJECT_BYTES, MAX_PACK_ENTRIES
from core.identifiers import SpaceId, new_text_id
from services.metadata.ports import Sealed
from tests.contract.metadata.conftest import everywhere
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
async def test_many_objects_are_sealed_and_read_together(index, space):
    sealed = {digest(f"object {i}"): pack(2) if i % 2 else Sealed(i) for i in range(330)}
    await index.seal(space, sealed)
    assert await index.sealed(space, sealed) == sealed


@everywhere
async def test_many_full_packs_are_sealed_and_read_together(index, space):
    sealed = {digest(f"pack {i}"): pack(MAX_PACK_ENTRIES) for i in range(30)}
    await index.seal(space, sealed)
    assert await index.sealed(space, sealed) == sealed
