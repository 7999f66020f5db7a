/** Repeating what failed in passing: a back-off that doubles from 0.2 s to 5 s, spread at random, never less than asked for. */

import { setTimeout as sleep } from "node:timers/promises";

import { type SynclineError, meaning } from "./errors.js";

const FIRST_MS = 200;
const LONGEST_MS = 5000;
/** How long one call waits in all because its person's rate asks it to, which costs no attempt: other devices share the rate. */
const LONGEST_SLOWED_MS = 600_000;
/** How long a service may ask to wait otherwise, before an attempt. */
const LONGEST_ASKED_MS = 60_000;

export class Patience {
  #delay = FIRST_MS;
  #left: number;
  #slowed = 0;

  constructor(private readonly attempts = 8) {
    this.#left = attempts;
  }

  /** There was progress: begin anew. */
  reset(): void {
    this.#delay = FIRST_MS;
    this.#left = this.attempts;
    this.#slowed = 0;
  }

  /** Wait before the next attempt; throws the error if it is not a passing one or there were enough attempts. */
  async after(error: SynclineError): Promise<void> {
    if (error.reason === "RATE_EXCEEDED" && error.passing) {
      const ms = Math.max(error.waitMs * (1 + Math.random() / 4), 20);
      this.#slowed += ms;
      if (!(this.#slowed <= LONGEST_SLOWED_MS)) throw error;
      await sleep(ms);
      return;
    }
    this.#left -= 1;
    if (!error.passing || this.#left <= 0 || !(error.waitMs <= LONGEST_ASKED_MS)) throw error;
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
