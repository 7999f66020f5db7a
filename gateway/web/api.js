// @ts-check
/** The gateway's REST interface: requests, problems, pages. */

import { retryAfter } from "./upload/retry.js";

/**
 * @typedef {{id: string, parent: string, name: string, kind: "file" | "directory" | "symlink", version: number, etag: string,
 *   seq: number, size: number | null, digest: string | null, mtime_ms: number | null, executable: boolean,
 *   target: string | null, media_type: string | null, user_id: string, device_id: string, committed_at_ms: number,
 *   deleted_at_ms: number | null}} Node
 * @typedef {Node & {path: string}} Located
 * @typedef {{user_id: string, email: string, personal_space_id: string, proven: boolean,
 *   admin: boolean, guest: boolean}} Account
 * @typedef {{device_id: string, name: string, kind: "client" | "browser" | "program", created_at_ms: number,
 *   last_seen_at_ms: number, expires_at_ms: number | null, revoked_at_ms: number | null, current: boolean,
 *   made_by: string | null, scopes: string[] | null, spaces: string[] | null}} Device
 * @typedef {"owner" | "editor" | "viewer"} Role
 * @typedef {{space_id: string, name: string, role: Role, personal: boolean, alias: string,
 *   deleted_at_ms: number | null, restorable_until_ms: number | null}} Space
 * @typedef {{user_id: string, email: string, role: Role}} Member
 * @typedef {{space_id: string, space_name: string, email: string, role: Role, invited_by: string, created_at_ms: number,
 *   expires_at_ms: number}} Invitation
 * @typedef {{email: string | null, expires_at_ms: number, space: Invitation | null, guest: boolean}} PresentedInvitation
 * @typedef {{version: number, size: number, digest: string, mtime_ms: number, user_id: string, device_id: string,
 *   committed_at_ms: number}} Version
 * @typedef {{seq: number, change: "created" | "updated" | "moved" | "deleted" | "restored", node: Node,
 *   from_name: string | null, from_parent: string | null, user_id: string, device_id: string, committed_at_ms: number}} Activity
 * @typedef {{link_id: string, space_id: string, node: string, user_id: string, created_at_ms: number, expires_at_ms: number | null,
 *   has_password: boolean, max_downloads: number | null, downloads: number, made_by: string | null}} Link
 * @typedef {{ended_keys: Device[], ended_links: Link[], remaining_links: Link[], ended_key_count: number, ended_link_count: number,
 *   remaining_link_count: number}} DeviceEnd
 * @typedef {{ended_devices: Device[], ended_keys: Device[], remaining_keys: Device[], ended_device_count: number,
 *   ended_key_count: number, remaining_key_count: number, unfinished: boolean}} PasswordChanged
 * @typedef {{added_at_ms: number, recovery_codes_left: number}} Factor
 * @typedef {{since_ms: number, by_user_id: string, reason: string}} UserSuspension
 * @typedef {{quota_bytes: number | null, reserved_bytes: number}} UserUsage
 * @typedef {{user_id: string, email: string, personal_space_id: string, created_at_ms: number, proven: boolean, admin: boolean,
 *   guest: boolean, suspension: UserSuspension | null, usage: UserUsage, quota_set: boolean}} User
 * @typedef {{space_id: string, name: string, role: Role, personal: boolean}} UserSpace
 * @typedef {{device_count: number, key_count: number}} SignedOutDevices
 * @typedef {{space_id: string, name: string, personal: boolean, owners: number, created_at_ms: number,
 *   deleted_at_ms: number | null, quota_bytes: number, quota_set: boolean, reserved_bytes: number,
 *   payer_user_id: string | null}} SpaceSummary
 * @typedef {{kind: string, user_id: string | null, device_id: string | null, name: string | null}} AuditActor
 * @typedef {{kind: string, id: string}} AuditSubject
 * @typedef {{event_id: string, at_ms: number, kind: string, result: string, actor: AuditActor, subjects: AuditSubject[],
 *   network: string | null, request_id: string | null, count: number, details: Record<string, string>}} AuditEvent
 * @typedef {{sign_up_policy: "invited" | "domains" | "open", sign_up_domains: string[], prove_addresses: boolean,
 *   invitation_seconds: number, credential_seconds: number, user_quota_bytes: number | null, space_quota_bytes: number}} SignUpRules
 * @typedef {{secret: string, uri: string, qr: string}} NewFactor
 */

const ATTEMPTS = 4;
const FIRST_WAIT_MS = 250;
const PASSING = new Set([0, 502, 503, 504]);
/** Limits that ask to come again soon. What counts attempts at a password is for people to know. */
const SLOWER = new Set(["RATE_EXCEEDED", "TOO_MUCH_AT_ONCE"]);
/** How long a request waits in all because the server asks it to. */
const LONGEST_WAIT_MS = 60_000;
const SIGNED_OUT = new Set([
  "UNAUTHENTICATED",
  "TOKEN_EXPIRED",
  "TOKEN_INVALID",
  "TOKEN_MALFORMED",
  "DEVICE_REVOKED",
  "ACCOUNT_SUSPENDED",
]);

/** The gateway said no, or nothing: then `status` is 0. */
export class Problem extends Error {
  /**
   * @param {{status: number, reason: string, detail: string, details?: Record<string, string>, retryAfter?: number | null}} told
   *   `retryAfter` in milliseconds
   */
  constructor({ status, reason, detail, details = {}, retryAfter = null }) {
    super(detail);
    this.status = status;
    this.reason = reason;
    this.detail = detail;
    this.details = details;
    this.retryAfter = retryAfter;
  }
}

/** Who is signed in is known here only by what must go along. */
export const signedIn = {
  csrf: "",
  /** Called when the gateway does not know us any more. */
  lost: () => {},
  /** Called when our token is not that of the cookie any more; whether it is again. @type {() => Promise<boolean>} */
  renew: async () => false,
  /** Aborted when the person signs out: pending requests on their behalf are cancelled, and no further ones are sent. */
  end: new AbortController(),
};

/**
 * A path with its values encoded.
 * @param {TemplateStringsArray} texts
 * @param {...(string | number)} values
 */
export function at(texts, ...values) {
  return texts.reduce((path, text, i) => path + encodeURIComponent(values[i - 1]) + text);
}

/**
 * @typedef {object} Asked
 * @property {unknown} [body]
 * @property {string} [etag] the state that was seen: else nothing is changed
 * @property {AbortSignal} [signal]
 * @property {string} [key] the request's name, for those who repeat it themselves
 * @property {boolean} [quiet] a missing sign-in is a regular answer here; the request continues during a sign-out
 */

/**
 * Ask the gateway, again if that may help. Raises Problem.
 * @param {string} method
 * @param {string} path
 * @param {Asked} [asked]
 * @returns {Promise<any>}
 */
export async function call(method, path, asked = {}) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json" };
  if (method !== "GET") {
    headers["x-csrf-token"] = signedIn.csrf;
    headers["idempotency-key"] = asked.key ?? crypto.randomUUID();
  }
  if (asked.body !== undefined) headers["content-type"] = "application/json";
  if (asked.etag) headers["if-match"] = asked.etag;
  const ends = asked.quiet ? [] : [signedIn.end.signal];
  if (asked.signal) ends.push(asked.signal);
  const signal = AbortSignal.any(ends);
  const request = {
    method,
    headers,
    body: asked.body === undefined ? undefined : JSON.stringify(asked.body),
    signal,
    credentials: /** @type {const} */ ("same-origin"),
  };
  const patience = { leftMs: LONGEST_WAIT_MS };
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await slowly(() => answerOf(path, request), signal, patience);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (SIGNED_OUT.has(error.reason) && !asked.quiet) signedIn.lost();
      if (error.reason === "CSRF" && attempt === 1 && (await signedIn.renew())) {
        headers["x-csrf-token"] = signedIn.csrf;
        continue;
      }
      if (!PASSING.has(error.status) || attempt === ATTEMPTS) throw error;
      await wait(FIRST_WAIT_MS * 2 ** (attempt - 1) * (0.5 + Math.random()), signal);
    }
  }
}

/**
 * What `request` gives, made again when the server says to come again later, for up to a minute in all.
 * @template T
 * @param {() => Promise<T>} request raises Problem
 * @param {AbortSignal} [signal]
 * @param {{leftMs: number}} [patience] the remaining waiting time, from which each wait is deducted
 * @returns {Promise<T>}
 */
export async function slowly(request, signal, patience = { leftMs: LONGEST_WAIT_MS }) {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof Problem) || !SLOWER.has(error.reason) || error.retryAfter === null) throw error;
      // Spread, since what was refused together would else come back together.
      const ms = error.retryAfter * (1 + Math.random() / 4);
      if (ms > patience.leftMs) throw error;
      patience.leftMs -= ms;
      await wait(ms, signal);
    }
  }
}

/**
 * @param {string} path
 * @param {RequestInit} request
 */
async function answerOf(path, request) {
  let response;
  try {
    response = await fetch(path, request);
  } catch (error) {
    if (request.signal?.aborted) throw error;
    throw new Problem({ status: 0, reason: "OFFLINE", detail: "the server cannot be reached" });
  }
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

/**
 * What a response that is not good says.
 * @param {Response} response
 */
export async function problemOf(response) {
  const told = await response.json().catch(() => ({}));
  return new Problem({
    status: response.status,
    reason: told.reason ?? (response.status >= 500 ? "UNAVAILABLE" : ""),
    detail: told.detail ?? `the server answered ${response.status}`,
    details: told.details,
    retryAfter: retryAfter(response.headers.get("retry-after")) || null,
  });
}

/**
 * The path of a page of a listing.
 * @param {string} path of the listing
 * @param {string} token that the page before has told; empty for the first page
 */
export function pageAt(path, token) {
  return token ? `${path}${path.includes("?") ? "&" : "?"}page_token=${encodeURIComponent(token)}` : path;
}

/**
 * All pages of a listing, each as it comes.
 * @param {string} path
 * @param {Asked} [asked]
 * @returns {AsyncGenerator<any, void>}
 */
export async function* pages(path, asked) {
  let token = "";
  do {
    const page = await call("GET", pageAt(path, token), asked);
    yield page;
    token = page.next_page_token ?? "";
  } while (token);
}

/**
 * What all pages of a listing hold.
 * @param {string} path
 * @param {string} name of the list in each page
 * @returns {Promise<any[]>}
 */
export async function everything(path, name) {
  const found = [];
  for await (const page of pages(path)) found.push(...page[name]);
  return found;
}

/**
 * @param {number} ms
 * @param {AbortSignal} [signal]
 */
export function wait(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/**
 * Do something with each of many, a few at a time.
 * @template T, R
 * @param {T[]} many
 * @param {(one: T) => Promise<R>} what
 * @returns {Promise<PromiseSettledResult<R>[]>} in the order of `many`
 */
export async function each(many, what, atOnce = 6) {
  /** @type {PromiseSettledResult<R>[]} */
  const results = [];
  const rest = many.entries();
  const work = async () => {
    for (const [i, one] of rest) {
      [results[i]] = await Promise.allSettled([what(one)]);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, many.length) }, work));
  return results;
}
