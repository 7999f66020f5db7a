// @ts-check
/** What outlives the page: unfinished uploads, in IndexedDB. */

/** @import {Content} from "./manifest.js" */
/** @import {Node} from "./api.js" */

/**
 * @typedef {{id: string, session: string, space: string, parent: string, label: string, addedAt: number}} BatchRecord
 * @typedef {object} ItemRecord
 * @property {string} id
 * @property {string} batch
 * @property {number} order
 * @property {string} path relative to the batch's directory
 * @property {number} size
 * @property {number} mtime
 * @property {File | null} file
 * @property {any} handle a FileSystemFileHandle, if there is one
 * @property {Content | null} content once all of it is stored
 * @property {Node | null} conflict
 * @property {{id: string, version: number} | null} replaces
 * @property {number} copy
 */

export class Store {
  #name;
  /** @type {Promise<IDBDatabase> | null} */
  #opened = null;
  /** @type {Map<string, ItemRecord | null>} records to write; null deletes the record */
  #items = new Map();
  /** Batches to be deleted with all their items. @type {Set<string>} */
  #gone = new Set();
  /** @type {Promise<void> | null} */
  #writing = null;

  /** @param {string} name */
  constructor(name) {
    this.#name = name;
  }

  /** @returns {Promise<IDBDatabase>} */
  #open() {
    this.#opened ??= new Promise((resolve, reject) => {
      const request = indexedDB.open(this.#name, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore("batches", { keyPath: "id" });
        request.result.createObjectStore("items", { keyPath: "id" }).createIndex("batch", "batch");
      };
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    return this.#opened;
  }

  /** @returns {Promise<BatchRecord[]>} */
  async batches() {
    const all = (await this.#open()).transaction("batches").objectStore("batches").getAll();
    await done(all.transaction);
    return all.result;
  }

  /**
   * @param {string} batch
   * @returns {Promise<ItemRecord[]>}
   */
  async items(batch) {
    const all = (await this.#open()).transaction("items").objectStore("items").index("batch").getAll(batch);
    await done(all.transaction);
    return all.result.sort((/** @type {ItemRecord} */ a, /** @type {ItemRecord} */ b) => a.order - b.order);
  }

  /** @param {BatchRecord} batch */
  async putBatch(batch) {
    const writing = (await this.#open()).transaction("batches", "readwrite");
    writing.objectStore("batches").put(batch);
    await done(writing);
  }

  /**
   * Soon, with all its items.
   * @param {string} batch
   */
  deleteBatch(batch) {
    this.#gone.add(batch);
    this.#soon();
  }

  /**
   * Soon, together with others.
   * @param {ItemRecord} item
   */
  putItem(item) {
    this.#items.set(item.id, item);
    this.#soon();
  }

  /** @param {string} id */
  deleteItem(id) {
    this.#items.set(id, null);
    this.#soon();
  }

  #soon() {
    // Losing a record costs a file that is uploaded again, not one that is missing: nobody waits for the disk.
    void this.flush().catch(() => {});
  }

  /** What was put or deleted before is written when this resolves. @returns {Promise<void>} */
  flush() {
    this.#writing ??= this.#write().finally(() => {
      this.#writing = null;
    });
    return this.#writing;
  }

  async #write() {
    const database = await this.#open();
    while (this.#items.size || this.#gone.size) {
      const [items, gone] = [this.#items, this.#gone];
      this.#items = new Map();
      this.#gone = new Set();
      try {
        await writeItems(database, items);
      } catch {
        // Browsers copy files, for which there may be no room. Without them one has to choose them again, no more.
        await writeItems(database, new Map([...items].map(([id, item]) => [id, item && { ...item, file: null }])));
      }
      if (gone.size) await deleteBatches(database, gone);
    }
  }
}

/**
 * @param {IDBDatabase} database
 * @param {Map<string, ItemRecord | null>} items
 */
async function writeItems(database, items) {
  const writing = database.transaction("items", "readwrite", { durability: "relaxed" });
  const store = writing.objectStore("items");
  for (const [id, item] of items) {
    if (item) store.put(item);
    else store.delete(id);
  }
  await done(writing);
}

/**
 * @param {IDBDatabase} database
 * @param {Set<string>} batches
 */
async function deleteBatches(database, batches) {
  const writing = database.transaction(["batches", "items"], "readwrite");
  const items = writing.objectStore("items");
  for (const batch of batches) {
    writing.objectStore("batches").delete(batch);
    const keys = items.index("batch").getAllKeys(batch);
    keys.onsuccess = () => {
      for (const key of keys.result) items.delete(key);
    };
  }
  await done(writing);
}

/**
 * @param {IDBTransaction | null} transaction
 * @returns {Promise<void>}
 */
function done(transaction) {
  return new Promise((resolve, reject) => {
    if (!transaction) return resolve();
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });
}
