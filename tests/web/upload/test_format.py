"""A browser stores, byte for byte, what the native client stores: only so do they find each other's blocks."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from syncline.model.chunking import digest_of
from syncline.model.names import name_problem
from tests import vectors

if TYPE_CHECKING:
    from playwright.sync_api import Page

CUT = """async () => {
    const { Reader, readSmall } = await import("/upload/reader.js");
    const { MIN_BLOCK_BYTES } = await import("/upload/format.js");
    const reader = new Reader();
    const results = [];
    for (const file of document.getElementById("files").files) {
        const blocks = [];
        if (file.size < MIN_BLOCK_BYTES) {
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


def test_contents_are_cut_and_digested_as_by_the_native_client(page: Page, tmp_path: Path) -> None:
    cases = vectors.load("fastcdc")["cases"]
    paths = []
    for number, case in enumerate(cases):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(vectors.content(case["content"]))
    page.set_input_files("#files", [str(path) for path in paths])
    for case, cut in zip(cases, page.evaluate(CUT), strict=True):
        assert cut == {"digest": case["sha256"], "blocks": case["blocks"]}, case["name"]


def test_the_numbers_are_those_of_the_vectors(page: Page) -> None:
    fastcdc, packs, manifests = (vectors.load(name) for name in ("fastcdc", "packs", "manifests"))
    high, low = page.evaluate("""async () => {
        const { GEAR_HIGH, GEAR_LOW } = await import("/upload/gear.js");
        return [[...GEAR_HIGH].map((word) => word >>> 0), [...GEAR_LOW].map((word) => word >>> 0)];
    }""")
    assert [f"{(h << 32) | w:016x}" for h, w in zip(high, low, strict=True)] == fastcdc["gear"]
    assert page.evaluate("async () => ({ ...(await import('/upload/format.js')) })") == {
        "KIB": 1024,
        "MIB": 1024 * 1024,
        "MIN_BLOCK_BYTES": fastcdc["min_size"],
        "AVG_BLOCK_BYTES": fastcdc["avg_size"],
        "MAX_BLOCK_BYTES": fastcdc["max_size"],
        "PACK_BYTES": packs["pack_bytes"],
        "MAX_PACK_ENTRIES": packs["pack_entries"],
        "MAX_OBJECT_BYTES": packs["object_bytes"],
        "MAX_INLINE_BLOCKS": manifests["inline_blocks"],
        "DIGEST_BYTES": 32,
    }


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


@pytest.mark.parametrize("case", vectors.load("packs")["cases"], ids=lambda case: case["name"])
def test_packs_are_those_of_the_native_client(page: Page, case: dict[str, Any]) -> None:
    offered = [base64.b64encode(vectors.content(parts)).decode() for parts in case["offered"]]
    result = page.evaluate(
        """async (offered) => {
        const { PackBuilder } = await import("/upload/pack.js");
        const { digestOf } = await import("/upload/sha256.js");
        const builder = new PackBuilder();
        const offsets = [];
        for (const base64 of offered) {
            const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
            offsets.push(builder.add(await digestOf(bytes), bytes));
        }
        const full = builder.full;
        const { sha256, bytes, pack } = await builder.close();
        return { offsets, full, sha256, size: bytes.length, pack };
    }""",
        offered,
    )
    if result["pack"] is not None:
        packed = b"".join(map(bytes.fromhex, result["pack"].pop("blocks")))
        result["pack"]["blocks_sha256"] = digest_of(packed).hex()
    assert result == {name: case[name] for name in ("offsets", "full", "sha256", "size", "pack")}


@pytest.mark.parametrize("case", vectors.load("manifests")["cases"], ids=lambda case: case["name"])
def test_manifests_are_serialised_as_by_the_native_client(page: Page, case: dict[str, Any]) -> None:
    encoded = page.evaluate(
        """async (blocks) => {
        const { encodeManifest } = await import("/upload/manifest.js");
        const { toHex } = await import("/upload/hex.js");
        const refs = blocks.map(([sha256, length, object, offset]) => ({ sha256, length, object, offset }));
        return toHex(encodeManifest(refs));
    }""",
        case["blocks"],
    )
    wire = bytes.fromhex(encoded)
    assert (len(wire), digest_of(wire).hex()) == (case["size"], case["sha256"])


def test_names_are_judged_as_by_the_service(page: Page) -> None:
    cases = vectors.load("names")["cases"]
    judged = page.evaluate(
        """async (names) => {
            const { nameProblem, normalized } = await import("/upload/names.js");
            return names.map((name) => nameProblem(normalized(name)));
        }""",
        [case["name"] for case in cases],
    )
    assert [problem is None for problem in judged] == [case["valid"] for case in cases]
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
