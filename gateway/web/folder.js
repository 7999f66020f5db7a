// @ts-check
/** A folder that is shown: what it holds, kept up to date. */

import { at, call, pages, Problem } from "./api.js";
import { changes } from "./changes.js";
import { live } from "./live.js";

/** @import {Node} from "./api.js" */
/** @typedef {{id: string, name: string}} Crumb */

const PAGE = 1000;
/** Listing takes at most this part of the time, however fast the bells ring. */
const SHARE = 0.2;
const LEAST_WAIT_MS = 150;

/** What was seen of directories, to find the way up without asking. @type {Map<string, {name: string, parent: string}>} */
const seen = new Map();

/** @param {Node[]} nodes */
export function learn(nodes) {
  for (const { id, kind, name, parent } of nodes) if (kind === "directory") seen.set(id, { name, parent });
}

/**
 * The way from the top of the space down to a directory, without the top.
 * @param {string} space
 * @param {string} id
 * @returns {Promise<Crumb[]>}
 */
export async function wayTo(space, id) {
  /** @type {Crumb[]} */
  const way = [];
  for (let now = id; now !== "root"; ) {
    if (!seen.has(now)) learn([await call("GET", at`/v1/spaces/${space}/nodes/${now}`)]);
    const found = seen.get(now);
    if (!found) throw new Problem({ status: 404, reason: "NO_SUCH_NODE", detail: "this is no folder" });
    way.unshift({ id: now, name: found.name });
    now = found.parent;
  }
  return way;
}

/** Events: `change`. */
export class Folder extends EventTarget {
  /** @type {Map<string, Node>} */
  nodes = new Map();
  /** @type {Crumb[]} */
  way = [];
  /** @type {"loading" | "ready" | "failed"} */
  state = "loading";
  /** @type {unknown} */
  error = null;
  #stop = new AbortController();
  #listing = false;
  #again = false;
  #tookMs = 0;
  /** States of nodes that arrived while a listing was in progress, which may be older. @type {Node[]} */
  #told = [];

  /** @param {string} space @param {string} id */
  constructor(space, id) {
    super();
    this.space = space;
    this.id = id;
    const { signal } = this.#stop;
    const rung = (/** @type {any} */ { detail }) => detail.space === space && this.refresh();
    live.addEventListener("doorbell", rung, { signal });
    live.addEventListener("resumed", () => this.refresh(), { signal });
    changes.addEventListener("nodes", (/** @type {any} */ { detail }) => detail.space === space && this.#take(detail.nodes), {
      signal,
    });
    this.refresh();
  }

  /** What the folder is called; empty at the top. */
  get name() {
    return this.way.at(-1)?.name ?? "";
  }

  close() {
    this.#stop.abort();
  }

  /** List the folder again; calls during a listing share one further listing. */
  refresh() {
    this.#again = true;
    if (!this.#listing) void this.#list();
  }

  async #list() {
    this.#listing = true;
    const { signal } = this.#stop;
    while (this.#again && !signal.aborted) {
      this.#again = false;
      const began = performance.now();
      try {
        await this.#once();
        this.state = "ready";
        this.error = null;
      } catch (error) {
        if (signal.aborted) return;
        this.state = "failed";
        this.error = error;
        // A deleted folder is not shown any more; a folder that cannot be reached now stays on the page.
        if (error instanceof Problem && error.status === 404) this.nodes = new Map();
      }
      this.#tookMs = performance.now() - began;
      this.dispatchEvent(new Event("change"));
      await new Promise((resolve) => setTimeout(resolve, Math.max(LEAST_WAIT_MS, this.#tookMs / SHARE)));
    }
    this.#listing = false;
  }

  async #once() {
    const { signal } = this.#stop;
    const first = this.state !== "ready";
    this.#told = [];
    const found = new Map();
    const way = this.#findWay();
    way.catch(() => {}); // it is looked at below; until then it may fail unwatched
    for await (const page of pages(at`/v1/spaces/${this.space}/nodes/${this.id}/children?page_size=${PAGE}`, { signal })) {
      for (const node of page.nodes) found.set(node.id, node);
      learn(page.nodes);
      if (first && page.next_page_token) {
        this.nodes = new Map(found);
        this.way = await way;
        this.dispatchEvent(new Event("change"));
      }
    }
    this.way = await way;
    this.nodes = found;
    for (const node of this.#told) this.#put(node);
  }

  /** @returns {Promise<Crumb[]>} */
  async #findWay() {
    if (this.id === "root") return [];
    const { signal } = this.#stop;
    const here = await call("GET", at`/v1/spaces/${this.space}/nodes/${this.id}`, { signal });
    if (here.kind !== "directory") throw new Problem({ status: 404, reason: "NO_SUCH_NODE", detail: "this is no folder" });
    learn([here]);
    const way = await wayTo(this.space, this.id);
    const path = here.path.replace(/^\//, "");
    if (way.map(({ name }) => name).join("/") === path) return way;
    for (const { id } of way) seen.delete(id); // something above has another name or place by now
    return wayTo(this.space, this.id);
  }

  /** @param {Node[]} nodes */
  #take(nodes) {
    learn(nodes.filter((node) => !node.deleted_at_ms));
    this.#told.push(...nodes);
    let changed = false;
    for (const node of nodes) changed = this.#put(node) || changed;
    if (changed) this.dispatchEvent(new Event("change"));
  }

  /** @param {Node} node @returns {boolean} true if that changes the view */
  #put(node) {
    const known = this.nodes.get(node.id);
    if (known && known.seq > node.seq) return false;
    if (node.parent === this.id && !node.deleted_at_ms) {
      this.nodes.set(node.id, node);
      return known?.etag !== node.etag;
    }
    return this.nodes.delete(node.id);
  }
}
