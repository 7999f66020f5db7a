/** Whether this client cuts, packs and names as all others do: `node dist/vectors.js ../../protos/vectors`. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import * as fastcdc from "./fastcdc.js";
import { type BlockRef, PackBuilder, deserialized, manifestOf, nodeId, refsOf, serialized, sha256 } from "./objects.js";

interface Part {
  hex?: string;
  zeros?: number;
  counter?: string;
  size?: number;
  values?: string;
}

function content(parts: Part[]): Buffer {
  return Buffer.concat(parts.map(bytesOf));
}

function bytesOf({ hex, zeros, counter, size = 0, values }: Part): Buffer {
  if (hex !== undefined) return Buffer.from(hex, "hex");
  if (zeros !== undefined) return Buffer.alloc(zeros);
  const bytes = Buffer.alloc(Math.ceil(size / 32) * 32);
  const seed = Buffer.concat([Buffer.from(counter!), Buffer.alloc(8)]);
  for (let i = 0; i * 32 < size; i++) {
    seed.writeBigUInt64BE(BigInt(i), seed.length - 8);
    createHash("sha256").update(seed).digest().copy(bytes, i * 32);
  }
  const taken = bytes.subarray(0, size);
  if (values === undefined) return taken;
  const chosen = Buffer.from(values, "hex");
  return taken.map((byte) => chosen[byte % chosen.length]!) as Buffer;
}

const directory = process.argv[2]!;
const load = (name: string) => JSON.parse(readFileSync(join(directory, `${name}.json`), "utf8"));
const scratch = mkdtempSync(join(tmpdir(), "syncline-vectors-"));

try {
  const cuts = load("fastcdc");
  assert.deepEqual([fastcdc.MIN_BLOCK_BYTES, fastcdc.AVG_BLOCK_BYTES, fastcdc.MAX_BLOCK_BYTES], [cuts.min_size, cuts.avg_size, cuts.max_size]);
  assert.deepEqual(fastcdc.gear(), cuts.gear);
  const hex = (mask: readonly number[]) => mask.map((word) => word.toString(16).padStart(8, "0")).join("");
  assert.deepEqual([hex(fastcdc.MASK_STRICT), hex(fastcdc.MASK_LOOSE)], [cuts.mask_strict, cuts.mask_loose]);
  const buffer = fastcdc.workspace();
  for (const { name, content: parts, sha256: digest, blocks } of cuts.cases) {
    const path = join(scratch, "content");
    const bytes = content(parts);
    assert.equal(sha256(bytes), digest, name);
    writeFileSync(path, bytes);
    const found = [];
    for await (const block of fastcdc.blocksOf(path, buffer)) found.push([sha256(block), block.length]);
    assert.deepEqual(found, blocks, name);
  }

  for (const expected of load("packs").cases) {
    const builder = new PackBuilder();
    const offsets = expected.offered.map((parts: Part[]) => builder.add(sha256(content(parts)), content(parts)));
    assert.deepEqual([offsets, builder.full], [expected.offsets, expected.full], expected.name);
    const { digest, bytes, declaration } = builder.close();
    assert.deepEqual([digest, bytes.length], [expected.sha256, expected.size], expected.name);
    const { pack } = declaration;
    const declared = pack ? { blocks_sha256: sha256(pack.blocks as Buffer), offsets: pack.offsets, lengths: pack.lengths } : null;
    assert.deepEqual(declared, expected.pack, expected.name);
  }

  for (const { name, blocks, size, sha256: digest } of load("manifests").cases) {
    const refs: BlockRef[] = blocks.map(([digest, length, object, offset]: [string, number, string, number]) => ({ digest, length, object, offset }));
    const stored = serialized(manifestOf(refs));
    assert.deepEqual([stored.bytes.length, stored.digest], [size, digest], name);
    assert.deepEqual(refsOf(deserialized(stored.bytes)), refs, name);
  }

  for (const { space_id, request_id, index, node_id } of load("identifiers").nodes) {
    assert.equal(nodeId(space_id, Buffer.from(request_id, "hex"), index), node_id);
  }
  process.stdout.write("all vectors hold\n");
} finally {
  rmSync(scratch, { recursive: true });
}
