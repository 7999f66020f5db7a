"""The golden vectors in `protos/vectors`: what they hold, and how they are made (`make vectors`).

Every client must cut, pack and serialise exactly so, else it finds none of the blocks that others have stored. So the
files are data that any language can read, and what made them once is not asked again by the tests: these compare the
code of today with the files. Making them anew and getting other values means that the format has changed.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pyfastcdc import FastCDC
from pyfastcdc.py.constants import GEAR, MASKS

from syncline.model.blocks import (
    AVG_BLOCK_BYTES,
    DIGEST_BYTES,
    KIB,
    MAX_BLOCK_BYTES,
    MAX_INLINE_BLOCKS,
    MAX_OBJECT_BYTES,
    MAX_PACK_ENTRIES,
    MIB,
    MIN_BLOCK_BYTES,
    NORMALIZATION,
    PACK_BYTES,
    BlockRef,
    Digest,
    Manifest,
    object_key,
)
from syncline.model.chunking import Block, Chunker, digest_of
from syncline.model.identifiers import RequestId, SpaceId, created_node_id
from syncline.model.names import MAX_NAME_BYTES, name_problem, normalize
from syncline.sdk.space import PackEntries
from syncline.transfer.pack import ClosedPack, PackBuilder
from syncline.wire.tree import manifest_to_wire

DIRECTORY: Final = Path(__file__).parents[1] / "protos" / "vectors"

Part = dict[str, Any]
"""Some bytes of a content, as `protos/vectors/README.md` describes them."""


def load(name: str) -> Any:
    """The vectors of one file, `fastcdc` for `fastcdc.json`."""
    return json.loads((DIRECTORY / f"{name}.json").read_text())


def content(parts: list[Part]) -> bytes:
    """The bytes that the parts of a content describe, one after the other."""
    return b"".join(_bytes_of(part) for part in parts)


def entries_of(pack: ClosedPack) -> dict[str, Any] | None:
    """Return what is declared of a pack, as its vector has it; None for a pack that is a single block."""
    form = pack.declaration.form
    if not isinstance(form, PackEntries):
        return None
    return {
        "blocks_sha256": digest_of(form.blocks).hex(),
        "offsets": list(form.offsets),
        "lengths": list(form.lengths),
    }


def refs_of(vector: dict[str, Any]) -> list[BlockRef]:
    """The blocks of a manifest's vector."""
    return [
        BlockRef(Digest(bytes.fromhex(digest)), length, Digest(bytes.fromhex(within)), offset)
        for digest, length, within, offset in vector["blocks"]
    ]


def _bytes_of(part: Part) -> bytes:
    match part:
        case {"hex": text}:
            return bytes.fromhex(text)
        case {"zeros": size}:
            return bytes(size)
        case {"counter": seed, "size": size, **rest}:
            blocks = (hashlib.sha256(seed.encode() + i.to_bytes(8, "big")).digest() for i in range(-(-size // 32)))
            data = b"".join(blocks)[:size]
            if "values" not in rest:
                return data
            values = bytes.fromhex(rest["values"])
            return data.translate(bytes(values[byte % len(values)] for byte in range(256)))
    raise ValueError(f"no such part: {part}")


# -- making them


def _counter(seed: str, size: int) -> Part:
    return {"counter": seed, "size": size}


_EARLY: Final = {178530: 8, 107312: 16, 330142: 21, 480644: 32}
"""Found by trying: the SHA-512 of this number, after MIN_BLOCK_BYTES zeros, is cut so early that the hash has not yet
forgotten how it began. The values are how many bytes after the first possible cut."""


def _cut_short(seed: str) -> Iterator[tuple[str, list[Part]]]:
    """Contents that end around a cut: FastCDC does not look at the last one of an odd number of bytes."""
    whole = content([_counter(seed, 9 * MIB)])
    with_sizes = FastCDC(AVG_BLOCK_BYTES, min_size=MIN_BLOCK_BYTES, max_size=MAX_BLOCK_BYTES, normalized_chunking=2)
    length = next(iter(with_sizes.cut_buf(whole))).length
    parity = "odd" if length % 2 else "even"
    for extra in range(4):
        yield f"{extra} bytes after a cut at an {parity} place ({seed})", [_counter(seed, length + extra)]


def _contents() -> Iterator[tuple[str, list[Part]]]:
    for size in (0, 1, 63, 64, 65, 1000):
        yield f"{size} bytes", [_counter("small", size)]
    for name, size in (("min", MIN_BLOCK_BYTES), ("avg", AVG_BLOCK_BYTES), ("max", MAX_BLOCK_BYTES)):
        for more in (-1, 0, 1, 2, 63):
            yield f"{name} {more:+}", [_counter(name, size + more)]
    for more in (-1, 0, 1):
        yield f"max {more:+} of zeros", [{"zeros": MAX_BLOCK_BYTES + more}]
    yield "random", [_counter("a", 12 * MIB)]
    yield "zeros", [{"zeros": 20 * MIB}]
    yield "zeros between", [_counter("h", 3 * MIB), {"zeros": 9 * MIB}, _counter("h", 3 * MIB)]
    yield "zeros between, at an odd place", [_counter("i", 3 * MIB), {"zeros": 9 * MIB}, _counter("j", 3 * MIB + 1)]
    for number, at in _EARLY.items():
        tail = hashlib.sha512(number.to_bytes(4, "big")).hexdigest()
        yield f"a cut {at} bytes after the first that is possible", [{"zeros": MIN_BLOCK_BYTES}, {"hex": tail}]
    for seed in ("end 0", "end 1", "end 2", "end 3"):
        yield from _cut_short(seed)
    yield "two values only", [{**_counter("few", 9 * MIB), "values": b"ab".hex()}]
    yield "50 MiB", [_counter("large", 50 * MIB + 7)]


def _fastcdc() -> Any:
    cases = []
    for name, parts in _contents():
        data = memoryview(content(parts))
        at = 0

        def read_into(buffer: memoryview, data: memoryview = data) -> int:
            nonlocal at
            taken = data[at : at + len(buffer)]
            buffer[: len(taken)] = taken
            at += len(taken)
            return len(taken)

        whole = Chunker().cut(read_into)
        blocks = [[block.digest.hex(), len(block.data)] for block in whole]
        cases.append({"name": name, "content": parts, "sha256": whole.digest.hex(), "blocks": blocks})
    bits = AVG_BLOCK_BYTES.bit_length() - 1
    return {
        "min_size": MIN_BLOCK_BYTES,
        "avg_size": AVG_BLOCK_BYTES,
        "max_size": MAX_BLOCK_BYTES,
        "normalization": NORMALIZATION,
        "mask_strict": f"{MASKS[bits + NORMALIZATION]:016x}",
        "mask_loose": f"{MASKS[bits - NORMALIZATION]:016x}",
        "gear": [f"{number:016x}" for number in GEAR],
        "cases": cases,
    }


_PACKS: Final = {
    "one block": [1],
    "two blocks": [1000, 1],
    "closed by its bytes": [MIN_BLOCK_BYTES - 1] * 17,
    "closed by its entries": [4] * (MAX_PACK_ENTRIES + 1),
    "with repetitions": [7, 8, 7, 7, 300 * KIB, 7],
}
"""The sizes of blocks that are offered to a pack, until it is full."""


def _packs() -> Any:
    cases = []
    for name, sizes in _PACKS.items():
        # Blocks of one size are the same block in the case with repetitions, and differ in all others.
        seeds = [f"pack {size if name == 'with repetitions' else i}" for i, size in enumerate(sizes)]
        builder = PackBuilder()
        offered, offsets = [], []
        for size, seed in zip(sizes, seeds, strict=True):
            if builder.full:
                break
            data = content([_counter(seed, size)])
            offered.append([_counter(seed, size)])
            offsets.append(builder.add(Block(digest_of(data), data)))
        full = builder.full
        pack = builder.close()
        cases.append(
            {
                "name": name,
                "offered": offered,
                "full": full,
                "offsets": offsets,
                "sha256": pack.digest.hex(),
                "size": len(pack.data),
                "pack": entries_of(pack),
            }
        )
    return {
        "pack_bytes": PACK_BYTES,
        "pack_entries": MAX_PACK_ENTRIES,
        "object_bytes": MAX_OBJECT_BYTES,
        "cases": cases,
    }


def _ref(number: int, *, alone: bool) -> BlockRef:
    made = random.Random(number)
    digest = digest_of(f"block {number}".encode())
    length = made.choice([1, 127, 128, 16383, 16384, MAX_BLOCK_BYTES])
    if alone:
        return BlockRef(digest, length, digest, 0)
    return BlockRef(digest, length, digest_of(f"pack {number % 3}".encode()), made.choice([0, 5, 128, 8 * MIB]))


_MANIFESTS: Final[dict[str, list[BlockRef]]] = {
    "empty": [],
    "alone": [_ref(1, alone=True)],
    "packed": [_ref(2, alone=False)],
    "many alone": [_ref(i, alone=True) for i in range(600)],
    "many mixed": [_ref(i, alone=i % 4 > 0) for i in range(600)],
}


def _manifests() -> Any:
    cases = []
    for name, refs in _MANIFESTS.items():
        wire = manifest_to_wire(Manifest.of(refs)).SerializeToString(deterministic=True)
        blocks = [[ref.digest.hex(), ref.length, ref.object.hex(), ref.offset] for ref in refs]
        cases.append(
            {"name": name, "blocks": blocks, "size": len(wire), "sha256": digest_of(wire).hex()}
            | ({"bytes": wire.hex()} if len(wire) < KIB else {})
        )
    return {"inline_blocks": MAX_INLINE_BLOCKS, "cases": cases}


def _identifiers() -> Any:
    nodes = []
    for space, request in (
        ("a" * 26, bytes(16)),
        ("abcdefghijklmnopqrstuvwxyz", bytes(range(16))),
        ("7" * 26, b"\xff" * 16),
    ):
        for index in (0, 1, 255, 256, 1999):
            node = created_node_id(SpaceId(space), RequestId(request), index)
            nodes.append({"space_id": space, "request_id": request.hex(), "index": index, "node_id": node.hex()})
    target = "../elsewhere/größe"
    return {
        "root": bytes(16).hex(),
        "nodes": nodes,
        "keys": [
            {"space_id": "a" * 26, "content": [], "key": object_key("a" * 26, digest_of(b""))},
            {
                "space_id": "a" * 26,
                "content": [{"hex": b"hello".hex()}],
                "key": object_key("a" * 26, digest_of(b"hello")),
            },
        ],
        "symlinks": [{"target": target, "digest": digest_of(target.encode()).hex()}],
        "directory_digest": bytes(DIGEST_BYTES).hex(),
    }


_NAMES: Final = [
    "",
    ".",
    "..",
    "a/b",
    "a\0",
    "ok",
    "…",
    "...",
    "x" * MAX_NAME_BYTES,
    "x" * (MAX_NAME_BYTES + 1),
    "é" * 127,
    "é" * 128,
    ".hidden",
    " spaces ",
    "line\nbreak",
    "back\\slash",
    "\u212b",
    "A\u030a",
    "\u00c5",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
]


def _names() -> Any:
    return {
        "name_bytes": MAX_NAME_BYTES,
        "cases": [
            {"name": name, "nfc": normalize(name), "valid": name_problem(normalize(name)) is None} for name in _NAMES
        ],
    }


MAKERS: Final = {
    "fastcdc": _fastcdc,
    "packs": _packs,
    "manifests": _manifests,
    "identifiers": _identifiers,
    "names": _names,
}


def made(name: str) -> str:
    """Return the text of these vectors' file: a line for each member, and for each case."""
    members = []
    for key, value in MAKERS[name]().items():
        if isinstance(value, list):
            text = ",\n  ".join(json.dumps(item) for item in value)
            members.append(f"{json.dumps(key)}: [\n  {text}\n ]")
        else:
            members.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n " + ",\n ".join(members) + "\n}\n"


def main() -> None:
    for name in MAKERS:
        (DIRECTORY / f"{name}.json").write_text(made(name))


if __name__ == "__main__":
    main()
