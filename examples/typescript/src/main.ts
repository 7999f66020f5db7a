/**
 * The command line. Results are lines of JSON on stdout, what people read is on stderr.
 *
 *     node dist/main.js sign-in --endpoint URL --email E      the password is the first line of stdin; sign-up makes the account too
 *     node dist/main.js spaces
 *     node dist/main.js upload DIR [--space ID]
 *     node dist/main.js download DIR [--space ID]
 *     sha256sum * | node dist/main.js check [--space ID] [--attempts N]
 */

import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";

import { type LocalFile, checkVersions } from "./check.js";
import { download } from "./download.js";
import { SynclineError, meaning } from "./errors.js";
import type { ListSpacesResponse__Output } from "./gen/syncline/auth/v1/ListSpacesResponse.js";
import { Session } from "./session.js";
import { upload } from "./upload.js";

/** Pages of the spaces of one person. */
const MAX_PAGES = 1000;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    endpoint: { type: "string" },
    email: { type: "string" },
    device: { type: "string", default: "example" },
    space: { type: "string" },
    state: { type: "string", default: join(homedir(), ".syncline-example.json") },
    attempts: { type: "string", default: "8" },
  },
});

/** What steers a terminal, or cannot be seen: nothing that others have named may do so. */
const STEERING = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/gu;

function harmless(text: string): string {
  const numbered = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return text.replace(STEERING, (found) => found.split("").map(numbered).join(""));
}

/** JSON is the same to a program when it is harmless. */
function say(result: unknown): void {
  process.stdout.write(`${harmless(JSON.stringify(result))}\n`);
}

function tell(text: string): void {
  process.stderr.write(`${harmless(text)}\n`);
}

function needed(value: string | undefined, what: string): string {
  if (!value) throw new SynclineError("USAGE", `${what} is missing`);
  return value;
}

/** Lines as sha256sum prints them, in batches of what has arrived. */
async function* batchesOf(size: number): AsyncGenerator<LocalFile[]> {
  let batch: LocalFile[] = [];
  for await (const line of createInterface({ input: process.stdin })) {
    const found = /^([0-9a-f]{64}) [ *](.+)$/.exec(line);
    if (!found) throw new SynclineError("USAGE", "a line is not `sha256  path`");
    batch.push({ sha256: found[1]!, path: found[2]! });
    if (batch.length < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length) yield batch;
}

async function signIn(signUp: boolean): Promise<void> {
  const lines = createInterface({ input: process.stdin });
  const { value: password } = await lines[Symbol.asyncIterator]().next();
  lines.close();
  const { endpoint, email, device, state } = options;
  const credentials = { endpoint: needed(endpoint, "--endpoint"), email: needed(email, "--email"), password: String(password ?? ""), device };
  const session = await Session.signIn(state, credentials, signUp);
  say({ personal_space: session.personalSpace });
  session.close();
}

async function check(session: Session, space: string): Promise<number> {
  const total = { files: 0, differing: 0, answers: 0, seq: "0" };
  const attempts = Number(options.attempts);
  const onBroken = (error: SynclineError) => tell(`broken: ${error.reason}: ${error.message}`);
  const batches = batchesOf(session.deployment.limits.check_batch);
  for await (const { seq, count, differing } of checkVersions(session, space, batches, { attempts, onBroken })) {
    total.files += count;
    total.answers += 1;
    total.differing += differing.length;
    total.seq = seq;
    for (const difference of differing) say(difference);
    say({ checked: total.files });
  }
  say({ complete: true, ...total });
  return total.differing ? 1 : 0;
}

async function run(): Promise<number> {
  const [command, folder] = positionals;
  if (command === "sign-in" || command === "sign-up") {
    await signIn(command === "sign-up");
    return 0;
  }
  const session = await Session.open(options.state);
  const space = options.space ?? session.personalSpace;
  try {
    switch (command) {
      case "spaces": {
        for (let pageToken = "", pages = 1; ; pages += 1) {
          const { spaces, nextPageToken } = await session.call<ListSpacesResponse__Output>((...rest) =>
            session.auth.ListSpaces({ pageToken }, ...rest),
          );
          for (const { spaceId, name, role } of spaces) say({ space: spaceId, name, role });
          if (!nextPageToken) return 0;
          if (pages === MAX_PAGES || nextPageToken === pageToken) {
            throw new SynclineError("UNEXPECTED_ANSWER", "the service goes on with a listing and does not get on");
          }
          pageToken = nextPageToken;
        }
      }
      case "upload": {
        const report = await upload(session, space, needed(folder, "the folder"));
        say(report);
        return report.failed.length ? 4 : 0;
      }
      case "download": {
        const report = await download(session, space, needed(folder, "the folder"));
        say(report);
        return report.failed.length ? 4 : 0;
      }
      case "check":
        return await check(session, space);
      default:
        throw new SynclineError("USAGE", "one of: sign-in, sign-up, spaces, upload, download, check");
    }
  } finally {
    session.close();
  }
}

try {
  process.exitCode = await run();
} catch (failure) {
  const error = meaning(failure);
  tell(`${error.reason}: ${error.message}`);
  process.exitCode = error.reason === "USAGE" ? 2 : 3;
  process.stdin.destroy();
}
