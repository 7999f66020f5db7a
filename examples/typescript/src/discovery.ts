/** Where an installation's services and storage are: GET {endpoint}/.well-known/syncline. */

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

export async function discover(endpoint: string): Promise<Deployment> {
  const url = new URL("/.well-known/syncline", endpoint);
  const answer = await repeating(async () => {
    let response: Response;
    try {
      response = await fetch(url, { signal: AbortSignal.timeout(10_000), redirect: "error" });
    } catch (cause) {
      throw new SynclineError("ENDPOINT_UNREACHABLE", `${endpoint} does not answer (${String(cause)})`, true);
    }
    if (!response.ok) throw new SynclineError("NOT_SYNCLINE", `${url.href} answers ${response.status}`, response.status >= 500);
    return (await response.json()) as Deployment & { syncline?: unknown };
  });
  if (typeof answer.syncline !== "number") throw new SynclineError("NOT_SYNCLINE", `${endpoint} is not Syncline`);
  if (answer.syncline > VERSION) throw new SynclineError("NEWER_SYNCLINE", "the endpoint is newer than this client; update it");
  return answer;
}
