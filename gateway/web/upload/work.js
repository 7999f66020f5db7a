// @ts-check
/** The page's end of the worker: messages become promises. */

/** @import {PackEntries} from "./pack.js" */
/** @import {PutAnswer} from "./put.js" */

/**
 * @typedef {{sha256: string, length: number, offset: number, pack: number | null, at: number}} Placed
 *   a block of a file, which begins at `offset` there; if it is in a pack, that one's number and the place in it
 * @typedef {{kind: "read", id: number, space: string, file: Blob}
 *   | {kind: "flush"}
 *   | {kind: "cancel", id: number}
 *   | {kind: "hold", on: boolean}
 *   | {kind: "release"}
 *   | {kind: "forget", pack: number}
 *   | {kind: "put", id: number, url: string, headers: Record<string, string>, body: Blob}
 *   | {kind: "abort", id: number}} Request
 * @typedef {{kind: "pack", id: number, sha256: string, size: number, pack: PackEntries | null, body: Blob}} ClosedPack
 * @typedef {{kind: "reading", id: number}
 *   | {kind: "blocks", id: number, blocks: Placed[]}
 *   | {kind: "read", id: number, blocks: Placed[], digest: string, size: number}
 *   | {kind: "unread", id: number, trouble: string}
 *   | ClosedPack
 *   | {kind: "sent", id: number, bytes: number}
 *   | {kind: "put", id: number, answer: PutAnswer}} Report
 * @typedef {{begun: () => void, blocks: (blocks: Placed[]) => void}} Reading what a reader tells on the way
 */

/**
 * A file could not be read. `trouble` is "cancelled", "changed", "lost" (the worker is gone), the name of a DOMException, or
 * "error" for what nobody foresaw.
 */
export class Unread extends Error {
  /** @param {string} trouble */
  constructor(trouble) {
    super(trouble);
    this.trouble = trouble;
  }
}

/** @returns {Worker} */
function startWorker() {
  return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
}

export class Work {
  #start;
  /** @type {Worker | null} */
  #worker = null;
  #ids = 0;
  #held = false;
  /** @type {Map<number, Reading & {resolve: (read: {digest: string, size: number}) => void, reject: (error: Unread) => void}>} */
  #reads = new Map();
  /** @type {Map<number, {sent: (bytes: number) => void, resolve: (answer: PutAnswer) => void}>} */
  #puts = new Map();

  /** A pack is closed: it is to be stored, and then released. @type {(pack: ClosedPack) => void} */
  onPack = () => {};
  /** The worker is gone, and with it all packs that were not stored. @type {() => void} */
  onLost = () => {};

  /** @param {() => Worker} start */
  constructor(start = startWorker) {
    this.#start = start;
  }

  /** @param {Request} request */
  #post(request) {
    if (!this.#worker) {
      this.#worker = this.#start();
      this.#worker.onmessage = (event) => this.#take(event.data);
      this.#worker.onerror = () => this.#lose();
      if (this.#held) this.#worker.postMessage({ kind: "hold", on: true });
    }
    this.#worker.postMessage(request);
  }

  /**
   * Read and cut a file, after those that were asked for before. Unread.
   * @param {{space: string, file: Blob, signal: AbortSignal} & Reading} reading
   * @returns {Promise<{digest: string, size: number}>}
   */
  read({ space, file, signal, begun, blocks }) {
    const id = ++this.#ids;
    signal.addEventListener("abort", () => {
      if (this.#reads.has(id)) this.#post({ kind: "cancel", id });
    });
    return new Promise((resolve, reject) => {
      this.#reads.set(id, { begun, blocks, resolve, reject });
      this.#post({ kind: "read", id, space, file });
    });
  }

  /** Close the open pack, when what was asked for before has been read. */
  flush() {
    this.#post({ kind: "flush" });
  }

  /**
   * Whether reading is to stand still.
   * @param {boolean} on
   */
  hold(on) {
    if (on === this.#held) return;
    this.#held = on;
    this.#post({ kind: "hold", on });
  }

  /** One of the closed packs takes no more memory. */
  release() {
    this.#post({ kind: "release" });
  }

  /**
   * No other file may refer to this pack.
   * @param {number} pack
   */
  forget(pack) {
    this.#post({ kind: "forget", pack });
  }

  /**
   * @param {{url: string, headers: Record<string, string>, body: Blob}} request
   * @param {(bytes: number) => void} sent
   * @param {AbortSignal} signal
   * @returns {Promise<PutAnswer>}
   */
  put(request, sent, signal) {
    const id = ++this.#ids;
    signal.addEventListener("abort", () => {
      if (this.#puts.has(id)) this.#post({ kind: "abort", id });
    });
    return new Promise((resolve) => {
      this.#puts.set(id, { sent, resolve });
      this.#post({ kind: "put", id, ...request });
    });
  }

  close() {
    this.#worker?.terminate();
    this.#worker = null;
  }

  /** @param {Report} report */
  #take(report) {
    const reading = this.#reads.get(report.id);
    switch (report.kind) {
      case "reading":
        reading?.begun();
        break;
      case "blocks":
        reading?.blocks(report.blocks);
        break;
      case "read":
        reading?.blocks(report.blocks);
        reading?.resolve({ digest: report.digest, size: report.size });
        this.#reads.delete(report.id);
        break;
      case "unread":
        reading?.reject(new Unread(report.trouble));
        this.#reads.delete(report.id);
        break;
      case "pack":
        this.onPack(report);
        break;
      case "sent":
        this.#puts.get(report.id)?.sent(report.bytes);
        break;
      case "put":
        this.#puts.get(report.id)?.resolve(report.answer);
        this.#puts.delete(report.id);
        break;
    }
  }

  #lose() {
    this.close();
    const [reads, puts] = [[...this.#reads.values()], [...this.#puts.values()]];
    this.#reads.clear();
    this.#puts.clear();
    this.onLost();
    for (const { reject } of reads) reject(new Unread("lost"));
    for (const { resolve } of puts) {
      resolve({ status: 0, code: "", retryAfter: null, unreadable: false, aborted: true });
    }
  }
}
