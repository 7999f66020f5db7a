// @ts-check
/** Elements without markup: no string is ever parsed as HTML, and no name in a text can affect the text around it. */

import { harmless } from "./printable.js";

/** @typedef {Node | string | number | null | undefined | false} Child */

const PROPERTIES = new Set(["value", "checked", "indeterminate", "selected", "disabled", "hidden", "open", "muted"]);
const SHOWN = new Set(["title", "alt", "placeholder", "aria-label"]);

/**
 * Make an element. `on` holds listeners, `data` the dataset; null, undefined and false leave an attribute out.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any> | null} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "data") {
      Object.assign(element.dataset, value);
    } else if (PROPERTIES.has(name)) {
      /** @type {any} */ (element)[name] = value;
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : SHOWN.has(name) ? harmless(String(value)) : String(value));
    }
  }
  element.append(...nodes(children));
  return element;
}

/**
 * Put these children in the place of what an element holds.
 * @template {Element} T
 * @param {T} element
 * @param {...(Child | Child[])} children
 * @returns {T}
 */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** @param {(Child | Child[])[]} children @returns {(Node | string)[]} */
function nodes(children) {
  return children
    .flat()
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : harmless(String(child))));
}

/** Name the page. @param {string} title */
export function entitle(title) {
  document.title = `${harmless(title)} – Syncline`;
}

/** Text for screen readers. @param {string} text */
export function unseen(text) {
  return h("span", { class: "unseen" }, text);
}

let numbers = 0;

/** An id that no other element has. @param {string} stem */
export function uniqueId(stem) {
  numbers += 1;
  return `${stem}-${numbers}`;
}

/**
 * The element with this id, which is there.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * Calls once things have been quiet for a while.
 * @template {any[]} A
 * @param {number} ms
 * @param {(...given: A) => void} what
 * @returns {((...given: A) => void) & {cancel: () => void}}
 */
export function debounced(ms, what) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  return Object.assign(
    (/** @type {A} */ ...given) => {
      clearTimeout(timer);
      timer = setTimeout(() => what(...given), ms);
    },
    { cancel: () => clearTimeout(timer) },
  );
}
