// @ts-check
/** One PUT to storage. By XMLHttpRequest, since fetch does not tell how much has been sent. */

import { retryAfter } from "./retry.js";

/**
 * @typedef {object} PutAnswer
 * @property {number} status 0 if there was no answer
 * @property {string} code S3's own word for the error, if it said one
 * @property {number | null} retryAfter milliseconds
 * @property {boolean} unreadable whether the bytes could not be read from where they were
 * @property {boolean} aborted
 */

/** Milliseconds of silence after which a request counts as dead. */
const SILENCE = 60_000;

/** @type {PutAnswer} */
const NO_ANSWER = { status: 0, code: "", retryAfter: null, unreadable: false, aborted: false };

/**
 * @param {{url: string, headers: Record<string, string>, body: Blob}} request
 * @param {(bytes: number) => void} sent how much has been sent so far
 * @param {AbortSignal} signal
 * @returns {Promise<PutAnswer>}
 */
export async function put({ url, headers, body }, sent, signal) {
  if (signal.aborted) return { ...NO_ANSWER, aborted: true };
  const answer = await send(url, headers, body, sent, signal);
  if (answer.status || answer.aborted) return answer;
  return { ...answer, unreadable: !(await readable(body)) };
}

/**
 * @param {string} url
 * @param {Record<string, string>} headers
 * @param {Blob} body
 * @param {(bytes: number) => void} sent
 * @param {AbortSignal} signal
 * @returns {Promise<PutAnswer>}
 */
function send(url, headers, body, sent, signal) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    /** @type {number} */
    let patience;
    const heard = () => {
      clearTimeout(patience);
      patience = self.setTimeout(() => request.abort(), SILENCE);
    };
    const stop = () => request.abort();
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) {
      // The browser says these itself and lets nobody else do so.
      if (!/^(host|content-length)$/i.test(name)) request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => {
      heard();
      sent(event.loaded);
    };
    request.onloadend = () => {
      clearTimeout(patience);
      signal.removeEventListener("abort", stop);
      resolve({
        status: request.status,
        code: /<Code>(\w+)<\/Code>/.exec(request.responseText)?.[1] ?? "",
        retryAfter: retryAfter(request.status >= 400 ? request.getResponseHeader("retry-after") : null),
        unreadable: false,
        aborted: signal.aborted,
      });
    };
    signal.addEventListener("abort", stop);
    heard();
    request.send(body);
  });
}

/**
 * Whether a body can still be read: a file that has changed fails like a network that is down.
 * @param {Blob} body
 */
async function readable(body) {
  try {
    await body.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
