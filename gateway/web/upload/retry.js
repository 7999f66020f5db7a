// @ts-check
/** Repeating what may work the next time. */

/** @typedef {{attempts: number, first: number, longest: number}} Patience delays in milliseconds; each doubles the last */

/** @type {Patience} */
export const PATIENCE = { attempts: 6, first: 500, longest: 30_000 };
/** Maximum total milliseconds that one call waits for limits of the service, which cost no attempt. */
export const LONGEST_TOLD = 600_000;

/**
 * How long to wait before attempt `attempt` (the first repetition is 1), unless the other side said so. Spread, so that
 * those who failed together do not come back together.
 * @param {Patience} patience
 * @param {number} attempt
 * @param {number | null} [told] milliseconds
 */
export function delay({ first, longest }, attempt, told = null) {
  const own = Math.min(longest, first * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2);
  return told === null ? own : told + Math.random() * first;
}

/** @param {number} ms */
export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Without a network nothing is tried, and no attempt is spent. @returns {Promise<void>} */
export function online() {
  if (navigator.onLine !== false) return Promise.resolve();
  return new Promise((resolve) => addEventListener("online", () => resolve(), { once: true }));
}

/**
 * A Retry-After header in milliseconds; null if there is none that can be understood.
 * @param {string | null} value
 */
export function retryAfter(value) {
  if (!value) return null;
  const seconds = Number(value);
  const wait = Number.isNaN(seconds) ? Date.parse(value) - Date.now() : seconds * 1000;
  return Number.isNaN(wait) ? null : Math.max(0, wait);
}
