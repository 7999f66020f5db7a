// @ts-check
/** Manifests: which bytes of which objects make up a content. As `core/blocks.py` and `wire/tree.py` have them. */

import { DIGEST_BYTES } from "./format.js";
import { writeHex } from "./hex.js";

/**
 * @typedef {{sha256: string, length: number, object: string, offset: number}} BlockRef
 *   one block: the bytes [offset, offset + length) of an object hold it
 * @typedef {[string, number] | [string, number, string, number]} WireRef a block as the gateway takes it
 * @typedef {{digest: string, size: number, mtime_ms: number, blocks?: WireRef[], manifest_object?: string}} Content
 */

/** @param {BlockRef} ref */
function isAlone(ref) {
  return ref.object === ref.sha256 && ref.offset === 0;
}

/**
 * A block in its shortest form: one that is an object of its own needs not name it.
 * @param {BlockRef} ref
 * @returns {WireRef}
 */
export function toWire(ref) {
  return isAlone(ref) ? [ref.sha256, ref.length] : [ref.sha256, ref.length, ref.object, ref.offset];
}

/**
 * The serialised protobuf `Manifest`, byte for byte what the native client stores: fields in order, numbers packed, what is
 * empty left out.
 * @param {BlockRef[]} refs
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function encodeManifest(refs) {
  /** @type {Uint8Array[]} */
  const parts = [];
  field(parts, 1, digests(refs.map((ref) => ref.sha256)));
  field(parts, 2, varints(refs.map((ref) => ref.length)));
  if (!refs.every(isAlone)) {
    /** @type {Map<string, number>} */
    const objects = new Map();
    for (const ref of refs) if (!objects.has(ref.object)) objects.set(ref.object, objects.size);
    field(parts, 3, digests([...objects.keys()]));
    field(parts, 4, varints(refs.map((ref) => objects.get(ref.object) ?? 0)));
    field(parts, 5, varints(refs.map((ref) => ref.offset)));
  }
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/**
 * One field of bytes, wire type 2.
 * @param {Uint8Array[]} parts
 * @param {number} number
 * @param {Uint8Array} value
 */
function field(parts, number, value) {
  if (value.length) parts.push(varints([(number << 3) | 2, value.length]), value);
}

/** @param {string[]} hexes */
function digests(hexes) {
  const bytes = new Uint8Array(hexes.length * DIGEST_BYTES);
  for (const [i, hex] of hexes.entries()) writeHex(hex, bytes, i * DIGEST_BYTES);
  return bytes;
}

/** @param {number[]} values of up to 32 bits */
function varints(values) {
  /** @type {number[]} */
  const bytes = [];
  for (let value of values) {
    for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
    bytes.push(value);
  }
  return Uint8Array.from(bytes);
}
