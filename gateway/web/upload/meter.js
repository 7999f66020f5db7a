// @ts-check
/** How fast bytes go, over the last few seconds. */

const WINDOW = 10_000;
const STEP = 250;

export class Meter {
  /** @type {{at: number, bytes: number}[]} */
  #steps = [];

  /** @param {number} bytes */
  add(bytes) {
    const now = performance.now();
    const last = this.#steps.at(-1);
    if (last && now - last.at < STEP) last.bytes += bytes;
    else this.#steps.push({ at: now, bytes });
  }

  /** Bytes a second. */
  get speed() {
    const now = performance.now();
    while (this.#steps.length && now - this.#steps[0].at > WINDOW) this.#steps.shift();
    if (!this.#steps.length) return 0;
    const bytes = this.#steps.reduce((sum, step) => sum + step.bytes, 0);
    return bytes / (Math.max(now - this.#steps[0].at, 1000) / 1000);
  }

  /** Forget what was: a pause is not slowness. */
  reset() {
    this.#steps = [];
  }
}
