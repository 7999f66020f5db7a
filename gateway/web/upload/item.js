// @ts-check
/** One file on its way, and the batch that it came with. */

import { Meter } from "./meter.js";

/** @import {StoredObject} from "./storing.js" */
/** @import {Directory} from "./commits.js" */
/** @import {Content} from "./manifest.js" */
/** @import {Node} from "./api.js" */
/** @import {ItemRecord} from "./store.js" */

/**
 * @typedef {"queued" | "hashing" | "uploading" | "committing" | "done" | "conflict" | "failed" | "choose" | "skipped"
 *   | "cancelled"} ItemState
 *   `choose`: the file must be chosen again; `conflict`: another file has its name, and the user has to decide
 *
 * @typedef {object} ItemSnapshot
 * @property {string} id
 * @property {string} batch
 * @property {string} path relative to the directory of the batch
 * @property {string} name
 * @property {number} size
 * @property {number} mtime milliseconds since 1970
 * @property {ItemState} state
 * @property {number} done bytes that are stored
 * @property {number} total bytes
 * @property {number} speed bytes a second
 * @property {number | null} timeLeft seconds; null if that cannot be told
 * @property {string} reason why it failed or must be chosen again, for people; else empty
 * @property {Node | null} conflict what has its name
 * @property {Node | null} node what it has become, if it is done
 *
 * @typedef {object} BatchSnapshot
 * @property {string} id
 * @property {string} space
 * @property {string} parent id of the directory, or "root"
 * @property {string} label what the caller called the place
 * @property {number} addedAt milliseconds since 1970
 * @property {ItemState | "active"} state "active" while something is going on or waits for its turn; else the worst that an
 *   item is in: conflict, failed, choose, then done
 * @property {number} files
 * @property {Record<ItemState, number>} count files in each state
 * @property {number} done bytes
 * @property {number} total bytes
 * @property {number} speed bytes a second
 * @property {number | null} timeLeft seconds
 */

/** @type {ItemState[]} */
const ACTIVE = ["queued", "hashing", "uploading", "committing"];
/** In these, nothing is left to be uploaded. @type {ItemState[]} */
const SETTLED = ["done", "skipped", "cancelled"];

/** @returns {string} */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {number} rest
 * @param {number} speed
 */
function timeLeft(rest, speed) {
  if (rest <= 0) return 0;
  return speed > 0 ? rest / speed : null;
}

export class Batch {
  meter = new Meter();
  done = 0;
  total = 0;
  /** @type {Record<ItemState, number>} */
  count = {
    queued: 0,
    hashing: 0,
    uploading: 0,
    committing: 0,
    done: 0,
    conflict: 0,
    failed: 0,
    choose: 0,
    skipped: 0,
    cancelled: 0,
  };
  /** @type {Map<string, Item>} */
  items = new Map();
  /** By path; the empty one is where the batch goes. @type {Map<string, Directory>} */
  directories = new Map();
  reported = false;

  /** @param {{id: string, space: string, parent: string, label: string, addedAt: number}} what */
  constructor({ id, space, parent, label, addedAt }) {
    this.id = id;
    this.space = space;
    this.parent = parent;
    this.label = label;
    this.addedAt = addedAt;
  }

  get active() {
    return ACTIVE.some((state) => this.count[state]);
  }

  /** Whether nothing of it will ever be done any more. */
  get settled() {
    return SETTLED.reduce((sum, state) => sum + this.count[state], 0) === this.items.size;
  }

  /** @returns {BatchSnapshot} */
  get snapshot() {
    const { id, space, parent, label, addedAt, count, total } = this;
    const worst = /** @type {ItemState[]} */ (["conflict", "failed", "choose"]).find((state) => count[state]);
    // Shares of packs are no whole numbers, and a sum of them is off by next to nothing.
    const whole = Math.round(this.done);
    const done = this.active ? Math.min(total, Math.max(0, whole)) : whole;
    const { speed } = this.meter;
    return {
      id,
      space,
      parent,
      label,
      addedAt,
      state: this.active ? "active" : (worst ?? "done"),
      files: this.items.size,
      count: { ...count },
      done,
      total,
      speed,
      timeLeft: timeLeft(total - done, speed),
    };
  }
}

export class Item {
  meter = new Meter();
  /** @type {ItemState} */
  #state = "queued";
  #done = 0;
  /** @type {File | null} */
  file = null;
  /** @type {any} */
  handle = null;
  /** @type {Content | null} */
  content = null;
  /** @type {Node | null} */
  conflict = null;
  /** @type {Node | null} */
  node = null;
  /** @type {{id: string, version: number} | null} */
  replaces = null;
  copy = 0;
  reason = "";
  rounds = 0;

  // ---- of one attempt ----
  /** @type {Set<StoredObject>} */
  waits = new Set();
  /** @type {{sha256: string, length: number, object: StoredObject, offset: number}[]} */
  refs = [];
  /** @type {{digest: string, size: number} | null} */
  read = null;
  /** @type {StoredObject | null} */
  manifest = null;
  /** @type {AbortController | null} */
  reading = null;
  /** How often it was read and had to be read again. */
  readings = 0;

  /** @type {() => void} */
  settled = () => {};
  /** @type {(again: boolean, reason: string) => void} */
  fail = () => {};
  onChange = () => {};

  /**
   * @param {Batch} batch
   * @param {{id: string, order: number, path: string, name: string, size: number, mtime: number, directory: Directory}} what
   */
  constructor(batch, { id, order, path, name, size, mtime, directory }) {
    this.batch = batch;
    this.id = id;
    this.order = order;
    this.path = path;
    this.name = name;
    this.size = size;
    this.mtime = mtime;
    this.directory = directory;
    batch.items.set(id, this);
    batch.count.queued++;
    batch.total += size;
  }

  get space() {
    return this.batch.space;
  }

  get state() {
    return this.#state;
  }

  get active() {
    return ACTIVE.includes(this.#state);
  }

  get settledForGood() {
    return SETTLED.includes(this.#state);
  }

  /** What tells it from others when it is added again. */
  get key() {
    return itemKey(this.batch.space, this.batch.parent, this.path, this.size, this.mtime);
  }

  /**
   * @param {ItemState} state
   * @param {string} [reason]
   */
  become(state, reason = "") {
    this.batch.count[this.#state]--;
    this.batch.count[state]++;
    this.#state = state;
    this.reason = reason;
    if (ACTIVE.includes(state)) this.batch.reported = false;
    this.onChange();
  }

  /** @param {number} bytes */
  advance(bytes) {
    this.#done += bytes;
    this.batch.done += bytes;
    this.onChange();
  }

  /** @param {number} bytes */
  sent(bytes) {
    this.meter.add(bytes);
    this.batch.meter.add(bytes);
  }

  /** It counts as `done` bytes from now on. @param {number} done */
  set done(done) {
    this.advance(done - this.#done);
  }

  get done() {
    return this.#done;
  }

  /**
   * The file has another size, or another time, than it had.
   * @param {File} file
   */
  take(file) {
    this.file = file;
    this.batch.total += file.size - this.size;
    this.size = file.size;
    this.mtime = file.lastModified;
  }

  /** @returns {ItemSnapshot} */
  get snapshot() {
    const { id, path, name, size, mtime, state, reason, conflict, node } = this;
    const done = Math.min(size, Math.max(0, Math.round(this.#done)));
    const { speed } = this.meter;
    const left = timeLeft(size - done, speed);
    return {
      id,
      batch: this.batch.id,
      path,
      name,
      size,
      mtime,
      state,
      done,
      total: size,
      speed,
      timeLeft: left,
      reason,
      conflict,
      node,
    };
  }

  /** @param {boolean} kept whether the file itself is to be kept @returns {ItemRecord} */
  record(kept) {
    const { id, order, path, size, mtime, file, handle, content, conflict, replaces, copy } = this;
    return {
      id,
      batch: this.batch.id,
      order,
      path,
      size,
      mtime,
      file: kept ? file : null,
      handle,
      content,
      conflict,
      replaces,
      copy,
    };
  }
}

/**
 * @param {string} space
 * @param {string} parent
 * @param {string} path
 * @param {number} size
 * @param {number} mtime
 */
export function itemKey(space, parent, path, size, mtime) {
  return [space, parent, size, mtime, path].join("\n");
}
