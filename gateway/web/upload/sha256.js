// @ts-check
/**
 * SHA-256 that takes its input in parts, which SubtleCrypto cannot: the digest of a whole file is needed, and a file does
 * not fit into memory. Bytes that are in memory anyway are hashed by SubtleCrypto, which is faster.
 */

import { sha256 } from "../vendor/noble-hashes/sha2.js";
import { toHex } from "./hex.js";

export class Sha256 {
  #hash = sha256.create();

  /**
   * @param {Uint8Array} bytes
   * @returns {this}
   */
  update(bytes) {
    this.#hash.update(bytes);
    return this;
  }

  /**
   * The digest of all that was given; nothing more can be given then.
   * @returns {Uint8Array} 32 bytes
   */
  digest() {
    return this.#hash.digest();
  }

  /** @returns {string} */
  hex() {
    return toHex(this.digest());
  }
}

/**
 * The SHA-256 of bytes that are in memory. Pages of plain http have no SubtleCrypto, unless they are of this machine.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @returns {Promise<string>} hex
 */
export async function digestOf(bytes) {
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) return new Sha256().update(bytes).hex();
  return toHex(new Uint8Array(await subtle.digest("SHA-256", bytes)));
}
