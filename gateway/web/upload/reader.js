// @ts-check
/** Reading files that others may change or take away at any moment, in bounded memory. */

import { MAX_BLOCK_BYTES, MIB } from "./format.js";
import { cut } from "./fastcdc.js";
import { Sha256, digestOf } from "./sha256.js";

const PIECE = 4 * MIB;

/**
 * @typedef {{sha256: string, offset: number, bytes: Uint8Array}} Block `bytes` are good only until the taker returns
 * @typedef {{digest: string, size: number}} Read all blocks have been given out
 * @typedef {{bytes: Uint8Array<ArrayBuffer>, digest: string}} Small a file of one block, or of none
 */

/** The file is not what it was when it was chosen. */
export class Changed extends Error {}

/**
 * All of a file that is shorter than a block can be. Changed, or what the browser raises for a file that it cannot read.
 * @param {Blob} file
 * @returns {Promise<Small>}
 */
export async function readSmall(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes.length !== file.size) throw new Changed();
  return { bytes, digest: await digestOf(bytes) };
}

/** Reads one large file after the other; its buffer is used again. */
export class Reader {
  /** @type {Uint8Array<ArrayBuffer> | null} */
  #buffer = null;

  /**
   * Hand each block of the file to `take`, in order. Changed, what the browser raises, what `take` raises; blocks that
   * were handed over until then mean nothing.
   * @param {Blob} file of at least MIN_BLOCK_BYTES bytes
   * @param {(block: Block) => Promise<void>} take
   * @returns {Promise<Read>}
   */
  async read(file, take) {
    this.#buffer ??= new Uint8Array(2 * MAX_BLOCK_BYTES);
    const buffer = this.#buffer;
    const { size } = file;
    const pieces = new Pieces(file);
    const whole = new Sha256();
    let digest = "";
    let [at, filled, offset] = [0, 0, 0];
    while (offset < size) {
      if (filled - at < MAX_BLOCK_BYTES && !pieces.ended) {
        buffer.copyWithin(0, at, filled);
        filled -= at;
        at = 0;
        while (filled + PIECE <= buffer.length && !pieces.ended) {
          const piece = await pieces.next();
          buffer.set(piece, filled);
          filled += piece.length;
        }
      }
      const length = cut(buffer, at, filled);
      const bytes = buffer.subarray(at, at + length);
      // SubtleCrypto works on a copy in a thread of its own, while this one continues with the hash of the whole.
      const own = digestOf(bytes);
      if (length < size) whole.update(bytes);
      const sha256 = await own;
      if (length === size) digest = sha256;
      await take({ sha256, offset, bytes });
      at += length;
      offset += length;
    }
    return { digest: digest || whole.hex(), size };
  }
}

/** A file in pieces, of which the next one is read while the last one is worked on. */
class Pieces {
  #file;
  #at = 0;
  /** @type {Promise<ArrayBuffer> | null} */
  #ahead;

  /** @param {Blob} file */
  constructor(file) {
    this.#file = file;
    this.#ahead = this.#read();
  }

  get ended() {
    return this.#ahead === null;
  }

  async next() {
    const expected = Math.min(PIECE, this.#file.size - this.#at);
    const piece = new Uint8Array(/** @type {ArrayBuffer} */ (await this.#ahead));
    if (piece.length !== expected) throw new Changed();
    this.#at += expected;
    this.#ahead = this.#read();
    return piece;
  }

  #read() {
    if (this.#at >= this.#file.size) return null;
    const ahead = this.#file.slice(this.#at, this.#at + PIECE).arrayBuffer();
    // The error reaches the caller that reads this piece; without one it is ignored.
    ahead.catch(() => {});
    return ahead;
  }
}
