// @ts-check
/**
 * FastCDC (2020: two bytes a step, normalisation 2) with the sizes of `format.js`: where a content is cut.
 *
 * The hash of 64 bits is h = 2h + gear[byte], and a cut lies where the bits of a mask are all zero. JavaScript has no fast
 * integers of 64 bits, but neither does one need them. No mask has a bit above the 48th, and what a byte adds to the hash
 * has left the lower 32 bits after 32 steps. So the loop carries only these. Where they match their part of the mask,
 * once in thousands of bytes, the whole is worked out from the last 48 bytes.
 */

import { AVG_BLOCK_BYTES, MAX_BLOCK_BYTES, MIN_BLOCK_BYTES } from "./format.js";
import { GEAR_HIGH, GEAR_LOW } from "./gear.js";

/** For a block that is still shorter than the average: 23 bits, so that a cut is less likely. */
const STRICT_HIGH = 0x0000d937;
const STRICT_LOW = 0x77537000;
/** For a longer one: 19 bits. */
const LOOSE_HIGH = 0x0000d917;
const LOOSE_LOW = 0x07537000;
const HASH_BITS = 48;

/**
 * How long the first block of `bytes` from `from` on is. What is given ends with the content, or holds at least MAX_BLOCK_BYTES
 * bytes from there.
 * @param {Uint8Array} bytes
 * @param {number} from
 * @param {number} to
 * @returns {number}
 */
export function cut(bytes, from, to) {
  const length = Math.min(to - from, MAX_BLOCK_BYTES);
  if (length <= MIN_BLOCK_BYTES) return length;
  const start = from + MIN_BLOCK_BYTES;
  // The definition goes by two bytes: the last one of an odd number is not looked at.
  const end = from + (length & ~1);
  const middle = Math.min(from + AVG_BLOCK_BYTES, end);
  const strict = find(bytes, start, start, middle, STRICT_HIGH, STRICT_LOW);
  if (strict < middle) return strict - from;
  const loose = find(bytes, start, middle, end, LOOSE_HIGH, LOOSE_LOW);
  return loose < end ? loose - from : length;
}

/**
 * The first place from `at` to `end` where the hash of what lies from `start` on matches, else `end`.
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} at
 * @param {number} end
 * @param {number} high
 * @param {number} low
 */
function find(bytes, start, at, end, high, low) {
  const gear = GEAR_LOW;
  let hash = 0;
  for (let i = Math.max(start, at - 32); i < at; i++) hash = ((hash << 1) + gear[bytes[i]]) | 0;
  // Two bytes a step: the second sum does not wait for the first one. The places are an even number.
  for (; at < end; at += 2) {
    const first = gear[bytes[at]];
    const between = ((hash << 1) + first) | 0;
    hash = ((hash << 2) + (((first << 1) + gear[bytes[at + 1]]) | 0)) | 0;
    if ((between & low) === 0 && (upper(bytes, start, at) & high) === 0) return at;
    if ((hash & low) === 0 && (upper(bytes, start, at + 1) & high) === 0) return at + 1;
  }
  return end;
}

/**
 * Bits 32 to 47 of the hash of what lies from `start` to `at`, both included.
 * @param {Uint8Array} bytes
 * @param {number} start
 * @param {number} at
 */
function upper(bytes, start, at) {
  let high = 0;
  let low = 0;
  for (let i = Math.max(start, at - HASH_BITS + 1); i <= at; i++) {
    const added = GEAR_LOW[bytes[i]];
    const doubled = low << 1;
    high = (high << 1) + (low >>> 31) + GEAR_HIGH[bytes[i]];
    low = (doubled + added) | 0;
    // The sum of two numbers of 32 bits went over the edge if it is less than one of them.
    high = (high + (low >>> 0 < added >>> 0 ? 1 : 0)) | 0;
  }
  return high;
}
