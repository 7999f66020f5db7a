/** Bodies of answers, of which no more is taken than was to be expected: a server may send without an end. */

import { SynclineError } from "./errors.js";

/** The body of an answer. One of more than `most` bytes is an error, and the rest is not read. */
export async function bodyOf(response: Response, most: number): Promise<Buffer> {
  const reader = response.body?.getReader();
  const parts: Uint8Array[] = [];
  let size = 0;
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > most) {
      await reader.cancel().catch(() => {});
      throw new SynclineError("UNEXPECTED_ANSWER", `${new URL(response.url).host} answers with more than ${most} bytes`);
    }
    parts.push(value);
  }
  return Buffer.concat(parts);
}
