/** Where an installation's services and storage are: GET {endpoint}/.well-known/syncline. */

import { bodyOf } from "./bodies.js";
import { SynclineError } from "./errors.js";
import { repeating } from "./retry.js";

export interface Service {
  target: string;
  tls: boolean;
}

export interface Deployment {
  auth: Service;
  metadata: Service;
  s3: { endpoint: string | null; region: string; bucket: string; path_style: boolean };
  chunking: { min_bytes: number; avg_bytes: number; max_bytes: number; normalization: number };
  limits: Record<"mutations" | "mutations_bytes" | "check_batch" | "find_digests" | "seal_objects", number>;
}

const VERSION = 1;
const MAX_DOCUMENT_BYTES = 64 * 1024;
const LIMITS = ["mutations", "mutations_bytes", "check_batch", "find_digests", "seal_objects"] as const;

/** Ask where things are. They are at the endpoint's own host or below it, and reached by TLS if the endpoint is. */
export async function discover(endpoint: string): Promise<Deployment> {
  const url = new URL("/.well-known/syncline", endpoint);
  if (url.protocol !== "https:" && !(url.protocol === "http:" && isThisMachine(url.hostname))) {
    throw new SynclineError("ENDPOINT_NOT_TRUSTED", `${endpoint} is not encrypted: use https://`);
  }
  if (url.username || url.password) throw new SynclineError("NOT_SYNCLINE", "an address of Syncline names no user; check it");
  const answer = await repeating(async () => {
    let response: Response;
    try {
      response = await fetch(url, { signal: AbortSignal.timeout(10_000), redirect: "error" });
    } catch (cause) {
      throw new SynclineError("ENDPOINT_UNREACHABLE", `${endpoint} does not answer (${String(cause)})`, true);
    }
    if (!response.ok) throw new SynclineError("NOT_SYNCLINE", `${url.href} answers ${response.status}`, response.status >= 500);
    const body = await bodyOf(response, MAX_DOCUMENT_BYTES);
    try {
      return JSON.parse(body.toString()) as Deployment & { syncline?: unknown };
    } catch {
      throw new SynclineError("NOT_SYNCLINE", `${endpoint} is not Syncline`);
    }
  });
  if (typeof answer?.syncline !== "number") throw new SynclineError("NOT_SYNCLINE", `${endpoint} is not Syncline`);
  if (answer.syncline > VERSION) throw new SynclineError("NEWER_SYNCLINE", "the endpoint is newer than this client; update it");
  for (const name of ["auth", "metadata"] as const) {
    const { target, tls } = answer[name] ?? {};
    if (typeof target !== "string" || !TARGET.test(target)) throw new SynclineError("NOT_SYNCLINE", `${endpoint} says that ${name} is at what is no address`);
    check(name, `${tls === true ? "https" : "http"}://${target}`, url);
  }
  for (const name of LIMITS) {
    // A batch of none would never come to its end.
    const limit = answer.limits?.[name];
    if (!Number.isSafeInteger(limit) || limit < 1) throw new SynclineError("NOT_SYNCLINE", `${endpoint} names no limit ${name}`);
  }
  const { endpoint: storage = "", region = "", bucket = "" } = answer.s3 ?? {};
  if (!REGION.test(region) || !BUCKET.test(bucket)) throw new SynclineError("NOT_SYNCLINE", `${endpoint} names no bucket`);
  if (storage !== null) check("storage", storage, url);
  return answer;
}

// What becomes a part of an address must not be able to make another address of it.
const TARGET = /^([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):\d{1,5}$/;
const REGION = /^[a-z0-9-]{1,32}$/;
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;

/** Addresses from a server are accepted only below its own: otherwise it could have secrets sent without TLS, or to a third party. */
function check(what: string, place: string, endpoint: URL): void {
  if (!URL.canParse(place)) throw new SynclineError("NOT_SYNCLINE", `${endpoint.href} says that ${what} is at what is no address`);
  const { protocol, hostname, username, password } = new URL(place);
  const inClear = protocol !== "https:" && !(protocol === "http:" && endpoint.protocol === "http:" && isThisMachine(hostname));
  const own = hostname === endpoint.hostname || hostname.endsWith(`.${endpoint.hostname}`);
  const elsewhere = !own && !(isThisMachine(hostname) && isThisMachine(endpoint.hostname));
  if (inClear || elsewhere || username || password) {
    const why = inClear ? "reached without TLS" : "somewhere else";
    throw new SynclineError("ENDPOINT_NOT_TRUSTED", `${endpoint.href} says that ${what} is ${why} (${place}); nothing was sent`);
  }
}

function isThisMachine(host: string): boolean {
  return host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
