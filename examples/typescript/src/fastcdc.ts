/**
 * Where a content is cut: FastCDC (2020), normalisation 2. The hash has 64 bits, which are kept in two numbers of 32, since
 * JavaScript has no fast integers of 64.
 */

import { createHash } from "node:crypto";
import { open } from "node:fs/promises";

export const MIN_BLOCK_BYTES = 512 * 1024;
export const AVG_BLOCK_BYTES = 2 * 1024 * 1024;
export const MAX_BLOCK_BYTES = 8 * 1024 * 1024;

/** For a block that is still shorter than the average; upper and lower 32 bits. */
export const MASK_STRICT = [0x0000d937, 0x77537000] as const;
/** For a longer one. */
export const MASK_LOOSE = [0x0000d917, 0x07537000] as const;

const high = new Int32Array(256);
const low = new Int32Array(256);
for (let byte = 0; byte < 256; byte++) {
  const digest = createHash("md5").update(Buffer.alloc(64, byte)).digest();
  high[byte] = digest.readInt32BE(0);
  low[byte] = digest.readInt32BE(4);
}

/** The table as hex numbers of 64 bits, to be compared with `protos/vectors/fastcdc.json`. */
export function gear(): string[] {
  const word = (value: number | undefined) => ((value ?? 0) >>> 0).toString(16).padStart(8, "0");
  return Array.from({ length: 256 }, (_, byte) => word(high[byte]) + word(low[byte]));
}

/**
 * How long the first block of `bytes[from, to)` is. What is given ends with the content, or holds at least
 * MAX_BLOCK_BYTES.
 */
export function cut(bytes: Uint8Array, from: number, to: number): number {
  const length = Math.min(to - from, MAX_BLOCK_BYTES);
  if (length <= MIN_BLOCK_BYTES) return length;
  const end = from + (length & ~1); // the last byte of an odd number is not looked at
  const middle = Math.min(from + AVG_BLOCK_BYTES, end);
  let [hi, lo] = [0, 0];
  let [maskHigh, maskLow] = MASK_STRICT as readonly [number, number];
  for (let at = from + MIN_BLOCK_BYTES; at < end; at++) {
    if (at === middle) [maskHigh, maskLow] = MASK_LOOSE;
    const byte = bytes[at]!;
    // hash = 2 * hash + gear[byte]
    const carried = lo >>> 31;
    const sum = ((lo << 1) >>> 0) + (low[byte]! >>> 0);
    lo = sum | 0;
    hi = ((hi << 1) + carried + high[byte]! + (sum > 0xffffffff ? 1 : 0)) | 0;
    if ((lo & maskLow) === 0 && (hi & maskHigh) === 0) return at - from;
  }
  return length;
}

/** What `blocksOf` reads into, for one file after the other. */
export function workspace(): Buffer {
  return Buffer.alloc(2 * MAX_BLOCK_BYTES);
}

/** The blocks of a file in order. Each is its own bytes. */
export async function* blocksOf(path: string, buffer: Buffer): AsyncGenerator<Buffer> {
  const file = await open(path);
  try {
    let [filled, ended] = [0, false];
    while (!ended || filled) {
      while (filled < buffer.length && !ended) {
        const { bytesRead } = await file.read(buffer, filled, buffer.length - filled);
        filled += bytesRead;
        ended = !bytesRead;
      }
      let at = 0;
      while (at < filled && (ended || filled - at >= MAX_BLOCK_BYTES)) {
        const length = cut(buffer, at, filled);
        yield Buffer.from(buffer.subarray(at, at + length));
        at += length;
      }
      buffer.copyWithin(0, at, filled);
      filled -= at;
    }
  } finally {
    await file.close();
  }
}
