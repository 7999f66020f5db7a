// @ts-check
/** A public link that is open: what a visitor without an account may read. */

import { at, call, pages, Problem } from "./api.js";

/** @import {Located, Node} from "./api.js" */

/** @typedef {{link_id: string, top: string, node: Node | null, max_downloads: number | null, downloads: number, expires_at_ms: number | null}} Opened */

export class Visit {
  /** @type {Opened | null} */
  #opened = null;
  #password = "";

  /** @param {string} token */
  constructor(token) {
    this.token = token;
  }

  /** @returns {Opened} */
  get link() {
    if (!this.#opened) throw new Error("the link is not open");
    return this.#opened;
  }

  /** Whether each download counts: then nothing is loaded just to be shown. */
  get counted() {
    return this.link.max_downloads !== null;
  }

  /** @param {string} [password] */
  async open(password = this.#password) {
    this.#opened = await call("POST", "/v1/links/open", { body: { token: this.token, password }, quiet: true });
    this.#password = password;
  }

  /** @param {string} node @returns {Promise<Located>} */
  node(node) {
    return this.#open(() => call("GET", at`/v1/links/${this.link.link_id}/nodes/${node}`, { quiet: true }));
  }

  /** @param {string} node @returns {Promise<Node[]>} */
  children(node) {
    return this.#open(async () => {
      /** @type {Node[]} */
      const found = [];
      for await (const page of pages(at`/v1/links/${this.link.link_id}/nodes/${node}/children?page_size=1000`, { quiet: true }))
        found.push(...page.nodes);
      return found;
    });
  }

  /** Where a node's content is; of a folder, or of all, as a ZIP file. @param {{id: string, kind: string}} node @param {"inline" | "attachment"} how */
  address({ id, kind }, how) {
    const base = at`/v1/links/${this.link.link_id}/nodes/${id}`;
    return kind === "directory" ? `${base}/archive` : `${base}/content?disposition=${how}`;
  }

  /**
   * What the link's cookie allows lasts for some minutes; it is opened again when these are over.
   * @template T
   * @param {() => Promise<T>} what
   */
  async #open(what) {
    try {
      return await what();
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 401) throw error;
      await this.open();
      return what();
    }
  }
}
