// @ts-check
/**
 * Uploads from a browser straight into storage: what a page uses of this folder.
 *
 *     const uploads = new Uploads({ api: createApi(sameOrigin(() => token)), owner: userId });
 *     await uploads.open();
 *     uploads.addEventListener("change", ({ detail }) => show(detail.batches, detail.items));
 *     await uploads.add(input.files, { space, parent: directory });
 *
 * Each file goes this way: read and cut (`reader.js`, in a worker) -> ask, put, seal (`storing.js`) -> commit (`commits.js`).
 */

import { patient } from "./api.js";
import { Commits, Directory } from "./commits.js";
import { MAX_INLINE_BLOCKS, MAX_OBJECT_BYTES, MIB, MIN_BLOCK_BYTES } from "./format.js";
import { Batch, Item, itemKey, newId } from "./item.js";
import { encodeManifest, toWire } from "./manifest.js";
import { nameProblem, normalized } from "./names.js";
import { PATIENCE, delay, sleep } from "./retry.js";
import { digestOf } from "./sha256.js";
import { Store } from "./store.js";
import { Storing, reasonOf } from "./storing.js";
import { Unread, Work } from "./work.js";

/** @import {Api} from "./api.js" */
/** @import {BatchSnapshot, ItemSnapshot} from "./item.js" */
/** @import {Outcome} from "./commits.js" */
/** @import {Patience} from "./retry.js" */
/** @import {ItemRecord} from "./store.js" */
/** @import {Placed} from "./work.js" */

/**
 * @typedef {object} Source a file that knows where it was
 * @property {File} [file] may be left out if there is a handle
 * @property {string} [path] relative, with "/"; else the file's `webkitRelativePath` or its name
 * @property {any} [handle] a FileSystemFileHandle: outlives the page, and finds a file that was changed
 *
 * @typedef {object} Place
 * @property {string} space
 * @property {string} [parent] a directory's id, or "root"
 * @property {string} [label] what to call the place, for the panel
 * @property {string[]} [directories] paths of directories to make even if no file is in them
 *
 * @typedef {"replace" | "keep-both" | "skip"} Decision
 *
 * @typedef {object} Options
 * @property {Api} api
 * @property {string} owner whose uploads these are: those of another user of this browser are not touched
 * @property {number} [parallel] PUTs at once
 * @property {Patience} [patience]
 * @property {number} [keepBytes] how much of the files without a handle is kept for after a reload. Browsers copy them to
 *   keep them: with more, an upload would fill the disk. What is not kept has to be chosen again
 * @property {boolean} [paused] begin paused
 * @property {() => Worker} [startWorker]
 */

const PARALLEL = 4;
const KEEP_BYTES = 512 * MIB;
/** Files that the worker is asked to read: enough for it to read small ones ahead. */
const READINGS = 24;
/** How often a file that changes is read again. */
const MOST_READINGS = 4;
/** Reading stands still while more objects than this wait for storage, until half of them are stored. */
const MOST_PENDING = 256;
const REPORT_EVERY = 100;

const CHANGED = "The file was changed or moved after it was chosen.";
const GONE = "The file is not there any more.";
const UNREADABLE = "The browser could not read the file.";
const STOPPED = "The browser stopped the upload.";
const CHOOSE = "Choose the file again to go on.";

/**
 * The uploads of this page, and those that earlier pages left unfinished. Events, all CustomEvents:
 *
 * - `change`, at most ten times a second: `detail.batches` and `detail.items` are snapshots of those that changed; an item
 *   that was removed is in it with its last state, and `detail.removed` has the ids of batches that are gone
 * - `committed`: `detail.space`, `detail.nodes`, the nodes that are new or have a new version
 * - `finished`: `detail.batch`, the snapshot of a batch without pending work
 */
export class Uploads extends EventTarget {
  #api;
  #work;
  #storing;
  #commits;
  #store;
  #patience;
  #keepBytes;
  /** Files of which a copy is kept, and their sizes. @type {Map<Item, number>} */
  #kept = new Map();
  #owner;
  #session = newId();
  #paused;
  /** @type {Map<string, Batch>} */
  #batches = new Map();
  /** @type {Map<string, Item>} */
  #items = new Map();
  /** In order; a set, since any of thousands may be cancelled. @type {Set<Item>} */
  #queue = new Set();
  #reading = 0;
  #flushed = true;
  #orders = 0;
  /** @type {Set<Item>} */
  #changed = new Set();
  /** @type {Set<Batch>} */
  #changedBatches = new Set();
  /** @type {string[]} */
  #removed = [];
  #reporting = false;

  /** @param {Options} options */
  constructor({ api, owner, parallel = PARALLEL, patience = PATIENCE, keepBytes = KEEP_BYTES, paused = false, startWorker }) {
    super();
    this.#patience = patience;
    this.#keepBytes = keepBytes;
    this.#owner = owner;
    this.#paused = paused;
    this.#api = patient(api, patience);
    this.#work = new Work(startWorker);
    this.#store = new Store(`syncline-uploads-${owner}`);
    this.#storing = new Storing(this.#api, this.#work, patience, parallel);
    this.#commits = new Commits(this.#api, (item, outcome) => this.#judged(item, outcome));
    this.#commits.moreToCome = () => this.#reading > 0 || this.#storing.pending > 0 || this.#queue.size > 0;
    this.#commits.onCommitted = (space, nodes) => this.#emit("committed", { space, nodes });
    this.#work.onLost = () => this.#storing.lose();
    this.#storing.onPending = () => this.#hold();
    if (paused) this.#storing.pause();
    this.#hold();
  }

  /** Whether nothing is sent at the moment because the user wants it so. */
  get paused() {
    return this.#paused;
  }

  /** Whether leaving the page would interrupt something. */
  get busy() {
    return [...this.#batches.values()].some(({ active }) => active);
  }

  /** @returns {BatchSnapshot[]} in the order in which they were added */
  batches() {
    return [...this.#batches.values()].map(({ snapshot }) => snapshot);
  }

  /**
   * @param {string} batch
   * @returns {ItemSnapshot[]} the files of a batch; none if there is no such batch
   */
  items(batch) {
    return [...(this.#batches.get(batch)?.items.values() ?? [])].map(({ snapshot }) => snapshot);
  }

  // ---- what the user does ----

  /** Resume uploads that earlier pages left unfinished. Pages that are still open keep theirs. */
  async open() {
    await this.#holdSession();
    try {
      const sessions = new Set((await this.#store.batches()).map(({ session }) => session));
      sessions.delete(this.#session);
      for (const session of sessions) await this.#ifAbandoned(session, () => this.#takeOver(session));
    } catch {
      // A browser without storage, as in some private windows, has no uploads to resume.
    }
    this.#readOn();
  }

  /**
   * Upload files. An unfinished upload to the same place is resumed.
   * @param {Iterable<File | Source>} files
   * @param {Place} place
   * @returns {Promise<string>} the id of the batch; when it resolves, the files outlive the page
   */
  async add(files, { space, parent = "root", label = "", directories = [] }) {
    const batch = new Batch({ id: newId(), space, parent, label, addedAt: Date.now() });
    const unfinished = new Map(
      [...this.#items.values()].filter(({ settledForGood }) => !settledForGood).map((item) => [item.key, item]),
    );
    let touched = batch.id;
    for (const each of files) {
      const source = await withFile(each);
      const file = source.file;
      const path = normalized(source.path || file.webkitRelativePath || file.name);
      const known = unfinished.get(itemKey(space, parent, path, file.size, file.lastModified));
      if (known) {
        this.#goOnWith(known, file, source.handle);
        touched = known.batch.id;
      } else {
        this.#added(batch, { path, file, handle: source.handle });
      }
    }
    for (const path of directories) {
      this.#commits.addDirectory(space, this.#directory(batch, normalized(path)));
    }
    if (!batch.items.size) return touched;
    this.#batches.set(batch.id, batch);
    this.#changedBatches.add(batch);
    this.#readOn();
    try {
      await this.#store.putBatch({
        id: batch.id,
        session: this.#session,
        space,
        parent,
        label,
        addedAt: batch.addedAt,
      });
      await this.#store.flush();
    } catch {
      // Then they do not outlive the page.
    }
    return batch.id;
  }

  /** Send nothing more, and abort pending requests. */
  pause() {
    if (this.#paused) return;
    this.#paused = true;
    this.#storing.pause();
    this.#hold();
    for (const batch of this.#batches.values()) this.#changedBatches.add(batch);
    this.#report();
  }

  /** Resume the unfinished uploads. */
  resume() {
    if (!this.#paused) return;
    this.#paused = false;
    for (const batch of this.#batches.values()) batch.meter.reset();
    for (const item of this.#items.values()) item.meter.reset();
    this.#storing.resume();
    this.#hold();
    this.#readOn();
    this.#report();
  }

  /**
   * Give up a file, or all of a batch that is not done. A file that is just being committed may still be done.
   * @param {string} id
   * @returns {Promise<void>} once it resolves, no later page resumes the upload
   */
  async cancel(id) {
    for (const item of this.#named(id)) {
      if (item.state === "done") continue;
      // A file in a pending request cannot be cancelled; its state follows from the answer.
      if (item.state === "committing" && !this.#commits.cancel(item)) continue;
      this.#stop(item);
      this.#close(item, "cancelled");
    }
    await this.#store.flush().catch(() => {});
  }

  /**
   * Try again what failed: a file, or all of a batch. For a file that is to be chosen again this asks for permission to read
   * it, if it was given as a handle; so it has to be called from a click.
   * @param {string} id
   */
  async retry(id) {
    for (const item of this.#named(id)) {
      if (item.state === "failed") {
        item.readings = 0;
        item.directory.forgive();
        this.#begin(item);
      } else if (item.state === "choose" && item.handle) {
        const granted = (await item.handle.requestPermission?.({ mode: "read" })) ?? "granted";
        if (granted === "granted") this.#begin(item);
      }
    }
    this.#readOn();
  }

  /**
   * Decide a conflict: of a file, or all of a batch. Only a file can be replaced; with it goes the version that the
   * conflict shows, and if there is a newer one by then, it is a conflict again.
   * @param {string} id
   * @param {Decision} decision
   */
  resolve(id, decision) {
    for (const item of this.#named(id)) {
      const { conflict } = item;
      if (item.state !== "conflict" || !conflict) continue;
      if (decision === "skip") {
        this.#close(item, "skipped");
        continue;
      }
      if (decision === "replace" && conflict.kind !== "file") continue;
      item.replaces = decision === "replace" ? { id: conflict.id, version: conflict.version } : null;
      item.copy = decision === "replace" ? 0 : 2;
      item.conflict = null;
      this.#keep(item);
      this.#begin(item);
    }
    this.#readOn();
  }

  /** Take batches off the list in which everything is done. */
  clear() {
    for (const batch of [...this.#batches.values()]) if (batch.settled) this.#remove(batch);
  }

  /** Stop everything and release the worker; unfinished uploads can be resumed. */
  close() {
    this.#paused = true;
    this.#storing.pause();
    this.#work.close();
  }

  /** @param {string} id @returns {Item[]} */
  #named(id) {
    const item = this.#items.get(id);
    return item ? [item] : [...(this.#batches.get(id)?.items.values() ?? [])];
  }

  // ---- coming and going ----

  /**
   * @param {Batch} batch
   * @param {{path: string, file: File, handle?: any}} source
   */
  #added(batch, { path, file, handle = null }) {
    const item = this.#make(batch, {
      id: newId(),
      path,
      size: file.size,
      mtime: file.lastModified,
      order: ++this.#orders,
    });
    item.file = file;
    item.handle = handle;
    const problem = path.split("/").map(nameProblem).find(Boolean);
    if (problem) {
      item.become("failed", `It cannot be uploaded: ${problem}.`);
      return;
    }
    this.#keep(item);
    this.#queue.add(item);
  }

  /**
   * @param {Batch} batch
   * @param {{id: string, order: number, path: string, size: number, mtime: number}} what
   */
  #make(batch, what) {
    const slash = what.path.lastIndexOf("/");
    const directory = this.#directory(batch, what.path.slice(0, Math.max(0, slash)));
    const item = new Item(batch, { ...what, name: what.path.slice(slash + 1), directory });
    item.settled = () => this.#settled(item);
    item.fail = (again, reason) => (again ? this.#readAgain(item, reason) : this.#fail(item, reason));
    item.onChange = () => {
      this.#changed.add(item);
      this.#changedBatches.add(batch);
      this.#report();
    };
    this.#items.set(item.id, item);
    item.onChange();
    return item;
  }

  /**
   * @param {Batch} batch
   * @param {string} path
   * @returns {Directory}
   */
  #directory(batch, path) {
    let directory = batch.directories.get(path);
    if (!directory) {
      const slash = path.lastIndexOf("/");
      directory = path
        ? new Directory(this.#directory(batch, path.slice(0, Math.max(0, slash))), path.slice(slash + 1))
        : new Directory(null, "", batch.parent);
      batch.directories.set(path, directory);
    }
    return directory;
  }

  /** @param {string} session */
  async #takeOver(session) {
    for (const record of await this.#store.batches()) {
      if (record.session !== session) continue;
      await this.#store.putBatch({ ...record, session: this.#session });
      const items = await this.#store.items(record.id);
      if (items.length) this.#restore(new Batch(record), items);
      else this.#store.deleteBatch(record.id);
    }
  }

  /**
   * @param {Batch} batch
   * @param {ItemRecord[]} records
   */
  #restore(batch, records) {
    this.#batches.set(batch.id, batch);
    for (const record of records) {
      const item = this.#make(batch, record);
      this.#orders = Math.max(this.#orders, record.order);
      Object.assign(item, {
        file: record.file,
        handle: record.handle,
        content: record.content,
        replaces: record.replaces,
        copy: record.copy,
        conflict: record.conflict,
      });
      if (item.content) item.done = item.size;
      if (item.conflict) item.become("conflict");
      else this.#begin(item);
    }
  }

  /**
   * The user has chosen a file again that is not done.
   * @param {Item} item
   * @param {File} file
   * @param {any} handle
   */
  #goOnWith(item, file, handle) {
    item.file = file;
    item.handle = handle ?? item.handle;
    if (item.state !== "failed" && item.state !== "choose") return;
    item.readings = 0;
    this.#keep(item);
    this.#begin(item);
    this.#readOn();
  }

  /**
   * From wherever it stopped: to the commit if it is stored, else to the beginning.
   * @param {Item} item
   */
  #begin(item) {
    if (item.content) {
      item.become("committing");
      this.#commits.add(item);
    } else if (item.file || item.handle) {
      item.become("queued");
      this.#queue.add(item);
    } else {
      item.become("choose", CHOOSE);
    }
  }

  /** @param {Item} item */
  #stop(item) {
    item.reading?.abort();
    item.reading = null;
    this.#queue.delete(item);
    this.#forgetAttempt(item);
  }

  /** @param {Item} item */
  #forgetAttempt(item) {
    this.#storing.cancel(item);
    item.refs = [];
    item.read = null;
    item.manifest = null;
    item.done = 0;
  }

  /**
   * Nothing is left to be done for it.
   * @param {Item} item
   * @param {"done" | "skipped" | "cancelled"} state
   */
  #close(item, state) {
    this.#unkeep(item);
    item.file = item.handle = null;
    item.refs = [];
    if (state === "done") {
      item.done = item.size;
    } else {
      item.done = 0;
      item.batch.total -= item.size;
    }
    item.become(state);
    if (item.batch.settled) this.#store.deleteBatch(item.batch.id);
    else this.#store.deleteItem(item.id);
    this.#finish(item.batch);
    this.#commits.go();
    this.#readOn();
  }

  /** @param {Batch} batch */
  #remove(batch) {
    for (const id of batch.items.keys()) this.#items.delete(id);
    this.#batches.delete(batch.id);
    this.#removed.push(batch.id);
    this.#report();
  }

  /** @param {Batch} batch */
  #finish(batch) {
    if (batch.active || batch.reported) return;
    batch.reported = true;
    this.#emit("finished", { batch: batch.snapshot });
  }

  /** @param {Item} item */
  #keep(item) {
    this.#unkeep(item);
    // With a handle, or with its content stored, the file itself is not needed.
    const kept = !item.handle && !item.content && item.size <= this.#keepBytes;
    if (kept) {
      this.#kept.set(item, item.size);
      this.#keepBytes -= item.size;
    }
    this.#store.putItem(item.record(kept));
  }

  /** @param {Item} item */
  #unkeep(item) {
    this.#keepBytes += this.#kept.get(item) ?? 0;
    this.#kept.delete(item);
  }

  /** Until this page is closed, no other one takes over its uploads. @returns {Promise<void>} */
  #holdSession() {
    const { locks } = navigator;
    if (!locks) return Promise.resolve();
    return new Promise((resolve) => {
      const held = locks.request(this.#lock(this.#session), () => {
        resolve();
        return new Promise(() => {});
      });
      held.catch(() => resolve());
    });
  }

  /**
   * Do this, unless the page of that session is still there or another one is taking over from it.
   * @param {string} session
   * @param {() => Promise<void>} take
   */
  async #ifAbandoned(session, take) {
    const { locks } = navigator;
    // Pages of plain http cannot tell. Two that do the same upload it twice, and commit it once.
    if (!locks) await take();
    else await locks.request(this.#lock(session), { ifAvailable: true }, (lock) => lock && take());
  }

  /** @param {string} session */
  #lock(session) {
    return `syncline-uploads-${this.#owner}-${session}`;
  }

  // ---- reading ----

  #held = false;

  #hold() {
    const limit = this.#held ? MOST_PENDING / 2 : MOST_PENDING;
    const held = this.#paused || this.#storing.pending > limit;
    if (held === this.#held) return;
    this.#held = held;
    this.#work.hold(held);
  }

  #readOn() {
    for (const item of this.#queue) {
      if (this.#paused || this.#reading >= READINGS) break;
      this.#queue.delete(item);
      this.#reading++;
      this.#flushed = false;
      void this.#read(item).finally(() => {
        this.#reading--;
        this.#readOn();
      });
    }
    if (!this.#reading && !this.#queue.size && !this.#flushed) {
      this.#flushed = true;
      this.#work.flush();
      this.#commits.go();
    }
  }

  /** @param {Item} item */
  async #read(item) {
    const control = new AbortController();
    item.reading = control;
    try {
      if (item.handle) item.take(await fileOf(item.handle));
      const file = /** @type {File} */ (item.file);
      if (file.size < MIN_BLOCK_BYTES) item.become("hashing");
      const read = await this.#work.read({
        space: item.space,
        file,
        signal: control.signal,
        begun: () => {
          if (!control.signal.aborted) item.become("hashing");
        },
        blocks: (blocks) => {
          if (!control.signal.aborted) this.#place(item, file, blocks);
        },
      });
      if (item.handle) {
        const now = await fileOf(item.handle);
        if (now.size !== file.size || now.lastModified !== file.lastModified) throw new Unread("changed");
      }
      if (control.signal.aborted) return;
      item.reading = null;
      item.read = read;
      if (item.state === "hashing") item.become("uploading");
      this.#settled(item);
    } catch (error) {
      if (control.signal.aborted) return;
      if (error instanceof Unread) this.#unread(item, error.trouble);
      else this.#fail(item, reasonOf(error));
    }
  }

  /**
   * @param {Item} item
   * @param {File} file
   * @param {Placed[]} blocks
   */
  #place(item, file, blocks) {
    for (const { sha256, length, offset, pack, at } of blocks) {
      const object =
        pack === null
          ? this.#storing.want(item, { sha256, size: length, body: file.slice(offset, offset + length) })
          : this.#storing.wantPacked(item, pack, length);
      item.refs.push({ sha256, length, object, offset: at });
    }
  }

  /**
   * @param {Item} item
   * @param {string} trouble
   */
  #unread(item, trouble) {
    if (trouble === "NotFoundError" && item.handle) this.#fail(item, GONE);
    else if (trouble === "NotAllowedError" || (trouble === "NotReadableError" && !item.handle)) this.#choose(item);
    else if (trouble === "NotFoundError") this.#choose(item);
    else if (trouble === "error") this.#fail(item, UNREADABLE);
    else if (trouble === "lost") this.#readAgain(item, STOPPED);
    else this.#readAgain(item, CHANGED);
  }

  /** @param {Item} item */
  #choose(item) {
    this.#stop(item);
    item.file = null;
    const permitted = item.handle ? "Allow reading the file again to go on." : `${CHANGED} ${CHOOSE}`;
    item.become("choose", permitted);
    this.#finish(item.batch);
  }

  /**
   * @param {Item} item
   * @param {string} reason
   */
  #readAgain(item, reason) {
    this.#stop(item);
    item.content = null;
    if (++item.readings >= MOST_READINGS) {
      this.#fail(item, `${reason} It was read ${MOST_READINGS} times; try again when nothing changes it.`);
      return;
    }
    item.become("queued");
    void sleep(delay(this.#patience, item.readings)).then(() => {
      if (item.state !== "queued" || item.reading || this.#queue.has(item)) return;
      this.#begin(item);
      this.#readOn();
    });
  }

  /**
   * @param {Item} item
   * @param {string} reason
   */
  #fail(item, reason) {
    this.#stop(item);
    item.become("failed", reason);
    this.#finish(item.batch);
    this.#readOn();
  }

  // ---- from stored to done ----

  /**
   * It waits for one thing less.
   * @param {Item} item
   */
  #settled(item) {
    if (!item.read || item.waits.size || item.content || !item.active) return;
    void this.#complete(item, item.read);
  }

  /**
   * All blocks are sealed.
   * @param {Item} item
   * @param {{digest: string, size: number}} read
   */
  async #complete(item, { digest, size }) {
    const refs = item.refs.map(({ sha256, length, object, offset }) => ({
      sha256,
      length,
      object: object.sha256,
      offset,
    }));
    const content = { digest, size, mtime_ms: item.mtime };
    if (refs.length <= MAX_INLINE_BLOCKS) {
      item.content = { ...content, blocks: refs.map(toWire) };
    } else if (item.manifest) {
      item.content = { ...content, manifest_object: item.manifest.sha256 };
    } else {
      await this.#storeManifest(item, encodeManifest(refs));
      return;
    }
    item.refs = [];
    this.#keep(item);
    item.become("committing");
    this.#commits.add(item);
  }

  /**
   * @param {Item} item
   * @param {Uint8Array<ArrayBuffer>} bytes
   */
  async #storeManifest(item, bytes) {
    if (bytes.length > MAX_OBJECT_BYTES) {
      this.#fail(item, "The file is too large.");
      return;
    }
    const { read } = item;
    const sha256 = await digestOf(bytes);
    if (item.read !== read) return;
    const object = { sha256, size: bytes.length, body: new Blob([bytes]), manifest: true, bytes: 0 };
    item.manifest = this.#storing.want(item, object);
    this.#settled(item);
  }

  /**
   * @param {Item} item
   * @param {Outcome} outcome
   */
  #judged(item, outcome) {
    if ("done" in outcome) {
      item.node = outcome.done;
      this.#close(item, "done");
    } else if ("conflict" in outcome) {
      item.conflict = outcome.conflict;
      item.replaces = null;
      item.copy = 0;
      this.#keep(item);
      item.become("conflict");
      this.#finish(item.batch);
    } else if ("again" in outcome) {
      this.#storing.distrust(item.space);
      this.#readAgain(item, outcome.again);
    } else {
      item.become("failed", outcome.failed);
      this.#finish(item.batch);
    }
  }

  // ---- telling ----

  #report() {
    if (this.#reporting) return;
    this.#reporting = true;
    setTimeout(() => {
      this.#reporting = false;
      const items = [...this.#changed].map(({ snapshot }) => snapshot);
      const batches = [...this.#changedBatches].filter(({ id }) => this.#batches.has(id)).map(({ snapshot }) => snapshot);
      const removed = this.#removed;
      this.#changed.clear();
      this.#changedBatches.clear();
      this.#removed = [];
      this.#emit("change", { batches, items, removed });
    }, REPORT_EVERY);
  }

  /**
   * @param {string} type
   * @param {object} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/**
 * @param {File | Source} source
 * @returns {Promise<{file: File, path?: string, handle?: any}>}
 */
async function withFile(source) {
  if (source instanceof File) return { file: source };
  const file = source.file ?? (await source.handle.getFile());
  return { ...source, file };
}

/**
 * The file of a handle as it is now. Unread.
 * @param {any} handle
 * @returns {Promise<File>}
 */
async function fileOf(handle) {
  try {
    if ((await handle.queryPermission?.({ mode: "read" })) === "prompt") throw new Unread("NotAllowedError");
    return await handle.getFile();
  } catch (error) {
    if (error instanceof DOMException) throw new Unread(error.name);
    throw error;
  }
}
