// @ts-check
/** Addresses and views: the History API, and links that do not load a page. */

import { Routes } from "./routes.js";

/**
 * @typedef {object} Place where we are
 * @property {string} path
 * @property {Record<string, string>} params
 * @property {URLSearchParams} query
 *
 * @typedef {object} View
 * @property {string} title
 * @property {HTMLElement} element
 * @property {(place: Place) => void} [update] the same path with another query
 * @property {() => void} [leave]
 * @property {() => void} [entered] it is in the page now
 *
 * @typedef {(place: Place) => View} MakeView
 */

/** Events: `change`. */
class Router extends EventTarget {
  /** @type {Routes<MakeView>} */
  #routes = new Routes();

  constructor() {
    super();
    addEventListener("popstate", () => this.#changed());
    document.addEventListener("click", (event) => this.#clicked(event));
  }

  /**
   * @param {string} path with `:name` for a part that varies
   * @param {MakeView} make
   */
  on(path, make) {
    this.#routes.add(path, make);
  }

  /** @returns {{place: Place, make: MakeView} | null} null for an address that leads nowhere */
  find() {
    const found = this.#routes.find(location.pathname);
    if (!found) return null;
    const { params, make } = found;
    return { place: { path: location.pathname, params, query: new URLSearchParams(location.search) }, make };
  }

  /**
   * @param {string} to
   * @param {{replace?: boolean}} [how]
   */
  go(to, { replace = false } = {}) {
    if (replace) history.replaceState({ within: history.state?.within }, "", to);
    else history.pushState({ within: true }, "", to);
    this.#changed();
  }

  /** Back, or if we came from elsewhere, up to `otherwise`. @param {string} otherwise */
  back(otherwise) {
    if (history.state?.within) history.back();
    else this.go(otherwise, { replace: true });
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  /** @param {MouseEvent} event */
  #clicked(event) {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
    if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute("download")) return;
    if (link.origin !== location.origin || !this.#routes.matches(link.pathname)) return;
    event.preventDefault();
    this.go(link.pathname + link.search + link.hash);
  }
}

export const router = new Router();

/** The address of a folder. @param {string} space @param {string} [node] */
export function folderPath(space, node = "root") {
  return node === "root" ? `/s/${space}` : `/s/${space}/${node}`;
}
