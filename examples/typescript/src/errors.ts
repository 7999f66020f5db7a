/** What went wrong, by its `reason`: programs branch on that, people read the message. */

import * as grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";

/** Those messages of google.rpc that errors carry; the field numbers are theirs. */
const rpc = protobuf.parse(`
  syntax = "proto3";
  package google.rpc;
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
`).root;
const [Status, ErrorInfo, RetryInfo] = ["Status", "ErrorInfo", "RetryInfo"].map((name) => rpc.lookupType(`google.rpc.${name}`)) as [
  protobuf.Type,
  protobuf.Type,
  protobuf.Type,
];

interface Details {
  details: { typeUrl: string; value: Uint8Array }[];
}

export class SynclineError extends Error {
  /**
   * `passing`: the same call may be repeated if it is one that may be repeated at all. `waitMs`: how long the service asks
   * to wait before that.
   */
  constructor(
    readonly reason: string,
    message: string,
    readonly passing = false,
    readonly waitMs = 0,
  ) {
    super(message);
    this.name = "SynclineError";
  }
}

const PASSING = new Set([grpc.status.UNAVAILABLE, grpc.status.CANCELLED, grpc.status.DEADLINE_EXCEEDED]);

/** What a failed call means. */
export function meaning(failure: unknown): SynclineError {
  if (failure instanceof SynclineError) return failure;
  const error = failure as Partial<grpc.ServiceError>;
  if (typeof error.code !== "number" || error.metadata === undefined) return new SynclineError("FAILED", String(failure));
  let passing = PASSING.has(error.code);
  let [reason, waitMs] = ["", 0];
  for (const raw of error.metadata.get("grpc-status-details-bin")) {
    const status = Status.decode(raw as Buffer) as unknown as Details;
    for (const { typeUrl, value } of status.details) {
      if (typeUrl.endsWith("/google.rpc.ErrorInfo")) {
        const info = ErrorInfo.decode(value) as unknown as { reason: string; domain: string };
        if (info.domain === "syncline") reason = info.reason;
      } else if (typeUrl.endsWith("/google.rpc.RetryInfo")) {
        const { retryDelay } = RetryInfo.toObject(RetryInfo.decode(value), { longs: Number }) as {
          retryDelay?: { seconds?: number; nanos?: number };
        };
        waitMs = (retryDelay?.seconds ?? 0) * 1000 + (retryDelay?.nanos ?? 0) / 1e6;
      }
    }
  }
  // A limit that says when to come back is passing too.
  if (error.code === grpc.status.RESOURCE_EXHAUSTED && waitMs) passing = true;
  // What carries no reason was not said by a service, but on the way to it: a balancer that lost the process behind it says INTERNAL.
  if (!reason && error.code === grpc.status.INTERNAL && !error.metadata.get("x-request-id").length) passing = true;
  return new SynclineError(reason || (grpc.status[error.code] ?? "FAILED"), error.details || "the call failed", passing, waitMs);
}
