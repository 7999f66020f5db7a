/** Download of a space to a folder: existing files are left alone, every block and every file is verified. */

import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, mkdir, open, readlink, rename, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";

import { SynclineError } from "./errors.js";
import { sha256 } from "./objects.js";
import type { Session } from "./session.js";
import { Storage } from "./storage.js";
import { type Refused, Tree, type TreeNode, contentRefs } from "./tree.js";

/** A pack of which a run needs so many blocks is fetched whole. */
const WHOLE_BLOCKS = 4;
/** Errors that are about one file, and stop no others. */
const OF_ONE_FILE = new Set(["DAMAGED", "OBJECT_MISSING", "IN_THE_WAY"]);

export interface Report {
  files: number;
  downloaded: number;
  unchanged: number;
  objects_down: number;
  bytes_down: number;
  failed: Refused[];
}

export async function download(session: Session, space: string, folder: string): Promise<Report> {
  const tree = new Tree(session, space);
  await tree.pull();
  const storage = new Storage(session, space, "ACCESS_READ");
  const packs = new Packs(storage);
  const { nodes, refused: failed } = tree.live();
  const report = { files: 0, downloaded: 0, unchanged: 0 };
  let wanted: TreeNode[] = [];
  await mkdir(folder, { recursive: true });

  /** Does something for one node; whether it could be done. */
  const attempt = async ({ path }: TreeNode, act: () => Promise<void>): Promise<boolean> => {
    try {
      await act();
      return true;
    } catch (failure) {
      if (failure instanceof SynclineError && !OF_ONE_FILE.has(failure.reason)) throw failure;
      failed.push({ path, reason: failure instanceof Error ? failure.message : String(failure) });
      return false;
    }
  };

  for (const found of [...nodes.values()].sort((a, b) => (a.path < b.path ? -1 : 1))) {
    await attempt(found, async () => {
      if (found.node.kind === "NODE_KIND_DIRECTORY") {
        await made(folder, found.path);
        return;
      }
      report.files += 1;
      const where = await placeOf(folder, found.path);
      if ((await digestOf(where)) === found.node.content?.digest.toString("hex")) report.unchanged += 1;
      else wanted.push(found);
    });
  }
  const all = wanted;
  wanted = [];
  for (const found of all) {
    if (await attempt(found, async () => packs.expect(await contentRefs(found.node, storage)))) wanted.push(found);
  }
  for (const found of wanted) {
    const { path, node } = found;
    await attempt(found, async () => {
      const where = await placeOf(folder, path);
      const beside = join(dirname(where), `.syncline-example-${randomBytes(6).toString("hex")}`);
      try {
        if (node.kind === "NODE_KIND_SYMLINK") await symlink(node.content?.target ?? "", beside);
        else await write(beside, found, storage, packs);
        await rename(beside, where);
      } finally {
        await rm(beside, { force: true });
      }
      report.downloaded += 1;
    });
  }
  return { ...report, objects_down: storage.gets, bytes_down: storage.bytesDown, failed };
}

/** Where a file of this path belongs, in a directory that is made if it is missing. */
async function placeOf(folder: string, path: string): Promise<string> {
  const slash = path.lastIndexOf("/");
  return join(slash < 0 ? folder : await made(folder, path.slice(0, slash)), path.slice(slash + 1));
}

/**
 * A directory of the folder, made where it is missing. Nothing but directories may lead to it: a link, which somebody may have
 * made of what is a directory now, leads out of the folder.
 */
async function made(folder: string, path: string): Promise<string> {
  let where = folder;
  for (const name of path.split("/")) {
    where = join(where, name);
    await mkdir(where).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
    if (!(await lstat(where)).isDirectory()) {
      throw new SynclineError("IN_THE_WAY", `${JSON.stringify(where)} is in the way, which is no directory; move it away`);
    }
  }
  return where;
}

async function write(where: string, { path, node }: TreeNode, storage: Storage, packs: Packs): Promise<void> {
  const whole = createHash("sha256");
  const file = await open(where, "wx");
  try {
    for (const ref of await contentRefs(node, storage)) {
      const bytes = await packs.block(ref);
      if (sha256(bytes) !== ref.digest) throw new SynclineError("DAMAGED", `a block of ${JSON.stringify(path)} is damaged`);
      whole.update(bytes);
      await file.appendFile(bytes); // all of them; `write` may write fewer
    }
    if (whole.digest("hex") !== node.content?.digest.toString("hex")) {
      throw new SynclineError("DAMAGED", `${JSON.stringify(path)} is not what its version says`);
    }
    if (node.content.executable) await file.chmod(0o755);
    const mtime = Number(BigInt(node.content.mtimeNs) / 1000n) / 1e6;
    await file.utimes(mtime, mtime);
    await file.sync();
  } finally {
    await file.close();
  }
}

interface Ref {
  digest: string;
  length: number;
  object: string;
  offset: number;
}

/** Blocks from their objects: of a pack that holds many of them, all are fetched at once. */
class Packs {
  readonly #needed = new Map<string, number>();
  #object = "";
  #bytes: Buffer = Buffer.alloc(0);

  constructor(private readonly storage: Storage) {}

  expect(refs: Ref[]): void {
    for (const { object } of refs) this.#needed.set(object, (this.#needed.get(object) ?? 0) + 1);
  }

  async block({ digest, object, offset, length }: Ref): Promise<Buffer> {
    if (object === digest) return this.storage.get(object);
    if ((this.#needed.get(object) ?? 0) < WHOLE_BLOCKS) return this.storage.get(object, offset, length);
    if (this.#object !== object) [this.#object, this.#bytes] = [object, await this.storage.get(object)];
    return this.#bytes.subarray(offset, offset + length);
  }
}

/** The digest of the file at this path, if there is one. */
async function digestOf(where: string): Promise<string | null> {
  try {
    const found = await lstat(where);
    if (found.isSymbolicLink()) return sha256(await readlink(where));
    if (!found.isFile()) return null;
    const hash = createHash("sha256");
    for await (const chunk of createReadStream(where)) hash.update(chunk as Buffer);
    return hash.digest("hex");
  } catch {
    return null;
  }
}
