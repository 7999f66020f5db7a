// @ts-check
/**
 * The gear table of FastCDC. Its publication leaves the 256 random numbers to the implementation; the common one, which
 * the native client's library has too, takes for the byte b the first eight bytes of MD5(b repeated 64 times).
 */

const SHIFTS = [
  [7, 12, 17, 22],
  [5, 9, 14, 20],
  [4, 11, 16, 23],
  [6, 10, 15, 21],
];
const SINES = Int32Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32));

/**
 * One step of MD5 (RFC 1321).
 * @param {Int32Array} state
 * @param {Int32Array} words sixteen
 */
function step(state, words) {
  let [a, b, c, d] = state;
  for (let i = 0; i < 64; i++) {
    const round = i >> 4;
    const [mixed, from] = [
      [(b & c) | (~b & d), i],
      [(d & b) | (~d & c), (5 * i + 1) % 16],
      [b ^ c ^ d, (3 * i + 5) % 16],
      [c ^ (b | ~d), (7 * i) % 16],
    ][round];
    const sum = (a + mixed + SINES[i] + words[from]) | 0;
    const shift = SHIFTS[round][i % 4];
    a = d;
    d = c;
    c = b;
    b = (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
}

/** @param {number} byte */
function firstWords(byte) {
  const state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  step(state, new Int32Array(16).fill(byte * 0x01010101));
  const padding = new Int32Array(16);
  padding[0] = 0x80;
  padding[14] = 512;
  step(state, padding);
  return state;
}

/** @param {number} word little-endian */
function reversed(word) {
  return (word << 24) | ((word << 8) & 0xff0000) | ((word >>> 8) & 0xff00) | (word >>> 24);
}

const states = Array.from({ length: 256 }, (_, byte) => firstWords(byte));

/** The upper 32 bits of each number. */
export const GEAR_HIGH = Int32Array.from(states, (state) => reversed(state[0]));
/** The lower 32 bits. */
export const GEAR_LOW = Int32Array.from(states, (state) => reversed(state[1]));
