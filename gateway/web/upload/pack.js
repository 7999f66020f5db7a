// @ts-check
/** Packs: many small blocks in one object, one after the other. */

import { MAX_PACK_ENTRIES, MIN_BLOCK_BYTES, PACK_BYTES } from "./format.js";
import { digestOf } from "./sha256.js";

/**
 * @typedef {{blocks: string[], offsets: number[], lengths: number[]}} PackEntries the declaration of a pack
 * @typedef {{sha256: string, bytes: Uint8Array<ArrayBuffer>, pack: PackEntries | null}} Pack
 *   a closed pack; `pack` is null for a single block, which is proven by its checksum alone
 */

/** Collects small blocks, each of them once. */
export class PackBuilder {
  #bytes = new Uint8Array(PACK_BYTES + MIN_BLOCK_BYTES);
  /** @type {Map<string, number>} */
  #offsets = new Map();
  /** @type {number[]} */
  #lengths = [];
  size = 0;

  get count() {
    return this.#lengths.length;
  }

  get full() {
    return this.size >= PACK_BYTES || this.count >= MAX_PACK_ENTRIES;
  }

  /**
   * The offset at which the block lies in the pack. The pack must not be full.
   * @param {string} sha256
   * @param {Uint8Array} bytes
   * @returns {number}
   */
  add(sha256, bytes) {
    const known = this.#offsets.get(sha256);
    if (known !== undefined) return known;
    const offset = this.size;
    this.#offsets.set(sha256, offset);
    this.#bytes.set(bytes, offset);
    this.#lengths.push(bytes.length);
    this.size += bytes.length;
    return offset;
  }

  /**
   * The pack of what was added, at least one block. The builder is then done with.
   * @returns {Promise<Pack>}
   */
  async close() {
    const bytes = this.#bytes.subarray(0, this.size);
    const blocks = [...this.#offsets.keys()];
    if (blocks.length === 1) return { sha256: blocks[0], bytes, pack: null };
    const offsets = [...this.#offsets.values()];
    return { sha256: await digestOf(bytes), bytes, pack: { blocks, offsets, lengths: this.#lengths } };
  }
}
