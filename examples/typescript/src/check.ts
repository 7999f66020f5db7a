/** Version checks: what a list of files is locally, compared with the current versions in one stream. */

import type { CheckVersionsResponse__Output } from "./gen/syncline/metadata/v1/CheckVersionsResponse.js";
import { SynclineError, meaning } from "./errors.js";
import { Patience } from "./retry.js";
import type { Session } from "./session.js";

export interface LocalFile {
  path: string;
  /** Hex. */
  sha256: string;
}

export interface Difference {
  path: string;
  difference: string;
  /** Of the current version; empty where there is none. */
  sha256: string;
}

export interface Checked {
  seq: string;
  count: number;
  differing: Difference[];
}

/** Maximum number of batches in flight. */
const WINDOW = 4;

type Event = { message: CheckVersionsResponse__Output } | { broken: SynclineError } | { input: IteratorResult<LocalFile[]> };

/**
 * One answer for each batch, in order. Every batch is answered, or an error is thrown: silence is never taken for an answer. A stream
 * that breaks off is told to `onBroken` and opened again with the batches that were not answered.
 */
export async function* checkVersions(
  session: Session,
  space: string,
  batches: AsyncIterable<LocalFile[]>,
  { attempts, onBroken }: { attempts: number; onBroken: (error: SynclineError) => void },
): AsyncGenerator<Checked> {
  const input = batches[Symbol.asyncIterator]();
  const patience = new Patience(attempts);
  const unanswered: LocalFile[][] = [];
  let upcoming: Promise<Event> | null = null;
  let inputEnded = false;
  for (;;) {
    const call = await session.authorized(async (metadata) => session.metadata.CheckVersions(metadata));
    const messages = call[Symbol.asyncIterator]() as AsyncIterator<CheckVersionsResponse__Output>;
    const next = (): Promise<Event> =>
      messages.next().then(
        ({ done, value }) => (done ? { broken: notComplete() } : { message: value }),
        (failure: unknown) => ({ broken: meaning(failure) }),
      );
    try {
      call.write({ open: { spaceId: space } });
      for (const batch of unanswered) call.write({ batch: wire(batch) });
      let halfClosed = false;
      let incoming = next();
      for (;;) {
        if (inputEnded && !halfClosed) {
          halfClosed = true;
          call.end();
        }
        if (!inputEnded && unanswered.length < WINDOW) upcoming ??= input.next().then((result) => ({ input: result }));
        const event: Event = await Promise.race(upcoming && unanswered.length < WINDOW ? [incoming, upcoming] : [incoming]);
        if ("input" in event) {
          upcoming = null;
          if (event.input.done) {
            inputEnded = true;
          } else {
            unanswered.push(event.input.value);
            call.write({ batch: wire(event.input.value) });
          }
          continue;
        }
        if ("broken" in event) throw event.broken;
        const { message } = event;
        if (message.complete) return;
        const batch = unanswered.shift();
        if (!batch) throw new SynclineError("UNEXPECTED_ANSWER", "an answer to nothing that was asked");
        patience.reset();
        yield checked(batch, message);
        incoming = next();
      }
    } catch (failure) {
      const error = meaning(failure);
      onBroken(error);
      if (error.reason === "TOKEN_EXPIRED" || error.reason === "TOKEN_INVALID") await session.renew();
      else await patience.after(error);
    } finally {
      call.cancel();
    }
  }
}

function notComplete(): SynclineError {
  return new SynclineError("UNAVAILABLE", "the stream ended before it was complete", true);
}

function wire(batch: LocalFile[]) {
  return {
    paths: batch.map(({ path }) => path),
    digests: Buffer.from(batch.map(({ sha256 }) => sha256).join(""), "hex"),
  };
}

function checked(batch: LocalFile[], { seq, indexes, differences, digests }: CheckVersionsResponse__Output): Checked {
  const differing = indexes.map((index, i) => {
    const file = batch[index];
    const current = digests.subarray(32 * i, 32 * i + 32).toString("hex");
    if (!file) throw new SynclineError("UNEXPECTED_ANSWER", "an answer about a file that was not asked about");
    return {
      path: file.path,
      difference: (differences[i] ?? "").replace("DIFFERENCE_", ""),
      sha256: /[^0]/.test(current) ? current : "",
    };
  });
  return { seq, count: batch.length, differing };
}
