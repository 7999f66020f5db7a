/** The objects of one space in S3, with the temporary credentials that open them and nothing else. */

import { AwsClient } from "aws4fetch";

import { bodyOf } from "./bodies.js";
import { SynclineError } from "./errors.js";
import type { IssueCredentialsResponse__Output } from "./gen/syncline/auth/v1/IssueCredentialsResponse.js";
import { MAX_OBJECT_BYTES } from "./objects.js";
import { repeating } from "./retry.js";
import type { Session } from "./session.js";

const RENEW_MS = 5 * 60_000;
const PUT_TIMEOUT_MS = 120_000;
const GET_TIMEOUT_MS = 120_000;
const MAX_ERROR_BYTES = 64 * 1024;
const STALE = /<Code>(ExpiredToken|InvalidToken|InvalidAccessKeyId|TokenRefreshRequired)<\/Code>/;

interface Held {
  client: AwsClient;
  prefix: string;
  until: number;
}

export class Storage {
  puts = 0;
  gets = 0;
  bytesUp = 0;
  bytesDown = 0;
  #held: Promise<Held> | null = null;

  constructor(
    private readonly session: Session,
    private readonly space: string,
    private readonly access: "ACCESS_READ" | "ACCESS_WRITE",
  ) {}

  /** Store the bytes, whose SHA-256 is `digest`; done if they are there. */
  async put(digest: string, bytes: Buffer): Promise<void> {
    const headers = {
      "content-length": String(bytes.length),
      "if-none-match": "*",
      "x-amz-checksum-sha256": Buffer.from(digest, "hex").toString("base64"),
    };
    this.puts += 1;
    this.bytesUp += bytes.length;
    await this.#ask(digest, { method: "PUT", headers, body: new Uint8Array(bytes) }, PUT_TIMEOUT_MS, MAX_ERROR_BYTES);
  }

  /** These bytes of an object, or all of them. What comes is not verified. */
  async get(digest: string, offset = 0, length = Infinity): Promise<Buffer> {
    const headers: Record<string, string> = Number.isFinite(length) ? { range: `bytes=${offset}-${offset + length - 1}` } : {};
    this.gets += 1;
    // `fetch` would decode an encoding that somebody has named when the object was put.
    const raw = "?response-content-encoding=identity";
    const bytes = await this.#ask(digest, { headers }, GET_TIMEOUT_MS, Math.min(length, MAX_OBJECT_BYTES), raw);
    this.bytesDown += bytes.length;
    return bytes;
  }

  async #ask(
    digest: string,
    init: RequestInit & { headers: Record<string, string> },
    timeoutMs: number,
    most: number,
    query = "",
  ): Promise<Buffer> {
    return repeating(async () => {
      const { client, prefix } = await this.#credentials();
      let status: number;
      let body: Buffer;
      try {
        // Signed here and sent by ourselves: aws4fetch would repeat it by rules of its own.
        const request = await client.sign(this.#url(prefix + digest) + query, init);
        const response = await fetch(request, { signal: AbortSignal.timeout(timeoutMs), redirect: "error" });
        status = response.status;
        body = await bodyOf(response, response.ok ? most : MAX_ERROR_BYTES);
      } catch (cause) {
        if (cause instanceof SynclineError) throw cause;
        throw new SynclineError("UNAVAILABLE", `storage does not answer (${String(cause)})`, true);
      }
      if (status === 200 || status === 206 || status === 412) return body; // 412: it is there, which is as good
      const text = body.toString();
      if (STALE.test(text)) {
        this.#held = null;
        throw new SynclineError("UNAVAILABLE", "storage wants new credentials", true);
      }
      if (status === 404) throw new SynclineError("OBJECT_MISSING", `storage does not have ${digest}`);
      const passing = status >= 500 || [408, 409, 429].includes(status) || /<Code>(BadDigest|IncompleteBody|SlowDown)</.test(text);
      const code = /<Code>(\w+)<\/Code>/.exec(text)?.[1] ?? "";
      throw new SynclineError(passing ? "UNAVAILABLE" : "STORAGE_REFUSED", `storage answers ${status} ${code}`, passing);
    });
  }

  /** Credentials, requested at their first use and again shortly before they expire. */
  async #credentials(): Promise<Held> {
    for (;;) {
      const asked = (this.#held ??= this.#issue());
      let held: Held | null = null;
      try {
        held = await asked;
      } finally {
        if ((!held || held.until - Date.now() <= RENEW_MS / 2) && this.#held === asked) this.#held = null;
      }
      if (held.until - Date.now() > RENEW_MS / 2) return held;
    }
  }

  async #issue(): Promise<Held> {
    const answer = await this.session.call<IssueCredentialsResponse__Output>((...rest) =>
      this.session.auth.IssueCredentials({ spaceId: this.space, access: this.access }, ...rest),
    );
    const client = new AwsClient({
      accessKeyId: answer.accessKeyId,
      secretAccessKey: answer.secretAccessKey,
      sessionToken: answer.sessionToken,
      service: "s3",
      region: this.session.deployment.s3.region,
      retries: 0,
    });
    return { client, prefix: answer.keyPrefix, until: Date.now() + Number(answer.expiresInMs) };
  }

  #url(key: string): string {
    const { endpoint, region, bucket, path_style } = this.session.deployment.s3;
    const base = new URL(endpoint ?? `https://s3.${region}.amazonaws.com`);
    // Not by a relative address: a prefix that begins with "/" would make another host of it.
    if (!path_style) base.hostname = `${bucket}.${base.hostname}`;
    base.pathname = path_style ? `/${bucket}/${key}` : `/${key}`;
    return base.href;
  }
}
