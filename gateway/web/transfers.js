// @ts-check
/** The uploads of this page: the engine, and how files come to it. */

import { call, Problem } from "./api.js";
import { tell } from "./changes.js";
import { h } from "./dom.js";
import { complain } from "./toasts.js";
import { ApiError, createApi } from "./upload/api.js";
import { Uploads } from "./upload/uploads.js";

/** @typedef {{space: string, parent: string, label: string}} Place */

/** @type {Uploads | null} */
let uploads = null;

const WORKER = new URL("./upload/worker.js", import.meta.url).href;
/** The page's policy wants it said which scripts may be run: this one. */
const trusted = /** @type {any} */ (globalThis).trustedTypes?.createPolicy("syncline", {
  createScriptURL(/** @type {string} */ url) {
    if (url !== WORKER) throw new TypeError("this is no script of ours");
    return url;
  },
});

function startWorker() {
  return new Worker(trusted?.createScriptURL(WORKER) ?? WORKER, { type: "module" });
}

/** @returns {Uploads} */
export function engine() {
  if (!uploads) throw new Error("nobody is signed in");
  return uploads;
}

/** @param {string} owner whose uploads these are */
export function startTransfers(owner) {
  uploads = new Uploads({ api: createApi(request), owner, startWorker });
  uploads.addEventListener("committed", (/** @type {any} */ { detail }) => tell(detail.space, detail.nodes));
  addEventListener("beforeunload", warn);
  void uploads.open().catch(complain);
}

export function stopTransfers() {
  uploads?.close();
  uploads = null;
  removeEventListener("beforeunload", warn);
}

/** Leaving interrupts pending uploads; they resume when the page is opened again. @param {BeforeUnloadEvent} event */
function warn(event) {
  if (uploads?.busy && !uploads.paused) event.preventDefault();
}

/**
 * The engine's requests. It repeats them itself.
 * @param {string} method
 * @param {string} path
 * @param {unknown} body
 * @param {Record<string, string>} [headers]
 */
async function request(method, path, body, headers = {}) {
  try {
    return await call(method, path, { body, key: headers["Idempotency-Key"] });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const { status, reason, retryAfter } = error;
    throw new ApiError(error.detail, { status, reason, retryAfter });
  }
}

/**
 * @param {Place} place
 * @param {{files: Iterable<File | {file: File, path: string}>, directories?: string[]}} found
 */
export async function uploadTo(place, { files, directories = [] }) {
  await engine().add(files, { ...place, directories });
}

/**
 * Let the user choose files, or a folder with all that is in it.
 * @param {Place} place
 * @param {{folder: boolean}} what
 */
export function chooseFiles(place, { folder }) {
  const input = h("input", { type: "file", multiple: true, webkitdirectory: folder, hidden: true, "aria-hidden": "true" });
  input.addEventListener("change", () => {
    if (input.files?.length) void uploadTo(place, { files: input.files }).catch(complain);
    input.remove();
  });
  input.addEventListener("cancel", () => input.remove());
  document.body.append(input);
  input.click();
}
