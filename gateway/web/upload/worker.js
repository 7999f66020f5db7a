// @ts-check
/**
 * What takes processor time or storage's time, away from the thread of the page: reading and cutting files, one after the
 * other; digests; packs; PUTs. `work.js` is its other end and has the types of the messages.
 */

import { MIN_BLOCK_BYTES, MIB } from "./format.js";
import { PackBuilder } from "./pack.js";
import { put } from "./put.js";
import { Changed, Reader, readSmall } from "./reader.js";

/** @import {Request, Report, Placed} from "./work.js" */
/** @import {Block, Small} from "./reader.js" */

/** Packs that are closed and not stored yet: with the open one and the reader's buffers about 50 MiB. */
const PACKS_KEPT = 2;
/** Small files that are read ahead: opening one takes longer than reading it. */
const FILES_AHEAD = 8;
/** The open pack is closed before a file of this size: its blocks would otherwise wait for too long. */
const LONG_READ = 256 * MIB;
const REMEMBERED_BLOCKS = 65_536;

/** Nobody wants the file any more. */
class Cancelled extends Error {}

/** @typedef {{kind: "read", id: number, space: string, file: Blob, small?: Promise<Small>} | {kind: "flush"}} Job */

/** @type {Job[]} */
const jobs = [];
/** @type {Set<number>} */
const cancelled = new Set();
/** @type {Map<number, AbortController>} */
const puts = new Map();
const reader = new Reader();

let working = false;
let held = false;
let packsOut = 0;
/** @type {(() => void)[]} */
let waiting = [];

/** @type {{id: number, builder: PackBuilder} | null} */
let open = null;
let packsMade = 0;
let spaceOfPacks = "";
/** Where small blocks lie that were packed before. @type {Map<string, {pack: number, at: number}>} */
let remembered = new Map();

/**
 * @param {Report} message
 */
function report(message) {
  self.postMessage(message);
}

self.onmessage = (/** @type {MessageEvent<Request>} */ { data: request }) => {
  switch (request.kind) {
    case "read":
    case "flush":
      jobs.push(request);
      void work();
      break;
    case "cancel":
      cancelled.add(request.id);
      wake();
      break;
    case "hold":
      held = request.on;
      wake();
      break;
    case "release":
      packsOut--;
      wake();
      break;
    case "forget":
      forget(request.pack);
      break;
    case "put":
      void store(request);
      break;
    case "abort":
      puts.get(request.id)?.abort();
      break;
  }
};

function wake() {
  const woken = waiting;
  waiting = [];
  for (const go of woken) go();
}

/** @returns {Promise<void>} */
function change() {
  return new Promise((resolve) => waiting.push(resolve));
}

async function work() {
  if (working) return;
  working = true;
  for (let job = jobs.shift(); job; job = jobs.shift()) {
    if (job.kind === "flush") await closePack();
    else await readFile(job);
  }
  working = false;
}

/** @param {Extract<Job, {kind: "read"}>} job */
async function readFile(job) {
  const { id, space, file } = job;
  try {
    if (space !== spaceOfPacks || file.size >= LONG_READ) await closePack();
    if (space !== spaceOfPacks) remembered = new Map();
    spaceOfPacks = space;
    if (file.size < MIN_BLOCK_BYTES) await readSmallFile(job);
    else await readLargeFile(id, file);
  } catch (error) {
    if (error instanceof Cancelled) report({ kind: "unread", id, trouble: "cancelled" });
    else if (error instanceof Changed) report({ kind: "unread", id, trouble: "changed" });
    else report({ kind: "unread", id, trouble: error instanceof DOMException ? error.name : "error" });
  } finally {
    cancelled.delete(id);
  }
}

/** @param {Extract<Job, {kind: "read"}>} job */
async function readSmallFile(job) {
  const small = begin(job);
  for (const next of jobs.slice(0, FILES_AHEAD)) {
    if (next.kind === "read" && next.file.size < MIN_BLOCK_BYTES) begin(next);
  }
  const { bytes, digest } = await small;
  const blocks = bytes.length ? [await place(job.id, { sha256: digest, offset: 0, bytes })] : [];
  report({ kind: "read", id: job.id, blocks, digest, size: bytes.length });
  if (open?.builder.full) await closePack();
}

/** @param {Extract<Job, {kind: "read"}>} job */
function begin(job) {
  if (!job.small) {
    job.small = readSmall(job.file);
    // It is awaited later, perhaps after it failed.
    job.small.catch(() => {});
  }
  return job.small;
}

/**
 * @param {number} id
 * @param {Blob} file
 */
async function readLargeFile(id, file) {
  report({ kind: "reading", id });
  const read = await reader.read(file, async (block) => {
    report({ kind: "blocks", id, blocks: [await place(id, block)] });
    if (open?.builder.full) await closePack();
  });
  report({ kind: "read", id, blocks: [], ...read });
}

/**
 * Note where the block will lie; a small one goes into the open pack.
 * @param {number} id
 * @param {Block} block
 * @returns {Promise<Placed>}
 */
async function place(id, { sha256, offset, bytes }) {
  while (held && !cancelled.has(id)) await change();
  const small = bytes.length < MIN_BLOCK_BYTES;
  const place = { sha256, length: bytes.length, offset };
  const before = small && remembered.get(sha256);
  if (before) return { ...place, ...before };
  if (small && !open) {
    while (packsOut >= PACKS_KEPT && !cancelled.has(id)) await change();
    open = { id: ++packsMade, builder: new PackBuilder() };
  }
  if (cancelled.has(id)) throw new Cancelled();
  if (!small || !open) return { ...place, pack: null, at: 0 };
  const packed = { pack: open.id, at: open.builder.add(sha256, bytes) };
  remembered.set(sha256, packed);
  if (remembered.size > REMEMBERED_BLOCKS) remembered.delete(remembered.keys().next().value ?? "");
  return { ...place, ...packed };
}

async function closePack() {
  if (!open?.builder.count) return;
  const { id, builder } = open;
  open = null;
  packsOut++;
  const { sha256, bytes, pack } = await builder.close();
  report({ kind: "pack", id, sha256, size: bytes.length, pack, body: new Blob([bytes]) });
}

/** @param {number} pack */
function forget(pack) {
  for (const [sha256, place] of remembered) if (place.pack === pack) remembered.delete(sha256);
}

/** @param {Extract<Request, {kind: "put"}>} request */
async function store({ id, url, headers, body }) {
  const controller = new AbortController();
  puts.set(id, controller);
  const sent = (/** @type {number} */ bytes) => report({ kind: "sent", id, bytes });
  const answer = await put({ url, headers, body }, sent, controller.signal);
  puts.delete(id);
  report({ kind: "put", id, answer });
}
