import assert from "node:assert/strict";
import { test } from "node:test";

import {
  MAX_INLINE_BLOCKS,
  MAX_OBJECT_BYTES,
  MAX_PACK_ENTRIES,
  MIB,
  MIN_BLOCK_BYTES,
  PACK_BYTES,
} from "../../../gateway/web/upload/format.js";
import { encodeManifest } from "../../../gateway/web/upload/manifest.js";
import { PackBuilder } from "../../../gateway/web/upload/pack.js";
import { Reader, readSmall } from "../../../gateway/web/upload/reader.js";
import { digestOf } from "../../../gateway/web/upload/sha256.js";
import { content, load, sha256 } from "./vectors.js";

/** @import {Part} from "./vectors.js" */

/** Larger contents take long; tests/web/upload/test_format.py has them cut by a browser. */
const MAX_CONTENT_BYTES = 3 * MIB;

/** @type {{name: string, content: Part[], sha256: string, blocks: [string, number][]}[]} */
const contents = load("fastcdc").cases;
const short = contents.filter(({ blocks }) => blocks.reduce((sum, [, length]) => sum + length, 0) <= MAX_CONTENT_BYTES);

for (const { name, content: parts, sha256: whole, blocks } of short) {
  test(`the content "${name}" is cut as by every client`, async () => {
    const file = new Blob([content(parts)]);
    /** @type {[string, number][]} */
    const cut = [];
    if (file.size < MIN_BLOCK_BYTES) {
      const { bytes, digest } = await readSmall(file);
      if (bytes.length) cut.push([digest, bytes.length]);
      assert.equal(digest, whole);
    } else {
      const { digest } = await new Reader().read(file, async (block) => void cut.push([block.sha256, block.bytes.length]));
      assert.equal(digest, whole);
    }
    assert.deepEqual(cut, blocks);
  });
}

const packs = load("packs");

test("packs are closed at the sizes of the vectors", () => {
  assert.deepEqual([PACK_BYTES, MAX_PACK_ENTRIES, MAX_OBJECT_BYTES], [packs.pack_bytes, packs.pack_entries, packs.object_bytes]);
});

for (const { name, offered, full, offsets, sha256: digest, size, pack } of packs.cases) {
  test(`the pack "${name}" is put together as by every client`, async () => {
    const builder = new PackBuilder();
    const placed = [];
    for (const parts of offered) {
      const bytes = content(parts);
      placed.push(builder.add(await digestOf(bytes), bytes));
    }
    assert.equal(builder.full, full);
    const closed = await builder.close();
    assert.deepEqual(placed, offsets);
    assert.deepEqual([closed.sha256, closed.bytes.length], [digest, size]);
    const declared = closed.pack && {
      blocks_sha256: sha256(Buffer.from(closed.pack.blocks.join(""), "hex")),
      offsets: closed.pack.offsets,
      lengths: closed.pack.lengths,
    };
    assert.deepEqual(declared, pack);
  });
}

const manifests = load("manifests");

test("a manifest is inline up to the number of blocks in the vectors", () => {
  assert.equal(MAX_INLINE_BLOCKS, manifests.inline_blocks);
});

for (const { name, blocks, size, sha256: digest, bytes } of manifests.cases) {
  test(`the manifest "${name}" is serialised as by every client`, () => {
    const encoded = encodeManifest(
      blocks.map((/** @type {[string, number, string, number]} */ [block, length, object, offset]) => {
        return { sha256: block, length, object, offset };
      }),
    );
    assert.deepEqual([encoded.length, sha256(encoded)], [size, digest]);
    if (bytes !== undefined) assert.equal(Buffer.from(encoded).toString("hex"), bytes);
  });
}
