/** Repeating what failed in passing: a back-off that doubles from 0.2 s to 5 s, spread at random, never less than asked for. */

import { setTimeout as sleep } from "node:timers/promises";

import { type SynclineError, meaning } from "./errors.js";

const FIRST_MS = 200;
const LONGEST_MS = 5000;

export class Patience {
  #delay = FIRST_MS;
  #left: number;

  constructor(private readonly attempts = 8) {
    this.#left = attempts;
  }

  /** There was progress: begin anew. */
  reset(): void {
    this.#delay = FIRST_MS;
    this.#left = this.attempts;
  }

  /** Wait before the next attempt; throws the error if it is not a passing one or there were enough attempts. */
  async after(error: SynclineError): Promise<void> {
    this.#left -= 1;
    if (!error.passing || this.#left <= 0) throw error;
    await sleep(Math.max(error.waitMs, this.#delay * (0.5 + Math.random() / 2)));
    this.#delay = Math.min(this.#delay * 2, LONGEST_MS);
  }
}

/** `attempt`, repeated while it fails in passing. Only for what may be repeated. */
export async function repeating<T>(attempt: () => Promise<T>, patience = new Patience()): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (failure) {
      await patience.after(meaning(failure));
    }
  }
}
