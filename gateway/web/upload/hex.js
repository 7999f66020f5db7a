// @ts-check
/** Digests as lower-case hex, which is how they travel in JSON and how they are compared here. */

const PAIRS = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/**
 * @param {Uint8Array} bytes
 * @returns {string}
 */
export function toHex(bytes) {
  let text = "";
  for (const byte of bytes) text += PAIRS[byte];
  return text;
}

/**
 * Write the bytes of `hex` at `at`.
 * @param {string} hex
 * @param {Uint8Array} target
 * @param {number} at
 */
export function writeHex(hex, target, at) {
  for (let i = 0; i < hex.length; i += 2) target[at + i / 2] = parseInt(hex.slice(i, i + 2), 16);
}
