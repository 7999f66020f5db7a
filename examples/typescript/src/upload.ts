/** Upload of a folder to a space: cut, find missing objects, pack, put, seal, commit. Stored objects are not uploaded again. */

import { createHash } from "node:crypto";
import { lstat, readdir, readlink } from "node:fs/promises";
import { join } from "node:path";

import { SynclineError } from "./errors.js";
import { MIN_BLOCK_BYTES, blocksOf, workspace } from "./fastcdc.js";
import type { CommitChangesResponse__Output } from "./gen/syncline/metadata/v1/CommitChangesResponse.js";
import type { Content } from "./gen/syncline/metadata/v1/Content.js";
import type { FindMissingObjectsResponse__Output } from "./gen/syncline/metadata/v1/FindMissingObjectsResponse.js";
import type { Mutation } from "./gen/syncline/metadata/v1/Mutation.js";
import type { SealObjectsResponse__Output } from "./gen/syncline/metadata/v1/SealObjectsResponse.js";
import { type BlockRef, INLINE_BLOCKS, PackBuilder, type Stored, manifestOf, nodeId, serialized, sha256, singleBlock } from "./objects.js";
import { type Session, newRequestId } from "./session.js";
import { Storage } from "./storage.js";
import { ROOT, Tree, type TreeNode } from "./tree.js";

/** Bytes of large blocks that wait to be asked about, and so of memory. */
const ASK_BYTES = 32 * 1024 * 1024;
const PUTS_AT_ONCE = 4;
/** Files whose changes are committed together: what an interruption has to do again is at most reading them. */
const FILES_AT_ONCE = 1000;
const SEAL_DEADLINE_MS = 120_000;
const SEALED_AT_ONCE = 16;
const STORE_ATTEMPTS = 3;
const PUT_AGAIN = new Set(["SEAL_VERDICT_OBJECT_MISSING", "SEAL_VERDICT_SIZE_MISMATCH", "SEAL_VERDICT_CHECKSUM_MISMATCH"]);
const COMMIT_DEADLINE_MS = 60_000;

export interface Report {
  files: number;
  created: number;
  updated: number;
  unchanged: number;
  blocks: number;
  bytes: number;
  /** Objects and bytes that went to storage. */
  objects_up: number;
  bytes_up: number;
  failed: { path: string; reason: string }[];
}

interface Local {
  path: string;
  name: string;
  parent: string;
  kind: "file" | "directory" | "symlink";
  where: string;
}

/** A file that was read: all of it but the places of blocks in packs that are still open. */
interface Read {
  local: Local;
  digest: string;
  size: number;
  mtimeNs: bigint;
  executable: boolean;
  refs: (() => BlockRef)[];
  /** Of a symbolic link. */
  target?: string;
}

export async function upload(session: Session, space: string, folder: string): Promise<Report> {
  const tree = new Tree(session, space);
  await tree.pull();
  const run = new Upload(session, space, tree);
  const locals = await walk(folder);
  await run.directories(locals.filter(({ kind }) => kind === "directory"));
  const others = locals.filter(({ kind }) => kind !== "directory");
  for (let at = 0; at < others.length; at += FILES_AT_ONCE) await run.files(others.slice(at, at + FILES_AT_ONCE));
  return run.report();
}

class Upload {
  readonly #storage: Storage;
  readonly #live: Map<string, TreeNode>;
  readonly #known: Map<string, () => BlockRef>;
  readonly #report = { files: 0, created: 0, updated: 0, unchanged: 0, blocks: 0, bytes: 0, failed: [] as Report["failed"] };
  readonly #buffer = workspace();
  #pack = new PackBuilder();
  #packed: { digest: string | null } = { digest: null };
  #asking: Stored[] = [];
  #askBytes = 0;

  constructor(
    private readonly session: Session,
    private readonly space: string,
    tree: Tree,
  ) {
    this.#storage = new Storage(session, space, "ACCESS_WRITE");
    this.#live = tree.live().nodes;
    this.#known = new Map([...tree.blocks()].map(([digest, ref]) => [digest, () => ref]));
  }

  report(): Report {
    return { ...this.#report, objects_up: this.#storage.puts, bytes_up: this.#storage.bytesUp };
  }

  /** Directories, those above first. A request may name directories that it makes itself. */
  async directories(locals: Local[]): Promise<void> {
    const missing: Local[] = [];
    for (const local of locals) {
      const there = this.#live.get(local.path);
      if (!there) missing.push(local);
      else if (there.node.kind !== "NODE_KIND_DIRECTORY") this.#failed(local, "a file of that name is there");
    }
    await this.#commit(missing, (local) => ({ create: { ...this.#place(local), kind: "NODE_KIND_DIRECTORY" } }));
  }

  async files(locals: Local[]): Promise<void> {
    const changed: Read[] = [];
    for (const local of locals) {
      this.#report.files += 1;
      let read: Read;
      try {
        read = local.kind === "symlink" ? await this.#readLink(local) : await this.#read(local);
      } catch (failure) {
        if (failure instanceof SynclineError) throw failure;
        this.#failed(local, String(failure)); // one unreadable file stops no others
        continue;
      }
      const there = this.#live.get(local.path)?.node;
      if (there && there.content?.digest.toString("hex") === read.digest) this.#report.unchanged += 1;
      else changed.push(read);
    }
    await this.#flush();
    const contents = new Map<Local, Content>();
    for (const read of changed) contents.set(read.local, await this.#content(read));
    await this.#commit([...contents.keys()], (local) => {
      const [there, content] = [this.#live.get(local.path), contents.get(local)!];
      if (!there) {
        const kind = local.kind === "symlink" ? "NODE_KIND_SYMLINK" : "NODE_KIND_FILE";
        return { create: { ...this.#place(local), kind, content } };
      }
      return { update: { node: Buffer.from(there.id, "hex"), baseVersion: there.node.version, content } };
    });
  }

  async #readLink(local: Local): Promise<Read> {
    const { mtimeNs } = await lstat(local.where, { bigint: true });
    const target = await readlink(local.where);
    return { local, digest: sha256(target), size: Buffer.byteLength(target), mtimeNs, executable: false, refs: [], target };
  }

  async #read(local: Local): Promise<Read> {
    const { mtimeNs, mode } = await lstat(local.where, { bigint: true });
    const whole = createHash("sha256");
    const refs: Read["refs"] = [];
    let size = 0;
    for await (const bytes of blocksOf(local.where, this.#buffer)) {
      whole.update(bytes);
      size += bytes.length;
      refs.push(await this.#placed(bytes));
    }
    this.#report.blocks += refs.length;
    this.#report.bytes += size;
    return { local, digest: whole.digest("hex"), size, mtimeNs, executable: (mode & 0o100n) !== 0n, refs };
  }

  /** Where a block lies, or will. */
  async #placed(bytes: Buffer): Promise<() => BlockRef> {
    const digest = sha256(bytes);
    const known = this.#known.get(digest);
    if (known) return known;
    let place: () => BlockRef;
    if (bytes.length >= MIN_BLOCK_BYTES) {
      place = () => ({ digest, length: bytes.length, object: digest, offset: 0 });
      this.#asking.push(singleBlock(digest, bytes));
      this.#askBytes += bytes.length;
    } else {
      const [offset, packed, length] = [this.#pack.add(digest, bytes), this.#packed, bytes.length];
      place = () => ({ digest, length, object: packed.digest!, offset });
    }
    this.#known.set(digest, place);
    if (this.#pack.full) this.#closePack();
    if (this.#askBytes >= ASK_BYTES) await this.#ask();
    return place;
  }

  /** What waits for company waits no longer. */
  async #flush(): Promise<void> {
    if (!this.#pack.empty) this.#closePack();
    await this.#ask();
  }

  #closePack(): void {
    const stored = this.#pack.close();
    this.#packed.digest = stored.digest;
    [this.#pack, this.#packed] = [new PackBuilder(), { digest: null }];
    this.#asking.push(stored);
    this.#askBytes += stored.bytes.length;
  }

  /** Put what the space does not have yet, and have it proven: until then no version can name it. */
  async #ask(): Promise<void> {
    const asked = this.#asking;
    [this.#asking, this.#askBytes] = [[], 0];
    const batch = this.session.deployment.limits.find_digests;
    for (let at = 0; at < asked.length; at += batch) {
      const some = asked.slice(at, at + batch);
      const objects = Buffer.from(some.map(({ digest }) => digest).join(""), "hex");
      const { missing } = await this.session.call<FindMissingObjectsResponse__Output>((...rest) =>
        this.session.metadata.FindMissingObjects({ spaceId: this.space, objects }, ...rest),
      );
      const absent = new Set(missing.map((index) => some[index]!));
      // An existing object is proven as a block only: a pack or a manifest has to be declared as such.
      await this.#store(absent, some.filter((stored) => absent.has(stored) || stored.declaration.pack || stored.declaration.manifest));
    }
  }

  /** Put `absent` and seal `declared`. Where something else had been uploaded, it is gone after that, and put again. */
  async #store(absent: Iterable<Stored>, declared: Stored[]): Promise<void> {
    for (let attempt = 1; declared.length; attempt++) {
      await this.#put(absent);
      const verdicts = await this.#seal(declared);
      const refused = declared.filter((_, i) => verdicts[i] !== "SEAL_VERDICT_SEALED");
      const verdict = verdicts.find((each) => each !== "SEAL_VERDICT_SEALED");
      if (verdict && (attempt === STORE_ATTEMPTS || verdicts.some((each) => each !== "SEAL_VERDICT_SEALED" && !PUT_AGAIN.has(each)))) {
        throw new SynclineError("NOT_SEALED", `the service did not accept what was uploaded (${verdict})`);
      }
      absent = declared = refused;
    }
  }

  async #put(objects: Iterable<Stored>): Promise<void> {
    const left = objects[Symbol.iterator]() as IterableIterator<Stored>;
    await Promise.all(
      Array.from({ length: PUTS_AT_ONCE }, async () => {
        for (const { digest, bytes } of left) await this.#storage.put(digest, bytes);
      }),
    );
  }

  /** A verdict for each. The service reads packs before it answers, so not too many in one call. */
  async #seal(stored: Stored[]): Promise<string[]> {
    const all: string[] = [];
    for (let at = 0; at < stored.length; at += SEALED_AT_ONCE) {
      const objects = stored.slice(at, at + SEALED_AT_ONCE).map(({ declaration }) => declaration);
      const { verdicts } = await this.session.call<SealObjectsResponse__Output>(
        (...rest) => this.session.metadata.SealObjects({ spaceId: this.space, objects }, ...rest),
        SEAL_DEADLINE_MS,
      );
      if (verdicts.length !== objects.length) throw new SynclineError("UNEXPECTED_ANSWER", "not a verdict for each object");
      all.push(...verdicts);
    }
    return all;
  }

  async #content({ digest, size, mtimeNs, executable, refs, target }: Read): Promise<Content> {
    const content: Content = { digest: Buffer.from(digest, "hex"), size, mtimeNs: String(mtimeNs), executable };
    if (target !== undefined) return { ...content, target };
    if (!refs.length) return content;
    const manifest = manifestOf(refs.map((place) => place()));
    if (refs.length <= INLINE_BLOCKS) return { ...content, manifest };
    const stored = serialized(manifest); // proven only after the blocks that it names, which are sealed by now
    this.#asking.push(stored);
    await this.#ask();
    return { ...content, manifestObject: Buffer.from(stored.digest, "hex") };
  }

  /** Where a node is to be made. */
  #place({ parent, name }: Local): { parent: Buffer; name: string } {
    return { parent: Buffer.from(parent ? this.#live.get(parent)!.id : ROOT, "hex"), name };
  }

  /** Commit one mutation for each, in as few requests as possible; refusals are reported. */
  async #commit(locals: Local[], mutation: (local: Local) => Mutation): Promise<void> {
    let size = this.session.deployment.limits.mutations;
    for (let at = 0; at < locals.length; ) {
      const request = newRequestId();
      const batch = locals.slice(at, at + size);
      const some: Local[] = [];
      const orphans: Local[] = [];
      const mutations: Mutation[] = [];
      for (const local of batch) {
        if (local.parent && !this.#live.has(local.parent)) {
          orphans.push(local);
          continue;
        }
        if (local.kind === "directory") {
          // So that what follows in this request can name it.
          const id = nodeId(this.space, request, some.length);
          this.#live.set(local.path, { id, path: local.path, node: null as never });
        }
        some.push(local);
        mutations.push(mutation(local));
      }
      let answer: CommitChangesResponse__Output | null = null;
      try {
        if (some.length) answer = await this.session.call<CommitChangesResponse__Output>(
          (...rest) => this.session.metadata.CommitChanges({ spaceId: this.space, requestId: request, mutations }, ...rest),
          COMMIT_DEADLINE_MS,
        );
      } catch (failure) {
        if (!(failure instanceof SynclineError) || failure.reason !== "REQUEST_TOO_LARGE" || some.length === 1) throw failure;
        for (const { kind, path } of some) if (kind === "directory") this.#live.delete(path);
        size = Math.ceil(some.length / 2);
        continue;
      }
      some.forEach((local, i) => {
        const result = answer?.results[i];
        if (result?.verdict === "VERDICT_ACCEPTED" && result.node) {
          this.#live.set(local.path, { id: result.node.id.toString("hex"), path: local.path, node: result.node });
          if (result.change === "CHANGE_CREATED") this.#report.created += 1;
          else this.#report.updated += 1;
        } else {
          if (local.kind === "directory") this.#live.delete(local.path);
          this.#failed(local, (result?.verdict ?? "no verdict").replace("VERDICT_", ""));
        }
      });
      for (const local of orphans) this.#failed(local, "its directory could not be made");
      at += batch.length; // only now: a request that was too large is made again from the same place
    }
  }

  #failed({ path }: Local, reason: string): void {
    this.#report.failed.push({ path, reason });
  }
}

/** The contents of a folder, directories before their contents. Names are sent in Unicode's normal form C. */
async function walk(folder: string): Promise<Local[]> {
  const found: Local[] = [];
  const visit = async (where: string, parent: string): Promise<void> => {
    for (const entry of await readdir(where, { withFileTypes: true })) {
      const name = entry.name.normalize("NFC");
      if (!parent && name === ".syncline") continue; // the native client's own
      const kind = entry.isDirectory() ? "directory" : entry.isFile() ? "file" : entry.isSymbolicLink() ? "symlink" : null;
      if (!kind) continue;
      const local: Local = { path: parent ? `${parent}/${name}` : name, name, parent, kind, where: join(where, entry.name) };
      found.push(local);
      if (kind === "directory") await visit(local.where, local.path);
    }
  };
  await visit(folder, "");
  return found;
}
