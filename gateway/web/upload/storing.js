// @ts-check
/**
 * Objects being uploaded: find missing ones -> put -> seal.
 *
 * An object may be wanted by many files, and a file wants many objects. Each file is notified when its last one is sealed.
 */

import { ApiError } from "./api.js";
import { delay, online, sleep } from "./retry.js";

/** @import {Api, Declaration, Ticket} from "./api.js" */
/** @import {PackEntries} from "./pack.js" */
/** @import {Work, ClosedPack} from "./work.js" */
/** @import {Patience} from "./retry.js" */

/**
 * @typedef {object} Owner a file on its way
 * @property {string} space
 * @property {Set<StoredObject>} waits what it waits for; kept by Storing
 * @property {(bytes: number) => void} advance so much more of it is stored, or less, if a request failed
 * @property {(bytes: number) => void} sent so much of it went over the line, be it in vain
 * @property {(again: boolean, reason: string) => void} fail an object of it cannot be stored: `again` if reading the file
 *   again may help
 * @property {() => void} settled it waits for one object less
 */

const ASKED_AT_ONCE = 64;
const SEALED_AT_ONCE = 32;
/** The gateway answers faster to some small requests than to one that declares all small files there are. */
const ENTRIES_AT_ONCE = 8192;
const COMPANY = 30;
const SEAL_COMPANY = 300;
/** A URL that ends sooner is not used, unless it is fresh: then it is this computer's clock that is wrong. */
const LEAST_VALIDITY = 15_000;
const FRESH = 30_000;
const REMEMBERED = 65_536;
const LOST_PACK = "The upload of a part of it failed.";
/** How often a fresh URL or a seal may fail before that is not put down to bad luck. */
const PATIENT_WITH_STORAGE = 4;

/** Codes of S3 that say the URL is too old, whatever the status. */
const EXPIRED = new Set(["ExpiredToken", "RequestExpired", "AccessDenied", "InvalidToken", "TokenRefreshRequired"]);
/** The bytes are not those that the URL was made for. */
const DAMAGED = new Set([
  "BadDigest",
  "InvalidDigest",
  "IncompleteBody",
  "XAmzContentChecksumMismatch",
  "XAmzContentSHA256Mismatch",
]);

/** @typedef {"open" | "new" | "asking" | "ready" | "putting" | "put" | "sealing" | "sealed" | "failed"} State */

/** Verdicts on objects that do not exist, or were removed: the right bytes can be uploaded again. */
const PUT_AGAIN = new Set(["OBJECT_MISSING", "SIZE_MISMATCH", "CHECKSUM_MISMATCH"]);

export class StoredObject {
  /** What tells it from others: the same bytes may be several things, and each is sealed by itself. */
  key = "";
  /** Empty while it is a pack that is still open. */
  sha256 = "";
  size = 0;
  /** @type {State} */
  state = "open";
  /** Who wants it, and how many bytes of theirs are in it. @type {Map<Owner, number>} */
  wanted = new Map();
  /** How much of it is stored, 0 to 1. */
  part = 0;
  /** @type {{body: Blob, owner: Owner | null}[]} where its bytes are; more than one if files share it */
  bodies = [];
  /** The worker's number of it, if it is a pack. @type {number | null} */
  packNumber = null;
  /** @type {PackEntries | null} */
  pack = null;
  manifest = false;
  /** @type {Extract<Ticket, {stored: false}> | null} */
  ticket = null;
  /** When that came. */
  ticketAt = 0;
  attempts = 0;
  refusals = 0;
  /** @type {AbortController | null} */
  put = null;

  /** @param {string} space */
  constructor(space) {
    this.space = space;
  }

  /** @returns {Declaration} */
  get declaration() {
    const { sha256, size, pack, manifest } = this;
    return { sha256, size, ...(pack ? { pack } : {}), ...(manifest ? { manifest: true } : {}) };
  }
}

export class Storing {
  #api;
  #work;
  #patience;
  #parallel;
  #paused = false;
  #asking = false;
  #sealing = false;
  #putting = 0;
  /** @type {StoredObject[]} */
  #toAsk = [];
  /** @type {StoredObject[]} */
  #ready = [];
  /** @type {StoredObject[]} */
  #toSeal = [];
  #askAt = 0;
  #sealAt = 0;
  /** Objects in progress, and sealed ones that are remembered, by key. @type {Map<string, StoredObject>} */
  #objects = new Map();
  /** @type {Map<number, StoredObject>} */
  #packs = new Map();
  /** @type {number | undefined} */
  #timer;

  /** Objects that are known and not sealed yet. */
  pending = 0;
  /** The number of those has changed. */
  onPending = () => {};

  /**
   * @param {Api} api that repeats what may be repeated
   * @param {Work} work
   * @param {Patience} patience
   * @param {number} parallel PUTs at once
   */
  constructor(api, work, patience, parallel) {
    this.#api = api;
    this.#work = work;
    this.#patience = patience;
    this.#parallel = parallel;
    work.onPack = (pack) => this.#closed(pack);
  }

  /**
   * A file wants these bytes in storage as an object of their own.
   * @param {Owner} owner
   * @param {{sha256: string, size: number, body: Blob, manifest?: boolean, bytes?: number}} object `bytes` is what it counts
   *   for the file's progress
   * @returns {StoredObject}
   */
  want(owner, { sha256, size, body, manifest = false, bytes = size }) {
    const key = `${owner.space} ${manifest ? "manifest" : "block"} ${sha256}`;
    let object = this.#objects.get(key);
    if (!object) {
      object = new StoredObject(owner.space);
      Object.assign(object, { key, sha256, size, manifest });
      this.#objects.set(key, object);
      this.#count(1);
      this.#ask(object);
    }
    if (object.state !== "sealed") object.bodies.push({ body, owner: manifest ? null : owner });
    this.#wanted(owner, object, bytes);
    return object;
  }

  /**
   * A file has a block in a pack, open or closed.
   * @param {Owner} owner
   * @param {number} number
   * @param {number} bytes
   * @returns {StoredObject}
   */
  wantPacked(owner, number, bytes) {
    let object = this.#packs.get(number);
    if (!object) {
      object = new StoredObject(owner.space);
      object.packNumber = number;
      object.key = `${owner.space} pack ${number}`;
      this.#packs.set(number, object);
      this.#count(1);
    }
    this.#wanted(owner, object, bytes);
    return object;
  }

  /**
   * The file does not want anything any more.
   * @param {Owner} owner
   */
  cancel(owner) {
    for (const object of owner.waits) {
      object.wanted.delete(owner);
      if (object.wanted.size) continue;
      if (["new", "ready"].includes(object.state)) this.#drop(object);
      object.put?.abort();
    }
    owner.waits.clear();
  }

  /** Stop all PUTs, and begin no other. */
  pause() {
    this.#paused = true;
    for (const object of this.#objects.values()) object.put?.abort();
  }

  resume() {
    this.#paused = false;
    this.#go();
  }

  /**
   * The server does not have what it had: nothing that was stored before counts any more.
   * @param {string} space
   */
  distrust(space) {
    for (const [key, object] of this.#objects) {
      if (object.space === space && object.state === "sealed") this.#objects.delete(key);
    }
    for (const [number, object] of this.#packs) {
      if (object.space !== space || object.state !== "sealed") continue;
      object.state = "failed";
      this.#work.forget(number);
    }
  }

  /** The worker is gone: nothing can be done about what has not been closed. */
  lose() {
    for (const [number, object] of this.#packs) {
      this.#packs.delete(number);
      object.packNumber = null;
      if (object.state === "open") this.#fail(object, true, "The browser stopped the upload.");
    }
  }

  // ---- known objects ----

  /**
   * @param {Owner} owner
   * @param {StoredObject} object
   * @param {number} bytes
   */
  #wanted(owner, object, bytes) {
    if (object.state === "sealed") {
      owner.advance(bytes);
      return;
    }
    if (object.state === "failed") {
      // It failed while the worker was still telling of this file.
      queueMicrotask(() => owner.fail(true, LOST_PACK));
      return;
    }
    object.wanted.set(owner, (object.wanted.get(owner) ?? 0) + bytes);
    owner.waits.add(object);
    if (object.part) owner.advance(object.part * bytes);
  }

  /** @param {ClosedPack} closed */
  #closed({ id, sha256, size, pack, body }) {
    const object = this.#packs.get(id);
    if (!object) {
      this.#work.forget(id);
      this.#work.release();
      return;
    }
    Object.assign(object, { sha256, size, pack, state: "new" });
    object.bodies.push({ body, owner: null });
    if (!object.wanted.size) {
      this.#drop(object);
    } else {
      this.#objects.set(object.key, object);
      this.#ask(object);
    }
  }

  /** @param {number} change */
  #count(change) {
    this.pending += change;
    this.onPending();
  }

  /** @param {StoredObject} object */
  #ask(object) {
    object.state = "new";
    object.ticket = null;
    if (!this.#toAsk.length) this.#askAt = performance.now() + COMPANY;
    this.#toAsk.push(object);
    this.#go();
  }

  /**
   * It is on nobody's list any more.
   * @param {StoredObject} object
   */
  #forget(object) {
    if (this.#objects.get(object.key) === object) this.#objects.delete(object.key);
    this.#toAsk = this.#toAsk.filter((other) => other !== object);
    this.#ready = this.#ready.filter((other) => other !== object);
    object.bodies = [];
    this.#count(-1);
  }

  /** @param {StoredObject} object */
  #drop(object) {
    this.#fail(object, false, "");
  }

  /**
   * @param {StoredObject} object
   * @param {boolean} again
   * @param {string} reason
   */
  #fail(object, again, reason) {
    if (object.state === "sealed" || object.state === "failed") return;
    this.#credit(object, 0);
    object.state = "failed";
    if (object.packNumber !== null) {
      this.#work.forget(object.packNumber);
      this.#work.release();
    }
    this.#forget(object);
    const owners = [...object.wanted.keys()];
    object.wanted.clear();
    for (const owner of owners) {
      owner.waits.delete(object);
      owner.fail(again, reason);
    }
    this.#go();
  }

  /** @param {StoredObject} object */
  #sealed(object) {
    this.#credit(object, 1);
    object.state = "sealed";
    object.bodies = [];
    object.pack = null;
    object.ticket = null;
    if (object.packNumber !== null) this.#work.release();
    this.#count(-1);
    if (this.#objects.size > REMEMBERED) {
      for (const [key, { state }] of this.#objects) {
        if (state !== "sealed") continue;
        this.#objects.delete(key);
        if (this.#objects.size <= REMEMBERED / 2) break;
      }
    }
    const owners = [...object.wanted.keys()];
    object.wanted.clear();
    for (const owner of owners) {
      owner.waits.delete(object);
      owner.settled();
    }
  }

  /**
   * So much of the object is stored, 0 to 1.
   * @param {StoredObject} object
   * @param {number} part
   */
  #credit(object, part) {
    const change = part - object.part;
    object.part = part;
    if (change) for (const [owner, bytes] of object.wanted) owner.advance(change * bytes);
  }

  // ---- finished objects ----

  #go() {
    while (!this.#paused && this.#putting < this.#parallel && this.#ready.length) {
      const object = /** @type {StoredObject} */ (this.#ready.shift());
      if (isOld(object)) this.#ask(object);
      else void this.#put(object);
    }
    const now = performance.now();
    const enough = this.#ready.length >= 2 * this.#parallel;
    if (!this.#paused && !this.#asking && !enough && this.#toAsk.length) {
      if (now >= this.#askAt || this.#toAsk.length >= ASKED_AT_ONCE) void this.#askNow();
      else this.#later(this.#askAt - now);
    }
    if (!this.#sealing && this.#toSeal.length) {
      const idle = !this.#putting && !this.#asking && !this.#ready.length && !this.#toAsk.length;
      const due = idle || this.#toSeal.length >= SEALED_AT_ONCE || this.#toSeal.some(({ pack }) => pack);
      if (due || now >= this.#sealAt) void this.#sealNow();
      else this.#later(this.#sealAt - now);
    }
  }

  /** @param {number} ms */
  #later(ms) {
    clearTimeout(this.#timer);
    this.#timer = self.setTimeout(() => this.#go(), ms);
  }

  /**
   * The first of a list that are of one space, taken off it.
   * @param {StoredObject[]} list
   * @param {number} most
   */
  #take(list, most) {
    const { space } = list[0];
    /** @type {StoredObject[]} */
    const taken = [];
    let entries = 0;
    while (list.length && list[0].space === space && taken.length < most && entries < ENTRIES_AT_ONCE) {
      const object = /** @type {StoredObject} */ (list.shift());
      entries += object.pack?.blocks.length ?? 1;
      taken.push(object);
    }
    return taken;
  }

  async #askNow() {
    this.#asking = true;
    const asked = this.#take(this.#toAsk, ASKED_AT_ONCE);
    for (const object of asked) object.state = "asking";
    try {
      const wanted = asked.map(({ sha256, size }) => ({ sha256, size }));
      const tickets = await this.#api.uploads(asked[0].space, wanted);
      asked.forEach((object, i) => {
        const ticket = tickets[i];
        if (ticket.stored && !object.pack && !object.manifest) {
          this.#sealed(object);
        } else if (!object.wanted.size) {
          this.#drop(object);
        } else if (ticket.stored) {
          // As a block; what else it is has to be sealed all the same.
          this.#stored(object);
        } else {
          object.ticket = ticket;
          object.ticketAt = performance.now();
          object.state = "ready";
          this.#ready.push(object);
        }
      });
    } catch (error) {
      for (const object of asked) this.#fail(object, false, reasonOf(error));
    } finally {
      this.#asking = false;
      this.#go();
    }
  }

  /** @param {StoredObject} object */
  async #put(object) {
    const ticket = /** @type {NonNullable<typeof object.ticket>} */ (object.ticket);
    const { body, owner } = object.bodies[0];
    this.#putting++;
    object.state = "putting";
    const control = new AbortController();
    object.put = control;
    await online();
    let before = 0;
    const sent = (/** @type {number} */ bytes) => {
      for (const [other, share] of object.wanted) other.sent((Math.max(0, bytes - before) * share) / object.size);
      before = bytes;
      // What has been sent is not stored before storage says so.
      this.#credit(object, Math.min(0.99, bytes / object.size));
    };
    const answer = await this.#work.put({ url: ticket.url, headers: ticket.headers, body }, sent, control.signal);
    object.put = null;
    this.#putting--;
    this.#answered(object, answer, owner, body);
    this.#go();
  }

  /**
   * @param {StoredObject} object
   * @param {import("./put.js").PutAnswer} answer
   * @param {Owner | null} owner
   * @param {Blob} body
   */
  #answered(object, answer, owner, body) {
    const { status, code } = answer;
    if (isStored(status)) {
      this.#stored(object);
      return;
    }
    this.#credit(object, 0);
    if (!object.wanted.size) {
      this.#drop(object);
    } else if (answer.aborted) {
      object.state = "ready";
      this.#ready.unshift(object);
    } else if (status === 403 || (status === 400 && EXPIRED.has(code))) {
      if (++object.refusals > PATIENT_WITH_STORAGE) {
        this.#fail(
          object,
          false,
          "Storage refuses the upload; your role may have changed, or the clock of this computer is wrong.",
        );
      } else {
        this.#ask(object);
      }
    } else if (answer.unreadable || (DAMAGED.has(code) && owner)) {
      this.#useOtherBody(object, body);
    } else if (
      status === 0 ||
      status >= 500 ||
      status === 408 ||
      status === 409 ||
      status === 429 ||
      code === "RequestTimeout" ||
      DAMAGED.has(code)
    ) {
      void this.#again(object, answer);
    } else {
      this.#fail(object, false, `Storage did not accept the upload (${`${status} ${code}`.trim()}).`);
    }
  }

  /** @param {StoredObject} object */
  #stored(object) {
    this.#credit(object, 1);
    object.state = "put";
    if (!this.#toSeal.length) this.#sealAt = performance.now() + SEAL_COMPANY;
    this.#toSeal.push(object);
  }

  /**
   * The bytes are not, or no longer, where they were. Another file that has the same may still have them.
   * @param {StoredObject} object
   * @param {Blob} body
   */
  #useOtherBody(object, body) {
    object.bodies = object.bodies.filter((other) => other.body !== body);
    if (object.bodies.length) {
      object.state = "ready";
      this.#ready.unshift(object);
    } else {
      this.#fail(object, true, "The file was changed while it was uploaded.");
    }
  }

  /**
   * @param {StoredObject} object
   * @param {import("./put.js").PutAnswer} answer
   */
  async #again(object, { status, code, retryAfter }) {
    if (++object.attempts >= this.#patience.attempts) {
      const why = status ? ` (${`${status} ${code}`.trim()})` : "";
      this.#fail(object, false, `Storage does not answer${why}; try again later.`);
      return;
    }
    object.state = "ready";
    await sleep(delay(this.#patience, object.attempts, retryAfter));
    if (object.state !== "ready") return;
    if (!object.wanted.size) this.#drop(object);
    else this.#ready.push(object);
    this.#go();
  }

  async #sealNow() {
    this.#sealing = true;
    const objects = this.#take(this.#toSeal, SEALED_AT_ONCE);
    for (const object of objects) object.state = "sealing";
    try {
      const verdicts = await this.#api.seal(
        objects[0].space,
        objects.map(({ declaration }) => declaration),
      );
      for (const [i, object] of objects.entries()) this.#judged(object, verdicts[i]);
    } catch (error) {
      for (const object of objects) this.#fail(object, false, reasonOf(error));
    } finally {
      this.#sealing = false;
      this.#go();
    }
  }

  /**
   * @param {StoredObject} object
   * @param {string} verdict
   */
  #judged(object, verdict) {
    if (verdict === "SEALED") {
      this.#sealed(object);
    } else if (PUT_AGAIN.has(verdict) && ++object.refusals <= PATIENT_WITH_STORAGE) {
      this.#credit(object, 0);
      this.#ask(object);
    } else {
      this.#fail(object, true, `The server did not accept what was uploaded (${verdict}).`);
    }
  }
}

/** @param {StoredObject} object */
function isOld({ ticket, ticketAt }) {
  if (!ticket) return true;
  return ticket.expires_at_ms < Date.now() + LEAST_VALIDITY && performance.now() - ticketAt > FRESH;
}

/** @param {number} status */
function isStored(status) {
  // 412: it was there already.
  return (status >= 200 && status < 300) || status === 412;
}

/** @param {unknown} error */
export function reasonOf(error) {
  if (error instanceof ApiError) return error.message;
  return `The upload failed (${error instanceof Error ? error.message : String(error)}).`;
}
