// @ts-check
/** Where keys lead in a list. */

const TYPED_MS = 700;

/**
 * @param {string} key
 * @param {number} now the place of the one that the keys are at
 * @param {{count: number, columns: number, page: number, sideways: boolean}} list
 * @returns {number | null} null if it is no such key
 */
export function target(key, now, { count, columns, page, sideways }) {
  switch (key) {
    case "ArrowDown":
      return now + columns < count ? now + columns : now;
    case "ArrowUp":
      return now - columns >= 0 ? now - columns : now;
    case "ArrowRight":
      return sideways ? now + 1 : null;
    case "ArrowLeft":
      return sideways ? now - 1 : null;
    case "Home":
      return 0;
    case "End":
      return count - 1;
    case "PageDown":
      return now + page;
    case "PageUp":
      return now - page;
    default:
      return null;
  }
}

/** Letters that are typed lead to what begins with them. */
export class Typing {
  #text = "";
  #at = 0;

  /** Whether another letter would belong to those before. */
  get going() {
    return this.#text !== "" && performance.now() - this.#at < TYPED_MS;
  }

  /**
   * @template {{name: string}} T
   * @param {KeyboardEvent} event
   * @param {T[]} items
   * @param {number} from
   * @returns {T | null} null if this is no letter, or leads nowhere
   */
  find(event, items, from) {
    if (event.key.length !== 1 || event.ctrlKey || event.metaKey || event.altKey || "/?".includes(event.key)) return null;
    const text = (this.going ? this.#text : "") + event.key.toLowerCase();
    this.#text = text;
    this.#at = performance.now();
    const begin = text.length === 1 ? from + 1 : from;
    const turned = [...items.slice(begin), ...items.slice(0, begin)];
    return turned.find(({ name }) => name.toLowerCase().startsWith(text)) ?? null;
  }
}
