// @ts-check
/** Times in the page that stay true while it is open. */

import { h } from "./dom.js";
import { ago, exactly } from "./format.js";

const REFRESH_MS = 30_000;

/** An element that tells how long ago something was. @param {number} ms @returns {HTMLTimeElement} */
export function time(ms) {
  return h("time", { datetime: new Date(ms).toISOString(), title: exactly(ms), data: { ms: String(ms) } }, ago(ms));
}

setInterval(() => {
  for (const element of document.querySelectorAll("time[data-ms]")) {
    const text = ago(Number(/** @type {HTMLElement} */ (element).dataset.ms));
    if (element.textContent !== text) element.textContent = text;
  }
}, REFRESH_MS);
