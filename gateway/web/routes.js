// @ts-check
/** The addresses of the app: each is a pattern, with the view that is made for a matching path. */

/**
 * @typedef {{pattern: RegExp, names: string[]}} Pattern a pattern of paths and the names of its parts that vary, in order
 * @typedef {Record<string, string>} Params the decoded part of a path by the name of its place
 */

/** @template M */
export class Routes {
  /** @type {(Pattern & {make: M})[]} */
  #routes = [];

  /**
   * Add a route. Of several that match a path, the first one counts.
   * @param {string} path with `:name` for a part that varies; a slash at the end of a visited path is ignored
   * @param {M} make
   */
  add(path, make) {
    this.#routes.push({ ...patternOf(path), make });
  }

  /** @param {string} path @returns {boolean} */
  matches(path) {
    return this.#routes.some(({ pattern }) => pattern.test(path));
  }

  /**
   * The route of a path.
   * @param {string} path as the address has it, encoded
   * @returns {{params: Params, make: M} | null} null for a path that leads nowhere, as one of which a part is no text
   */
  find(path) {
    for (const { pattern, names, make } of this.#routes) {
      const found = pattern.exec(path);
      if (!found) continue;
      const params = names.map((name, i) => [name, decoded(found[i + 1])]);
      return params.some(([, value]) => value === null) ? null : { params: Object.fromEntries(params), make };
    }
    return null;
  }
}

/** @param {string} part @returns {string | null} null if it is no text */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

/**
 * @param {string} path of which all but the names stands for itself
 * @returns {Pattern}
 */
function patternOf(path) {
  /** @type {string[]} */
  const names = [];
  const source = path.replaceAll(/:(\w+)|[\\^$.*+?()[\]{}|]/g, (literal, name) => {
    if (!name) return `\\${literal}`;
    names.push(name);
    return "([^/]+)";
  });
  return { pattern: new RegExp(`^${source}/?$`), names };
}
