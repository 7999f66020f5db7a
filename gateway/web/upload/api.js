// @ts-check
/** What the engine asks of the gateway. */

import { LONGEST_TOLD, delay, online, retryAfter, sleep } from "./retry.js";

/** @import {PackEntries} from "./pack.js" */
/** @import {Content} from "./manifest.js" */
/** @import {Patience} from "./retry.js" */

/**
 * @typedef {{sha256: string, size: number}} Wanted
 * @typedef {{sha256: string, stored: true}
 *   | {sha256: string, stored: false, method: string, url: string, headers: Record<string, string>,
 *      expires_at_ms: number}} Ticket
 * @typedef {Wanted & {pack?: PackEntries, manifest?: true}} Declaration
 * @typedef {string | {change: number}} ParentRef a node's id, "root", or the directory that a change of this request makes
 * @typedef {{create: {parent: ParentRef, name: string, kind: "file" | "directory", content?: Content}}
 *   | {update: {node: string, base_version: number, content: Content}}} Change
 * @typedef {{id: string, parent: string, name: string, kind: string, version: number,
 *   size?: number, digest?: string, mtime_ms?: number}} Node
 * @typedef {{verdict: string, node?: Node | null}} Result
 *
 * @typedef {object} Api every method raises ApiError
 * @property {(space: string, objects: Wanted[]) => Promise<Ticket[]>} uploads where to put objects that are not sealed yet
 * @property {(space: string, objects: Declaration[]) => Promise<string[]>} seal a verdict for each
 * @property {(space: string, changes: Change[], key: string) => Promise<Result[]>} commit a result for each;
 *   a repetition with the same key is carried out once
 */

/** The gateway said no, or nothing. */
export class ApiError extends Error {
  /**
   * @param {string} message for people
   * @param {{status?: number, reason?: string, retryAfter?: number | null}} [what] `status` is 0 if there was no answer;
   *   `reason` is what programs branch on; `retryAfter` in milliseconds
   */
  constructor(message, { status = 0, reason = "", retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.retryAfter = retryAfter;
  }

  /** Whether a limit says when to come again. One that does not, such as LIMIT_REACHED, does not pass by waiting. */
  get slower() {
    return this.status === 429 && this.retryAfter !== null;
  }

  /** Whether the same may work later. */
  get passing() {
    return this.status === 0 || this.status >= 500 || this.status === 408 || this.slower;
  }
}

/**
 * The gateway's interface over a function that makes its requests.
 * @param {(method: string, path: string, body: unknown, headers?: Record<string, string>) => Promise<any>} request
 *   resolves with the JSON of the answer, and raises ApiError
 * @returns {Api}
 */
export function createApi(request) {
  const at = (/** @type {string} */ space, /** @type {string} */ what) => `/v1/spaces/${encodeURIComponent(space)}/${what}`;
  return {
    uploads: async (space, objects) => (await request("POST", at(space, "uploads"), { objects })).uploads,
    seal: async (space, objects) => (await request("POST", at(space, "objects"), { objects })).verdicts,
    commit: async (space, changes, key) =>
      (await request("POST", at(space, "changes"), { changes }, { "Idempotency-Key": key })).results,
  };
}

/**
 * A function for `createApi` that makes requests of this page's origin.
 * @param {() => string} csrfToken
 */
export function sameOrigin(csrfToken) {
  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} body
   * @param {Record<string, string>} [headers]
   * @returns {Promise<any>}
   */
  return async (method, path, body, headers = {}) => {
    let answer;
    try {
      answer = await fetch(path, {
        method,
        credentials: "same-origin",
        headers: { "Content-Type": "application/json", "X-CSRF-Token": csrfToken(), ...headers },
        body: JSON.stringify(body),
      });
      if (answer.ok) return await answer.json();
    } catch {
      throw new ApiError("The server cannot be reached.");
    }
    const problem = await answer.json().catch(() => ({}));
    throw new ApiError(problem.detail || `The server answered ${answer.status}.`, {
      status: answer.status,
      reason: problem.reason,
      retryAfter: retryAfter(answer.headers.get("retry-after")),
    });
  };
}

/**
 * The same interface, where each call is repeated while that may help.
 * @param {Api} api
 * @param {Patience} patience
 * @returns {Api}
 */
export function patient(api, patience) {
  /**
   * @template T
   * @param {() => Promise<T>} call
   * @returns {Promise<T>}
   */
  async function repeat(call) {
    let told = 0;
    for (let attempt = 1; ; ) {
      await online();
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof ApiError && error.passing)) throw error;
        const ms = delay(patience, attempt, error.retryAfter);
        if (error.slower) told += ms;
        else attempt++;
        if (attempt > patience.attempts || told > LONGEST_TOLD) throw error;
        await sleep(ms);
      }
    }
  }
  return {
    uploads: (space, objects) => repeat(() => api.uploads(space, objects)),
    seal: (space, objects) => repeat(() => api.seal(space, objects)),
    commit: (space, changes, key) => repeat(() => api.commit(space, changes, key)),
  };
}
