// @ts-check
/** Commits of stored files: many files in one request, with the directories that they need. */

import { ApiError } from "./api.js";
import { VERDICTS } from "../verdicts.js";
import { reasonOf } from "./storing.js";
import { copyName } from "./names.js";

/** @import {Api, Change, Node, ParentRef, Result} from "./api.js" */
/** @import {Content} from "./manifest.js" */

/**
 * @typedef {object} Ready a file whose content is stored
 * @property {string} space
 * @property {Directory} directory
 * @property {string} name
 * @property {Content | null} content never null here
 * @property {{id: string, version: number} | null} replaces the version that the user decided to replace
 * @property {number} copy 0, or the number of the copy that it is to be
 * @property {number} rounds requests that it has been part of
 */

/**
 * @typedef {{done: Node} | {conflict: Node} | {again: string} | {failed: string}} Outcome
 *   `again` if its objects have to be stored again
 */

/**
 * @typedef {object} Gathered a request: the changes, and at which of them directories and files are
 * @property {string} space
 * @property {Change[]} changes
 * @property {Map<Directory, number>} made
 * @property {{file: Ready, at: number}[]} files
 */

const MOST_FILES = 500;
/** Of the 300,000 that a request may have, by an estimate that is rather too high. */
const MOST_BYTES = 250_000;
const COMPANY = 400;
const MOST_COPIES = 500;

/** A directory into which files go. It is made when the first of them is committed, or is there already. */
export class Directory {
  /** Why nothing can be put there. */
  problem = "";
  #resets = 0;

  /**
   * @param {Directory | null} parent null for the directory that was chosen
   * @param {string} name
   * @param {string | null} id null while it is not known whether there is one
   */
  constructor(parent, name, id = null) {
    this.parent = parent;
    this.name = name;
    this.id = id;
  }

  /** From the top down, without the chosen one. @returns {Directory[]} */
  get chain() {
    return this.parent ? [...this.parent.chain, this] : [];
  }

  /** What was wrong may be right now, here and above. */
  forgive() {
    this.problem = "";
    this.parent?.forgive();
  }

  /** It is not there any more: make it again, unless that happens all the time or it is the one that was chosen. */
  vanish() {
    if (!this.parent || ++this.#resets > 3) this.problem = "The folder to upload into is no longer there.";
    else this.id = null;
  }
}

export class Commits {
  #api;
  #outcome;
  /** @type {Ready[]} */
  #files = [];
  /** @type {{space: string, directory: Directory}[]} */
  #directories = [];
  #busy = false;
  #at = 0;
  #mostFiles = MOST_FILES;
  #mostBytes = MOST_BYTES;
  /** @type {number | undefined} */
  #timer;

  /** Whether more files will come soon, for which a request may wait. @type {() => boolean} */
  moreToCome = () => false;
  /** @type {(space: string, nodes: Node[]) => void} */
  onCommitted = () => {};

  /**
   * @param {Api} api that repeats what may be repeated
   * @param {(file: any, outcome: Outcome) => void} outcome called once for each file
   */
  constructor(api, outcome) {
    this.#api = api;
    this.#outcome = outcome;
  }

  /** @param {Ready} file */
  add(file) {
    if (!this.#files.length) this.#at = performance.now() + COMPANY;
    file.rounds = 0;
    this.#files.push(file);
    // Others that became ready with the same object are added in the same turn.
    queueMicrotask(() => this.go());
  }

  /**
   * A directory that is wanted although no file may be in it.
   * @param {string} space
   * @param {Directory} directory
   */
  addDirectory(space, directory) {
    this.#directories.push({ space, directory });
    this.go();
  }

  /**
   * Whether the file was still waiting; it is not committed then.
   * @param {Ready} file
   */
  cancel(file) {
    const at = this.#files.indexOf(file);
    if (at >= 0) this.#files.splice(at, 1);
    return at >= 0;
  }

  go() {
    if (this.#busy || !(this.#files.length || this.#directories.length)) return;
    const now = performance.now();
    if (this.#files.length < this.#mostFiles && this.moreToCome() && now < this.#at) {
      clearTimeout(this.#timer);
      this.#timer = self.setTimeout(() => this.go(), this.#at - now);
    } else {
      void this.#commit();
    }
  }

  async #commit() {
    this.#busy = true;
    const request = this.#gather();
    try {
      if (request.changes.length) {
        const results = await this.#api.commit(request.space, request.changes, key());
        this.#judge(request, results);
      }
    } catch (error) {
      this.#failed(request, error);
    } finally {
      this.#busy = false;
      this.#at = performance.now() + COMPANY;
      this.go();
    }
  }

  /**
   * The next request: files of one space, and before each the directories that it needs.
   * @returns {Gathered}
   */
  #gather() {
    const { space } = this.#files[0] ?? this.#directories[0];
    /** @type {Change[]} */
    const changes = [];
    /** @type {Map<Directory, number>} */
    const made = new Map();
    /** @type {{file: Ready, at: number}[]} */
    const files = [];
    let bytes = 0;
    /** @param {Directory} directory @returns {ParentRef} */
    const need = (directory) => {
      for (const each of directory.chain) {
        if (each.id !== null || made.has(each)) continue;
        const parent = refer(/** @type {Directory} */ (each.parent));
        made.set(each, changes.length);
        bytes += 80 + 3 * each.name.length;
        changes.push({ create: { parent, name: each.name, kind: "directory" } });
      }
      return refer(directory);
    };
    /** @param {Directory} directory @returns {ParentRef} */
    const refer = (directory) => directory.id ?? { change: made.get(directory) ?? 0 };

    /** @type {{space: string, directory: Directory}[]} */
    const others = [];
    for (const wanted of this.#directories) {
      if (wanted.space !== space || made.size >= this.#mostFiles || bytes > this.#mostBytes) others.push(wanted);
      else if (!problemOf(wanted.directory)) need(wanted.directory);
    }
    this.#directories = others;

    /** @type {Ready[]} */
    const rest = [];
    for (const [i, file] of this.#files.entries()) {
      if (files.length && (changes.length >= this.#mostFiles || bytes + sizeOf(file) > this.#mostBytes)) {
        rest.push(...this.#files.slice(i));
        break;
      }
      if (file.space !== space) {
        rest.push(file);
        continue;
      }
      const { replaces } = file;
      const content = /** @type {Content} */ (file.content);
      const problem = replaces ? "" : problemOf(file.directory);
      if (problem) {
        this.#outcome(file, { failed: problem });
        continue;
      }
      file.rounds++;
      bytes += sizeOf(file);
      if (replaces) {
        files.push({ file, at: changes.length });
        changes.push({ update: { node: replaces.id, base_version: replaces.version, content } });
      } else {
        const parent = need(file.directory);
        const name = file.copy ? copyName(file.name, file.copy) : file.name;
        files.push({ file, at: changes.length });
        changes.push({ create: { parent, name, kind: "file", content } });
      }
    }
    this.#files = rest;
    return { space, changes, made, files };
  }

  /**
   * @param {Gathered} request
   * @param {Result[]} results
   */
  #judge({ space, changes, made, files }, results) {
    /** @type {Node[]} */
    const committed = [];
    for (const [directory, at] of made) {
      const { verdict, node } = results[at];
      if (node && (verdict === "ACCEPTED" || (verdict === "NAME_TAKEN" && node.kind === "directory"))) {
        directory.id = node.id;
        if (verdict === "ACCEPTED") committed.push(node);
      } else if (verdict === "NAME_TAKEN") {
        directory.problem = `“${directory.name}” is not a folder there; rename one of the two.`;
      } else if (verdict === "PARENT_NOT_FOUND") {
        this.#parentMissing(changes[at], directory.parent);
      } else {
        directory.problem = `The folder “${directory.name}” cannot be made: ${meaning(verdict)}`;
      }
    }
    for (const { file, at } of files) {
      const { verdict, node } = results[at];
      if (verdict === "ACCEPTED" && node) {
        committed.push(node);
        this.#outcome(file, { done: node });
      } else {
        this.#refused(file, verdict, node ?? null, changes[at]);
      }
    }
    if (committed.length) this.onCommitted(space, committed);
  }

  /**
   * @param {Ready} file
   * @param {string} verdict
   * @param {Node | null} node
   * @param {Change} change
   */
  #refused(file, verdict, node, change) {
    if ((verdict === "NAME_TAKEN" || verdict === "VERSION_CONFLICT") && node) {
      if (node.kind === "file" && node.digest === file.content?.digest) {
        this.#outcome(file, { done: node });
      } else if (verdict === "NAME_TAKEN" && file.copy && file.copy < MOST_COPIES) {
        file.copy++;
        this.#files.unshift(file);
      } else {
        this.#outcome(file, { conflict: node });
      }
    } else if (file.replaces && (verdict === "NODE_NOT_FOUND" || verdict === "NODE_DELETED")) {
      // What was to be replaced is gone: nothing is in the way any more.
      file.replaces = null;
      this.#files.unshift(file);
    } else if (verdict === "PARENT_NOT_FOUND" && file.rounds <= file.directory.chain.length + 8) {
      this.#parentMissing(change, file.directory);
      this.#files.push(file);
    } else if (/^(OBJECT|BLOCK|MANIFEST)_/.test(verdict)) {
      this.#outcome(file, { again: `The server does not have all of the file (${verdict}).` });
    } else {
      this.#outcome(file, { failed: sentence(meaning(verdict)) });
    }
  }

  /**
   * A parent that this request was to make is found by the next one. One that had been there is gone.
   * @param {Change} change
   * @param {Directory | null} parent
   */
  #parentMissing(change, parent) {
    if (!parent || !("create" in change) || typeof change.create.parent !== "string") return;
    if (parent.id === change.create.parent) parent.vanish();
  }

  /**
   * @param {Gathered} request
   * @param {unknown} error
   */
  #failed({ changes, files }, error) {
    const tooLarge = error instanceof ApiError && (error.status === 413 || error.reason === "REQUEST_TOO_LARGE");
    if (tooLarge && changes.length > 1) {
      this.#mostFiles = Math.max(1, Math.floor(changes.length / 2));
      this.#mostBytes = Math.max(1, Math.floor(this.#mostBytes / 2));
      this.#files.unshift(...files.map(({ file }) => file));
      return;
    }
    for (const { file } of files) this.#outcome(file, { failed: reasonOf(error) });
  }
}

/** @param {Directory} directory */
function problemOf(directory) {
  for (let each = /** @type {Directory | null} */ (directory); each; each = each.parent) if (each.problem) return each.problem;
  return "";
}

/** @param {Ready} file */
function sizeOf({ name, content }) {
  const objects = (content?.blocks ?? []).reduce((sum, { length }) => sum + (length > 2 ? 76 : 38), 0);
  return 160 + 3 * name.length + objects;
}

/** @param {string} verdict */
function meaning(verdict) {
  return `${VERDICTS[verdict] ?? `the server did not accept it (${verdict})`}.`;
}

/** @param {string} text */
function sentence(text) {
  return text[0].toUpperCase() + text.slice(1);
}

/** What makes a repeated request be done once. `randomUUID` is missing on pages of plain http. */
function key() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
