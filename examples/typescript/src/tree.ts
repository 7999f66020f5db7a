/** The tree of a space, as ListChanges tells it. */

import type { ListChangesResponse__Output } from "./gen/syncline/metadata/v1/ListChangesResponse.js";
import type { Node__Output } from "./gen/syncline/metadata/v1/Node.js";
import { SynclineError, meaning } from "./errors.js";
import { type BlockRef, deserialized, refsOf } from "./objects.js";
import { Patience } from "./retry.js";
import type { Session } from "./session.js";
import type { Storage } from "./storage.js";

export const ROOT = "0".repeat(32);

export interface TreeNode {
  id: string;
  path: string;
  node: Node__Output;
}

export class Tree {
  readonly #nodes = new Map<string, Node__Output>();
  #cursor: Buffer = Buffer.alloc(0);
  head = "0";

  constructor(
    private readonly session: Session,
    readonly space: string,
  ) {}

  /** Bring the tree up to the head. A stream that breaks off is taken up again where it broke off. */
  async pull(): Promise<void> {
    const patience = new Patience();
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

  /** The live nodes by path: those of which neither they nor a directory above is deleted. */
  live(): Map<string, TreeNode> {
    const paths = new Map<string, string | null>([[ROOT, ""]]);
    const pathOf = (id: string): string | null => {
      const known = paths.get(id);
      if (known !== undefined) return known;
      const node = this.#nodes.get(id);
      const above = node && node.deletedAtMs === "0" ? pathOf(node.parent.toString("hex")) : null;
      const path = node && above !== null ? (above ? `${above}/${node.name}` : node.name) : null;
      paths.set(id, path);
      return path;
    };
    const found = new Map<string, TreeNode>();
    for (const [id, node] of this.#nodes) {
      const path = pathOf(id);
      if (path !== null) found.set(path, { id, path, node });
    }
    return found;
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

/** The blocks of a file, also where its manifest is an object of its own. */
export async function contentRefs(node: Node__Output, storage: Storage): Promise<BlockRef[]> {
  const content = node.content;
  if (!content) return [];
  if (content.manifestObject.length) return refsOf(deserialized(await storage.get(content.manifestObject.toString("hex"))));
  return content.manifest ? refsOf(content.manifest) : [];
}
