"""What a browser stores is, byte for byte, what the native client stores: only so do they find each other's blocks."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyfastcdc import FastCDC
from pyfastcdc.py.constants import GEAR

from clients.sdk.space import PackEntries
from clients.transfer.pack import PackBuilder
from core.blocks import AVG_BLOCK, KIB, MAX_BLOCK, MAX_PACK_ENTRIES, MIB, MIN_BLOCK, BlockRef, Digest, Manifest
from core.chunk import Block, Chunker, digest_of
from core.names import name_problem
from wire.tree import manifest_to_wire

if TYPE_CHECKING:
    from playwright.sync_api import Page

CUT = """async () => {
    const { Reader, readSmall } = await import("/upload/reader.js");
    const { MIN_BLOCK } = await import("/upload/format.js");
    const reader = new Reader();
    const results = [];
    for (const file of document.getElementById("files").files) {
        const blocks = [];
        if (file.size < MIN_BLOCK) {
            const { bytes, digest } = await readSmall(file);
            if (bytes.length) blocks.push([digest, bytes.length]);
            results.push({ digest, blocks });
        } else {
            const take = async ({ sha256, bytes }) => blocks.push([sha256, bytes.length]);
            const { digest } = await reader.read(file, take);
            results.push({ digest, blocks });
        }
    }
    return results;
}"""


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


EARLY = {178530: 8, 107312: 16, 330142: 21, 480644: 32}
"""Found by trying: the SHA-512 of this number, after MIN_BLOCK zeros, is cut so early that the hash has not yet
forgotten how it began."""


def early(number: int) -> bytes:
    return bytes(MIN_BLOCK) + hashlib.sha512(number.to_bytes(4, "big")).digest()


def cut_short(seed: int) -> list[tuple[str, int, bytes]]:
    """Contents that end around a cut: FastCDC does not look at the last one of an odd number of bytes."""
    data = noise(9 * MIB, seed)
    length = next(
        iter(FastCDC(AVG_BLOCK, min_size=MIN_BLOCK, max_size=MAX_BLOCK, normalized_chunking=2).cut_buf(data))
    ).length
    return [(f"{length}", extra, data[: length + extra]) for extra in (0, 1, 2, 3)]


CONTENTS = {
    **{f"{size} random": noise(size, size) for size in (0, 1, 63, 64, 65, 1000)},
    **{f"{MIN_BLOCK + d} random": noise(MIN_BLOCK + d, 1) for d in (-1, 0, 1, 2, 63)},
    **{f"{AVG_BLOCK + d} random": noise(AVG_BLOCK + d, 2) for d in (-1, 0, 1)},
    **{f"{MAX_BLOCK + d} random": noise(MAX_BLOCK + d, 3) for d in (-1, 0, 1)},
    **{f"{MAX_BLOCK + d} zeros": bytes(MAX_BLOCK + d) for d in (-1, 0, 1)},
    "20 MiB zeros": bytes(20 * MIB),
    **{f"a cut {at} bytes after the first that is possible": early(seed) for seed, at in EARLY.items()},
    **{
        f"{name}, {extra} bytes after a cut": data
        for name, extra, data in (*cut_short(7), *cut_short(8), *cut_short(9))
    },
    "zeros between": noise(3 * MIB, 4) + bytes(9 * MIB) + noise(3 * MIB + 1, 4),
    "few values": bytes(random.Random(5).choices(b"ab", k=9 * MIB)),
    "50 MiB random": noise(50 * MIB + 7, 6),
}


def test_the_early_cuts_are_early() -> None:
    cdc = FastCDC(AVG_BLOCK, min_size=MIN_BLOCK, max_size=MAX_BLOCK, normalized_chunking=2)
    assert {number: next(iter(cdc.cut_buf(early(number)))).length - MIN_BLOCK for number in EARLY} == EARLY
    parities = {int(name) % 2 for seed in (7, 8, 9) for name, _, _ in cut_short(seed)}
    assert parities == {0, 1}


def native_cut(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        whole = Chunker().cut(file.readinto)
        blocks = [[block.digest.hex(), len(block.data)] for block in whole]
    return {"digest": whole.digest.hex(), "blocks": blocks}


def test_contents_are_cut_and_digested_as_by_the_native_client(page: Page, tmp_path: Path) -> None:
    paths = []
    for name, data in CONTENTS.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    page.set_input_files("#files", [str(path) for path in paths])
    for name, path, cut in zip(CONTENTS, paths, page.evaluate(CUT), strict=True):
        assert cut == native_cut(path), name


def test_the_gear_table_is_that_of_the_library(page: Page) -> None:
    high, low = page.evaluate("""async () => {
        const { GEAR_HIGH, GEAR_LOW } = await import("/upload/gear.js");
        return [[...GEAR_HIGH].map((word) => word >>> 0), [...GEAR_LOW].map((word) => word >>> 0)];
    }""")
    assert [(h << 32) | w for h, w in zip(high, low, strict=True)] == list(GEAR)


def test_sha256_takes_parts_of_any_size(page: Page) -> None:
    assert (
        page.evaluate("""async () => {
        const { Sha256, digestOf } = await import("/upload/sha256.js");
        const bytes = crypto.getRandomValues(new Uint8Array(5000));
        for (const step of [1, 7, 55, 56, 63, 64, 65, 127, 128, 1000, 5000]) {
            for (const size of [0, 1, 55, 56, 63, 64, 119, 120, 128, 4999]) {
                const sha = new Sha256();
                for (let at = 0; at < size; at += step) sha.update(bytes.subarray(at, Math.min(size, at + step)));
                if (sha.hex() !== (await digestOf(bytes.slice(0, size)))) return [step, size];
            }
        }
        return null;
    }""")
        is None
    )


@pytest.mark.parametrize(
    "sizes",
    [[1], [1000, 1], [MIN_BLOCK - 1] * 17, [4] * (MAX_PACK_ENTRIES + 1), [7, 8, 7, 7, 300 * KIB, 7]],
    ids=["one", "two", "by bytes", "by entries", "with repetitions"],
)
def test_packs_are_those_of_the_native_client(page: Page, sizes: list[int]) -> None:
    numbers = [size if len(sizes) == 6 else i for i, size in enumerate(sizes)]
    builder = PackBuilder()
    offsets = []
    for size, number in zip(sizes, numbers, strict=True):
        if builder.full:
            break
        data = (number.to_bytes(4, "little") * (size // 4 + 1))[:size]
        offsets.append(builder.add(Block(digest_of(data), data)))
    pack = builder.close()
    result = page.evaluate(
        """async (blocks) => {
        const { PackBuilder } = await import("/upload/pack.js");
        const { digestOf } = await import("/upload/sha256.js");
        const builder = new PackBuilder();
        const offsets = [];
        for (const [size, number] of blocks) {
            if (builder.full) break;
            const data = new Uint8Array(new Uint32Array(Math.floor(size / 4) + 1).fill(number).buffer, 0, size);
            offsets.push(builder.add(await digestOf(data), data));
        }
        const { sha256, bytes, pack } = await builder.close();
        return { offsets, sha256, size: bytes.length, pack };
    }""",
        list(zip(sizes, numbers, strict=True)),
    )
    assert result["offsets"] == offsets
    assert result["sha256"] == pack.digest.hex()
    assert result["size"] == len(pack.data)
    if isinstance(pack.declaration.form, PackEntries):
        entries = pack.declaration.form
        assert result["pack"] == {
            "blocks": [entries.blocks[i : i + 32].hex() for i in range(0, len(entries.blocks), 32)],
            "offsets": list(entries.offsets),
            "lengths": list(entries.lengths),
        }
    else:
        assert result["pack"] is None


def _ref(number: int, *, alone: bool) -> BlockRef:
    made = random.Random(number)
    digest = Digest(made.randbytes(32))
    length = made.choice([1, 127, 128, 16383, 16384, MAX_BLOCK])
    if alone:
        return BlockRef(digest, length, digest, 0)
    return BlockRef(digest, length, Digest(random.Random(number % 3).randbytes(32)), made.choice([0, 5, 128, 8 * MIB]))


@pytest.mark.parametrize(
    "refs",
    [
        [],
        [_ref(1, alone=True)],
        [_ref(2, alone=False)],
        [_ref(i, alone=True) for i in range(1500)],
        [_ref(i, alone=i % 4 > 0) for i in range(1500)],
    ],
    ids=["empty", "alone", "packed", "many alone", "many mixed"],
)
def test_manifests_are_serialised_as_by_the_native_client(page: Page, refs: list[BlockRef]) -> None:
    wire = [{"sha256": r.digest.hex(), "length": r.length, "object": r.object.hex(), "offset": r.offset} for r in refs]
    encoded = page.evaluate(
        """async (refs) => {
        const { encodeManifest } = await import("/upload/manifest.js");
        const { toHex } = await import("/upload/hex.js");
        return toHex(encodeManifest(refs));
    }""",
        wire,
    )
    assert encoded == manifest_to_wire(Manifest.of(refs)).SerializeToString(deterministic=True).hex()


def test_names_are_judged_as_by_the_service(page: Page) -> None:
    names = ["", ".", "..", "a/b", "a\0", "ok", "…", "x" * 255, "x" * 256, "é" * 127, "é" * 128, ".hidden"]
    judged = page.evaluate(
        """async (names) => {
            const { nameProblem } = await import("/upload/names.js");
            return names.map((name) => nameProblem(name));
        }""",
        names,
    )
    assert [problem is None for problem in judged] == [name_problem(name) is None for name in names]
    copies = page.evaluate("""async () => {
        const { copyName } = await import("/upload/names.js");
        const asked = [["a.txt", 2], [".profile", 3], ["no ending", 2], ["é".repeat(125) + ".text", 12]];
        return asked.map(([name, number]) => copyName(name, number));
    }""")
    assert copies[:3] == ["a (2).txt", ".profile (3)", "no ending (2)"]
    assert copies[3] == "é" * 122 + " (12).text"
    assert name_problem(copies[3]) is None


def test_how_fast_it_is(page: Page) -> None:
    figures = page.evaluate("""async () => {
        const { cut } = await import("/upload/fastcdc.js");
        const { Sha256 } = await import("/upload/sha256.js");
        const { Reader } = await import("/upload/reader.js");
        const bytes = new Uint8Array(32 * 1024 * 1024);
        for (let at = 0; at < bytes.length; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
        const figures = {};
        const measure = async (name, run) => {
            await run();
            const from = performance.now();
            await run();
            figures[name] = Math.round(bytes.length / 1e3 / (performance.now() - from));
        };
        await measure("cutting", () => { for (let at = 0; at < bytes.length; ) at += cut(bytes, at, bytes.length); });
        await measure("SHA-256", () => new Sha256().update(bytes).digest());
        const reader = new Reader();
        await measure("reading, cutting and both digests", () => reader.read(new Blob([bytes]), async () => {}));
        return figures;
    }""")
    print("\n" + "\n".join(f"{name}: {speed} MB/s" for name, speed in figures.items()))
