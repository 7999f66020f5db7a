/** The golden vectors in protos/vectors, which README.md there describes. */

import { hash } from "node:crypto";
import { readFileSync } from "node:fs";

/**
 * @typedef {{hex: string}} HexPart
 * @typedef {{zeros: number}} ZerosPart
 * @typedef {{counter: string, size: number, values?: string}} CounterPart
 * @typedef {HexPart | ZerosPart | CounterPart} Part some bytes of a content
 */

/**
 * The vectors of one file.
 * @param {string} name `fastcdc` for `fastcdc.json`
 * @returns {any}
 */
export function load(name) {
  return JSON.parse(readFileSync(new URL(`../../../protos/vectors/${name}.json`, import.meta.url), "utf8"));
}

/**
 * The bytes that the parts of a content describe, one after the other.
 * @param {Part[]} parts
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function content(parts) {
  return new Uint8Array(Buffer.concat(parts.map(bytesOf)));
}

/** @param {string | Uint8Array} bytes @returns {string} */
export function sha256(bytes) {
  return hash("sha256", bytes, "hex");
}

/** @param {Part} part @returns {Uint8Array} */
function bytesOf(part) {
  if ("hex" in part) return Buffer.from(part.hex, "hex");
  if ("zeros" in part) return new Uint8Array(part.zeros);
  const bytes = counted(part.counter, part.size);
  if (part.values === undefined) return bytes;
  const values = Buffer.from(part.values, "hex");
  return bytes.map((byte) => values[byte % values.length]);
}

/** The longest run of bytes so far of each seed. @type {Map<string, Uint8Array>} */
const runs = new Map();

/**
 * The first `size` bytes of SHA-256(seed + 0) + SHA-256(seed + 1) + ..., each number as eight bytes, big-endian.
 * @param {string} seed
 * @param {number} size
 */
function counted(seed, size) {
  let run = runs.get(seed);
  if (!run || run.length < size) {
    const text = Buffer.from(seed);
    const counted = Buffer.concat([text, Buffer.alloc(8)]);
    run = new Uint8Array(Math.ceil(size / 32) * 32);
    for (let at = 0, i = 0; at < size; at += 32, i++) {
      counted.writeUInt32BE(i, text.length + 4);
      run.set(hash("sha256", counted, "buffer"), at);
    }
    runs.set(seed, run);
  }
  return run.subarray(0, size);
}
