/** The tree of a space, as ListChanges tells it. */

import { sep } from "node:path";

import type { ListChangesResponse__Output } from "./gen/syncline/metadata/v1/ListChangesResponse.js";
import type { Node__Output } from "./gen/syncline/metadata/v1/Node.js";
import { SynclineError, meaning } from "./errors.js";
import { type BlockRef, deserialized, manifestProblem, refsOf, sha256 } from "./objects.js";
import { Patience } from "./retry.js";
import type { Session } from "./session.js";
import type { Storage } from "./storage.js";

export const ROOT = "0".repeat(32);
const MAX_NAME_BYTES = 255;
const MAX_PATH_BYTES = 4096;
const MAX_PATH_NAMES = 128;
/** Pages without a node, and nodes, of one pull: a server could go on for ever. */
const MAX_EMPTY_PAGES = 1000;
const MAX_NODES = 10_000_000;

export interface TreeNode {
  id: string;
  path: string;
  node: Node__Output;
}

/** A node that cannot be in a folder, and why. */
export interface Refused {
  path: string;
  reason: string;
}

/** Why a node may not be in a folder under this name; null if it may. Names come from others: one must not lead anywhere else. */
function nameProblem(name: string, above: string): string | null {
  if (!name || name === "." || name === "..") return "this is no name";
  if (/[/\0]/.test(name) || (sep !== "/" && (name.includes(sep) || name.includes(":")))) return "the name would lead elsewhere";
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) return `the name has more than ${MAX_NAME_BYTES} bytes`;
  // The native client's own directory, and what clients write beside files until it is whole.
  if ((!above && name.toLowerCase() === ".syncline") || /^\.syncline-/i.test(name)) return "the name is one that clients use themselves";
  return null;
}

export class Tree {
  readonly #nodes = new Map<string, Node__Output>();
  #cursor: Buffer = Buffer.alloc(0);
  #told = { empty: 0, nodes: 0 };
  head = "0";

  constructor(
    private readonly session: Session,
    readonly space: string,
  ) {}

  /** Bring the tree up to the head. A stream that breaks off is taken up again where it broke off. */
  async pull(): Promise<void> {
    const patience = new Patience();
    this.#told = { empty: 0, nodes: 0 };
    for (;;) {
      try {
        await this.session.authorized((metadata) => this.#read(metadata, patience));
        return;
      } catch (failure) {
        const error = meaning(failure);
        if (error.reason === "INVALID_CURSOR" && this.#cursor.length) {
          this.#cursor = Buffer.alloc(0); // the space has another history; nothing is deleted for that
          this.#nodes.clear();
        } else {
          await patience.after(error);
        }
      }
    }
  }

  async #read(metadata: import("@grpc/grpc-js").Metadata, patience: Patience): Promise<void> {
    const call = this.session.metadata.ListChanges({ spaceId: this.space, cursor: this.#cursor }, metadata);
    for await (const message of call) {
      const { reset, nodes, cursor, seq, complete } = message as ListChangesResponse__Output;
      this.#told.nodes += nodes.length;
      if (!nodes.length) this.#told.empty += 1;
      if (this.#told.empty > MAX_EMPTY_PAGES || this.#told.nodes > MAX_NODES) {
        call.cancel();
        throw new SynclineError("UNEXPECTED_ANSWER", "the service goes on telling changes and does not get on");
      }
      if (reset) this.#nodes.clear();
      for (const node of nodes) {
        const id = node.id.toString("hex");
        const known = this.#nodes.get(id);
        if (!known || BigInt(known.seq) <= BigInt(node.seq)) this.#nodes.set(id, node);
      }
      if (cursor.length) this.#cursor = cursor;
      patience.reset();
      if (complete) {
        this.head = seq;
        return;
      }
    }
    // Whatever the status was, OK included: what the stream did not tell is unknown.
    throw new SynclineError("UNAVAILABLE", "the stream ended before it was complete", true);
  }

  /**
   * The live nodes by path, directories before what is in them, and what cannot be in a folder. What a service tells is not
   * trusted: nothing lies below what is no directory, nor in a circle, nor deeper than a path can be.
   */
  live(): { nodes: Map<string, TreeNode>; refused: Refused[] } {
    const children = new Map<string, string[]>();
    for (const [id, node] of this.#nodes) {
      if (node.deletedAtMs !== "0" || id === ROOT) continue;
      const parent = node.parent.toString("hex");
      const beside = children.get(parent);
      if (beside) beside.push(id);
      else children.set(parent, [id]);
    }
    const nodes = new Map<string, TreeNode>();
    const refused: Refused[] = [];
    const pending = [{ parent: ROOT, above: "", depth: 1 }];
    for (let at = pending.pop(); at; at = pending.pop()) {
      const { parent, above, depth } = at;
      for (const id of children.get(parent) ?? []) {
        const node = this.#nodes.get(id)!;
        const path = above ? `${above}/${node.name}` : node.name;
        const tooLong = depth > MAX_PATH_NAMES || Buffer.byteLength(path) > MAX_PATH_BYTES ? "the path is too long" : null;
        const reason = nameProblem(node.name, above) ?? tooLong ?? (nodes.has(path) ? "another node has the same name" : null);
        if (reason) {
          refused.push({ path, reason });
          continue;
        }
        nodes.set(path, { id, path, node });
        if (node.kind === "NODE_KIND_DIRECTORY") pending.push({ parent: id, above: path, depth: depth + 1 });
      }
    }
    return { nodes, refused };
  }

  /** Where blocks lie that the space has already, as far as nodes carry their manifests; of deleted nodes too. */
  blocks(): Map<string, BlockRef> {
    const found = new Map<string, BlockRef>();
    for (const { content } of this.#nodes.values()) {
      if (content?.manifest) for (const ref of refsOf(content.manifest)) found.set(ref.digest, ref);
    }
    return found;
  }
}

/** The blocks of a file, also where its manifest is an object of its own. They add up to the size of the file. */
export async function contentRefs(node: Node__Output, storage: Storage): Promise<BlockRef[]> {
  const content = node.content;
  if (!content) return [];
  let manifest: Parameters<typeof manifestProblem>[0] | null = content.manifest;
  if (content.manifestObject.length) {
    const digest = content.manifestObject.toString("hex");
    const bytes = await storage.get(digest);
    if (sha256(bytes) !== digest) throw damaged(node, "its list of blocks is damaged");
    try {
      manifest = deserialized(bytes);
    } catch {
      throw damaged(node, "its list of blocks is none");
    }
  }
  const problem = manifest ? manifestProblem(manifest, Number(content.size)) : content.target || content.size === "0" ? null : "it has no blocks";
  if (problem) throw damaged(node, problem);
  return manifest ? refsOf(manifest) : [];
}

function damaged(node: Node__Output, why: string): SynclineError {
  return new SynclineError("DAMAGED", `${JSON.stringify(node.name)} is not what its version says: ${why}`);
}
